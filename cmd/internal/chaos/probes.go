package chaos

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// slowAnswer is what tells an answer that waited from one that did not.
const slowAnswer = 250 * time.Millisecond

// probesOf are the probes of a proxy that were answered, or given up, after a moment.
func (l *load) probesOf(proxy int, after time.Time) (out []probe) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.probes {
		if p.proxy == proxy && p.end.After(after) {
			out = append(out, p)
		}
	}
	return out
}

// servedAfter is how long after a moment a proxy answers again, at once and each time.
func (l *load) servedAfter(proxy int, from time.Time) (time.Duration, error) {
	ps := l.probesOf(proxy, from)
	last := -1
	for i, p := range ps {
		if p.status == "" || p.end.Sub(p.began) > slowAnswer {
			last = i
		}
	}
	switch {
	case len(ps) == 0 || ps[len(ps)-1].status == "":
		return 0, fmt.Errorf("proxy %d does not answer any more", proxy)
	case last < 0:
		return 0, nil
	case ps[last].status != "":
		return ps[last].end.Sub(from), nil
	}
	return ps[last+1].end.Sub(from), nil
}

// grantsBut waits until every proxy but one that is stopped (-1: every one) has been granted a unit by Redis under an epoch or a
// later one, and answers how long after a moment the last of them was.
func (t *trial) grantsBut(ctx context.Context, stopped int, epoch uint64, from time.Time) (worst time.Duration, err error) {
	const within = 15 * time.Second
	seen := map[backends.HoldID]bool{} // known to be of an earlier epoch
	first := map[int]time.Duration{}
	err = eventually(ctx, within, "Redis grants through every proxy", func() error {
		for n := range fleet {
			if _, ok := first[n]; ok || n == stopped {
				continue
			}
			at, err := t.firstUnder(ctx, n, epoch, from, seen)
			if err != nil {
				return err
			}
			first[n] = at.Sub(from)
		}
		return nil
	})
	for _, d := range first {
		worst = max(worst, d)
	}
	return worst, err
}

func (t *trial) firstUnder(ctx context.Context, proxy int, epoch uint64, from time.Time, seen map[backends.HoldID]bool) (time.Time, error) {
	ps := slices.DeleteFunc(t.load.probesOf(proxy, from), func(p probe) bool { return p.status != "granted" || seen[p.id] })
	ids := make([]backends.HoldID, 0, len(ps))
	for _, p := range ps {
		ids = append(ids, p.id)
	}
	got, err := t.redis.GetMany(ctx, ids)
	if err != nil {
		return time.Time{}, err
	}
	for _, p := range ps {
		if h := got[p.id]; h != nil && h.Version.Epoch >= epoch {
			return p.end, nil
		}
		seen[p.id] = true
	}
	return time.Time{}, fmt.Errorf("no grant through proxy %d under epoch %d", proxy, epoch)
}
