package memstore

import (
	"context"

	"github.com/crossfade-proxy/crossfade/backends"
)

// RestateHolds writes present states under versions above the other store's.
func (s *Store) RestateHolds(ctx context.Context, t backends.Token, hs []backends.HoldAbove) (int, error) {
	for _, h := range hs {
		if err := backends.CheckAbove("hold "+string(h.ID), h.Above); err != nil {
			return 0, err
		}
	}
	d, err := s.lockTruth(ctx, t)
	if err != nil {
		return 0, err
	}
	defer d.mu.Unlock()
	written := 0
	for _, a := range hs {
		if e, _ := d.write(backends.Entry{Op: backends.OpReemit, Hold: d.restated(a, t.Epoch)}); e != nil {
			written++
		}
	}
	return written, nil
}

// restated is the present state of a hold, under its new version.
func (d *data) restated(a backends.HoldAbove, epoch uint64) *backends.Hold {
	rec := d.holds[a.ID]
	if rec == nil {
		h := &backends.Hold{ID: a.ID, State: backends.Released, Version: backends.Version{Epoch: epoch}, EndedAt: d.opt.Clock()}
		if !h.Version.After(a.Above) {
			h.Version = h.Version.Over(a.Above, epoch)
			d.put(nil, h)
		}
		return h
	}
	n := *rec.hold
	n.Version = n.Version.Over(a.Above, epoch)
	rec.hold, rec.touched = &n, d.opt.Clock()
	return &n
}

// RestateTaken writes taken sums under versions above the other store's.
func (s *Store) RestateTaken(ctx context.Context, t backends.Token, ks []backends.LevelAbove) (int, error) {
	for _, k := range ks {
		if err := backends.CheckAbove("what is taken of "+k.Key.String(), k.Above); err != nil {
			return 0, err
		}
	}
	d, err := s.lockTruth(ctx, t)
	if err != nil {
		return 0, err
	}
	defer d.mu.Unlock()
	written := 0
	for _, a := range ks {
		l := d.levels[a.Key]
		if l == nil {
			continue
		}
		l.version = l.version.Over(a.Above, t.Epoch)
		ch := &backends.LevelChange{Key: a.Key, Taken: l.taken, Version: l.version}
		if e, _ := d.write(backends.Entry{Op: backends.OpReemit, Level: ch}); e != nil {
			written++
		}
	}
	return written, nil
}

// Correct moves a level of a shadow, once for each operation id.
func (s *Store) Correct(ctx context.Context, t backends.Token, asOf backends.Instant, c *backends.Correction) (bool, error) {
	return s.correct(ctx, t, asOf, c, backends.Fence.AdmitsMirror)
}

func (s *Store) correct(ctx context.Context, t backends.Token, asOf backends.Instant, c *backends.Correction, admits rule) (bool, error) {
	if err := c.Check(); err != nil {
		return false, err
	}
	d, err := s.lock(ctx)
	if err != nil {
		return false, err
	}
	defer d.mu.Unlock()
	if err := d.admitBy(t, admits); err != nil {
		return false, err
	}
	if d.opt.Clock().Sub(asOf) > d.opt.Retain/2 {
		return false, backends.ErrStaleAttempt
	}
	if _, known := d.ops[c.OpID]; known {
		return false, nil
	}
	l := d.level(c.Key)
	l.sellable += c.Sellable
	l.onHand += c.OnHand
	l.held += c.Held
	d.remember(c.OpID, opRecord{delta: c.OnHand})
	return true, nil
}
