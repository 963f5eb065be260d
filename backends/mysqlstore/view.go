package mysqlstore

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

var (
	textViewFence      = named("view_fence").one()
	statementViewStock = named("view_stock")
	statementViewHolds = named("view_holds")
	viewPartsSeparator = " UNION ALL "
	viewKinds          = struct{ fence, stock, hold int }{0, 1, 2}
)

// gatherViews bounds how long a refusal may wait for others of a crowd, with whom it then shares a
// statement: no longer than the crowd takes to come round in a flash sale.
const gatherViews = 4 * time.Millisecond

// maxViewers is how many may share a view where requests are combined at all. A view takes no lock
// and writes nothing, so more than of writes.
func maxViewers(combine int) int {
	if combine <= 1 {
		return 1
	}
	return maxWeight
}

// viewing is one caller's wish to see what is committed. One statement serves all who waited when it
// was sent: it began after each of their requests arrived, which is what a refusal has to rest on.
type viewing struct {
	j    job
	id   backends.HoldID
	keys []backends.Key

	stocks map[backends.Key]stock // shared by all of the batch
	known  bool                   // the id is in use
	err    error
}

func (v *viewing) fail(err error) { v.err = err }

func (s *Store) newViewers() *combiner[*viewing] {
	return (&combiner[*viewing]{
		lanes: 1, most: maxViewers(s.cfg.Combine), room: maxWeight, gather: gatherViews,
		alike:  func(a, b *viewing) bool { return a.j.tok == b.j.tok },
		name:   func(v *viewing) backends.HoldID { return v.id },
		weight: weightOfView,
		run:    func(ctx context.Context, vs []*viewing) { together(ctx, s, vs, s.view) },
		left:   undone, // it has changed nothing
	}).init()
}

// weightOfView: a crowd wants one item, and its view counts one pool; those who want many items each
// rarely want the same.
func weightOfView(v *viewing) int {
	const perKey = 4
	if len(v.keys) == 1 {
		return 1
	}
	return perKey * len(v.keys)
}

// view looks at the stock, the holds and the fence at one instant.
func (s *Store) view(ctx context.Context, vs []*viewing) error {
	j := jointJob(vs, func(v *viewing) job { return v.j })
	var keys []backends.Key
	place := map[backends.Key]struct{}{}
	ids := make([]any, 0, len(vs))
	for _, v := range vs {
		v.stocks, v.known, v.err = nil, false, nil
		for _, k := range v.keys {
			if _, there := place[k]; !there {
				place[k] = struct{}{}
				keys = append(keys, k)
			}
		}
		ids = append(ids, v.id)
	}
	var fence backends.Fence
	stocks := make(map[backends.Key]stock, len(keys))
	known := map[backends.HoldID]bool{}
	err := s.readFor(ctx, j, func(b *batch) {
		fence = backends.Fence{}
		clear(stocks)
		clear(known)
		text, args := s.viewText(keys, ids)
		b.ask(func(r *sql.Rows) error { return scanView(r, keys, &fence, stocks, known) }, text, args...)
	})
	s.count.views.Add(1)
	if err != nil {
		return err
	}
	if !j.role.admitted(fence, j.tok) {
		return s.fenced(fence, j.tok)
	}
	for _, v := range vs {
		v.stocks, v.known = stocks, known[v.id]
	}
	return nil
}

func (s *Store) viewText(keys []backends.Key, ids []any) (text string, args []any) {
	args = append(make([]any, 0, 2+9*len(keys)+len(ids)), s.cfg.Pod)
	for i, k := range keys {
		args = append(args, i)
		args = append(args, s.keyArgs(k)...)
		args = append(args, s.keyArgs(k)...)
	}
	args = append(append(args, s.cfg.Pod), ids...)
	return strings.Join([]string{textViewFence, statementViewStock.times(len(keys)), statementViewHolds.times(len(ids))}, viewPartsSeparator), args
}

func scanView(r *sql.Rows, keys []backends.Key, fence *backends.Fence, stocks map[backends.Key]stock, known map[backends.HoldID]bool) error {
	var kind, i int
	var a, b, c, d int64
	var id backends.HoldID
	if err := r.Scan(&kind, &i, &a, &b, &c, &d, &id); err != nil {
		return err
	}
	switch kind {
	case viewKinds.fence:
		*fence = backends.Fence{Epoch: uint64(a), Stage: backends.Stage(b), Open: c != 0} //nolint:gosec // as they were written
		extras(d).into(fence)                                                             //nolint:gosec // as they were written
	case viewKinds.stock:
		stocks[keys[i]] = stock{unmaterialised: a, pool: b}
	case viewKinds.hold:
		known[id] = true
	}
	return nil
}

// refuse looks at what is committed, without a lock. It answers a refusal or a known hold; or
// nothing, and then g is planned by what it saw.
func (s *Store) refuse(ctx context.Context, j job, g *grant) (*backends.Decision, error) {
	r := g.r
	v := &viewing{j: j, id: r.ID, keys: backends.Keys(r.Shop, r.Lines)}
	if err := s.viewers.do(ctx, v); err != nil {
		return nil, err
	}
	switch {
	case v.err != nil:
		return nil, v.err
	case v.known:
		rec, _, err := s.look(ctx, j, r.ID)
		if err != nil {
			return nil, err
		}
		if rec != nil { // else it was purged just now
			return reserveAgain(rec, r)
		}
	}
	if err := checkKnown(r.Shop, r.Lines, func(k backends.Key) bool { _, ok := v.stocks[k]; return ok }); err != nil {
		return nil, err
	}
	sellable := func(k backends.Key) int64 { return v.stocks[k].sellable() }
	allocs, short := backends.Allocate(r.Shop, r.Lines, sellable)
	for _, w := range g.wants {
		s.hints.soldOut(w.Key, sellable(w.Key) <= 0)
	}
	if len(short) > 0 {
		return soldOut(short, seenIn(r, sellable)), nil
	}
	g.plan(allocs)
	return nil, nil
}
