package redisstore

import (
	"sync"
	"sync/atomic"

	"github.com/crossfade-proxy/crossfade/backends"
)

// guard keeps writes from servers at which the fence was not raised. Every connection reads the
// server's run id and the one in the fence before anything else is sent on it; a server whose
// two differ is a suspect. While there are suspects no write is sent, whatever the connection: a
// command asks at the moment at which it is written, so a connection that was opened in between
// has been looked at.
//
// Looking once per connection is enough. A restart breaks every connection, so each connection
// belongs to one run of one server; and within a run the fence's run id changes only by Raise,
// which makes it right.
type guard struct {
	mu       sync.Mutex
	doubt    atomic.Bool       // there are suspects
	suspects map[string]string // run id → run id in that server's fence
	run      string            // at which the fence was last seen to be right
	fence    backends.Fence    // the highest fence seen at run; writes below its epoch are refused
}

// maxSuspects bounds the run ids that are kept; beyond it the store stays shut all the same.
const maxSuspects = 16

// connected notes what a new connection has found.
func (g *guard) connected(run, fenced string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if run == fenced {
		g.run = run
		return
	}
	if fenced == "" && g.run == "" {
		return // a pod that was never served: its fence is closed
	}
	if g.suspects == nil {
		g.suspects = map[string]string{}
	}
	if len(g.suspects) < maxSuspects {
		g.suspects[run] = fenced
	}
	g.doubt.Store(true)
}

// raised notes a fence that was raised by this process: whatever was suspected before, writes below
// its epoch are refused from now on.
func (g *guard) raised(f backends.Fence, run string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.suspects)
	g.doubt.Store(false)
	g.fence, g.run = f, run
}

// saw notes a fence that was read at a server. A fence of a higher epoch than any before ends
// every suspicion: writes of lower epochs are refused from now on, here and there. The same
// fence ends that of its own server.
func (g *guard) saw(f backends.Fence, run, fenced string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case run != fenced:
		return
	case f.Epoch > g.fence.Epoch:
		clear(g.suspects)
		g.fence = f
	case f.Epoch == g.fence.Epoch:
		delete(g.suspects, run)
		g.fence = f
	}
	g.run = run
	g.doubt.Store(len(g.suspects) > 0)
}

// check answers nil when a write under t may be sent.
func (g *guard) check(t backends.Token) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for run, fenced := range g.suspects {
		return &RestartedError{Was: fenced, Now: run}
	}
	if t.Epoch < g.fence.Epoch {
		return &backends.FencedError{Side: backends.SideRedis, Have: g.fence, Want: t}
	}
	return nil
}

// suspicious tells whether writes are refused because of a restart.
func (g *guard) suspicious() bool { return g.doubt.Load() }
