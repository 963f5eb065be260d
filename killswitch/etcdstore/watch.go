package etcdstore

import (
	"context"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

const (
	// lookEvery bounds how late a change is seen while the connection of a watch is dead and nobody has noticed yet.
	lookEvery = 2 * time.Second
	// watchPause is between a watch that was interrupted and the next.
	watchPause = 100 * time.Millisecond
)

// Watch implements killswitch.ControlStore. etcd need not be there yet.
func (s *Store) Watch(ctx context.Context) (<-chan backends.Pod, error) {
	if err := ctx.Err(); err != nil {
		return nil, unavailable(ctx, err)
	}
	w := &watch{s: s, seen: map[backends.Pod]int64{}, queued: map[backends.Pod]bool{}, more: make(chan struct{}, 1)}
	out := make(chan backends.Pod)
	var feeding sync.WaitGroup
	feeding.Go(func() { w.feed(ctx) })
	go func() {
		defer close(out)
		defer feeding.Wait()
		w.send(ctx, out)
	}()
	return out, nil
}

// watch is what one watcher has been told, and what it has to be told. A pod is pending at most once.
type watch struct {
	s    *Store
	more chan struct{} // has one when pending was empty and is not any more

	mu      sync.Mutex
	seen    map[backends.Pod]int64 // the ModRevision up to which a change was queued
	queued  map[backends.Pod]bool
	pending []backends.Pod
}

// changed queues a pod whose record is at rev, unless that is known.
func (w *watch) changed(kv *mvccpb.KeyValue) {
	pod := backends.Pod(named(kv.Key))
	w.mu.Lock()
	defer w.mu.Unlock()
	if pod == "" || kv.ModRevision <= w.seen[pod] || len(w.seen) >= 2*killswitch.MaxPods && w.seen[pod] == 0 {
		return
	}
	w.seen[pod] = kv.ModRevision
	if w.queued[pod] {
		return
	}
	w.queued[pod] = true
	w.pending = append(w.pending, pod)
	select {
	case w.more <- struct{}{}:
	default:
	}
}

func (w *watch) first() (backends.Pod, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending) == 0 {
		return "", false
	}
	return w.pending[0], true
}

func (w *watch) sent(pod backends.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending = w.pending[1:]
	delete(w.queued, pod)
}

func (w *watch) send(ctx context.Context, out chan<- backends.Pod) {
	for {
		pod, is := w.first()
		if !is {
			select {
			case <-ctx.Done():
				return
			case <-w.more:
				continue
			}
		}
		select {
		case <-ctx.Done():
			return
		case out <- pod:
			w.sent(pod)
		}
	}
}

// feed follows etcd until ctx is done or the store is closed.
func (w *watch) feed(ctx context.Context) {
	for ctx.Err() == nil {
		if at, err := w.look(ctx); err == nil {
			w.follow(ctx, at)
		}
		tick, stop := w.s.o.Clock.Tick(watchPause)
		select {
		case <-tick:
		case <-ctx.Done():
		}
		stop()
		if _, err := w.s.have(); err != nil {
			return
		}
	}
}

// look compares what is there with what was queued, and answers as of which revision.
func (w *watch) look(ctx context.Context) (at int64, err error) {
	err = w.s.try(ctx, func(ctx context.Context, c *clientv3.Client) error {
		r, err := c.Get(ctx, w.s.key("pods")+"/", clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithLimit(killswitch.MaxPods))
		if err != nil {
			return err
		}
		at = r.Header.Revision
		for _, kv := range r.Kvs {
			w.changed(kv)
		}
		return nil
	})
	return at, err
}

// follow queues the changes after a revision, until the watch is interrupted: its member is gone, has no leader, or the
// revisions that it would have to tell are compacted away.
func (w *watch) follow(ctx context.Context, after int64) {
	c, err := w.s.have()
	if c == nil || err != nil {
		return
	}
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	tick, stop := w.s.o.Clock.Tick(lookEvery)
	defer stop()
	opened := make(chan clientv3.WatchChan, 1)
	var opening sync.WaitGroup
	defer opening.Wait() // after cancel, so it does not wait for a server
	defer cancel()
	opening.Go(func() {
		opened <- c.Watch(ctx, w.s.key("pods")+"/", clientv3.WithPrefix(), clientv3.WithRev(after+1))
	})
	var events clientv3.WatchChan
	for {
		select {
		case events = <-opened:
		case r, ok := <-events:
			if !ok || r.Err() != nil {
				return
			}
			for _, e := range r.Events {
				w.changed(e.Kv)
			}
		case <-tick:
			if _, err := w.look(ctx); err != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
