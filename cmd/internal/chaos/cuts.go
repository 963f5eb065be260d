package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// cutCases take one thing away from one proxy, and switch through another meanwhile.
func cutCases() (out []faultCase) {
	for _, what := range []string{"redis", "mysql", "control"} {
		for _, from := range []backends.Stage{backends.Shadow, backends.Live} {
			says := map[string]string{"redis": "Redis", "mysql": "MySQL", "control": "the control store"}[what]
			out = append(out, faultCase{
				name: what + "-" + from.String(), stage: from,
				says:   fmt.Sprintf("a proxy cut off from %s, a switch to %s meanwhile", says, other(from)),
				figure: "longest reserve through another proxy",
				play:   func(ctx context.Context, t *trial) error { return t.cutOff(ctx, from, what) },
			})
		}
	}
	return out
}

func (t *trial) cutOff(ctx context.Context, from backends.Stage, what string) (err error) {
	v := t.no % fleet
	p := t.proxies[v]
	over := func() {}
	began := time.Now()
	switch what {
	case "control":
		err = t.control.cut(v)
	case "redis":
		over = t.load.excuse(v, "it is cut off from Redis")
		p.redis.set(away(t.no), 0)
	case "mysql":
		if from == backends.Live {
			over = t.load.excuse(v, "it is cut off from the truth")
		}
		p.mysql.set(away(t.no), 0)
	}
	if err != nil {
		return err
	}
	t.bite(ctx)
	if what == "mysql" && from == backends.Shadow {
		over = t.load.excuse(v, "it is cut off from what becomes the truth")
	}
	move := t.move
	if what == "mysql" && from == backends.Shadow {
		move = t.offer
	}
	if err := move(ctx, (v+1)%fleet, other(from)); err != nil {
		return err
	}
	t.bite(ctx)
	p.redis.set(pass, 0)
	p.mysql.set(pass, 0)
	if err := errors.Join(t.control.heal(v), t.serving(ctx, p)); err != nil {
		return err
	}
	rest(ctx, shyFor)
	over()
	for n := range fleet {
		if n == v && what != "control" {
			continue
		}
		for _, q := range t.load.probesOf(n, began) {
			t.figure(q.end.Sub(q.began))
		}
	}
	return nil
}

// offer is move where the pod may stay where it is: what the proxy that is cut off has decided waits in the outbox until others
// sweep it, so the gates may refuse, or the switch be undone. What must not happen is that it hangs.
func (t *trial) offer(ctx context.Context, by int, to backends.Stage) error {
	const tries = 5 // a debt, for one, is soon paid
	var err error
	for range tries {
		t.mark()
		_, err = t.stage(ctx, by, to)
		t.mark()
		if err == nil {
			return nil
		}
		rest(ctx, pauseMost)
	}
	t.note("to %s, while a proxy cannot reach MySQL: %v", to, err)
	return eventually(ctx, ServeWithin, "the pod serves one stage", func() error {
		st, err := t.proxies[by].status(ctx)
		if err == nil && !st.Serving {
			err = fmt.Errorf("%s", st.Actual)
		}
		return err
	})
}

// controlCases take the control store away from everybody: serving goes on, a kill works, and what comes back converges.
func controlCases() []faultCase {
	return []faultCase{{
		name: "away", says: "the control store is lost (etcd: no quorum): no switch, and a kill", stage: backends.Live,
		figure: "from the command to Redis's grants through every proxy", bound: KillWithin,
		play: func(ctx context.Context, t *trial) error {
			if err := t.control.lose(); err != nil {
				return err
			}
			const reserves = 200
			if err := t.load.warm(ctx, reserves); err != nil {
				return err
			}
			if _, err := t.stage(ctx, t.no%fleet, backends.Shadow); err == nil {
				t.broken("a switch was made without a control store")
			}
			if err := t.killPod(ctx, t.no%fleet); err != nil {
				return err
			}
			if err := t.load.warm(ctx, reserves); err != nil {
				return err
			}
			return t.control.regain(ctx)
		},
	}}
}
