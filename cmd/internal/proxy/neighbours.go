package proxy

import (
	"context"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/neighbours"
)

// Connections looks for a while at all sessions of a pod's MySQL.
func (p *Proxy) Connections(ctx context.Context, pod backends.Pod, last, every time.Duration, progress func(samples int)) (neighbours.Connections, error) {
	r, err := p.find(pod)
	if err != nil {
		return neighbours.Connections{}, err
	}
	return neighbours.Look(ctx, r.watcher, neighbours.Options{Pod: pod, For: last, Every: every, Pools: r.pools, Progress: progress})
}

// Locks gives the locks of a pod's MySQL at this moment.
func (p *Proxy) Locks(ctx context.Context, pod backends.Pod) (neighbours.Locks, error) {
	r, err := p.find(pod)
	if err != nil {
		return neighbours.Locks{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return r.watcher.Locks(ctx)
}
