package contend

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// lossKind is what kind of write is lost.
type lossKind int

const (
	loseGrant lossKind = iota
	loseRelease
	loseClaim
	loseRestock
	lossKinds
)

var lossNames = [...]string{"grant", "release", "claim", "restock"}

func (k lossKind) String() string { return lossNames[k] }

// class is the class by which the audit has to find it.
func (k lossKind) class() comparator.Class {
	return [...]comparator.Class{comparator.MissingHold, comparator.LostRelease, comparator.LedgerShort, comparator.LevelDrift}[k]
}

// lost is one loss that has been played. Its id says what is lost, so that every proxy loses the same.
type lost struct {
	kind  lossKind
	hold  backends.HoldID
	op    backends.OpID
	units []backends.Units
}

const lostPrefix = "lost-"

func lostID(k lossKind, n int64) string { return fmt.Sprintf("%s%s-%d", lostPrefix, k, n) }

// losses are those of a run.
type losses struct {
	mu        sync.Mutex
	list      []lost
	swallowed map[string]bool // ids that the shadow has confirmed and not kept
}

func (l *losses) add(x lost) {
	slices.SortFunc(x.units, func(a, b backends.Units) int { return a.Key.Compare(b.Key) })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, x)
}

func (l *losses) swallow(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.swallowed == nil {
		l.swallowed = map[string]bool{}
	}
	l.swallowed[id] = true
}

// keys are those at which a write has been lost.
func (l *losses) keys() map[backends.Key]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[backends.Key]bool{}
	for i := range l.list {
		for _, u := range l.list[i].units {
			out[u.Key] = true
		}
	}
	return out
}

// forgetful is a shadow that confirms some writes and does not keep them.
type forgetful struct {
	backends.Store
	losses *losses
}

// loses tells whether the entry is one of those, and its id.
func loses(e *backends.Entry) (id string, yes bool) {
	switch {
	case e.Hold != nil:
		id = string(e.Hold.ID)
		switch {
		case strings.HasPrefix(id, lostPrefix+loseGrant.String()):
			return id, true
		case strings.HasPrefix(id, lostPrefix+loseRelease.String()):
			return id, e.Hold.State == backends.Released
		case strings.HasPrefix(id, lostPrefix+loseClaim.String()):
			return id, e.Hold.State == backends.Claimed
		}
	case e.Level != nil:
		id = string(e.Level.OpID)
		return id, strings.HasPrefix(id, lostPrefix+loseRestock.String())
	}
	return id, false
}

// Apply loses what is to be lost. What the shadow decides about a grant before it is true.
func (f *forgetful) Apply(ctx context.Context, t backends.Token, asOf backends.Instant, entries []backends.Entry) ([]backends.Applied, error) {
	out := make([]backends.Applied, len(entries))
	var rest []backends.Entry
	var at []int
	for i := range entries {
		id, yes := loses(&entries[i])
		if !yes {
			rest, at = append(rest, entries[i]), append(at, i)
			continue
		}
		out[i] = backends.Applied{Seq: entries[i].Seq, Changed: true}
		if h := entries[i].Hold; h != nil && h.State == backends.Held && entries[i].Op == backends.OpReserve {
			own, err := f.Probe(ctx, &backends.ReserveRequest{ID: h.ID, Shop: h.Shop, Lines: h.Lines, TTL: 1, Caller: h.Caller})
			if err != nil {
				return nil, err
			}
			out[i].Own = own
		}
		f.losses.swallow(id)
	}
	if len(rest) == 0 {
		return out, f.Admitted(ctx, t, true)
	}
	as, err := f.Store.Apply(ctx, t, asOf, rest)
	if err != nil {
		return nil, err
	}
	for i, a := range as {
		out[at[i]] = a
	}
	return out, nil
}
