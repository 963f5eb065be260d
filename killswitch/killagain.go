package killswitch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// A kill may be asked for twice: the answer was lost, and a person or script asks again. Made twice, it would
// take a pod from live through shadow to redis-only. So a kill says what it leaves, and one that says
// nothing leaves a shadow only if no kill has led there. Neither needs more than Redis to leave live.

// repeat tells whether the kill that r asks for was made already, by the fence alone: KillGo when it was not,
// KillAlready when it was, KillUnknown when only the record can tell.
func repeat(r KillRequest, have backends.Fence) (Verdict, error) {
	shadow := have.Stage == backends.Shadow && have.Open // closed, it is on the way to live
	newer := r.ExpectEpoch != 0 && have.Epoch != r.ExpectEpoch
	refuse := func(why string) (Verdict, error) {
		next := fmt.Sprintf("see 'crossfade status %s', and kill it from where it is, if that is still wanted: 'crossfade kill %s --from %s --why …'", r.Pod, r.Pod, have.Stage)
		return KillRefused, &KillRefusedError{Pod: r.Pod, Have: have, Why: why, Next: next}
	}
	switch {
	case r.Expect == backends.StageUnknown && shadow:
		return KillUnknown, nil
	case r.Expect == backends.StageUnknown:
		return KillGo, nil
	case r.Expect == backends.Live && shadow && have.Epoch >= r.ExpectEpoch:
		return KillAlready, nil // where a kill from live leads to, whoever has done it
	case r.Expect == backends.Live && have.Stage == backends.Shadow && !newer:
		return KillGo, nil // a switch to live is under way; its kill ends in shadow too
	case have.Stage != r.Expect:
		return refuse("it is not in " + r.Expect.String() + " (any more)")
	case newer && shadow:
		return KillUnknown, nil
	case newer:
		return refuse(fmt.Sprintf("it has been changed since it was in epoch %d", r.ExpectEpoch))
	default:
		return KillGo, nil
	}
}

// killed tells whether a change is a kill, or one that was found in the fences and can hardly be anything else.
func (c Change) killed() bool {
	return c.Kind == KindKill ||
		c.Kind == KindAdopt && c.Epoch > c.FromEpoch && (c.From == backends.Live || c.From == backends.Shadow)
}

// cameBy finds the change by which a pod came into the stage of Redis's fence; not known when the record
// is behind, or does not reach back so far.
func cameBy(st PodState, f backends.Fence, now time.Time) (c Change, known bool) {
	st = Reconcile(Seen{State: st, Redis: Saw(f, nil)}, now).Next
	if st.Epoch != f.Epoch || st.Stage != f.Stage {
		return Change{}, false
	}
	for i := len(st.History) - 1; i >= 0; i-- {
		c := st.History[i]
		moved := c.Kind == KindInit || c.Kind != KindAdopt && c.From != c.To
		if c.killed() || moved && c.Outcome == Done {
			return c, true
		}
	}
	return Change{}, false
}

// came is cameBy of the record as it is now, or what this process did itself.
func came(ctx context.Context, control ControlStore, now time.Time, r KillRequest, have backends.Fence) (Change, error) {
	if r.Own.Epoch == have.Epoch {
		return r.Own, nil
	}
	if control == nil {
		return Change{}, errors.New("there is no control store")
	}
	ctx, cancel := context.WithTimeout(ctx, KillRecord)
	defer cancel()
	st, _, err := control.Get(ctx, r.Pod)
	if err != nil {
		return Change{}, err
	}
	c, known := cameBy(st, have, now)
	if !known {
		return Change{}, errors.New("the record does not say")
	}
	return c, nil
}

// decide fills in what is to be done, and refuses what must not be.
func (res *KillResult) decide(ctx context.Context, control ControlStore, now time.Time, r KillRequest) (err error) {
	have := res.From
	if res.To, res.Verdict, err = DecideKill(r.Pod, have); err != nil || res.Verdict != KillGo {
		return err
	}
	verdict, err := repeat(r, have)
	if verdict == KillGo {
		return nil
	}
	res.To, res.Verdict = have, verdict
	if err != nil {
		return err
	}
	c, why := came(ctx, control, now, r, have)
	if why == nil {
		res.Already = &c
	}
	onwards := fmt.Sprintf("if it is to go on to redis-only, say so: 'crossfade kill %s --from shadow --why …'", r.Pod)
	switch {
	case verdict == KillAlready, why == nil && c.killed():
		res.Verdict = KillAlready
		return nil
	case r.Expect == backends.StageUnknown && why == nil: // it was moved into shadow by a stage
		res.To, res.Verdict, err = DecideKill(r.Pod, have)
		res.Already = nil
		return err
	case r.Expect == backends.StageUnknown:
		res.Verdict = KillRefused
		return &KillRefusedError{Pod: r.Pod, Have: have, Why: fmt.Sprintf("it is in shadow, where Redis decides, and whether a kill has led there cannot be told (%s)", why), Next: onwards}
	default:
		res.Verdict = KillRefused
		return &KillRefusedError{Pod: r.Pod, Have: have, Why: fmt.Sprintf("it has been changed since it was in epoch %d", r.ExpectEpoch), Next: onwards}
	}
}

// checkExpect allows only stages that a kill can leave.
func (r KillRequest) checkExpect() error {
	if r.Expect == backends.StageUnknown || r.Expect == backends.Live || r.Expect == backends.Shadow {
		return nil
	}
	return &backends.FieldError{Field: "from", Value: r.Expect.String(), Bound: "live or shadow", Next: "name the stage that the kill is to leave; there is none back from redis-only, and from mysql-only the way is 'crossfade stage'"}
}
