package proxy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/config"
	"github.com/crossfade-proxy/crossfade/dualwrite"
)

// router chooses pods by shop and by stock key. It fills the ports of the RESP door.
type router struct {
	byShop map[backends.Shop]*podRuntime
	def    *podRuntime
	pods   []*podRuntime
}

func newRouter(cfg *config.Config, pods []*podRuntime) *router {
	r := &router{byShop: map[backends.Shop]*podRuntime{}, pods: pods}
	for i, p := range cfg.Pods {
		for _, s := range p.Shops {
			r.byShop[backends.Shop(s)] = pods[i]
		}
		if p.Default {
			r.def = pods[i]
		}
	}
	return r
}

// find answers nil when no pod has the shop.
func (r *router) find(shop backends.Shop) *podRuntime {
	if p := r.byShop[shop]; p != nil {
		return p
	}
	return r.def
}

func (r *router) pod(shop backends.Shop) (*dualwrite.Pod, error) {
	if p := r.find(shop); p != nil {
		return p.pod, nil
	}
	return nil, &backends.FieldError{Field: "shop", Value: fmt.Sprintf("%q", shop), Bound: "a shop of one of this proxy's pods", Next: "add it to a pod's shops, or make one pod the default"}
}

// ParseKey implements respdoor.Router: the first pod whose template reads the key, and whose shop it
// is, has it.
func (r *router) ParseKey(key string) (backends.Pod, backends.Key, bool) {
	for _, p := range r.pods {
		if k, ok := p.template.Parse(key); ok && r.find(k.Shop) == p {
			return p.name, k, true
		}
	}
	return "", backends.Key{}, false
}

// DefaultLocation implements respdoor.Router.
func (r *router) DefaultLocation(shop backends.Shop) (backends.Location, bool) {
	p := r.find(shop)
	if p == nil {
		return "", false
	}
	loc := p.template.ConstantLocation()
	return loc, loc != ""
}

// Reserve implements respdoor.Service, as do the methods below.
func (r *router) Reserve(ctx context.Context, q *backends.ReserveRequest) (*backends.Decision, error) {
	p, err := r.pod(q.Shop)
	if err != nil {
		return nil, err
	}
	if err := r.renderable(q.Shop, q.Lines); err != nil {
		return nil, err
	}
	return p.Reserve(ctx, q)
}

// renderable refuses keys that the pod's template cannot name, in every stage alike: what MySQL
// would take alone, Redis could never follow.
func (r *router) renderable(shop backends.Shop, lines []backends.Line) error {
	p := r.find(shop)
	for i := range lines {
		for _, loc := range lines[i].Locations {
			if _, err := p.template.Render(backends.Key{Shop: shop, Item: lines[i].Item, Location: loc}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *router) Claim(ctx context.Context, q *backends.ClaimRequest, wait time.Duration) (*backends.Decision, error) {
	p, err := r.pod(q.Shop)
	if err != nil {
		return nil, err
	}
	if err := r.renderable(q.Shop, q.Lines); err != nil {
		return nil, err
	}
	return p.Claim(ctx, q, wait)
}

func (r *router) Release(ctx context.Context, shop backends.Shop, q *backends.ReleaseRequest) (*backends.Decision, error) {
	p, err := r.pod(shop)
	if err != nil {
		return nil, err
	}
	return p.Release(ctx, q)
}

func (r *router) Extend(ctx context.Context, shop backends.Shop, q *backends.ExtendRequest) (*backends.Decision, error) {
	p, err := r.pod(shop)
	if err != nil {
		return nil, err
	}
	return p.Extend(ctx, q)
}

func (r *router) Get(ctx context.Context, shop backends.Shop, id backends.HoldID) (*backends.Hold, error) {
	p, err := r.pod(shop)
	if err != nil {
		return nil, err
	}
	return p.Get(ctx, id)
}

func (r *router) Now(ctx context.Context, shop backends.Shop) (backends.Instant, error) {
	p, err := r.pod(shop)
	if err != nil {
		return 0, err
	}
	return p.TruthNow(ctx)
}

func (r *router) Restock(ctx context.Context, q *backends.RestockRequest) (*backends.Decision, error) {
	p := r.find(q.Key.Shop)
	if p == nil {
		_, err := r.pod(q.Key.Shop)
		return nil, err
	}
	if _, err := p.template.Render(q.Key); err != nil {
		return nil, err
	}
	return p.pod.Restock(ctx, q)
}

func (r *router) Count(ctx context.Context, q *backends.CountRequest) (*backends.CountResult, error) {
	p, err := r.pod(q.Key.Shop)
	if err != nil {
		return nil, err
	}
	return p.Count(ctx, q)
}

// Counts implements respdoor.BatchService: runs of one pod are one step there, one run after the other.
func (r *router) Counts(ctx context.Context, qs []*backends.CountRequest) []backends.CountAnswer {
	var out []backends.CountAnswer
	for len(qs) > 0 {
		first := r.find(qs[0].Key.Shop)
		n := 1
		for n < len(qs) && r.find(qs[n].Key.Shop) == first {
			n++
		}
		var part []backends.CountAnswer
		if first != nil {
			part = first.pod.Counts(ctx, qs[:n])
		} else {
			part = make([]backends.CountAnswer, n)
			for i := range part {
				_, part[i].Err = r.pod(qs[i].Key.Shop)
			}
		}
		if n == len(qs) && out == nil {
			return part
		}
		out, qs = append(out, part...), qs[n:]
	}
	return out
}

// Levels asks the pods of the keys at the same time: a slow pod holds up only its own part, and
// the answer is as late as the slowest.
func (r *router) Levels(ctx context.Context, keys []backends.Key) ([]backends.Level, error) {
	parts := map[*podRuntime][]backends.Key{}
	for _, k := range keys {
		p := r.find(k.Shop)
		if p == nil {
			_, err := r.pod(k.Shop)
			return nil, err
		}
		parts[p] = append(parts[p], k)
	}
	if len(parts) == 1 {
		for p, ks := range parts {
			return p.pod.Levels(ctx, ks)
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var all []backends.Level
	var errs error
	for p, ks := range parts {
		wg.Add(1)
		go func() {
			defer wg.Done()
			ls, err := p.pod.Levels(ctx, ks)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, ls...)
			errs = errors.Join(errs, err)
		}()
	}
	wg.Wait()
	return all, errs
}
