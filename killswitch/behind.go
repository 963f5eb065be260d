package killswitch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Mark is how it stands with answers that are given without Redis.
type Mark uint8

// The marks. Without a RedisBehind in the record, and with the zero value, nobody may answer without Redis.
const (
	MarkUnknown Mark = iota
	Marked           // holders may answer without Redis
	MarkEnding       // nobody may any more; what was answered so is brought to Redis
	MarkBarred       // nobody may until the next epoch: a kill is under way
)

var markNames = [...]string{"unknown", "marked", "ending", "barred"}

func (m Mark) String() string { return name(markNames[:], int(m)) }

// MarshalText carries a mark by its name.
func (m Mark) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (m *Mark) UnmarshalText(b []byte) error { return parse(markNames[:], b, "mark", m) }

// RedisBehind marks a pod in live whose proxies may answer without Redis (DESIGN §6), or may not any more. It says nothing
// about another epoch than its own.
type RedisBehind struct {
	Epoch uint64    `json:"epoch"`
	Mark  Mark      `json:"mark"`
	Since time.Time `json:"since"` // of the first mark of this time; for people
	Who   string    `json:"who"`
	// Turn is the revision from which the mark was last changed: no two changes have the same.
	Turn Revision `json:"turn"`
	// LeaseMillis is how long each holder's permission lasts, for all of them.
	LeaseMillis int64 `json:"lease_ms"`
	// Answered: holders may have answered without Redis what Redis has not been given since.
	Answered bool `json:"answered,omitempty"`
	// Unnamed: there may be holders that are not among Holders, since the record was lost.
	Unnamed bool     `json:"unnamed,omitempty"`
	Holders []Holder `json:"holders,omitempty"`
}

// MaxHolders bounds the proxies that answer without Redis at the same time; others answer "unavailable".
const MaxHolders = MaxAcks

// Holder is one process that may have a permission. It takes itself out when it has none, and has brought to Redis what it
// could.
type Holder struct {
	Proxy string `json:"proxy"`
	// Run tells one start of the proxy from another.
	Run string `json:"run"`
	// Turn is the revision from which it entered.
	Turn Revision `json:"turn"`
	// Left: it has left since the pod was barred. The killer asks it what it could not bring to Redis.
	Left bool `json:"left,omitempty"`
}

// driftShare is how much longer, as a share of the lease, is waited for permissions than they last: clocks of two machines
// that are kept right run apart by less than a thousandth.
const driftShare = 50

// MarkError: a pod cannot be marked as redis behind, or not by this process.
type MarkError struct {
	Pod   backends.Pod
	Epoch uint64
	Why   string
}

func (e *MarkError) Error() string {
	return fmt.Sprintf("pod %s may not answer without Redis in epoch %d: %s", e.Pod, e.Epoch, e.Why)
}

// Is makes it an unavailability: nothing was promised.
func (e *MarkError) Is(target error) bool { return target == backends.ErrUnavailable }

// BehindError: a pod whose Redis is behind cannot be moved.
type BehindError struct {
	Pod    backends.Pod
	Behind RedisBehind
}

func (e *BehindError) Error() string {
	if e.Behind.Mark == MarkBarred {
		return fmt.Sprintf("pod %s: a kill is under way, or was given up half-way: give it again ('crossfade kill %s --from live --why …')", e.Pod, e.Pod)
	}
	return fmt.Sprintf("pod %s is marked as redis behind since %s: it cannot be moved until Redis has what was answered without it ('crossfade status %s --watch')", e.Pod, e.Behind.Since.UTC().Format(time.RFC3339), e.Pod)
}

// Lease is how long a permission lasts.
func (b *RedisBehind) Lease() time.Duration { return time.Duration(b.LeaseMillis) * time.Millisecond }

// Wait is how long, from an instant at which the record was not Marked, somebody may still have a permission.
func (b *RedisBehind) Wait() time.Duration {
	if len(b.permitted()) == 0 && !b.Unnamed {
		return 0
	}
	return b.Lease() + b.Lease()/driftShare
}

// note says in words what the mark means.
func (b *RedisBehind) note() string {
	switch b.Mark {
	case Marked:
		return fmt.Sprintf("redis is behind: %d proxies may answer without it; a kill would wait for them, %s at most", len(b.permitted()), b.Wait())
	case MarkEnding:
		return "redis is behind: nobody answers without it any more, and it is given what it lacks"
	default:
		return "a kill has barred answers without Redis; if none is under way, give it again"
	}
}

// permitted are the holders that may have a permission.
func (b *RedisBehind) permitted() []Holder {
	return slices.DeleteFunc(slices.Clone(b.Holders), func(h Holder) bool { return h.Left })
}

// Holds tells whether a run is among the holders, and has not left.
func (b *RedisBehind) Holds(run string) bool {
	return b != nil && slices.ContainsFunc(b.Holders, func(h Holder) bool { return h.Run == run && !h.Left })
}

// Behind is the pod's mark of an epoch; nil when there is none.
func (s PodState) Behind(epoch uint64) *RedisBehind {
	if s.RedisBehind == nil || s.RedisBehind.Epoch != epoch {
		return nil
	}
	return s.RedisBehind
}

// mark makes h a holder, and the pod marked. The record was at rev.
func (s *PodState) mark(epoch uint64, h Holder, lease time.Duration, rev Revision, now time.Time) error {
	refuse := func(why string) error { return &MarkError{Pod: s.Pod, Epoch: epoch, Why: why} }
	b := s.Behind(epoch)
	switch {
	case s.Switch != nil:
		return refuse("a switch is open")
	case s.Epoch != epoch:
		return refuse(fmt.Sprintf("the pod is at epoch %d", s.Epoch))
	case !s.Fence().MayAnswerAlone():
		return refuse("this epoch does not allow it")
	case b != nil && b.Mark == MarkBarred:
		return refuse("a kill has barred it until the next epoch")
	}
	if b == nil {
		b = &RedisBehind{Epoch: epoch, Since: now, Who: h.Proxy, LeaseMillis: lease.Milliseconds()}
	}
	if b.Mark != Marked {
		b.Mark, b.Turn = Marked, rev
	}
	h.Turn = rev
	b.Holders = slices.DeleteFunc(slices.Clone(b.Holders), func(o Holder) bool { return o.Run == h.Run })
	if len(b.Holders) >= MaxHolders {
		return refuse(fmt.Sprintf("%d proxies do so already", MaxHolders))
	}
	b.Holders = append(b.Holders, h)
	b.Answered = true
	s.RedisBehind = b
	return nil
}

// leave takes a holder out that has no permission any more and will get none without entering again.
func (s *PodState) leave(epoch uint64, run string) {
	b := s.Behind(epoch)
	if b == nil {
		return
	}
	at := slices.IndexFunc(b.Holders, func(h Holder) bool { return h.Run == run })
	switch {
	case at < 0:
	case b.Mark == MarkBarred:
		b.Holders[at].Left = true
	case len(b.Holders) == 1:
		b.Holders = nil
	default:
		b.Holders = slices.Delete(b.Holders, at, at+1)
	}
}

// end has nobody answer without Redis any more.
func (s *PodState) end(epoch uint64, rev Revision) {
	if b := s.Behind(epoch); b != nil && b.Mark == Marked {
		b.Mark, b.Turn = MarkEnding, rev
	}
}

// unmark takes the mark away: at turn it was ending, nobody has a permission, and Redis has everything.
func (s *PodState) unmark(epoch uint64, turn Revision) {
	if b := s.Behind(epoch); b != nil && b.Mark == MarkEnding && b.Turn == turn {
		s.RedisBehind = nil
	}
}

// bar keeps the pod from being marked in an epoch. It holds back nothing else, so a switch may be open.
func (s *PodState) bar(epoch uint64, who string, rev Revision, now time.Time) error {
	if s.Epoch > epoch {
		return fmt.Errorf("pod %s has gone on to epoch %d: %w", s.Pod, s.Epoch, ErrConflict)
	}
	b := s.Behind(epoch)
	switch {
	case b == nil:
		b = &RedisBehind{Epoch: epoch, Since: now, Who: Clip(who)}
		// A record that does not lead to this epoch may stand for one that was lost, and with it a mark.
		b.unname(s.Epoch != epoch && (s.Switch == nil || s.Switch.Epoch != epoch && s.Switch.UndoEpoch != epoch))
	case b.Mark == MarkBarred:
		return nil
	}
	b.Mark, b.Turn = MarkBarred, rev
	s.RedisBehind = b
	return nil
}

// unname notes that permissions may be out of which nothing is known.
func (b *RedisBehind) unname(yes bool) {
	if yes {
		b.Unnamed, b.Answered, b.LeaseMillis = true, true, MaxLease.Milliseconds()
	}
}

// forget drops a mark of an epoch that is over.
func (s *PodState) forget() {
	if b := s.RedisBehind; b != nil && b.Epoch < s.Epoch {
		s.RedisBehind = nil
	}
}

// found notes that an epoch in which answers without Redis are allowed was found in the fences: a record before this
// one may have been marked.
func (s *PodState) found(now time.Time) {
	s.forget()
	if s.RedisBehind == nil && s.Fence().MayAnswerAlone() {
		s.RedisBehind = &RedisBehind{Epoch: s.Epoch, Mark: MarkEnding, Since: now, Who: "unknown"}
		s.RedisBehind.unname(true)
	}
}

// revise changes a record by fn, which is told its revision, again when others change it meanwhile. What fn leaves as it
// was is not written. It answers the record as it was written or read.
func revise(ctx context.Context, c ControlStore, pod backends.Pod, fn func(*PodState, Revision) (write bool, err error)) (PodState, error) {
	for range updateAttempts {
		st, rev, err := c.Get(ctx, pod)
		if err != nil {
			return st, err
		}
		next := st.Clone()
		next.Pod = pod
		write, err := fn(&next, rev)
		if err != nil || !write {
			return st, err
		}
		_, err = c.CompareAndSet(ctx, pod, rev, next)
		if err == nil {
			return next, nil
		}
		if !errors.Is(err, ErrConflict) {
			return st, err
		}
	}
	return PodState{}, ErrConflict
}

// EndMark is how any proxy ends a mark that nobody needs: none of its holders is among those that are alive.
func EndMark(ctx context.Context, c ControlStore, pod backends.Pod, epoch uint64, turn Revision, alive func(Holder) bool) (PodState, error) {
	return revise(ctx, c, pod, func(s *PodState, rev Revision) (bool, error) {
		b := s.Behind(epoch)
		if b == nil || b.Mark != Marked || b.Turn != turn || slices.ContainsFunc(b.Holders, alive) {
			return false, nil
		}
		s.end(epoch, rev)
		return true, nil
	})
}

// Unmark takes a mark away that has been ending since turn. The caller has seen it so for b.Wait, and has then seen
// that Redis has everything that MySQL had decided by then.
func Unmark(ctx context.Context, c ControlStore, pod backends.Pod, epoch uint64, turn Revision) (PodState, error) {
	return revise(ctx, c, pod, func(s *PodState, _ Revision) (bool, error) {
		had := s.RedisBehind
		s.unmark(epoch, turn)
		return s.RedisBehind != had, nil
	})
}
