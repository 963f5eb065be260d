package filestore

import (
	"context"
	"os"
	"syscall"

	"github.com/crossfade-proxy/crossfade/backends"
)

// stamp tells one version of a file from another: a record is never changed in place, and its
// modification time only grows.
type stamp struct {
	inode uint64
	nanos int64
	size  int64
}

// Watch implements killswitch.ControlStore by polling the folder.
func (s *Store) Watch(ctx context.Context) (<-chan backends.Pod, error) {
	if _, err := s.pods(); err != nil {
		return nil, err
	}
	out := make(chan backends.Pod)
	go s.watch(ctx, out)
	return out, nil
}

// watch looks, sends, and looks again between sends: a pod is pending at most once, so what is
// pending is bounded by the number of pods.
func (s *Store) watch(ctx context.Context, out chan<- backends.Pod) {
	defer close(out)
	tick, stop := s.clock.Tick(s.poll)
	defer stop()
	seen := map[backends.Pod]stamp{}
	var pending []backends.Pod
	queued := map[backends.Pod]bool{}
	look := func() {
		for _, pod := range s.changed(seen) {
			if !queued[pod] {
				queued[pod] = true
				pending = append(pending, pod)
			}
		}
	}
	look()
	for {
		var to chan<- backends.Pod
		var next backends.Pod
		if len(pending) > 0 {
			to, next = out, pending[0]
		}
		select {
		case <-ctx.Done():
			return
		case to <- next:
			pending = pending[1:]
			delete(queued, next)
		case <-tick:
			look()
		}
	}
}

// changed lists the pods whose record differs from what was seen, and notes it as seen. Trouble in
// reading leaves a pod for the next look.
func (s *Store) changed(seen map[backends.Pod]stamp) []backends.Pod {
	pods, err := s.pods()
	if err != nil {
		return nil
	}
	var out []backends.Pod
	for _, pod := range pods {
		info, err := os.Stat(s.path("pods", pod, ".json"))
		if err != nil {
			continue
		}
		now := stamp{nanos: info.ModTime().UnixNano(), size: info.Size()}
		if sys, ok := info.Sys().(*syscall.Stat_t); ok {
			now.inode = sys.Ino
		}
		if seen[pod] != now {
			seen[pod] = now
			out = append(out, pod)
		}
	}
	return out
}
