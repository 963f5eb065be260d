package killswitch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Bounds of a kill. Together they keep it at about a second when Redis answers at all.
const (
	// KillAttempt bounds one try of the compare-and-set, and one read before it.
	KillAttempt = 400 * time.Millisecond
	// KillAttempts is how often an unknown outcome is tried again; the same compare-and-set twice
	// is once.
	KillAttempts = 3
	// KillRecord bounds the recording afterwards, which a kill does not depend on.
	KillRecord = 500 * time.Millisecond
)

// Verdict is what a kill does to a fence.
type Verdict uint8

// The verdicts.
const (
	KillUnknown Verdict = iota
	KillGo
	KillNothing // Redis decides alone already
	KillRefused
	KillAlready // the kill that is asked for was made before
)

var verdictNames = [...]string{"unknown", "kill", "nothing to do", "refused", "already killed"}

func (v Verdict) String() string { return name(verdictNames[:], int(v)) }

// MarshalText carries a verdict by its name.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (v *Verdict) UnmarshalText(b []byte) error { return parse(verdictNames[:], b, "verdict", v) }

// KillRefusedError: Redis is not complete at this fence, so it must not become the truth by a kill.
type KillRefusedError struct {
	Pod  backends.Pod
	Have backends.Fence
	Why  string
	Next string // the way back
}

func (e *KillRefusedError) Error() string {
	return fmt.Sprintf("pod %s cannot be killed: %s (Redis's fence is at %s); %s", e.Pod, e.Why, e.Have, e.Next)
}

// DecideKill says what a kill does to Redis's fence.
func DecideKill(pod backends.Pod, f backends.Fence) (to backends.Fence, v Verdict, err error) {
	refuse := func(why, next string) (backends.Fence, Verdict, error) {
		return f, KillRefused, &KillRefusedError{Pod: pod, Have: f, Why: why, Next: next}
	}
	switch {
	case f.Epoch == 0:
		return refuse("Redis has no fence", fmt.Sprintf("see 'crossfade status %s': the pod was never set up, or Redis has lost its data", pod))
	case f.Stage == backends.Live && f.Open && f.Filled,
		f.Stage == backends.Shadow && !f.Open: // in the middle of a switch to live: it is undone so
		to = fence(f.Epoch+1, backends.Shadow, false)
		to.Alone = f.Alone && f.Stage == backends.Shadow // from live it depends on the mark
		return to, KillGo, nil
	case f.Stage == backends.Shadow:
		to = fence(f.Epoch+1, backends.RedisOnly, false)
		to.Alone = f.Alone // MySQL may not be settled yet
		return to, KillGo, nil
	case f.Stage == backends.RedisOnly && !f.Open:
		return refuse("Redis was restarted or replaced, or is being given back what it has lost", fmt.Sprintf("see 'crossfade status %s': a re-issue of its fence ends in seconds", pod))
	case f.Stage == backends.RedisOnly:
		return f, KillNothing, nil
	case f.Stage == backends.MySQLOnly:
		return refuse("Redis has been out of use in mysql-only and does not know what was sold", fmt.Sprintf("go back by 'crossfade stage %s live --why …', wait until Redis is filled ('crossfade status %s --watch'), then kill", pod, pod))
	case f.Stage == backends.Live && f.Open:
		return refuse("Redis is still being filled", fmt.Sprintf("wait until it is ('crossfade status %s --watch'), or go back by 'crossfade stage %s mysql-only --why …'", pod, pod))
	default:
		return refuse("Redis's fence is not one that Crossfade leaves there", fmt.Sprintf("see 'crossfade status %s'", pod))
	}
}

// KillRequest asks for a kill.
type KillRequest struct {
	Pod backends.Pod
	Who string
	Why string
	// Expect is the stage that the caller wants to leave: live or shadow. A kill from another one is refused,
	// and one that was made already is not made again, so that a kill that is sent twice does not go back
	// two stages. When it is unknown, a shadow that a kill has led to is not left.
	Expect backends.Stage
	// ExpectEpoch, when above 0, is the epoch that Expect was read under.
	ExpectEpoch uint64
	// Own is the last kill of the pod that this process has made; the zero one for none. It is known
	// also when the record cannot be read.
	Own    Change
	DryRun bool
	// Carry is needed where answers may have been given without Redis.
	Carry KillCarry
}

// KillResult is what became of it.
type KillResult struct {
	Pod     backends.Pod   `json:"pod"`
	Verdict Verdict        `json:"verdict"`
	From    backends.Fence `json:"from"`
	To      backends.Fence `json:"to"`
	DryRun  bool           `json:"dry_run,omitempty"`
	// Already, when the kill was made before, is the change by which the pod came to where it is; nil
	// when that is not known.
	Already *Change `json:"already,omitempty"`
	// Behind is set where the epoch allows answers without Redis.
	Behind *KillBehind `json:"behind,omitempty"`
	Steps  []StepDone  `json:"steps"`
	// Recorded tells whether the control store knows; when not, NotRecorded says why, and the first
	// process that can will write down what it finds.
	Recorded    bool   `json:"recorded"`
	NotRecorded string `json:"not_recorded,omitempty"`
	// Left is what has to follow, by whoever serves the pod.
	Left []Work `json:"left,omitempty"`
}

// Kill takes a pod back one stage by one compare-and-set of Redis's fence: from live to shadow, from
// shadow to redis-only. It needs nothing but Redis; control may be nil, but for an epoch in which MySQL may answer without
// Redis: there it bars that first, and waits until nobody does so any more. When it returns without an
// error, nothing that another store decides can be acknowledged any more. An error that
// backends.IsAmbiguous says that the compare-and-set may have taken effect.
func Kill(ctx context.Context, redis backends.Fencer, control ControlStore, clock Clock, r KillRequest) (KillResult, error) {
	res := KillResult{Pod: r.Pod, DryRun: r.DryRun}
	if err := CheckWhoWhy(r.Who, r.Why); err != nil {
		return res, err
	}
	if err := r.checkExpect(); err != nil {
		return res, err
	}
	timed := func(name string, start time.Time) {
		res.Steps = append(res.Steps, StepDone{Name: name, TookMillis: millis(clock.Now().Sub(start))})
	}
	start := clock.Now()
	have, err := readFence(ctx, redis)
	timed("read Redis's fence", start)
	if err != nil {
		return res, fmt.Errorf("pod %s was not killed, Redis's fence could not be read: %w", r.Pod, err)
	}
	res.From = have
	if err := res.decide(ctx, control, clock.Now(), r); err != nil || res.Verdict != KillGo {
		return res, err
	}
	if have.MayAnswerAlone() {
		k := behindKill{control: control, clock: clock, r: r, res: &res, timed: timed}
		if err := k.clear(ctx); err != nil {
			return res, err
		}
	}
	if r.DryRun {
		return res, nil
	}
	start = clock.Now()
	err = killFence(ctx, redis, have, res.To)
	timed("compare-and-set Redis's fence", start)
	if err != nil {
		return res, fmt.Errorf("pod %s: %w", r.Pod, err)
	}
	start = clock.Now()
	st, err := recordKill(ctx, control, clock.Now(), r, res)
	timed("record", start)
	res.Left = append([]Work{WorkRaiseMySQL}, WorkFor(Seen{State: st})...)
	if res.Recorded = err == nil; err != nil {
		res.NotRecorded = Clip(err.Error())
	}
	return res, nil
}

func readFence(ctx context.Context, redis backends.Fencer) (f backends.Fence, err error) {
	for range KillAttempts {
		try, cancel := context.WithTimeout(ctx, KillAttempt)
		f, err = redis.Fence(try)
		cancel()
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	return f, err
}

// killFence sends the same compare-and-set until its outcome is known: read anew, a fence that the
// first try has moved would be killed once more.
func killFence(ctx context.Context, redis backends.Fencer, from, to backends.Fence) (err error) {
	for range KillAttempts {
		try, cancel := context.WithTimeout(ctx, KillAttempt)
		_, err = redis.Raise(try, to, from.Epoch)
		cancel()
		var fe *backends.FencedError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &fe) && fe.Have == to:
			return nil // an earlier try, or another kill of the same fence
		case errors.As(err, &fe):
			return fmt.Errorf("not killed: Redis's fence was moved meanwhile, from %s to %s; look again ('crossfade status'), then kill if it is still wanted: %w", from, fe.Have, err)
		case errors.Is(err, backends.ErrRestarted):
			return fmt.Errorf("not killed: Redis was restarted or replaced, and may have lost what it had acknowledged; have its fence re-issued ('crossfade reissue'), which gives it back what MySQL has: %w", err)
		case ctx.Err() != nil:
			return fmt.Errorf("the kill from %s to %s may have taken effect; give the same kill again, it is made once: %w", from, to, errors.Join(backends.ErrAmbiguous, err))
		}
	}
	return fmt.Errorf("the kill from %s to %s may have taken effect; give the same kill again, it is made once: %w", from, to, errors.Join(backends.ErrAmbiguous, err))
}

// RecordKill writes down a kill that was made (res.Verdict is KillGo) and could not be recorded then. Again is once.
func RecordKill(ctx context.Context, control ControlStore, clock Clock, r KillRequest, res KillResult) error {
	_, err := recordKill(ctx, control, clock.Now(), r, res)
	return err
}

// recordKill writes the kill down. The fence is what counts: the record follows it, and a record
// that has followed it already learns who and why.
func recordKill(ctx context.Context, control ControlStore, now time.Time, r KillRequest, res KillResult) (PodState, error) {
	c := Change{At: now, Kind: KindKill, Outcome: Done, Who: r.Who, Why: r.Why, Steps: res.Steps}
	guess := adopt(PodState{Pod: r.Pod, Stage: res.From.Stage, Epoch: res.From.Epoch, Filled: res.From.Filled, Alone: res.From.Alone}, res.To, c)
	if control == nil {
		return guess, errors.New("there is no control store")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), KillRecord)
	defer cancel()
	st, err := update(ctx, control, r.Pod, func(st PodState) (PodState, error) {
		st.Pod = r.Pod
		switch {
		case st.Epoch < res.To.Epoch:
			st = adopt(st, res.To, c)
			if res.From.Stage == backends.Live { // whatever the record knew of it
				st.owe(WorkSettle, WorkBackfill)
			}
			return st, nil
		case st.Epoch == res.To.Epoch && st.Who == "unknown":
			return credit(st, c), nil
		default:
			return st, nil // it has gone on since
		}
	})
	if err != nil {
		return guess, err
	}
	return st, control.AppendHistory(ctx, r.Pod, st.History...)
}

// credit names the one who made a change that was first found in the fences.
func credit(st PodState, c Change) PodState {
	st = st.Clone()
	st.Who, st.Why = Clip(c.Who), Clip(c.Why)
	c.From, c.FromEpoch, c.To, c.Epoch = st.Stage, st.Epoch, st.Stage, st.Epoch
	st.record(c)
	return st
}
