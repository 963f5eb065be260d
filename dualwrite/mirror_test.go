package dualwrite_test

import (
	"errors"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/dualwrite"
)

var smallOutbox = memstore.Options{OutboxMax: 1}

func share(f float64) func(*dualwrite.Options) {
	return func(o *dualwrite.Options) { o.ProbeShare = &f }
}

// TestUnconfirmedStays: what the shadow has not confirmed stays in the outbox, and a later sweep
// brings it across.
func TestUnconfirmedStays(t *testing.T) {
	for _, c := range []struct {
		name    string
		trouble func(r *rig)
	}{
		{"the shadow is away", func(r *rig) { r.mysql.before = func(string) error { return backends.ErrUnavailable } }},
		{"it may have done it", func(r *rig) { r.mysql.before = func(string) error { return backends.ErrAmbiguous } }},
		{"it says that it was too busy for this entry", func(r *rig) {
			r.mysql.spoil = func(res []backends.Applied) {
				for i := range res {
					res[i] = backends.Applied{Seq: res[i].Seq, Err: backends.ErrBusy}
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, backends.Shadow)
			c.trouble(r)
			r.grant("h", "mug", 3)
			r.claim("h")
			r.lane()
			r.waiting(r.redis, 2)
			r.sweep(0)
			r.waiting(r.redis, 2)
			r.mysql.before, r.mysql.spoil = nil, nil
			r.sweep(0)
			r.waiting(r.redis, 0)
			r.states("h", backends.Claimed, backends.Claimed)
			r.agree()
		})
	}
}

// TestSweepAndLaneShare: a sweep leaves what rides in a lane of this proxy, and takes it once the lane
// has failed.
func TestSweepAndLaneShare(t *testing.T) {
	r := newRig(t, backends.Shadow)
	applies := 0
	r.mysql.before = func(call string) error {
		if call == "apply" {
			applies++
			return backends.ErrUnavailable
		}
		return nil
	}
	const age = time.Second
	r.grant("h", "mug", 1)
	r.clock.pass(2 * age)
	r.sweep(age)
	if applies != 0 {
		t.Fatal("the sweep took what is in a lane")
	}
	r.lane() // fails
	r.mysql.before = nil
	r.sweep(age)
	r.waiting(r.redis, 0)
	r.states("h", backends.Held, backends.Held)
	r.counted("begun 1, observed 1, sampled out 0, lost 0")
}

// TestSweepOfADeadProxy: another proxy mirrors what a dead one has left, when it is old enough.
func TestSweepOfADeadProxy(t *testing.T) {
	r := newRig(t, backends.Shadow)
	r.grant("h", "mug", 1)
	other := r.proxy()
	const age = time.Second
	if n, saw, err := other.SweepNow(r.ctx, age); n != 0 || saw != 0 || err != nil {
		t.Fatalf("a young entry was taken: %d of %d, %v", n, saw, err)
	}
	r.clock.pass(2 * age)
	if n, _, err := other.SweepNow(r.ctx, age); n != 1 || err != nil {
		t.Fatalf("%d entries were confirmed, %v", n, err)
	}
	r.waiting(r.redis, 0)
	r.states("h", backends.Held, backends.Held)
}

// TestOneProxyCounts: two proxies mirror the same entry; one comparison is counted.
func TestOneProxyCounts(t *testing.T) {
	r := newRig(t, backends.Shadow)
	r.grant("h", "mug", 1)
	other := r.proxy()
	if _, _, err := other.SweepNow(r.ctx, 0); err != nil {
		t.Fatal(err)
	}
	r.lane()
	r.counted("begun 1, observed 1, sampled out 0, lost 0")
	r.agree()
}

// guard is a breaker that a test opens by hand.
type guard struct{ open bool }

func (g *guard) Open() bool { return g.open }
func (g *guard) Do(f func() error) error {
	if g.open {
		return backends.ErrUnavailable
	}
	return f()
}

// TestOpenBreaker: while it is open the shadow is not asked for anything, and all wait.
func TestOpenBreaker(t *testing.T) {
	g := &guard{}
	r := newRig(t, backends.Shadow, func(o *dualwrite.Options) { o.Guard = g })
	g.open = true
	r.mysql.before = func(call string) error {
		t.Errorf("%s of the shadow was called", call)
		return nil
	}
	r.grant("h", "mug", 1)
	r.reserve("no", "lamp", 2)
	r.lane()
	r.sweep(0)
	r.waiting(r.redis, 1)
	if !r.BreakerOpen() {
		t.Error("the breaker is not shown")
	}
	g.open, r.mysql.before = false, nil
	r.sweep(0)
	r.waiting(r.redis, 0)
	r.agree()
}

// TestFullLane: what does not fit waits in the outbox; nobody waits for the lane.
func TestFullLane(t *testing.T) {
	r := newRig(t, backends.Shadow, func(o *dualwrite.Options) { o.LaneDepth = 1 })
	done := make(chan error, 1)
	go func() {
		var err error
		for _, id := range []backends.HoldID{"h1", "h2", "h3"} {
			_, e := r.Reserve(r.ctx, cart(id, "mug", 1))
			err = errors.Join(err, e)
		}
		done <- err
	}()
	blocked := time.After(patience / 4)
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-blocked:
		t.Error("an operation waits for its lane")
		until(t, "the operations to end", func() bool { r.lane(); return len(done) > 0 })
		return
	}
	if n := r.LaneDepth(); n != 1 {
		t.Errorf("%d entries are in a lane of depth 1", n)
	}
	r.waiting(r.redis, 3)
	r.lane()
	r.waiting(r.redis, 2)
	r.sweep(0)
	r.waiting(r.redis, 0)
	r.agree()
	r.counted("begun 3, observed 3, sampled out 0, lost 0")
}

// TestLargeCartsGoAlone: one mirror step carries no more lines than a shadow does well in its time.
func TestLargeCartsGoAlone(t *testing.T) {
	r := newRig(t, backends.Shadow)
	applies := 0
	r.mysql.before = func(call string) error {
		if call == "apply" {
			applies++
		}
		return nil
	}
	for _, id := range []backends.HoldID{"a", "b", "c"} {
		q := cart(id, "mug", 1)
		for i := range 200 {
			at := backends.Location(string(rune('a'+i%26)) + string(rune('a'+i/26)))
			q.Lines = append(q.Lines, backends.Line{Item: "mug", Quantity: 1, Locations: []backends.Location{at}})
		}
		q.Lines = q.Lines[1:]
		for _, l := range q.Lines {
			k := backends.Key{Shop: shop, Item: l.Item, Location: l.Locations[0]}
			if _, err := r.redis.Store.Restock(r.ctx, r.tok(), &backends.RestockRequest{OpID: backends.OpID("l " + string(k.Location)), Key: k, Amount: 9}); err != nil {
				t.Fatal(err)
			}
		}
		if d, err := r.Reserve(r.ctx, q); err != nil || d.Outcome != backends.OutcomeGranted {
			t.Fatalf("%+v, %v", d, err)
		}
	}
	r.lane()
	if applies != 3 {
		t.Errorf("%d mirror steps for three carts of 200 lines, want 3", applies)
	}
}

// TestExpiry: holds end by the truth's clock, and the shadow follows.
func TestExpiry(t *testing.T) {
	for _, stage := range []backends.Stage{backends.Shadow, backends.Live} {
		t.Run(stage.String(), func(t *testing.T) {
			r := newRig(t, stage)
			r.grant("h", "mug", 1)
			r.lane()
			r.clock.pass(2 * time.Minute)
			if n, err := r.Expire(r.ctx); n != 1 || err != nil {
				t.Fatalf("%d holds have expired, %v", n, err)
			}
			r.lane()
			r.states("h", backends.Expired, backends.Expired)
			r.waiting(r.redis, 0)
			r.waiting(r.mysql, 0)
			r.agree()
		})
	}
}
