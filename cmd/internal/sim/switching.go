package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/behind"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// switching spawns kills, and the process that asks for moves.
func (w *world) switching() {
	rng := w.s.rng
	if w.roundTrip {
		w.thereAndBack()
		return
	}
	if w.alone || rng.IntN(2) == 0 {
		w.s.spawn(nil, "kill", func() {
			for range 1 + rng.IntN(2) {
				w.sleep(rng.IntN(150))
				w.kill()
			}
		})
	}
	if rng.IntN(2) == 0 {
		w.s.spawn(nil, "release manager", func() {
			for range 1 + rng.IntN(3) {
				w.sleep(rng.IntN(60))
				w.move(func() backends.Stage {
					st := w.control.state
					if st.Stage == backends.MySQLOnly || st.Stage != backends.RedisOnly && rng.IntN(3) == 0 {
						return backends.Stage(int(st.Stage) - 1)
					}
					return backends.Stage(int(st.Stage) + 1)
				})
			}
		})
	}
}

// thereAndBack plays a round trip.
func (w *world) thereAndBack() {
	rng := w.s.rng
	w.s.spawn(nil, "round trip", func() {
		for _, to := range []backends.Stage{backends.MySQLOnly, backends.Live} {
			w.sleep(20 + rng.IntN(150))
			for range 3 { // a proxy may die with it
				if w.control.state.Stage != to {
					w.move(func() backends.Stage { return to })
				}
			}
		}
		w.sleep(rng.IntN(60))
		w.kill()
	})
}

// kill is one kill, by whichever proxy.
func (w *world) kill() {
	p := w.proxies[w.s.rng.IntN(len(w.proxies))]
	r := killswitch.KillRequest{Pod: podName, Who: "sim", Why: "sim"}
	if f, _ := w.redis.Fence(context.Background()); f.Stage == backends.Live || f.Stage == backends.Shadow {
		r.Expect = f.Stage // each kill is meant, also the second
	}
	r.Carry = behind.Carry{Pod: p.pod, Docs: w.control}
	res, err := killswitch.Kill(context.Background(), p.stores.Redis, w.control, driverClock{w}, r)
	w.tell(func() string { return "kill " + show(res) + " " + fmt.Sprint(err) })
	if err == nil && res.Verdict == killswitch.KillGo {
		w.kills++
	}
	w.killed(res)
}

// move has a proxy, if it lives, carry the pod to a stage next to the present one.
func (w *world) move(next func() backends.Stage) {
	p := w.proxies[w.s.rng.IntN(len(w.proxies))]
	if p.g.dead {
		return
	}
	done := false
	proc := w.s.spawn(p.g, "switch", func() {
		w.carry(p, next())
		done = true
	})
	for !done && !proc.dead {
		w.sleep(5)
	}
}

// carry asks for a stage.
func (w *world) carry(p *proxy, to backends.Stage) {
	_, err := p.drv.Switch(context.Background(), killswitch.SwitchRequest{
		Pod: podName, To: to, Who: "sim", Why: "sim", Evidence: passing,
	})
	w.tell(func() string { return "switch to " + to.String() + ": " + show(err == nil) })
	if err == nil {
		w.switches++
	}
}

// passing is evidence with which every gate passes; gates are not what the simulation is about.
func passing(context.Context, killswitch.Need) killswitch.Evidence {
	return killswitch.Evidence{
		OutboxLag: killswitch.Is(time.Duration(0)), OutboxEntries: killswitch.Is[int64](0), Lost: killswitch.Is(false),
		Debt: killswitch.Is[int64](0), Findings: killswitch.Is[int64](0), BreakerClosed: killswitch.Is(true),
		BackfillComplete: killswitch.Is(true), SetupRedis: killswitch.Is(""), SetupMySQL: killswitch.Is(""), Imbalances: killswitch.Is[int64](0),
		Proxies:   killswitch.Is(killswitch.Proxies{Epoch: 1, Fleet: []killswitch.Standing{{Proxy: "sim", Epoch: 1}}}),
		Readiness: killswitch.Is(killswitch.Readiness{Ready: true}), ShadowLatency: killswitch.Is(killswitch.Latency{P99: time.Millisecond, Decisions: 1}),
		Bypasses: killswitch.Is[int64](0),
	}
}
