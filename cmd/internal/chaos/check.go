package chaos

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/go-cmp/cmp"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	readPage     = 500 // holds in one question
	expireWithin = 30 * time.Second
)

// finals are the holds of a trial as both stores have them in the end.
type finals struct {
	truth, other map[backends.HoldID]*backends.Hold
}

func (f *finals) state(id backends.HoldID) backends.State {
	if h := f.truth[id]; h != nil {
		return h.State
	}
	return backends.StateUnknown
}

// read has all holds of a load from both stores.
func (r *rig) read(ctx context.Context, l *load, truth backends.Side) (*finals, error) {
	ids := make([]backends.HoldID, 0, len(l.carts))
	for _, c := range l.carts {
		ids = append(ids, c.id)
	}
	a, b := r.redis, r.mysql
	if truth == backends.SideMySQL {
		a, b = b, a
	}
	f := &finals{map[backends.HoldID]*backends.Hold{}, map[backends.HoldID]*backends.Hold{}}
	for some := range slices.Chunk(ids, readPage) {
		for s, to := range map[backends.Store]map[backends.HoldID]*backends.Hold{a: f.truth, b: f.other} {
			got, err := s.GetMany(ctx, some)
			if err != nil {
				return nil, err
			}
			for id, h := range got {
				to[id] = h
			}
		}
	}
	return f, nil
}

// checked is what the checks of a trial looked at.
type checked struct {
	Holds, Histories, Operations, Undecided int
	Broken                                  []string
	bad                                     []*item // whose history is to be kept
}

const mostBroken = 12

func (c *checked) broken(format string, args ...any) {
	if len(c.Broken) < mostBroken {
		c.Broken = append(c.Broken, fmt.Sprintf(format, args...))
	}
}

// check compares what the buyers were told with both stores, once everything is at rest.
func (r *rig) check(ctx context.Context, l *load, marks []time.Time, truth backends.Side) (*checked, error) {
	c := &checked{}
	f, err := r.atRest(ctx, l, truth)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.wrong {
		c.broken("a buyer: %s", w)
	}
	if l.full {
		c.broken("the buyers made more than %d carts: the run is too long to be kept in memory", maxCarts)
	}
	for i := range l.faults {
		if x := &l.faults[i]; !l.excused(x) {
			c.broken("a request failed through proxy %d, %s after the load began and after %s: %s", x.proxy, x.began.Sub(l.began).Round(time.Millisecond), x.end.Sub(x.began).Round(time.Millisecond), x.code)
		}
	}
	held := map[*item]int64{}
	for _, x := range l.carts {
		c.cart(x, f)
		if h := f.truth[x.id]; h != nil && h.State == backends.Held {
			for i, it := range x.items {
				held[it] += x.units[i]
			}
		}
	}
	c.Holds = len(l.carts)
	if err := c.levels(ctx, r, l, held); err != nil {
		return nil, err
	}
	c.histories(l, f, marks)
	return c, nil
}

// atRest reads the holds once all that have to expire have expired, in both stores.
func (r *rig) atRest(ctx context.Context, l *load, truth backends.Side) (f *finals, err error) {
	err = eventually(ctx, expireWithin, "holds that have to expire have expired", func() (err error) {
		if f, err = r.read(ctx, l, truth); err != nil {
			return err
		}
		for _, c := range l.carts {
			if h := f.truth[c.id]; c.short && h != nil && h.State == backends.Held {
				return fmt.Errorf("%s is held", c.id)
			}
		}
		return nil
	})
	if err == nil {
		if err = r.drained(ctx); err == nil {
			f, err = r.read(ctx, l, truth)
		}
	}
	return f, err
}

// allowed are the states in which a hold may be, by what its buyer was told.
func (x *cart) allowed() []backends.State {
	switch {
	case x.reserve.Verdict != "granted" && x.reserve.Uncertain:
		return []backends.State{backends.StateUnknown, backends.Held, backends.Released, backends.Expired}
	case x.reserve.Verdict != "granted":
		return []backends.State{backends.StateUnknown, backends.Released, backends.Expired}
	case x.short:
		return []backends.State{backends.Expired}
	case x.end.Verdict == "claimed":
		return []backends.State{backends.Claimed}
	case x.end.Verdict == "released", x.end.Verdict == "ended" && x.end.Uncertain:
		return []backends.State{backends.Released}
	case x.end.Op == "claim":
		return []backends.State{backends.Held, backends.Claimed}
	case x.end.Op == "release":
		return []backends.State{backends.Held, backends.Released}
	default:
		return []backends.State{backends.Held}
	}
}

// cart checks one hold: it is where its buyer was told, in both stores, once.
func (c *checked) cart(x *cart, f *finals) {
	told := x.reserve.Verdict
	if x.end.Op != "" {
		told += ", " + x.end.Op + " " + x.end.Verdict
	}
	if v := x.end.Verdict; v == "not_found" || v == "ended" && !x.end.Uncertain {
		c.broken("hold %s: its buyer was told %s", x.id, told)
		c.bad = append(c.bad, x.items[0])
	}
	h, o := f.truth[x.id], f.other[x.id]
	if got := f.state(x.id); !slices.Contains(x.allowed(), got) {
		c.broken("hold %s: its buyer was told %s, and the truth has it as %s", x.id, told, got)
		c.bad = append(c.bad, x.items[0])
	}
	switch {
	case h == nil && o == nil:
	case h == nil && o.State.Ended() && o.State != backends.Claimed, o == nil && h.State.Ended() && h.State != backends.Claimed:
		// It had ended before the other store heard of it.
	case h == nil || o == nil || h.State != o.State || h.Version != o.Version || !cmp.Equal(h.Allocs, o.Allocs):
		c.broken("hold %s: its buyer was told %s; the truth has %s, the other store %s", x.id, told, brief(h), brief(o))
		c.bad = append(c.bad, x.items[0])
	}
}

func brief(h *backends.Hold) string {
	if h == nil {
		return "nothing"
	}
	return fmt.Sprintf("%s at %s, %v", h.State, h.Version, h.Allocs)
}

// levels checks each item in both stores: nothing sold twice, nothing lost.
func (c *checked) levels(ctx context.Context, r *rig, l *load, held map[*item]int64) error {
	var keys []backends.Key
	by := map[backends.Key]*item{}
	for _, it := range l.items {
		keys, by[it.key()] = append(keys, it.key()), it
	}
	for name, s := range r.stores() {
		got := map[backends.Key]backends.Level{}
		for some := range slices.Chunk(keys, readPage) {
			ls, err := s.Levels(ctx, some)
			if err != nil {
				return err
			}
			for _, x := range ls {
				got[x.Key] = x
			}
		}
		for k, it := range by {
			x, want := got[k], it.units+it.back.Load()-it.sold.Load()
			switch {
			case it.failed.Load():
			case x.Sellable() < 0 || x.Held > x.OnHand:
				c.broken("oversell: item %s in %s: %+v", it.name, name, x)
			case x.Held != held[it]:
				c.broken("item %s in %s: %d units are held there, and its holds have %d", it.name, name, x.Held, held[it])
			case x.OnHand != want || x.Imbalance() != 0 || x.Taken != 0:
				c.broken("item %s in %s: %d units are on hand where %d have to be: %+v", it.name, name, x.OnHand, want, x)
			default:
				continue
			}
			c.bad = append(c.bad, it)
		}
	}
	return nil
}

// histories looks for an order of the operations on each hot item.
func (c *checked) histories(l *load, f *finals, at []time.Time) {
	marks := make([]int64, 0, len(at))
	for _, m := range at {
		marks = append(marks, l.since(m))
	}
	for _, it := range l.items {
		if !it.hot || len(it.history) == 0 {
			continue
		}
		c.Histories++
		c.Operations += len(it.history)
		switch linear(it.units, it.history, f.state, marks) {
		case porcupine.Ok:
		case porcupine.Illegal:
			c.broken("no order of the %d operations on item %s explains their answers", len(it.history), it.name)
			c.bad = append(c.bad, it)
		default:
			c.Undecided++
			c.broken("whether an order of the %d operations on item %s explains their answers could not be told within %s", len(it.history), it.name, searchPatience)
			c.bad = append(c.bad, it)
		}
	}
}
