package chaos

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// KillBehindWithin is KillWithin for a pod that is marked as redis behind: a lease more.
const KillBehindWithin = killswitch.DefaultLease + time.Second

// behindCases take Redis away from a pod whose policy is to answer without it.
func behindCases() []faultCase {
	const figure = "from the command to Redis's grants through every proxy that lives"
	return []faultCase{
		{
			name: "redis-away", says: "Redis out of reach in live, answers without it, and back", stage: backends.Live, alone: true,
			figure: "longest answer without Redis", play: redisAwayAndBack,
		},
		{
			name: "kill-one-stopped", says: "kill in live while Redis is behind, one proxy stopped", stage: backends.Live, alone: true,
			figure: figure, bound: KillBehindWithin,
			play: func(ctx context.Context, t *trial) error { return t.killBehind(ctx, true) },
		},
		{
			name: "kill-mysql-killed", says: "kill in live while Redis is behind, MySQL killed", stage: backends.Live, alone: true,
			figure: figure, bound: KillBehindWithin,
			play: func(ctx context.Context, t *trial) error { return t.killBehind(ctx, false) },
		},
	}
}

// withoutRedis takes Redis from every proxy and waits until each answers without it.
func (t *trial) withoutRedis(ctx context.Context) error {
	for _, p := range t.proxies {
		p.redis.set(away(t.no), 0)
	}
	return eventually(ctx, settleWithin, "every proxy answers without Redis", func() error {
		st, _, err := t.control.store().Get(ctx, podName)
		if b := st.Behind(st.Epoch); err == nil && (b == nil || b.Mark != killswitch.Marked || len(b.Holders) < fleet) {
			err = fmt.Errorf("the mark is %+v", b)
		}
		return err
	})
}

func (t *trial) redisBack() {
	for _, p := range t.proxies {
		p.redis.set(pass, 0)
	}
}

func redisAwayAndBack(ctx context.Context, t *trial) error {
	const reserves = 200 // without Redis
	if err := t.withoutRedis(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := t.load.warm(ctx, reserves); err != nil {
		return err
	}
	for n := range fleet {
		for _, q := range t.load.probesOf(n, began) {
			t.figure(q.end.Sub(q.began))
		}
	}
	t.redisBack()
	return eventually(ctx, settleWithin, "the mark is gone", func() error {
		st, _, err := t.control.store().Get(ctx, podName)
		if b := st.Behind(st.Epoch); err == nil && b != nil {
			err = fmt.Errorf("the mark is %+v", b)
		}
		return err
	})
}

// killBehind kills the pod while it is marked: with one proxy stopped, whose permission has to be waited for and whose answers are
// in MySQL's outbox; or without MySQL, so that what was answered is in the proxies' journals alone.
func (t *trial) killBehind(ctx context.Context, stopped bool) error {
	const reserves = 200 // without Redis
	if err := t.withoutRedis(ctx); err != nil {
		return err
	}
	if err := t.load.warm(ctx, reserves); err != nil {
		return err
	}
	victim, says := -1, "MySQL is gone, and Redis as well"
	if stopped { // in the middle of transactions: MySQL keeps their rows from everybody
		victim, says = t.no%fleet, "a proxy is stopped, with rows of MySQL locked, until the kill"
	}
	over := t.load.excuse(-1, says)
	if stopped {
		if err := t.proxies[victim].signal(syscall.SIGSTOP); err != nil {
			return err
		}
	} else if err := t.sql.Kill(); err != nil {
		return err
	}
	t.redisBack()
	res, err := t.killBut(ctx, (t.no+1)%fleet, victim)
	if err != nil {
		return err
	}
	b := res.Behind
	switch {
	case b == nil || !b.Marked:
		return fmt.Errorf("the kill did not find the mark: %+v", b)
	case stopped && (!b.Complete || len(b.NotAsked) != 1):
		return fmt.Errorf("of a stopped proxy's answers it says %+v", b)
	case !stopped && (b.Missing.Count > 0 || len(b.NotAsked) > 0):
		return fmt.Errorf("with every proxy alive it says %+v", b)
	}
	if stopped {
		if err := t.proxies[victim].signal(syscall.SIGCONT); err != nil {
			return err
		}
		if err := t.serving(ctx, t.proxies[victim]); err != nil {
			return err
		}
		rest(ctx, shyFor)
	} else {
		rest(ctx, KillWithin)
	}
	over()
	return nil
}
