package killswitch

import (
	"context"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// permitPoll is how often one who waits for another's asking looks again.
	permitPoll = 5 * time.Millisecond
	// permitAgain is for how long a refusal is given to all who ask: each would ask the control store otherwise.
	permitAgain = 200 * time.Millisecond
)

// PermitOptions are what a permit is made of.
type PermitOptions struct {
	Pod     backends.Pod
	Control ControlStore
	Clock   Clock
	// Proxy is its name; Run is unique to this start of this process.
	Proxy, Run string
	// Lease is how long a permission lasts where this process is the first to mark the pod.
	Lease time.Duration
}

// Permit is one process's permission to answer for a pod without Redis.
//
// A permission lasts for a lease (this process's or the record's, whichever is shorter) from before the sending of a read (or compare-and-set) of the record that showed the pod
// Marked at the epoch and this process among the holders. So whoever has changed the mark, and whoever has read it changed,
// need only wait for a lease from then on; or until the holders are gone from the record, since each leaves only when it
// has dropped its permission, and takes a new one only by entering anew. What a watch reports extends nothing.
type Permit struct {
	o PermitOptions

	mu    sync.Mutex
	busy  bool // one talks with the control store at a time
	epoch uint64
	until time.Time
	// again: it must enter anew, by writing. A leaving whose outcome is unknown may still take effect, on the
	// record that it has read.
	again bool
	// entered: it may be among the holders of an epoch.
	entered uint64
	failed  time.Time
	failure error
}

// NewPermit makes one that permits nothing.
func NewPermit(o PermitOptions) *Permit { return &Permit{o: o} }

// Valid tells whether an answer may be given now that was decided under epoch. It has to be asked after the COMMIT
// has returned.
func (p *Permit) Valid(epoch uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.epoch == epoch && p.o.Clock.Now().Before(p.until)
}

// Entered tells the epoch for which this process may be among the holders; 0 for none.
func (p *Permit) Entered() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.entered
}

// take waits for its turn to talk with the control store.
func (p *Permit) take(ctx context.Context) (free func(), err error) {
	for {
		p.mu.Lock()
		mine := !p.busy
		p.busy = true
		p.mu.Unlock()
		if mine {
			return func() {
				p.mu.Lock()
				p.busy = false
				p.mu.Unlock()
			}, nil
		}
		if err := pause(ctx, p.o.Clock, permitPoll); err != nil {
			return nil, err
		}
	}
}

// Obtain marks the pod if it is not marked, and makes this process a holder. Errors: a *MarkError, and the control
// store's.
func (p *Permit) Obtain(ctx context.Context, epoch uint64) error {
	free, err := p.take(ctx)
	if err != nil {
		return err
	}
	defer free()
	if p.Valid(epoch) {
		return nil
	}
	p.mu.Lock()
	failure, recent := p.failure, p.o.Clock.Now().Sub(p.failed) < permitAgain
	again := p.again || p.entered != epoch
	p.entered = epoch // whatever becomes of it
	p.mu.Unlock()
	if failure != nil && recent {
		return failure
	}
	sent := p.o.Clock.Now()
	st, err := revise(ctx, p.o.Control, p.o.Pod, func(s *PodState, rev Revision) (bool, error) {
		if b := s.Behind(epoch); !again && b != nil && b.Mark == Marked && b.Holds(p.o.Run) && s.Switch == nil && s.Epoch == epoch {
			return false, nil
		}
		return true, s.mark(epoch, Holder{Proxy: p.o.Proxy, Run: p.o.Run}, p.o.Lease, rev, sent)
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.failed, p.failure = p.o.Clock.Now(), err
		return err
	}
	p.failure, p.again = nil, false
	p.epoch, p.until = epoch, sent.Add(min(p.o.Lease, st.RedisBehind.Lease()))
	return nil
}

// Renew reads the record, and extends the permission if it shows that it may be. Where it shows that it may not, the
// permission ends at once. A failure leaves it to run out.
func (p *Permit) Renew(ctx context.Context) (PodState, error) {
	free, err := p.take(ctx)
	if err != nil {
		return PodState{}, err
	}
	defer free()
	sent := p.o.Clock.Now()
	st, _, err := p.o.Control.Get(ctx, p.o.Pod)
	if err != nil {
		return st, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	b := st.Behind(p.epoch)
	if p.again || p.epoch == 0 || b == nil || b.Mark != Marked || !b.Holds(p.o.Run) || st.Epoch != p.epoch {
		p.until = time.Time{}
		return st, nil
	}
	p.until = sent.Add(min(p.o.Lease, b.Lease()))
	return st, nil
}

// Leave drops the permission, has before do what must be done before others may know of it, and takes run out of the
// holders: this process, or an earlier one of the proxy that is certainly dead.
func (p *Permit) Leave(ctx context.Context, epoch uint64, run string, before func(context.Context) error) error {
	free, err := p.take(ctx)
	if err != nil {
		return err
	}
	defer free()
	own := run == p.o.Run
	if own {
		p.mu.Lock()
		p.until, p.again = time.Time{}, true
		p.mu.Unlock()
	}
	if err := before(ctx); err != nil {
		return err
	}
	_, err = revise(ctx, p.o.Control, p.o.Pod, func(s *PodState, _ Revision) (bool, error) {
		held := s.Behind(epoch).Holds(run)
		s.leave(epoch, run)
		return held, nil
	})
	if err == nil && own {
		p.mu.Lock()
		p.entered = 0
		p.mu.Unlock()
	}
	return err
}
