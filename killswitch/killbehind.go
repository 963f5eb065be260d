package killswitch

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// A kill of an epoch in which MySQL may answer without Redis. No process may do so any more when Redis begins to decide
// (P1), and what was answered so is brought to Redis before that, or listed (P4):
//
//  1. It bars the pod from being marked. From then on nobody gets a permission.
//  2. It waits until all who had one have left: each brings its journal to Redis, and says what it could not. Who is
//     paused or dead does not leave: a lease later its permission is over.
//  3. Meanwhile, and once more then, it brings MySQL's outbox to Redis. What was acknowledged was committed before, so
//     one whose entries Redis has all taken then says that nothing is missing.
//  4. The compare-and-set.

// Bounds of a kill of a marked pod. Together with the lease and its share for drifting clocks they keep it under lease + 1 s.
const (
	// killBar bounds the barring.
	killBar = time.Second
	// killPass bounds one bringing of MySQL's outbox to Redis, killList the listing of what stays there, killAsk that of what
	// holders have said.
	killPass = 300 * time.Millisecond
	killList = 150 * time.Millisecond
	killAsk  = 200 * time.Millisecond
	// killLook is how often it is looked whether all have left.
	killLook = 20 * time.Millisecond
)

// MaxKillWait is how long a kill waits for permissions at most.
const MaxKillWait = MaxLease + MaxLease/driftShare

// MaxMissing bounds the list of what is missing; counts are exact.
const MaxMissing = 1000

// MissingState is one state that was decided in MySQL and that Redis does not have. It may have been acknowledged.
type MissingState struct {
	Hold backends.HoldID `json:"hold,omitempty"`
	// State of the hold.
	State backends.State `json:"state,omitempty"`
	// Operation is that of a restock or a count.
	Operation backends.OpID    `json:"operation,omitempty"`
	Units     []backends.Units `json:"units,omitempty"`
}

// Missing is what Redis does not have.
type Missing struct {
	// Count is exact, Units the sum over all; States are the first MaxMissing of them.
	Count  int64          `json:"count"`
	Units  int64          `json:"units"`
	States []MissingState `json:"states,omitempty"`
}

// Add adds a state.
func (m *Missing) Add(s MissingState) {
	m.Count++
	for _, u := range s.Units {
		m.Units += max(u.Quantity, -u.Quantity)
	}
	if len(m.States) < MaxMissing {
		m.States = append(m.States, s)
	}
}

// merge adds another list.
func (m *Missing) merge(o Missing) {
	m.Count, m.Units = m.Count+o.Count, m.Units+o.Units
	m.States = append(m.States, o.States[:min(len(o.States), MaxMissing-len(m.States))]...)
}

// KillCarry is what a kill of a marked pod needs besides the control store. cmd fills it.
type KillCarry interface {
	// Outbox brings to Redis what is in MySQL's outbox when it is called, under the epoch of under, and answers what Redis did
	// not take. An error says that it did not come to the end.
	Outbox(ctx context.Context, under backends.Fence) (Missing, error)
	// Outstanding lists what is in MySQL's outbox. An error says that this is not known, or not all.
	Outstanding(ctx context.Context) (Missing, error)
	// Missed answers what a holder said it could not bring to Redis.
	Missed(ctx context.Context, epoch uint64, h Holder) (Missing, error)
}

// KillBehind is what a kill found of answers that were given without Redis.
type KillBehind struct {
	// Marked: such answers may have been given in this epoch, since the instant named.
	Marked bool      `json:"marked"`
	Since  time.Time `json:"since,omitzero"`
	Who    string    `json:"who,omitempty"`
	// WaitMillis is how long a kill waits at most for permissions, and WaitedMillis how long it has.
	WaitMillis   float64 `json:"wait_ms"`
	WaitedMillis float64 `json:"waited_ms"`
	// NotAsked are proxies whose permissions were waited out: they are paused, cut off or dead. What they answered is
	// missing in Redis unless it was in MySQL's outbox.
	NotAsked []string `json:"not_asked,omitempty"`
	// Complete: MySQL's outbox was brought to Redis, so nothing that was answered is missing there. If not, Why says
	// what kept it.
	Complete bool   `json:"complete"`
	Why      string `json:"why,omitempty"`
	// Missing may have been acknowledged, and Redis does not have it.
	Missing Missing `json:"missing"`
}

// MissedDocument names the document in which a holder says what it could not bring to Redis.
func MissedDocument(pod backends.Pod, epoch uint64, run string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %d %q", pod, epoch, run))
	return "missed-" + hex.EncodeToString(sum[:16])
}

// ReadMissed reads it; the zero one where there is none.
func ReadMissed(ctx context.Context, d Documents, pod backends.Pod, epoch uint64, run string) (m Missing, err error) {
	body, rev, err := d.Document(ctx, MissedDocument(pod, epoch, run))
	if err != nil || rev == 0 {
		return m, err
	}
	return m, json.Unmarshal(body, &m)
}

// SayMissed replaces it. A list that is too long for a document loses its end, not its counts.
func SayMissed(ctx context.Context, d Documents, pod backends.Pod, epoch uint64, run string, m Missing) error {
	body, err := json.Marshal(m)
	for err == nil && len(body) > MaxDocument {
		m.States = m.States[:len(m.States)/2]
		body, err = json.Marshal(m)
	}
	if err != nil {
		return err
	}
	name := MissedDocument(pod, epoch, run)
	_, rev, err := d.Document(ctx, name)
	if err != nil || rev == 0 && m.Count == 0 {
		return err
	}
	_, err = d.SetDocument(ctx, name, rev, body)
	return err
}

// behindKill is the part of a kill before its compare-and-set.
type behindKill struct {
	control ControlStore
	clock   Clock
	r       KillRequest
	res     *KillResult
	timed   func(string, time.Time)
}

// clear makes sure that nobody answers without Redis in the epoch of the fence that was read.
func (k *behindKill) clear(ctx context.Context) error {
	start := k.clock.Now()
	b, err := k.bar(ctx)
	barred := k.clock.Now()
	if err != nil {
		return k.refused(err)
	}
	k.res.Behind = &KillBehind{}
	if b == nil || !b.Answered {
		k.res.Behind.Complete = true
		if !k.r.DryRun {
			k.timed("bar answers without Redis", start)
		}
		return nil
	}
	*k.res.Behind = KillBehind{Marked: true, Since: b.Since, Who: b.Who, WaitMillis: millis(b.Wait())}
	if k.res.To.Alone = true; k.r.DryRun {
		return nil
	}
	k.timed("bar answers without Redis", start)
	left, err := k.wait(ctx, *b, barred)
	k.timed("wait for permissions", barred)
	if err != nil {
		return fmt.Errorf("pod %s was not killed, but nobody answers without Redis any more; give the kill again: %w", k.r.Pod, err)
	}
	start = k.clock.Now()
	k.lastPass(ctx, *b, left)
	k.res.To.Alone = !k.res.Behind.Complete // else nothing that settling voids can have been acknowledged
	k.timed("bring to Redis what was answered without it", start)
	k.res.Behind.WaitedMillis = millis(k.clock.Now().Sub(barred))
	return nil
}

// bar answers the mark as it was found, with the holders of that moment; a dry run only looks.
func (k *behindKill) bar(ctx context.Context) (*RedisBehind, error) {
	if k.control == nil {
		return nil, ErrControlUnavailable
	}
	ctx, cancel := context.WithTimeout(ctx, killBar)
	defer cancel()
	epoch := k.res.From.Epoch
	if k.r.DryRun {
		st, _, err := k.control.Get(ctx, k.r.Pod)
		return st.Behind(epoch), err
	}
	st, err := revise(ctx, k.control, k.r.Pod, func(s *PodState, rev Revision) (bool, error) {
		was := s.Behind(epoch)
		return was == nil || was.Mark != MarkBarred, s.bar(epoch, k.r.Who, rev, k.clock.Now())
	})
	return st.Behind(epoch), err
}

func (k *behindKill) refused(err error) error {
	k.res.Verdict = KillRefused
	return &KillRefusedError{
		Pod: k.r.Pod, Have: k.res.From, Why: fmt.Sprintf("in this epoch MySQL may answer without Redis while the control store says so, and it could not be told to end that: %s", Clip(err.Error())),
		Next: fmt.Sprintf("bring the control store back and give the kill again; docs/operations.md says what to do without one (pod %s)", k.r.Pod),
	}
}

// wait waits until nobody can have a permission, and answers who is still among the holders then. b was barred by now.
func (k *behindKill) wait(ctx context.Context, b RedisBehind, barred time.Time) ([]Holder, error) {
	over := barred.Add(b.Wait())
	left := b.permitted()
	for {
		now := k.clock.Now()
		if len(left) == 0 && !b.Unnamed || !now.Before(over) {
			return left, nil
		}
		if err := ctx.Err(); err != nil {
			return left, err
		}
		try, cancel := context.WithTimeout(ctx, min(killPass, over.Sub(now)))
		_, _ = k.carry(try, b.Epoch) // the last pass tells
		cancel()
		try, cancel = context.WithTimeout(ctx, min(killPass, max(over.Sub(k.clock.Now()), killLook)))
		st, _, err := k.control.Get(try, k.r.Pod)
		cancel()
		if at := st.Behind(b.Epoch); err == nil && at != nil {
			left = at.permitted()
		}
		if d := min(killLook, over.Sub(k.clock.Now())); d > 0 && len(left) > 0 {
			_ = pause(ctx, k.clock, d)
		}
	}
}

func (k *behindKill) carry(ctx context.Context, epoch uint64) (Missing, error) {
	if k.r.Carry == nil {
		return Missing{}, fmt.Errorf("%w: this process has no way to MySQL", backends.ErrUnavailable)
	}
	under := k.res.From
	under.Epoch = epoch
	return k.r.Carry.Outbox(ctx, under)
}

// lastPass brings to Redis what MySQL still has, and lists what Redis does not get.
func (k *behindKill) lastPass(ctx context.Context, b RedisBehind, stay []Holder) {
	out := k.res.Behind
	for _, h := range stay {
		out.NotAsked = append(out.NotAsked, h.Proxy)
	}
	try, cancel := context.WithTimeout(ctx, killPass)
	left, err := k.carry(try, b.Epoch)
	cancel()
	// The outbox has, or had, all that was answered, whoever did.
	out.Complete = err == nil && left.Count == 0
	if err == nil {
		out.Missing = left
		return
	}
	if k.r.Carry == nil {
		out.Why = Clip(err.Error())
		return
	}
	try, cancel = context.WithTimeout(ctx, killList)
	missing, lerr := k.r.Carry.Outstanding(try)
	cancel()
	if lerr == nil {
		out.Missing = missing
		return
	}
	out.Why = Clip(cmp.Or(err, lerr).Error())
	ctx, cancel = context.WithTimeout(ctx, killAsk)
	defer cancel()
	for _, h := range b.Holders {
		m, err := k.r.Carry.Missed(ctx, b.Epoch, h)
		if err != nil {
			out.Why = Clip(out.Why + "; what " + h.Proxy + " could not bring to Redis is not known: " + err.Error())
			continue
		}
		out.Missing.merge(m)
	}
}
