package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/redisstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// narrow is a second store on a rig's keys, behind a wire, with one connection for decisions.
func (r *rig) narrow(srv *lab.Server) (*redisstore.Store, *wire) {
	w := newWire(r.T, srv.Addr())
	return open(r.T, w.addr(), r.prefix, func(c *redisstore.Config) { c.PoolSize = 1 }), w
}

// calls is how many calls of scripts the server has had.
func (r *rig) calls() (n int) {
	r.Helper()
	text, err := r.raw.Info(r.ctx, "commandstats").Result()
	r.ok(err)
	_, rest, _ := strings.Cut(text, "cmdstat_evalsha:calls=")
	_, _ = fmt.Sscan(strings.SplitN(rest, ",", 2)[0], &n) // none yet: 0
	return n
}

// inOne does operations at the same time until they went into fewer calls than they are: while one
// stands on the wire, the others come together in the queue. do is given the number of the attempt.
func (r *rig) inOne(w *wire, s *redisstore.Store, do func(attempt int) []func()) {
	r.Helper()
	for attempt := range 50 {
		ops := do(attempt)
		w.stop.Lock()
		before := r.calls()
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = s.Now(r.ctx) }) // stands on the wire
		for _, op := range ops {
			wg.Go(op)
		}
		// Whoever gets there later is in a call of his own, and another attempt is made.
		time.AfterFunc(20*time.Millisecond, w.stop.Unlock)
		wg.Wait()
		if r.calls()-before == 1 {
			return
		}
	}
	r.Fatal("the operations never shared a call")
}

// Each member of a call has its own verdict, whatever its neighbours are.
func TestFoldKeepsVerdictsApart(t *testing.T) {
	for _, k := range servers {
		t.Run(string(k), func(t *testing.T) {
			srv := lab.Private(t, k)
			r := newRig(t, srv, backends.Shadow)
			s, w := r.narrow(srv)
			for _, i := range []backends.Item{"mug", "broken", "garbled"} {
				r.restock(i, 1000)
			}
			r.reserve(cart("known", "mug", 1))
			r.reserve(cart("spoilt", "mug", 1))
			r.spoil(r.own("h:spoilt"), "text")
			r.spoil(r.counter("broken"), "list")
			r.spoil(r.own("op:bad"), "list")
			sum := r.level("mug")
			type want struct {
				name string
				do   func(n int) (any, error)
				ok   func(v any, err error) bool
			}
			reserve := func(id string, q *backends.ReserveRequest) func(int) (any, error) {
				return func(n int) (any, error) {
					if id != "" {
						q.ID = backends.HoldID(fmt.Sprint(id, n))
					}
					d, err := s.Reserve(r.ctx, r.tok, q)
					return d, err
				}
			}
			outcome := func(o backends.Outcome) func(any, error) bool {
				return func(v any, err error) bool { return err == nil && v.(*backends.Decision).Outcome == o }
			}
			fails := func(target error) func(any, error) bool {
				return func(_ any, err error) bool { return errors.Is(err, target) }
			}
			count := func(id string, i backends.Item, n int64) func(int) (any, error) {
				return func(attempt int) (any, error) {
					if id == "" {
						id = fmt.Sprint("op-", i, n, "-")
					}
					op := id
					if op != "bad" {
						op = fmt.Sprint(id, attempt)
					}
					return s.Count(r.ctx, r.tok, &backends.CountRequest{OpID: backends.OpID(op), Key: item(i), Delta: n})
				}
			}
			field := func(_ any, err error) bool {
				var fe *backends.FieldError
				return errors.As(err, &fe)
			}
			wants := []want{
				{"granted", reserve("new", cart("", "mug", 2)), outcome(backends.OutcomeGranted)},
				{"granted too", reserve("also", cart("", "mug", 3)), outcome(backends.OutcomeGranted)},
				{"sold out", reserve("much", cart("", "mug", 1_000_000)), outcome(backends.OutcomeSoldOut)},
				{"replayed", reserve("", cart("known", "mug", 1)), func(v any, err error) bool { return err == nil && v.(*backends.Decision).Replayed }},
				{"conflict", reserve("", cart("known", "mug", 7)), fails(backends.ErrHoldConflict)},
				{"unknown stock", reserve("none", cart("", "never", 1)), func(_ any, err error) bool {
					var us *backends.UnknownStockError
					return errors.As(err, &us)
				}},
				{"damaged counter", reserve("dam", cart("", "broken", 1)), fails(backends.ErrDamaged)},
				{"damaged hold", func(int) (any, error) {
					return s.Release(r.ctx, r.tok, &backends.ReleaseRequest{ID: "spoilt"})
				}, fails(backends.ErrDamaged)},
				{"unknown hold", func(int) (any, error) {
					return s.Release(r.ctx, r.tok, &backends.ReleaseRequest{ID: "nobody"})
				}, outcome(backends.OutcomeNotFound)},
				{"take", count("", "mug", -4), func(v any, err error) bool { return err == nil && v.(*backends.CountResult).Entry != nil }},
				{"range", count("", "garbled", backends.MaxOnHand), field},
				{"damaged operation", count("bad", "mug", -1), fails(backends.ErrDamaged)},
				{"claim without lines", func(int) (any, error) {
					return s.Claim(r.ctx, r.tok, &backends.ClaimRequest{ID: "nobody"})
				}, outcome(backends.OutcomeNotFound)},
			}
			runs := 0
			r.inOne(w, s, func(n int) (ops []func()) {
				runs++
				for _, c := range wants {
					ops = append(ops, func() {
						if v, err := c.do(n); !c.ok(v, err) {
							t.Errorf("%s: %+v, %v", c.name, v, err)
						}
					})
				}
				return ops
			})
			got := r.level("mug")
			n := int64(runs)
			if got.Held-sum.Held != 5*n || got.Taken-sum.Taken != 4*n || got.OnHand != sum.OnHand {
				t.Fatalf("%d runs of 2 and 3 held and 4 taken made of %+v: %+v", runs, sum, got)
			}
		})
	}
}

// A call under an epoch that the fence does not admit does nothing, and keeps none of another epoch from
// being done.
func TestFoldUnderTwoEpochs(t *testing.T) {
	srv := lab.Private(t, lab.Redis)
	r := newRig(t, srv, backends.RedisOnly)
	s, w := r.narrow(srv)
	r.restock("mug", 1000)
	r.raise(backends.Fence{Epoch: 5, Stage: backends.RedisOnly, Open: true})
	const each = 10
	r.underTwoEpochs(w, s, each)
	if got := r.level("mug"); got.Taken != each {
		t.Fatalf("%d are taken, want %d: %+v", got.Taken, each, got)
	}
}

func (r *rig) underTwoEpochs(w *wire, s *redisstore.Store, each int) {
	r.Helper()
	w.stop.Lock()
	var wg sync.WaitGroup
	for n := range 2 * each {
		wg.Go(func() {
			tok := backends.Token{Epoch: 5}
			if n%2 == 1 {
				tok.Epoch = 4
			}
			_, err := s.Count(r.ctx, tok, &backends.CountRequest{OpID: backends.OpID(fmt.Sprint("t", n)), Key: item("mug"), Delta: -1, Fresh: n%4 < 2})
			var fe *backends.FencedError
			switch {
			case n%2 == 0 && err != nil:
				r.Errorf("under the epoch that serves: %v", err)
			case n%2 == 1 && (!errors.As(err, &fe) || fe.Have.Epoch != 5 || fe.Want.Epoch != 4):
				r.Errorf("under an old epoch: %v", err)
			}
		})
	}
	w.stop.Unlock()
	wg.Wait()
}

// All who wait share one look at the fence.
func TestSharedLook(t *testing.T) {
	srv := lab.Private(t, lab.Redis)
	r := newRig(t, srv, backends.Live)
	s, w := r.narrow(srv)
	r.inOne(w, s, func(int) (ops []func()) {
		for range 50 {
			ops = append(ops, func() {
				if err := s.Admitted(r.ctx, r.tok, true); err != nil {
					t.Error(err)
				}
			})
		}
		return ops
	})
	err := s.Admitted(r.ctx, r.tok, false)
	if fe := (*backends.FencedError)(nil); !errors.As(err, &fe) {
		t.Fatalf("as truth in live: %v", err)
	}
}

// What a call has no room for goes into the next one, and each caller still has his verdict.
func TestFoldIsBounded(t *testing.T) {
	srv := lab.Private(t, lab.Redis)
	r := newRig(t, srv, backends.Shadow)
	s, w := r.narrow(srv)
	const holds, lines = 40, 50 // of which a call does some hundred lines
	var ls []backends.Line
	for i := range lines {
		it := backends.Item(fmt.Sprint("i", i))
		r.restock(it, holds)
		ls = append(ls, backends.Line{Item: it, Quantity: 1, Locations: []backends.Location{"l"}})
	}
	before := r.calls()
	w.stop.Lock()
	var wg sync.WaitGroup
	for h := range holds {
		wg.Go(func() {
			q := &backends.ReserveRequest{ID: backends.HoldID(fmt.Sprint("h", h)), Shop: "s", TTL: time.Hour, Lines: ls}
			d, err := s.Reserve(r.ctx, r.tok, q)
			if err != nil || d.Outcome != backends.OutcomeGranted || len(d.Hold.Allocs) != lines {
				t.Errorf("hold %d: %+v, %v", h, d, err)
			}
		})
	}
	w.stop.Unlock()
	wg.Wait()
	if n := r.calls() - before; n < holds*lines/300 {
		t.Fatalf("%d lines in %d calls", holds*lines, n)
	}
	if l := r.level("i7"); l.Held != holds || l.Sellable() != 0 {
		t.Fatalf("%+v", l)
	}
	r.conserved()
}

// company is a store whose every decision has neighbours in its call, none of which changes anything.
type company struct{ *redisstore.Store }

func (c *company) with(ctx context.Context, t backends.Token, do func()) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, neighbour := range []func() error{
		func() error {
			_, err := c.Store.Reserve(ctx, t, cart("neighbour", "nothing", 1))
			return err
		},
		func() error {
			_, err := c.Store.Release(ctx, t, &backends.ReleaseRequest{ID: "neighbour"})
			return err
		},
		func() error {
			_, err := c.Store.Claim(ctx, t, &backends.ClaimRequest{ID: "neighbour"})
			return err
		},
		func() error {
			_, err := c.Store.Extend(ctx, t, &backends.ExtendRequest{ID: "neighbour", TTL: time.Hour})
			return err
		},
	} {
		wg.Go(func() { _ = neighbour() }) // what they are told is the other tests' business
	}
	do()
}

func (c *company) Reserve(ctx context.Context, t backends.Token, r *backends.ReserveRequest) (d *backends.Decision, err error) {
	c.with(ctx, t, func() { d, err = c.Store.Reserve(ctx, t, r) })
	return d, err
}

func (c *company) Claim(ctx context.Context, t backends.Token, r *backends.ClaimRequest) (d *backends.Decision, err error) {
	c.with(ctx, t, func() { d, err = c.Store.Claim(ctx, t, r) })
	return d, err
}

func (c *company) Release(ctx context.Context, t backends.Token, r *backends.ReleaseRequest) (d *backends.Decision, err error) {
	c.with(ctx, t, func() { d, err = c.Store.Release(ctx, t, r) })
	return d, err
}

func (c *company) Extend(ctx context.Context, t backends.Token, r *backends.ExtendRequest) (d *backends.Decision, err error) {
	c.with(ctx, t, func() { d, err = c.Store.Extend(ctx, t, r) })
	return d, err
}

func (c *company) Restock(ctx context.Context, t backends.Token, r *backends.RestockRequest) (d *backends.Decision, err error) {
	c.with(ctx, t, func() { d, err = c.Store.Restock(ctx, t, r) })
	return d, err
}

func (c *company) Count(ctx context.Context, t backends.Token, r *backends.CountRequest) (n *backends.CountResult, err error) {
	c.with(ctx, t, func() { n, err = c.Store.Count(ctx, t, r) })
	return n, err
}

// The suite for all stores holds for operations that share their calls.
func TestConformanceInCompany(t *testing.T) {
	conform(t, lab.ForTest(t, lab.Redis), func(s *redisstore.Store) backends.Store { return &company{s} })
}

// What a member had planned when it was refused is no part of what the next one does.
func TestFoldDropsPlans(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		r := newRig(t, srv, backends.Shadow)
		r.restock("mug", 10)
		r.spoil(r.own("op:bad"), "list")
		out := r.s.Counts(r.ctx, r.tok, []*backends.CountRequest{
			{OpID: "bad", Key: item("mug"), Delta: -4}, {OpID: "good", Key: item("mug"), Delta: -1},
		})
		if !errors.Is(out[0].Err, backends.ErrDamaged) || out[1].Err != nil || out[1].Result.Value != 9 {
			t.Fatalf("%+v", out)
		}
		if l := r.level("mug"); l.Taken != 1 || l.Sellable() != 9 {
			t.Fatalf("%+v", l)
		}
		r.conserved()
	})
}
