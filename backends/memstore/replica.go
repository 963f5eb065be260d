package memstore

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

// errRestarted is what every write answers between Promote and the next raise of the fence.
var errRestarted = fmt.Errorf("%w: %w", backends.ErrUnavailable, backends.ErrRestarted)

// Snapshot is what a replica of the store has.
type Snapshot struct{ d *data }

// Snapshot copies the store as it is now.
func (s *Store) Snapshot() *Snapshot {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	return &Snapshot{s.d.copied()}
}

// copied shares what is never changed in place.
func (d *data) copied() *data {
	c := &data{
		fence: d.fence, doubtful: d.doubtful, places: d.places, fresh: d.fresh,
		levels: make(map[backends.Key]*level, len(d.levels)), holds: make(map[backends.HoldID]*record, len(d.holds)),
		ops: maps.Clone(d.ops), opList: slices.Clone(d.opList), apologies: slices.Clone(d.apologies), outbox: d.outbox,
	}
	c.outbox.entries = slices.Clone(d.outbox.entries)
	for _, l := range d.levelList {
		n := *l
		c.levels[l.key], c.levelList = &n, append(c.levelList, &n)
	}
	for _, r := range d.holdList {
		n := *r
		c.holds[r.hold.ID], c.holdList = &n, append(c.holdList, &n)
	}
	return c
}

// Promote puts the replica in the place of the store, as an asynchronous failover does: what the store has
// done since the snapshot is gone. The new server is another run, at which no fence was raised: so it shows its fence
// as closed and admits nothing until one is raised under a higher epoch. Entries of its outbox are numbered
// above all that were ever given out, as a stream's are, by time.
func (s *Store) Promote(p *Snapshot) {
	n := p.d.copied()
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	d := s.d
	n.outbox.last, n.fresh, n.places = d.outbox.last, d.fresh, d.places
	d.fence, d.doubtful, d.places, d.fresh = n.fence, true, n.places, n.fresh
	d.levels, d.levelList, d.holds, d.holdList = n.levels, n.levelList, n.holds, n.holdList
	d.ops, d.opList, d.apologies, d.outbox = n.ops, n.opList, n.apologies, n.outbox
}

// Restarted tells whether the fence was raised at another run of the server.
func (s *Store) Restarted() bool {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	return s.d.doubtful
}

// Knows tells whether an operation id is remembered, for those who ask what a failover has lost.
func (s *Store) Knows(id backends.OpID) bool {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	_, ok := s.d.ops[id]
	return ok
}

// shown is the fence as others see it.
func (d *data) shown() backends.Fence {
	f := d.fence
	f.Open = f.Open && !d.doubtful
	return f
}

var _ backends.Restorer = (*Store)(nil)

// Restore follows states of the other store in the truth.
func (s *Store) Restore(ctx context.Context, t backends.Token, asOf backends.Instant, entries []backends.Entry) ([]backends.Applied, error) {
	return s.follow(ctx, t, asOf, entries, backends.Fence.AdmitsRestore)
}

// RestoreLevel moves a level of the truth, once for each operation id.
func (s *Store) RestoreLevel(ctx context.Context, t backends.Token, asOf backends.Instant, c *backends.Correction) (bool, error) {
	return s.correct(ctx, t, asOf, c, backends.Fence.AdmitsRestore)
}
