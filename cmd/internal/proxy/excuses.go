package proxy

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/cmd/internal/config"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/dualwrite"
)

// excusesEvery is how often the file of excuses is looked at.
const excusesEvery = 2 * time.Second

// excuses are those of the file that the configuration names, as it was last when it could be read.
type excuses struct {
	cfg *config.Config
	log *slog.Logger

	mu   sync.Mutex
	text []byte
	list comparator.Excuses
	next []byte // another text than text, as it was when last looked at
	bad  error  // of the file as it is now; those that were read before stay in force
}

// loadExcuses reads the file for the first time: what is wrong with it keeps a proxy from starting.
func loadExcuses(cfg *config.Config, log *slog.Logger) (*excuses, error) {
	e := &excuses{cfg: cfg, log: log}
	text, err := cfg.ReadExcuses()
	if err == nil {
		e.list, err = cfg.ParseExcuses(text)
	}
	e.text = text
	return e, err
}

// look looks at the file, and takes over what has changed. It has to be found the same twice: a file that is
// being written may end anywhere, and would be one with fewer excuses.
func (e *excuses) look() (changed bool, err error) {
	text, err := e.cfg.ReadExcuses()
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		e.bad, e.next = err, nil
		return false, err
	}
	if bytes.Equal(text, e.text) {
		e.bad, e.next = nil, nil
		return false, nil
	}
	if e.next == nil || !bytes.Equal(text, e.next) {
		e.next = text
		return false, e.bad
	}
	list, err := e.cfg.ParseExcuses(text)
	if e.bad = err; err != nil {
		return false, err
	}
	e.text, e.list, e.next = text, list, nil
	return true, nil
}

// current gives the excuses; nobody changes what it answers.
func (e *excuses) current() comparator.Excuses {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.list
}

// problem says in words what is wrong with the file; "" when nothing is.
func (e *excuses) problem() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.bad == nil {
		return ""
	}
	return fmt.Sprintf("the file of excuses cannot be used as it is now, the %d that were read before stay in force: %v", len(e.list), e.bad)
}

// watch follows the file until ctx ends.
func (e *excuses) watch(ctx context.Context) {
	if e.cfg.Excuses == "" {
		return
	}
	had := ""
	for ctx.Err() == nil {
		_ = dualwrite.SystemClock{}.Wait(ctx, nil, excusesEvery)
		changed, err := e.look()
		now := ""
		if err != nil {
			now = err.Error()
		}
		switch {
		case now != "" && now != had:
			e.log.Warn("the file of excuses cannot be used; those that were read before stay in force", "error", err)
		case changed || now == "" && had != "":
			e.log.Info("the file of excuses was read", "excuses", len(e.current()))
		}
		had = now
	}
}
