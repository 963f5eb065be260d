package dualwrite_test

import (
	"errors"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// TestStages: who decides, who follows, and when, in each stage.
func TestStages(t *testing.T) {
	const held, none = backends.Held, backends.StateUnknown
	for _, c := range []struct {
		stage         backends.Stage
		redis, mysql  backends.State // of a hold, once it is granted
		redis2        backends.State // and once the lanes have run
		mysql2        backends.State
		outbox        [2]int64 // of redis and mysql, before the lanes run
		claimed       [2]backends.State
		ledgerPending bool
	}{
		{backends.Shadow, held, none, held, held, [2]int64{1, 0}, [2]backends.State{backends.Claimed, backends.Claimed}, true},
		{backends.Live, held, held, held, held, [2]int64{0, 1}, [2]backends.State{backends.Claimed, backends.Claimed}, false},
		{backends.RedisOnly, held, none, held, none, [2]int64{0, 0}, [2]backends.State{backends.Claimed, backends.Claimed}, true},
		{backends.MySQLOnly, none, held, none, held, [2]int64{0, 0}, [2]backends.State{none, backends.Claimed}, false},
	} {
		t.Run(c.stage.String(), func(t *testing.T) {
			r := newRig(t, c.stage)
			r.grant("h", "mug", 2)
			r.states("h", c.redis, c.mysql)
			r.waiting(r.redis, c.outbox[0])
			r.waiting(r.mysql, c.outbox[1])
			r.lane()
			r.states("h", c.redis2, c.mysql2)
			r.waiting(r.redis, 0)
			r.waiting(r.mysql, 0)
			if d := r.claim("h"); d.LedgerPending != c.ledgerPending {
				t.Errorf("ledger pending: %v", d.LedgerPending)
			}
			r.lane()
			r.states("h", c.claimed[0], c.claimed[1])
			r.waiting(r.redis, 0)
			r.waiting(r.mysql, 0)
			if c.stage.Dual() {
				r.agree()
				r.counted("begun 1, observed 1, sampled out 0, lost 0")
			}
		})
	}
}

// TestClaimThatWaits: the ledger is deducted before the answer when the caller asks for that.
func TestClaimThatWaits(t *testing.T) {
	r := newRig(t, backends.Shadow)
	r.grant("h", "mug", 1)
	r.lane()
	d, err := r.Claim(r.ctx, &backends.ClaimRequest{ID: "h"}, patience)
	if err != nil || d.LedgerPending {
		t.Fatalf("the claim was answered %+v, %v", d, err)
	}
	r.states("h", backends.Claimed, backends.Claimed)
	r.agree()
}

// TestShadowIsNotAsked: outside live nothing that a caller does reaches the shadow.
func TestShadowIsNotAsked(t *testing.T) {
	r := newRig(t, backends.Shadow)
	r.mysql.before = func(call string) error {
		t.Errorf("an operation of a caller called %s of the shadow", call)
		return backends.ErrUnavailable
	}
	r.grant("h", "mug", 1)
	if d := r.reserve("too much", "lamp", 2); d.Outcome != backends.OutcomeSoldOut {
		t.Errorf("answered %s", d.Outcome)
	}
	r.claim("h")
	r.grant("h2", "mug", 1)
	if _, err := r.Release(r.ctx, &backends.ReleaseRequest{ID: "h2"}); err != nil {
		t.Error(err)
	}
	if _, err := r.Restock(r.ctx, &backends.RestockRequest{OpID: "more", Key: key("mug"), Amount: 1}); err != nil {
		t.Error(err)
	}
}

// TestKillBetweenTheStores: in live a kill comes after MySQL has decided and before Redis has accepted
// it. The caller is given the verdict of the new truth.
func TestKillBetweenTheStores(t *testing.T) {
	for _, c := range []struct {
		name string
		n    int64
		// alone: units that only Redis has, so that the two would not answer alike
		alone int64
		want  backends.Outcome
	}{
		{"granted by both", 1, 0, backends.OutcomeGranted},
		{"sold out in MySQL, there in Redis", 2, 5, backends.OutcomeGranted},
		{"granted by MySQL, sold out in Redis", 1, -1, backends.OutcomeSoldOut},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, backends.Live)
			if c.alone != 0 { // an entry that MySQL never had: what matters is that the two differ
				e := backends.Entry{Op: backends.OpRestock, Level: &backends.LevelChange{Key: key("lamp"), OpID: "alone", OnHandDelta: c.alone}}
				if _, err := r.redis.Store.Apply(r.ctx, r.tok(), r.clock.instant(), []backends.Entry{e}); err != nil {
					t.Fatal(err)
				}
			}
			r.mysql.after = func(string) {
				r.mysql.after = nil
				r.kill()
			}
			d := r.reserve("h", "lamp", c.n)
			if d.Outcome != c.want {
				t.Fatalf("answered %s, and the truth says %s", d.Outcome, c.want)
			}
			if c.want == backends.OutcomeGranted && d.Hold.Version != (backends.Version{Epoch: r.epoch, N: 1}) {
				t.Errorf("the hold is of version %s; it was not decided by the new truth", d.Hold.Version)
			}
			if got := r.state(r.redis, "h") == backends.Held; got != (c.want == backends.OutcomeGranted) {
				t.Errorf("held by the truth: %v", got)
			}
		})
	}
}

// TestLiveWithoutRedis: what Redis has not accepted is not acknowledged, and not lost either.
func TestLiveWithoutRedis(t *testing.T) {
	r := newRig(t, backends.Live)
	away := func(string) error { return backends.ErrUnavailable }
	r.redis.before = away
	if d, err := r.Reserve(r.ctx, cart("h", "mug", 1)); !errors.Is(err, backends.ErrUnavailable) {
		t.Fatalf("a grant without Redis was answered %+v, %v", d, err)
	}
	if d, err := r.Reserve(r.ctx, cart("too much", "lamp", 2)); !errors.Is(err, backends.ErrUnavailable) {
		t.Fatalf("a refusal without Redis was answered %+v, %v", d, err)
	}
	if h, err := r.Get(r.ctx, "h"); !errors.Is(err, backends.ErrUnavailable) {
		t.Fatalf("a read without Redis was answered %+v, %v", h, err)
	}
	r.redis.before = nil
	// The same again rests on what is there already, and that has to reach Redis as well.
	if d := r.grant("h", "mug", 1); !d.Replayed {
		t.Error("the hold was made twice")
	}
	r.states("h", backends.Held, backends.Held)
	r.sweep(0)
	r.waiting(r.mysql, 0)
	r.agree()
	// Tried four times without Redis, and found again: one decision all the same. The four refusals
	// ended as they began, and the last caller made no decision.
	r.counted("begun 5, observed 1, sampled out 0, lost 4")
}

// TestSentAgainTakesOnce: the truth's answer is lost; the pod sends it again by itself.
func TestSentAgainTakesOnce(t *testing.T) {
	r := newRig(t, backends.Shadow)
	lost := true
	r.redis.before = func(call string) error {
		if call != "reserve" || !lost {
			return nil
		}
		lost = false
		if _, err := r.redis.Store.Reserve(r.ctx, r.tok(), cart("h", "mug", 4)); err != nil {
			t.Error(err)
		}
		return backends.ErrAmbiguous
	}
	r.grant("h", "mug", 4)
	r.sweep(0)
	ls, err := r.Levels(r.ctx, []backends.Key{key("mug")})
	if err != nil || ls[0].Sellable() != 6 {
		t.Errorf("levels %+v, %v; want 6 for sale", ls, err)
	}
	r.agree()
	r.counted("begun 1, observed 1, sampled out 0, lost 0")
}

// TestUnavailableChangedNothing: who may have taken effect is not told that he has not, whatever became of later attempts.
func TestUnavailableChangedNothing(t *testing.T) {
	reserve := func(r *rig) error {
		_, err := r.Reserve(r.ctx, cart("h", "mug", 4))
		return err
	}
	for _, c := range []struct {
		name  string
		stage backends.Stage
		setUp func(r *rig)
		maybe bool
	}{
		{"the store is away", backends.Shadow, func(r *rig) { r.redis.before = func(string) error { return backends.ErrUnavailable } }, false},
		{"its answer is lost, and then it is away", backends.Shadow, func(r *rig) {
			err := backends.ErrAmbiguous
			r.redis.before = func(string) error {
				defer func() { err = backends.ErrUnavailable }()
				return err
			}
		}, true},
		{"in live Redis is away, and MySQL has decided", backends.Live, func(r *rig) { r.redis.before = func(string) error { return backends.ErrUnavailable } }, true},
		{"in live MySQL is away", backends.Live, func(r *rig) { r.mysql.before = func(string) error { return backends.ErrUnavailable } }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.stage)
			c.setUp(r)
			err := reserve(r)
			if !errors.Is(err, backends.ErrUnavailable) || backends.IsAmbiguous(err) != c.maybe {
				t.Errorf("%v; may have taken effect: want %v", err, c.maybe)
			}
			// Sent again under its id, it tells.
			r.redis.before, r.mysql.before = nil, nil
			if err := reserve(r); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDroppedIsLost: where the outbox is full, the decision is counted as lost.
func TestDroppedIsLost(t *testing.T) {
	r := newRigOn(t, backends.Shadow, smallOutbox)
	r.mysql.before = func(string) error { return backends.ErrUnavailable }
	r.grant("h1", "mug", 1)
	if d := r.grant("h2", "mug", 1); !d.Dropped {
		t.Fatal("the outbox was not full")
	}
	r.lane()
	r.counted("begun 2, observed 0, sampled out 0, lost 1")
}

// TestRefusalsAreCounted: whatever becomes of a refusal, it is in one column of the account.
func TestRefusalsAreCounted(t *testing.T) {
	refuse := func(r *rig) { r.reserve("no", "lamp", 2) }
	for _, c := range []struct {
		name string
		play func(r *rig)
		want string
	}{
		{"probed", func(r *rig) { refuse(r); r.lane() }, "begun 1, observed 1, sampled out 0, lost 0"},
		{"the lane is full", func(r *rig) {
			for range 10 {
				refuse(r)
			}
			r.lane()
		}, "begun 10, observed 8, sampled out 2, lost 0"},
		{"its truth is gone", func(r *rig) {
			refuse(r)
			r.fences(backends.Live)
			if err := r.Refresh(r.ctx); err != nil {
				r.t.Fatal(err)
			}
			r.lane()
		}, "begun 1, observed 0, sampled out 1, lost 0"},
		{"the shadow is away", func(r *rig) {
			r.mysql.before = func(string) error { return backends.ErrUnavailable }
			refuse(r)
			r.lane()
			if o := r.book.seen; len(o) != 1 || o[0].Shadow != nil || o[0].Missing != comparator.ReasonProbeFailed {
				r.t.Errorf("observed %+v", o)
			}
		}, "begun 1, observed 1, sampled out 0, lost 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, backends.Shadow)
			c.play(r)
			r.counted(c.want)
		})
	}
	t.Run("equal carts share a look", func(t *testing.T) {
		r := newRig(t, backends.Shadow)
		looks := 0
		r.mysql.before = func(call string) error {
			if call == "probe" {
				looks++
			}
			return nil
		}
		for _, n := range []int64{20, 21, 20, 20} {
			r.reserve("no", "mug", n)
		}
		r.lane()
		r.counted("begun 4, observed 4, sampled out 0, lost 0")
		if looks != 2 {
			t.Errorf("%d looks for carts of 20 and 21 mugs", looks)
		}
		for _, o := range r.book.seen {
			if o.Shadow == nil || o.Shadow.Outcome != backends.OutcomeSoldOut || len(o.Shadow.Short) != 1 || o.Lines[0].Quantity < 20 {
				t.Errorf("observed %+v", o)
			}
		}
	})
	t.Run("sampled out", func(t *testing.T) {
		r := newRig(t, backends.Shadow, share(0))
		refuse(r)
		r.lane()
		r.counted("begun 1, observed 0, sampled out 1, lost 0")
	})
}

// TestBadInputIsRefused before anything is asked.
func TestBadInputIsRefused(t *testing.T) {
	r := newRig(t, backends.Shadow)
	long := backends.HoldID(make([]byte, backends.MaxIDLen+1))
	var fe *backends.FieldError
	for name, do := range map[string]func() error{
		"reserve": func() error { _, err := r.Reserve(r.ctx, cart("h", "mug", 0)); return err },
		"claim":   func() error { _, err := r.Claim(r.ctx, &backends.ClaimRequest{}, 0); return err },
		"release": func() error { _, err := r.Release(r.ctx, &backends.ReleaseRequest{ID: long}); return err },
		"extend":  func() error { _, err := r.Extend(r.ctx, &backends.ExtendRequest{ID: "h"}); return err },
		"restock": func() error { _, err := r.Restock(r.ctx, &backends.RestockRequest{}); return err },
	} {
		if err := do(); !errors.As(err, &fe) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.waiting(r.redis, 0)
}
