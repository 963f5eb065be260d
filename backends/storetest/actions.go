package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
)

// world is what one random sequence is about. Sequences share a store, so that a real server is
// set up once; each has names of its own and looks at nothing else.
type world struct {
	name string
	shop backends.Shop
	ids  []backends.HoldID
	keys []backends.Key
	ops  int
	// What was sent, to be sent again.
	counts   []*backends.CountRequest
	restocks []*backends.RestockRequest
}

const (
	worldHolds = 5
	worldItems = 2
	// brief is the life of holds that a sequence lets expire; the reference's clock moves by
	// more than that at each lapse.
	brief = backends.MinTTL
)

var worldPlaces = []backends.Location{east, west}

func newWorld(n int) *world {
	w := &world{name: fmt.Sprintf("w%d-", n), shop: backends.Shop(fmt.Sprintf("w%d", n))}
	for i := range worldHolds {
		w.ids = append(w.ids, backends.HoldID(fmt.Sprintf("%sh%d", w.name, i)))
	}
	for i := range worldItems {
		for _, loc := range worldPlaces {
			w.keys = append(w.keys, backends.Key{Shop: w.shop, Item: worldItem(i), Location: loc})
		}
	}
	return w
}

func worldItem(i int) backends.Item { return backends.Item(fmt.Sprintf("i%d", i)) }

// op gives a fresh operation id.
func (w *world) op() backends.OpID {
	w.ops++
	return backends.OpID(fmt.Sprintf("%sop%d", w.name, w.ops))
}

// sentBefore now and then gives a request that was sent before: an operation id belongs to one
// request for ever.
func sentBefore[R any](rt *rapid.T, sent []R) (q R, ok bool) {
	if len(sent) == 0 || rapid.IntRange(0, 9).Draw(rt, "again") < 8 {
		return q, false
	}
	return rapid.SampledFrom(sent).Draw(rt, "sent before"), true
}

// about tells whether an entry belongs to this world.
func (w *world) about(e *backends.Entry) bool {
	if e.Hold != nil {
		return strings.HasPrefix(string(e.Hold.ID), w.name)
	}
	return e.Level != nil && e.Level.Key.Shop == w.shop
}

// answer is what a store said to an action; times and numbers that stores choose for themselves are
// taken out.
type answer struct {
	Decisions []*backends.Decision
	Count     *backends.CountResult
	Own       *backends.OwnDecision
	N         int
	Err       string
}

// action is one drawn step: the same is done to every store.
type action struct {
	name string
	do   func(r *rig) (answer, error)
}

// kinds of actions, each as often as it is to be drawn; rapid draws the first ones and the last one
// more often than the others.
var kinds = []string{
	"restock", "reserve", "count", "reserve", "claim", "count", "release", "reserve", "restock", "count",
	"reserve", "probe", "claim", "claim lines", "extend", "release", "reserve",
}

// draw draws one action on the truth.
func (w *world) draw(rt *rapid.T) action {
	kind := rapid.SampledFrom(kinds).Draw(rt, "kind")
	id := rapid.SampledFrom(w.ids).Draw(rt, "id")
	ttl := rapid.SampledFrom([]time.Duration{longTTL, longTTL, brief}).Draw(rt, "ttl")
	switch kind {
	case "reserve", "probe":
		q := &backends.ReserveRequest{ID: id, Shop: w.shop, Lines: w.lines(rt), TTL: ttl, Caller: "prop"}
		if kind == "probe" {
			return action{kind, func(r *rig) (a answer, err error) { a.Own, err = r.s.Probe(r.ctx, q); return a, err }}
		}
		return decision(kind, func(r *rig) (*backends.Decision, error) { return r.s.Reserve(r.ctx, r.tok, q) })
	case "claim", "claim lines":
		q := &backends.ClaimRequest{ID: id, Shop: w.shop}
		if kind == "claim lines" {
			q.Lines = w.lines(rt)
		}
		return decision(kind, func(r *rig) (*backends.Decision, error) { return r.s.Claim(r.ctx, r.tok, q) })
	case "release":
		return decision(kind, func(r *rig) (*backends.Decision, error) {
			return r.s.Release(r.ctx, r.tok, &backends.ReleaseRequest{ID: id})
		})
	case "extend":
		return decision(kind, func(r *rig) (*backends.Decision, error) {
			return r.s.Extend(r.ctx, r.tok, &backends.ExtendRequest{ID: id, TTL: ttl})
		})
	case "restock":
		return w.restock(rt)
	default:
		return w.count(rt)
	}
}

func (w *world) count(rt *rapid.T) action {
	q, again := sentBefore(rt, w.counts)
	if !again {
		q = &backends.CountRequest{OpID: w.op(), Key: w.key(rt), Delta: rapid.Int64Range(-4, 5).Filter(notZero).Draw(rt, "delta")}
		w.counts = append(w.counts, q)
	}
	return action{"count", func(r *rig) (a answer, err error) { a.Count, err = r.s.Count(r.ctx, r.tok, q); return a, err }}
}

func notZero(n int64) bool { return n != 0 }

func decision(name string, do func(r *rig) (*backends.Decision, error)) action {
	return action{name, func(r *rig) (answer, error) {
		d, err := do(r)
		if err != nil {
			return answer{}, err
		}
		return answer{Decisions: []*backends.Decision{d}}, nil
	}}
}

func (w *world) key(rt *rapid.T) backends.Key { return rapid.SampledFrom(w.keys).Draw(rt, "key") }

func (w *world) restock(rt *rapid.T) action {
	q, again := sentBefore(rt, w.restocks)
	if !again {
		q = &backends.RestockRequest{
			OpID: w.op(), Key: w.key(rt),
			Kind:   rapid.SampledFrom([]backends.RestockKind{backends.RestockAdd, backends.RestockAdd, backends.RestockSetOnHand, backends.RestockSetSellable}).Draw(rt, "restock"),
			Amount: rapid.Int64Range(0, 9).Draw(rt, "amount"),
		}
		if q.Kind == backends.RestockAdd {
			q.Amount -= 2
		}
		w.restocks = append(w.restocks, q)
	}
	return decision("restock", func(r *rig) (*backends.Decision, error) { return r.s.Restock(r.ctx, r.tok, q) })
}

// lines draws a cart of one or two lines.
func (w *world) lines(rt *rapid.T) []backends.Line {
	n := rapid.IntRange(1, worldItems).Draw(rt, "lines")
	first := rapid.IntRange(0, worldItems-1).Draw(rt, "first")
	var out []backends.Line
	for i := range n {
		locs := rapid.SampledFrom([][]backends.Location{{east}, {west}, {east, west}, {west, east}}).Draw(rt, "locations")
		out = append(out, backends.Line{
			Item: worldItem((first + i) % worldItems), Quantity: rapid.Int64Range(1, 4).Draw(rt, "quantity"),
			Locations: locs, Split: len(locs) > 1 && rapid.Bool().Draw(rt, "split"),
		})
	}
	return out
}

// run does an action and gives what may be compared. An error that no store may answer in a
// sequence without neighbours fails the test.
func (a action) run(r *rig) answer {
	r.t.Helper()
	ans, err := a.do(r)
	var unknown *backends.UnknownStockError
	switch {
	case err == nil:
	case errors.As(err, &unknown):
		return answer{Err: fmt.Sprintf("unknown stock of %s in line %d", unknown.Key.Item, unknown.Line)}
	case errors.Is(err, backends.ErrHoldConflict):
		return answer{Err: "conflict"}
	default:
		r.t.Fatalf("%s: %v", a.name, err)
	}
	return ans.plain()
}

// plain takes out what stores choose for themselves.
func (a answer) plain() answer {
	for i, d := range a.Decisions {
		a.Decisions[i] = plainDecision(d)
	}
	if a.Count != nil {
		c := *a.Count
		c.Entry = plainEntry(c.Entry)
		a.Count = &c
	}
	if a.Own != nil {
		a.Own = plainOwn(a.Own)
	}
	return a
}

func plainDecision(d *backends.Decision) *backends.Decision {
	c := *d
	c.Hold, c.Entry = plainHold(d.Hold), plainEntry(d.Entry)
	c.Seen = nil
	if c.Outcome == backends.OutcomeSoldOut {
		c.Seen = plainSeen(d.Seen)
	}
	if c.Replayed {
		c.LedgerPending = false // the store need not know whether it still is
	}
	c.Apologies = slices.Clone(d.Apologies)
	for i := range c.Apologies {
		c.Apologies[i].At, c.Apologies[i].Reason = 0, ""
	}
	slices.SortFunc(c.Apologies, func(a, b backends.Apology) int { return a.Key.Compare(b.Key) })
	return &c
}

// plainSeen leaves out keys with nothing: a key without a level need not be listed.
func plainSeen(us []backends.Units) []backends.Units {
	out := slices.DeleteFunc(slices.Clone(us), func(u backends.Units) bool { return u.Quantity == 0 })
	slices.SortFunc(out, func(a, b backends.Units) int { return a.Key.Compare(b.Key) })
	return out
}

func plainOwn(o *backends.OwnDecision) *backends.OwnDecision {
	if o == nil {
		return nil
	}
	c := *o
	c.Seen = nil
	if c.Outcome == backends.OutcomeSoldOut {
		c.Seen = plainSeen(o.Seen)
	}
	return &c
}

func plainHold(h *backends.Hold) *backends.Hold {
	if h == nil {
		return nil
	}
	c := h.Clone()
	c.CreatedAt, c.ExpiresAt, c.EndedAt = 0, 0, 0
	return c
}

// plainEntry gives nil for a restock that moved nothing: whether redis-only lists it is left to
// the store.
func plainEntry(e *backends.Entry) *backends.Entry {
	if e == nil || e.Op == backends.OpRestock && e.Level.OnHandDelta == 0 {
		return nil
	}
	c := *e
	c.Seq, c.At, c.Hold = "", 0, plainHold(e.Hold)
	if e.Level != nil {
		l := *e.Level
		if e.Op == backends.OpReemit && l.Version != (backends.Version{}) && l.OpID != "" {
			l.OpID = "fresh" // what is owed
		}
		c.Level = &l
	}
	return &c
}
