package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
)

var togetherParts = []part{
	{"a crowd is answered as one after the other", togetherRounds},
	{"groups that arrive at once end where the truth is", togetherApply},
	{"some order explains every answer on hot items", togetherLinear},
}

// What a store answers to many at once must be what it would have answered to one after the other, in
// some order. These rounds are drawn so that the order cannot matter: in a round that takes, all
// carts are alike, so that any order grants as many of them; in a round that gives back, everything
// commutes. Then the memory model, asked one by one, says how many are granted and where all levels
// stand, exactly.

const (
	togetherMin, togetherMax = 3, 7 // rounds of a sequence
	togetherCarts            = 14   // of a round
	togetherCopies           = 3    // of one request, sent at once
	togetherPool             = 5    // less than some lines want
	// togetherShare: a sequence is many requests, so fewer are tried than of other properties.
	togetherShare = 4
)

// Items of such a world. Each is asked for in one way only, so that where units of it are left does
// not matter to later rounds.
const (
	single  backends.Item = "single"  // at east
	double  backends.Item = "double"  // at east
	divided backends.Item = "divided" // split over both places
	whole   backends.Item = "whole"   // from one of both places, and always in lots of wholeLot
	plenty  backends.Item = "plenty"  // never runs out
)

const (
	wholeLot    = 3
	plentyUnits = 1_000_000
)

var togetherItems = []backends.Item{single, double, divided, whole, plenty}

func places(item backends.Item) []backends.Location {
	if item == divided || item == whole {
		return []backends.Location{east, west}
	}
	return []backends.Location{east}
}

// together is the reference and the store under test, each with the holds that it has granted; the n-th
// of one is like the n-th of the other.
type together struct {
	rt   *rapid.T
	shop backends.Shop
	ops  int
	ids  int
	ref  *party
	got  *party
}

// party is one of the two.
type party struct {
	handles []*rig // proxies; requests go to each in turn
	held    []*backends.Hold
	is      map[backends.HoldID]backends.State // what the answers said
	crowd   bool                               // at once, or one after the other
}

func (p *party) rig() *rig { return p.handles[0] }

// job is one request of a round with its copies; the party's answers are judged when all are there.
type job struct {
	copies int
	send   func(r *rig, copyOf int) error
	judge  func(p *party) error
}

// fewerChecks lowers the number of sequences while a property runs.
func fewerChecks(t *testing.T, e *env) {
	n := e.h.Checks
	if n <= 0 {
		n = DefaultChecks
	}
	setChecks(t, max(3, n/togetherShare))
	t.Cleanup(func() { setChecks(t, e.h.Checks) })
}

func togetherRounds(t *testing.T, e *env) {
	fewerChecks(t, e)
	ref, clock := e.reference(t, e.side)
	first := e.open(t, e.dual(), Options{PoolCap: togetherPool})
	second := first.second()
	ref.raise(backends.Fence{Epoch: firstEpoch, Stage: e.dual(), Open: true, Filled: true})
	worlds := 0
	rapid.Check(t, func(rt *rapid.T) {
		worlds++
		w := &together{
			rt: rt, shop: backends.Shop(fmt.Sprintf("t%d", worlds)),
			ref: &party{handles: []*rig{ref.within(rt, t)}, is: map[backends.HoldID]backends.State{}},
			got: &party{handles: []*rig{first.within(rt, t), second.within(rt, t)}, is: map[backends.HoldID]backends.State{}, crowd: true},
		}
		stock := w.stock()
		w.round("stock", func(*party) []job { return stock })
		for n := range rapid.IntRange(togetherMin, togetherMax).Draw(rt, "rounds") {
			switch rapid.IntRange(0, 4).Draw(rt, "round") {
			case 0, 1, 2:
				w.taking()
			case 3:
				w.giving(n)
			default:
				w.lapse(clock)
			}
		}
		w.replays()
	})
}

// play sends every copy of the jobs and judges the answers.
func (p *party) play(jobs []job) error {
	var sends []func() error
	for i, j := range jobs {
		for c := range j.copies {
			r := p.handles[(i+c)%len(p.handles)]
			sends = append(sends, func() error { return j.send(r, c) })
		}
	}
	errs := make([]error, len(sends), len(sends)+len(jobs))
	if p.crowd {
		var wg sync.WaitGroup
		for i, send := range sends {
			wg.Go(func() { errs[i] = send() })
		}
		wg.Wait()
	} else {
		for i, send := range sends {
			errs[i] = send()
		}
	}
	for _, j := range jobs {
		if j.judge != nil {
			errs = append(errs, j.judge(p))
		}
	}
	return errors.Join(errs...)
}

// round plays the same jobs with both parties and wants both to stand alike. plan is asked once for
// each, since holds differ by their ids; it may draw only before.
func (w *together) round(name string, plan func(p *party) []job) {
	w.rt.Helper()
	for _, p := range []*party{w.ref, w.got} {
		if err := p.play(plan(p)); err != nil {
			w.rt.Fatalf("%s: %v", name, err)
		}
	}
	w.compare(name)
}

// compare wants as many holds on both sides, levels that are alike, P2 in all of the store, and each hold as
// the answers said.
func (w *together) compare(name string) {
	w.rt.Helper()
	if a, b := len(w.ref.held), len(w.got.held); a != b {
		w.rt.Fatalf("%s: %d carts are held, one after the other there are %d", name, b, a)
	}
	want, got := w.sums(w.ref), w.sums(w.got)
	w.got.rig().same("units by item after "+name+", reference (-) and crowd (+)", want, got)
	w.got.rig().conserved()
	ids := make([]backends.HoldID, 0, len(w.got.is))
	for id := range w.got.is {
		ids = append(ids, id)
	}
	there, err := w.got.rig().s.GetMany(w.got.rig().ctx, ids)
	w.got.rig().ok(err, "GetMany")
	for id, want := range w.got.is {
		is := backends.StateUnknown
		if h := there[id]; h != nil {
			is = h.State
		}
		if is != want {
			w.rt.Fatalf("%s: hold %s is %s, the answers said %s", name, id, is, want)
		}
	}
}

// sums are the units of each item, over its places.
func (w *together) sums(p *party) map[backends.Item]units {
	out := map[backends.Item]units{}
	for _, item := range togetherItems {
		var keys []backends.Key
		for _, loc := range places(item) {
			keys = append(keys, backends.Key{Shop: w.shop, Item: item, Location: loc})
		}
		ls, err := p.rig().s.Levels(p.rig().ctx, keys)
		p.rig().ok(err, "Levels")
		var u units
		for _, l := range ls {
			u.OnHand += l.OnHand
			u.Sellable += l.Sellable()
			u.Held += l.Held
			u.Taken += l.Taken
		}
		out[item] = u
	}
	return out
}

func (w *together) copies(what string) int {
	return rapid.SampledFrom([]int{1, 1, 1, 2, togetherCopies}).Draw(w.rt, "copies of a "+what)
}

// stock draws a restock of every key, with twins.
func (w *together) stock() []job {
	var jobs []job
	for _, item := range togetherItems {
		for _, loc := range places(item) {
			n := rapid.Int64Range(0, 30).Draw(w.rt, "units")
			switch item {
			case plenty:
				n = plentyUnits
			case whole:
				n *= wholeLot
			}
			jobs = append(jobs, w.restock(backends.Key{Shop: w.shop, Item: item, Location: loc}, n))
		}
	}
	return jobs
}

// restock adds units once, however many copies there are. Both parties get the same job: whether it
// was a replay is counted for each apart.
func (w *together) restock(k backends.Key, n int64) job {
	w.ops++
	q := &backends.RestockRequest{OpID: backends.OpID(fmt.Sprintf("%s-op%d", w.shop, w.ops)), Key: k, Amount: n}
	return job{copies: w.copies("restock"), send: func(r *rig, _ int) error {
		d, err := again(func() (*backends.Decision, error) { return r.s.Restock(r.ctx, r.tok, q) })
		if err == nil && d.Outcome != backends.OutcomeRestocked {
			err = fmt.Errorf("restock answered %s", d.Outcome)
		}
		return err
	}}
}

// count moves a counter once, however many copies there are, and all are told the same.
func (w *together) count(k backends.Key, delta int64) func(*party) job {
	w.ops++
	q := &backends.CountRequest{OpID: backends.OpID(fmt.Sprintf("%s-op%d", w.shop, w.ops)), Key: k, Delta: delta}
	n := w.copies("count")
	return func(*party) job {
		values := make([]int64, n)
		return job{copies: n, send: func(r *rig, c int) error {
			res, err := again(func() (*backends.CountResult, error) { return r.s.Count(r.ctx, r.tok, q) })
			if err == nil {
				values[c] = res.Value
			}
			return err
		}, judge: func(*party) error {
			if len(slices.Compact(values)) != 1 {
				return fmt.Errorf("copies of one count were answered %v", values)
			}
			return nil
		}}
	}
}

// form draws what all carts of a round want.
func (w *together) form() []backends.Line {
	var lines []backends.Line
	for _, item := range rapid.SliceOfNDistinct(rapid.SampledFrom(togetherItems), 1, 3, rapid.ID).Draw(w.rt, "items") {
		l := line(item, rapid.Int64Range(1, 2*togetherPool+2).Draw(w.rt, "quantity"), places(item)...)
		switch item {
		case divided:
			l.Split = true
		case whole:
			l.Quantity = wholeLot
		}
		lines = append(lines, l)
	}
	return lines
}

// drawnCart is one id with its copies: which of them come with another body.
type drawnCart struct {
	id  backends.HoldID
	odd []bool
}

// other is another body that takes the same units: it names one more location, where there is nothing.
func other(lines []backends.Line) []backends.Line {
	out := slices.Clone(lines)
	out[0].Locations = append(slices.Clone(out[0].Locations), "nowhere")
	return out
}

// taking is a round in which many carts of one form want units that may not do for all, counters of
// other items are moved, and earlier holds are claimed and extended meanwhile.
func (w *together) taking() {
	lines := w.form()
	ttl := rapid.SampledFrom([]time.Duration{longTTL, longTTL, brief}).Draw(w.rt, "ttl")
	var carts []drawnCart
	for range rapid.IntRange(1, togetherCarts).Draw(w.rt, "carts") {
		w.ids++
		c := drawnCart{id: backends.HoldID(fmt.Sprintf("%s-h%d", w.shop, w.ids)), odd: make([]bool, w.copies("cart"))}
		for i := 1; i < len(c.odd); i++ {
			c.odd[i] = rapid.IntRange(0, 3).Draw(w.rt, "another body") == 0
		}
		carts = append(carts, c)
	}
	var counts []func(*party) job
	for _, item := range []backends.Item{single, double} {
		if !slices.ContainsFunc(lines, func(l backends.Line) bool { return l.Item == item }) && rapid.Bool().Draw(w.rt, "count") {
			counts = append(counts, w.count(backends.Key{Shop: w.shop, Item: item, Location: east}, -rapid.Int64Range(1, 4).Draw(w.rt, "takes")))
		}
	}
	ends := w.endings(backends.OpClaim, backends.OpExtend)
	w.round("carts", func(p *party) []job {
		jobs := w.endJobs(p, ends)
		for _, c := range carts {
			jobs = append(jobs, w.cart(c, lines, ttl))
		}
		for _, c := range counts {
			jobs = append(jobs, c(p))
		}
		return jobs
	})
}

// cart sends one id, and judges its copies together: all with the body that won are granted the same
// units, once, and all others are told of the conflict; or all are refused.
func (w *together) cart(c drawnCart, lines []backends.Line, ttl time.Duration) job {
	ds := make([]*backends.Decision, len(c.odd))
	return job{copies: len(c.odd), send: func(r *rig, i int) error {
		q := &backends.ReserveRequest{ID: c.id, Shop: w.shop, Lines: lines, TTL: ttl, Caller: fmt.Sprintf("caller-%d", i)}
		if c.odd[i] {
			q.Lines = other(lines)
		}
		d, err := again(func() (*backends.Decision, error) { return r.s.Reserve(r.ctx, r.tok, q) })
		if errors.Is(err, backends.ErrHoldConflict) {
			return nil // no decision
		}
		ds[i] = d
		return err
	}, judge: func(p *party) error { return p.judgeCart(c, ds) }}
}

func (p *party) judgeCart(c drawnCart, ds []*backends.Decision) error {
	var won *backends.Decision
	odd, refused := false, 0
	for i, d := range ds {
		switch {
		case d == nil:
		case d.Outcome == backends.OutcomeSoldOut && len(d.Short) > 0:
			refused++
		case d.Outcome != backends.OutcomeGranted:
			return fmt.Errorf("cart %s was answered %+v", c.id, d)
		case won == nil:
			won, odd = d, c.odd[i]
		case c.odd[i] != odd || !slices.Equal(won.Hold.Allocs, d.Hold.Allocs):
			return fmt.Errorf("cart %s was granted twice: %+v and %+v", c.id, won.Hold, d.Hold)
		}
	}
	if won == nil {
		p.is[c.id] = backends.StateUnknown
		return errIfNot(refused == len(ds), "of %d copies of cart %s %d are refused and none is granted", len(ds), c.id, refused)
	}
	fresh := 0
	for i, d := range ds {
		if (d == nil) != (c.odd[i] != odd) {
			return fmt.Errorf("cart %s: copy %d (another body: %t) was answered %+v; the body that won: another: %t", c.id, i, c.odd[i], d, odd)
		}
		if d != nil && !d.Replayed {
			fresh++
		}
	}
	p.is[c.id] = backends.Held
	p.held = append(p.held, won.Hold)
	// The answer of the first grant may have been lost and asked for again.
	return errIfNot(refused == 0 && fresh <= 1, "cart %s was granted, refused %d times and granted anew %d times", c.id, refused, fresh)
}

func errIfNot(is bool, format string, args ...any) error {
	if is {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// drawnEnd is what becomes of the n-th hold.
type drawnEnd struct {
	n, copies int
	op        backends.Op
}

// endings draws what becomes of the holds that there are.
func (w *together) endings(ops ...backends.Op) (out []drawnEnd) {
	for n := range w.ref.held {
		if rapid.IntRange(0, 2).Draw(w.rt, "leave") > 0 {
			out = append(out, drawnEnd{n, w.copies("end"), rapid.SampledFrom(ops).Draw(w.rt, "op")})
		}
	}
	return out
}

var endStates = map[backends.Op]struct {
	outcome backends.Outcome
	state   backends.State
}{
	backends.OpClaim:   {backends.OutcomeClaimed, backends.Claimed},
	backends.OpRelease: {backends.OutcomeReleased, backends.Released},
	backends.OpExtend:  {backends.OutcomeExtended, backends.Held},
}

// endJobs ends the party's own holds. They leave its list when all are done.
func (w *together) endJobs(p *party, ends []drawnEnd) (jobs []job) {
	held := p.held
	over := map[backends.HoldID]bool{}
	for _, e := range ends {
		h := held[e.n]
		want := endStates[e.op]
		if want.state != backends.Held {
			over[h.ID] = true
		}
		jobs = append(jobs, job{copies: e.copies, send: func(r *rig, _ int) error {
			d, err := again(func() (*backends.Decision, error) {
				switch e.op {
				case backends.OpClaim:
					return r.s.Claim(r.ctx, r.tok, &backends.ClaimRequest{ID: h.ID, Shop: w.shop})
				case backends.OpRelease:
					return r.s.Release(r.ctx, r.tok, &backends.ReleaseRequest{ID: h.ID})
				default:
					return r.s.Extend(r.ctx, r.tok, &backends.ExtendRequest{ID: h.ID, TTL: longTTL})
				}
			})
			if err == nil && (d.Outcome != want.outcome || !slices.Equal(d.Hold.Allocs, h.Allocs) || len(d.Apologies) > 0) {
				err = fmt.Errorf("%s of %s answered %+v", e.op, h.ID, d)
			}
			return err
		}, judge: func(p *party) error {
			p.is[h.ID] = want.state
			return nil
		}})
	}
	if len(jobs) > 0 {
		jobs[len(jobs)-1].judge = both(jobs[len(jobs)-1].judge, func(p *party) {
			p.held = slices.DeleteFunc(p.held, func(h *backends.Hold) bool { return over[h.ID] })
		})
	}
	return jobs
}

func both(first func(*party) error, then func(*party)) func(*party) error {
	return func(p *party) error {
		err := first(p)
		then(p)
		return err
	}
}

// giving is a round in which units come back in every way at once.
func (w *together) giving(n int) {
	ends := w.endings(backends.OpClaim, backends.OpRelease, backends.OpRelease, backends.OpExtend)
	jobs := w.stock()
	var counts []func(*party) job
	for _, item := range []backends.Item{single, double} {
		k := backends.Key{Shop: w.shop, Item: item, Location: east}
		if taken := w.sums(w.ref)[item].Taken; taken > 0 { // what is beyond that would be a restock
			counts = append(counts, w.count(k, rapid.Int64Range(1, taken).Draw(w.rt, "gives back")))
		}
	}
	w.round(fmt.Sprintf("giving back, round %d", n), func(p *party) []job {
		all := append(w.endJobs(p, ends), jobs...)
		for _, c := range counts {
			all = append(all, c(p))
		}
		return all
	})
}

// replays sends every cart that is held once more, all at once: the answer is the first one.
func (w *together) replays() {
	w.round("everything again", func(p *party) (jobs []job) {
		for _, h := range p.held {
			q := &backends.ReserveRequest{ID: h.ID, Shop: w.shop, Lines: h.Lines, TTL: longTTL, Caller: strings.Repeat("again", 2)}
			jobs = append(jobs, job{copies: 2, send: func(r *rig, _ int) error {
				d, err := again(func() (*backends.Decision, error) { return r.s.Reserve(r.ctx, r.tok, q) })
				if err == nil && (d.Outcome != backends.OutcomeGranted || !d.Replayed || !slices.Equal(d.Hold.Allocs, h.Allocs)) {
					err = fmt.Errorf("cart %s sent again was answered %+v, it is %+v", h.ID, d, h)
				}
				return err
			}})
		}
		return jobs
	})
}
