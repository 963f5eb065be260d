package storetest

import (
	"fmt"
	"slices"
	"sync"

	"github.com/crossfade-proxy/crossfade/backends"
)

// lapse lets the short holds expire, with several sweepers at once.
func (w *together) lapse(clock *backends.Instant) {
	*clock = clock.Add(2 * brief)
	for _, p := range []*party{w.ref, w.got} {
		r := p.rig()
		now := r.now()
		last, due := backends.Instant(0), map[backends.HoldID]int{}
		hs, err := r.s.GetMany(r.ctx, idsOf(p.held))
		r.ok(err, "GetMany") // an extension is not in the list
		for _, h := range hs {
			if h.ExpiresAt.Sub(now) < longTTL/2 {
				last = max(last, h.ExpiresAt)
				due[h.ID] = 0
			}
		}
		if p.crowd {
			r.pass(last)
		}
		if err := p.sweep(w.shop, due); err != nil {
			w.rt.Fatal(err)
		}
		for id := range due {
			p.is[id] = backends.Expired
		}
		p.held = slices.DeleteFunc(p.held, func(h *backends.Hold) bool { _, is := due[h.ID]; return is })
	}
	w.compare("expiry")
}

func idsOf(hs []*backends.Hold) []backends.HoldID {
	out := make([]backends.HoldID, len(hs))
	for i, h := range hs {
		out[i] = h.ID
	}
	return out
}

// sweep wants each due hold to be expired by one of the sweepers. (One whose answer was lost is not
// seen; the state is compared afterwards.)
func (p *party) sweep(of backends.Shop, due map[backends.HoldID]int) error {
	const sweepers, each = 3, 4
	var mu sync.Mutex
	var jobs []job
	for range sweepers {
		jobs = append(jobs, job{copies: 1, send: func(r *rig, _ int) error {
			for {
				ds, err := again(func() ([]*backends.Decision, error) { return r.s.Expire(r.ctx, r.tok, each) })
				mu.Lock()
				for _, d := range ds {
					if d.Hold.Shop == of {
						due[d.Hold.ID]++
					}
				}
				mu.Unlock()
				if err != nil || len(ds) == 0 {
					return err
				}
			}
		}})
	}
	if err := p.play(jobs); err != nil {
		return err
	}
	p.rig().expire() // a sweeper may have left to another what that one then lost to a lock
	for id, n := range due {
		if n > 1 {
			return fmt.Errorf("hold %s was expired %d times", id, n)
		}
	}
	return nil
}
