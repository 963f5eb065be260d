package dualwrite_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/dualwrite"
)

// TestGate: the highest fence wins; a closed one or an announcement holds.
func TestGate(t *testing.T) {
	open := func(epoch uint64) backends.Fence {
		return backends.Fence{Epoch: epoch, Stage: backends.Shadow, Open: true}
	}
	closed := func(epoch uint64) backends.Fence {
		return backends.Fence{Epoch: epoch, Stage: backends.Shadow}
	}
	for _, c := range []struct {
		name    string
		do      func(g *dualwrite.Gate)
		serving uint64
		held    bool
	}{
		{"open", func(g *dualwrite.Gate) { g.Adopt(open(3)) }, 3, false},
		{"it knows nothing", func(*dualwrite.Gate) {}, 0, true},
		{"closed above", func(g *dualwrite.Gate) { g.Adopt(open(3)); g.Adopt(closed(4)) }, 3, true},
		{"opened", func(g *dualwrite.Gate) { g.Adopt(closed(4)); g.Adopt(open(4)) }, 4, false},
		{"old news", func(g *dualwrite.Gate) { g.Adopt(open(5)); g.Adopt(open(3)); g.Adopt(closed(5)) }, 5, false},
		{"announced", func(g *dualwrite.Gate) { g.Adopt(open(3)); g.Announce(3) }, 3, true},
		{"announced and done", func(g *dualwrite.Gate) { g.Adopt(open(3)); g.Announce(3); g.Adopt(open(4)) }, 4, false},
		{"announced and withdrawn", func(g *dualwrite.Gate) { g.Adopt(open(3)); g.Announce(3); g.Withdraw() }, 3, false},
	} {
		g := dualwrite.NewGate()
		_, _, before := g.State()
		c.do(g)
		f, held, _ := g.State()
		if f.Epoch != c.serving || held != c.held || g.Serving() != f {
			t.Errorf("%s: serving epoch %d, held %v", c.name, f.Epoch, held)
		}
		select {
		case <-before:
		default:
			if c.serving != 0 {
				t.Errorf("%s: nobody was woken", c.name)
			}
		}
	}
}

// TestBind: a call of the old truth ends when a new one serves, and not before.
func TestBind(t *testing.T) {
	g := dualwrite.NewGate()
	old := backends.Fence{Epoch: 3, Stage: backends.Live, Open: true, Filled: true}
	g.Adopt(old)
	ctx, free := g.Bind(t.Context(), old)
	defer free()
	g.Adopt(backends.Fence{Epoch: 4, Stage: backends.Shadow})
	if ctx.Err() != nil {
		t.Fatal("it has ended before there is another truth")
	}
	g.Adopt(backends.Fence{Epoch: 4, Stage: backends.Shadow, Open: true})
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Fatal("it goes on under an old truth")
	}
	late, free := g.Bind(t.Context(), old)
	defer free()
	if late.Err() == nil {
		t.Fatal("a call begins under an old truth")
	}
}

// TestHeldGate: operations wait at a held gate, and no longer than they may.
func TestHeldGate(t *testing.T) {
	r := newRig(t, backends.Shadow, func(o *dualwrite.Options) { o.GateWait = time.Second })
	r.Gate().Announce(r.epoch)
	_, err := r.Reserve(r.ctx, cart("h", "mug", 1))
	var he *dualwrite.HeldError
	if !errors.As(err, &he) || !errors.Is(err, backends.ErrUnavailable) || he.Waited != time.Second {
		t.Fatalf("answered %v", err)
	}
	r.states("h", backends.StateUnknown, backends.StateUnknown)
	r.Gate().Withdraw()
	r.grant("h", "mug", 1)
}

// TestGateOpensMeanwhile: who waits goes on as soon as the switch is over.
func TestGateOpensMeanwhile(t *testing.T) {
	r := newRig(t, backends.Shadow, func(o *dualwrite.Options) {
		o.Clock, o.GateWait, o.OpTimeout = dualwrite.SystemClock{}, patience, patience
	})
	r.Gate().Announce(r.epoch)
	type answer struct {
		d   *backends.Decision
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		d, err := r.Reserve(r.ctx, cart("h", "mug", 1))
		answered <- answer{d, err}
	}()
	r.fences(backends.Live)
	if err := r.Refresh(r.ctx); err != nil {
		t.Fatal(err)
	}
	a := <-answered
	if a.err != nil || a.d.Outcome != backends.OutcomeGranted || a.d.Hold.Version.Epoch != r.epoch {
		t.Fatalf("answered %+v, %v", a.d, a.err)
	}
}

// TestStaleProxy: a proxy that has missed a switch learns of it from the fence that refuses it.
func TestStaleProxy(t *testing.T) {
	for _, to := range []backends.Stage{backends.RedisOnly, backends.Live, backends.MySQLOnly} {
		t.Run(to.String(), func(t *testing.T) {
			r := newRig(t, backends.Shadow)
			r.fences(to)
			d := r.grant("h", "mug", 1)
			if d.Hold.Version.Epoch != r.epoch {
				t.Errorf("decided under epoch %d, want %d", d.Hold.Version.Epoch, r.epoch)
			}
		})
	}
}
