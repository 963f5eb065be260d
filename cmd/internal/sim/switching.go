package sim

import (
	"context"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// switching spawns kills, and the process that asks for moves.
func (w *world) switching() {
	rng := w.s.rng
	if rng.IntN(2) == 0 {
		w.s.spawn(nil, "kill", func() {
			for range 1 + rng.IntN(2) {
				w.sleep(rng.IntN(150))
				p := w.proxies[rng.IntN(len(w.proxies))]
				r := killswitch.KillRequest{Pod: podName, Who: "sim", Why: "sim"}
				if f, _ := w.redis.Fence(context.Background()); f.Stage == backends.Live || f.Stage == backends.Shadow {
					r.Expect = f.Stage // each kill is meant, also the second
				}
				res, err := killswitch.Kill(context.Background(), p.stores.Redis, w.control, driverClock{w}, r)
				if err == nil && res.Verdict == killswitch.KillGo {
					w.kills++
				}
			}
		})
	}
	if rng.IntN(2) == 0 {
		w.s.spawn(nil, "release manager", func() {
			for range 1 + rng.IntN(3) {
				w.sleep(rng.IntN(60))
				p := w.proxies[rng.IntN(len(w.proxies))]
				if p.g.dead {
					continue
				}
				done := false
				proc := w.s.spawn(p.g, "switch", func() {
					w.move(p)
					done = true
				})
				for !done && !proc.dead {
					w.sleep(5)
				}
			}
		})
	}
}

// move asks for a stage next to the present one.
func (w *world) move(p *proxy) {
	st := w.control.state
	to := backends.Stage(int(st.Stage) + 1)
	if st.Stage == backends.MySQLOnly || st.Stage != backends.RedisOnly && w.s.rng.IntN(3) == 0 {
		to = backends.Stage(int(st.Stage) - 1)
	}
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
	}
}
