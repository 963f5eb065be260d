package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	_ "github.com/go-sql-driver/mysql" // beside the proxy, as somebody who bypasses it would

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/config"
	"github.com/crossfade-proxy/crossfade/cmd/internal/demo"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
	"github.com/crossfade-proxy/crossfade/cmd/internal/proxy"
)

const (
	demoStart = 30 * time.Second
	demoPoll  = 20 * time.Millisecond
)

// demoSystem is a proxy of its own on private servers.
type demoSystem struct {
	*proxy.Proxy
	lab     *lab.Lab
	keep    bool
	dsn     string
	logFile io.Closer

	once sync.Once
	err  error
}

// openDemo implements demo.OpenFunc.
func openDemo(ctx context.Context, s demo.Setup) (_ demo.System, err error) {
	dir := s.Dir
	if dir == "" && s.Keep {
		dir = lab.DefaultDir
	}
	l, err := lab.Up(ctx, lab.UpOptions{Options: lab.Options{Dir: dir, Detached: s.Keep, Progress: s.Progress}})
	if err != nil {
		return nil, err
	}
	d := &demoSystem{lab: l, keep: s.Keep, dsn: l.Server(lab.MySQL).DSN(l.Databases[0])}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Stop(context.WithoutCancel(ctx)))
		}
	}()
	text, err := proxy.DemoConfig(l, demo.PodOne, demo.ShopOne, demo.PodTwo, demo.ShopTwo)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(l.Dir, lab.ConfigFile)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, err
	}
	cfg, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	logFile, err := os.Create(filepath.Join(l.Dir, "proxy.log"))
	if err != nil {
		return nil, err
	}
	d.logFile = logFile
	d.Proxy, err = proxy.Start(ctx, cfg, slog.New(slog.NewTextHandler(logFile, nil)))
	if err != nil {
		return nil, err
	}
	return d, d.serving(ctx)
}

// serving waits until both pods have had their first start.
func (d *demoSystem) serving(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoStart)
	defer cancel()
	for _, pod := range []backends.Pod{demo.PodOne, demo.PodTwo} {
		for {
			st, err := d.Status(ctx, pod)
			if err == nil && st.Serving && st.Switch == nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("pod %s does not serve after %s: %+v %w", pod, demoStart, st.Notes, ctx.Err())
			case <-time.After(demoPoll):
			}
		}
	}
	return nil
}

// About implements demo.System, as do the methods below.
func (d *demoSystem) About() []string {
	var out []string
	for _, s := range d.lab.Servers() {
		out = append(out, fmt.Sprintf("%s %s on %s (%s)", s.Kind, s.Version(), s.Addr(), s.Origin))
	}
	return append(out, "one Crossfade proxy on "+d.RESPAddr()+", admin on "+d.AdminAddr())
}

func (d *demoSystem) Doors() []string { return []string{d.RESPAddr()} }

func (d *demoSystem) LoseUnits(ctx context.Context, pod backends.Pod, key backends.Key, n int64) (string, error) {
	db, err := sql.Open("mysql", d.dsn)
	if err != nil {
		return "", err
	}
	defer db.Close()
	res, err := db.ExecContext(ctx, "DELETE FROM crossfade_units WHERE pod=? AND shop=? AND item=? AND location=? ORDER BY id LIMIT ?", string(pod), string(key.Shop), string(key.Item), string(key.Location), n)
	if err != nil {
		return "", err
	}
	gone, err := res.RowsAffected()
	if err != nil {
		return "", err
	}
	if gone != n {
		return "", fmt.Errorf("only %d of %d units of %s were in the pool", gone, n, key)
	}
	return fmt.Sprintf("DELETE FROM crossfade_units … LIMIT %d, straight in MySQL", n), nil
}

func (d *demoSystem) Stop(ctx context.Context) error {
	d.once.Do(func() {
		if d.Proxy != nil {
			d.err = d.Proxy.Stop()
		}
		if d.logFile != nil {
			d.err = errors.Join(d.err, d.logFile.Close())
		}
		if !d.keep {
			d.err = errors.Join(d.err, d.lab.Stop(ctx))
		}
	})
	return d.err
}
