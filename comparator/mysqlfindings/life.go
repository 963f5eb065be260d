package mysqlfindings

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// lifeTries is how often a change by hand is tried whose transaction was undone: a deadlock with a proxy
// that saves is legal.
const lifeTries = 3

// undoneError: the transaction was given up before its COMMIT was sent, so nothing was changed.
type undoneError struct{ err error }

func (e *undoneError) Error() string { return e.err.Error() }
func (e *undoneError) Unwrap() error { return e.err }

// SetLife implements [comparator.Store]. All of the findings' rows are locked, in the order of their ids,
// before the first is changed.
func (s *Store) SetLife(ctx context.Context, pod backends.Pod, ids []string, c comparator.LifeChange) (out []comparator.Moved, err error) {
	if ids, err = comparator.CheckFindingIDs(ids); err != nil {
		return nil, err
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	for range lifeTries {
		err = s.write(ctx, func(tx *sql.Tx) error {
			out, err = setLife(ctx, tx, pod, ids, c)
			if err != nil {
				return &undoneError{err}
			}
			return nil
		})
		var undone *undoneError
		var refused *comparator.LifeError
		if err == nil {
			return out, nil
		}
		if !errors.As(err, &undone) || errors.As(err, &refused) || errors.Is(err, comparator.ErrNoFinding) || ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

func setLife(ctx context.Context, tx *sql.Tx, pod backends.Pod, ids []string, c comparator.LifeChange) ([]comparator.Moved, error) {
	want := make([]comparator.Finding, len(ids))
	for i, id := range ids {
		want[i] = comparator.Finding{Pod: pod, ID: id}
	}
	kept, err := lock(ctx, tx, want)
	if err != nil {
		return nil, err
	}
	out := make([]comparator.Moved, len(ids))
	for i, id := range ids {
		old, ok := kept[id]
		if !ok {
			return nil, fmt.Errorf("finding %s: %w", id, comparator.ErrNoFinding)
		}
		if out[i], err = c.Apply(old); err != nil {
			return nil, err
		}
	}
	for i := range out {
		if !out[i].Changed {
			continue
		}
		if err := update(ctx, tx, &out[i].Finding); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// subjects lists shop and item of each key of a finding, and its shop, in a form in which subject finds
// them: no identifier has a tab or a line feed in it.
func subjects(f *comparator.Finding) []byte {
	var b strings.Builder
	seen := map[[2]string]bool{}
	add := func(shop backends.Shop, item backends.Item) {
		if k := [2]string{string(shop), string(item)}; !seen[k] {
			seen[k] = true
			b.WriteString("\n" + k[0] + "\t" + k[1] + "\n")
		}
	}
	if f.Shop != "" {
		add(f.Shop, "")
	}
	for _, u := range f.Units {
		add(u.Key.Shop, u.Key.Item)
	}
	return []byte(b.String())
}

// subject is what to look for; one of shop and item may be empty.
func subject(shop backends.Shop, item backends.Item) []byte {
	text := ""
	if shop != "" {
		text = "\n" + string(shop)
	}
	text += "\t"
	if item != "" {
		text += string(item) + "\n"
	}
	return []byte(text)
}
