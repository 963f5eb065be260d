package killswitch

import (
	"fmt"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// View is a store's fence as it was read; not Known when it could not be.
type View struct {
	Fence backends.Fence `json:"fence"`
	Known bool           `json:"known"`
	Why   string         `json:"why,omitempty"` // why it could not be read
}

// Saw is the view of a fence that was read, or of the failure to.
func Saw(f backends.Fence, err error) View {
	if err != nil {
		return View{Why: Clip(err.Error())}
	}
	return View{Fence: f, Known: true}
}

// Seen is what is known of a pod at one time. The zero State stands for no record, and for a control
// store that could not be read.
type Seen struct {
	State PodState
	Redis View
	MySQL View
}

// Acknowledgeable tells whose decisions can be acknowledged under these fences; see the package
// documentation. Never both (P1).
func Acknowledgeable(redis, mysql backends.Fence) (byRedis, byMySQL bool) {
	byRedis = redis.Admits(backends.Token{Epoch: redis.Epoch}, backends.SideRedis)
	t := backends.Token{Epoch: mysql.Epoch}
	byMySQL = mysql.Admits(t, backends.SideMySQL) &&
		(alone(mysql) || redis.AdmitsMirror(t, backends.SideRedis))
	return byRedis, byMySQL
}

// alone tells whether MySQL's answers under f do not wait for Redis.
func alone(f backends.Fence) bool { return f.Stage.Truth() == backends.SideMySQL && !f.Arbitrates() }

// Actual is what the fences say.
type Actual struct {
	// Fence is that of the truth, or the nearest to it.
	Fence backends.Fence
	// Serving: decisions under Fence can be acknowledged. False in the middle of a switch, when a
	// fence was lost, and when the fence that matters could not be read.
	Serving bool
	// Next is what the record should say; Stale tells that it says something else.
	Next  PodState
	Stale bool
}

// Reconcile says what a pod is in, from its record and its fences: the highest epoch seen anywhere
// wins, whether it was recorded or not. now dates what it writes into Next.
func Reconcile(seen Seen, now time.Time) Actual {
	if sw := seen.State.Switch; sw != nil && sw.onPath(seen.Redis) {
		f, serving := servingOf(seen)
		return Actual{Fence: f, Serving: serving, Next: seen.State}
	}
	return abandon(seen, now)
}

// abandon is Reconcile for a pod whose open switch, if any, is given up.
func abandon(seen Seen, now time.Time) Actual {
	st := seen.State
	f, serving := servingOf(seen)
	a := Actual{Fence: f, Serving: serving, Next: st}
	switch {
	case serving && f.Epoch > st.Epoch:
		a.Next, a.Stale = adopt(st, f, adoption(st, f, now)), true
	case !serving && highest(seen).Epoch > st.Epoch && !(st.Epoch > 0 && !seen.Redis.Known):
		// Between two stages and without a record of how: the stage of the highest fence, which
		// WorkFor then has realigned. With Redis out of sight a record is not given up for MySQL.
		f = highest(seen)
		a.Fence, a.Next, a.Stale = f, adopt(st, f, adoption(st, f, now)), true
	case st.Switch != nil:
		// Redis is neither where the switch left it nor ahead of the record: it has lost its fence.
		f = st.Fence()
		a.Next, a.Stale = adopt(st, f, adoption(st, f, now)), true
	}
	return a
}

// onPath tells whether Redis's fence is one that the switch itself may have left there.
func (sw *Switch) onPath(v View) bool {
	return !v.Known || slices.Contains(sw.redisMayBe(), v.Fence)
}

// servingOf tells the fence of the store that can acknowledge, or the nearest to that.
func servingOf(seen Seen) (backends.Fence, bool) {
	r, m := seen.Redis, seen.MySQL
	byRedis := r.Known && r.Fence.Open && r.Fence.Stage.Truth() == backends.SideRedis
	byMySQL := m.Known && m.Fence.Open && m.Fence.Stage.Truth() == backends.SideMySQL
	lower := seen.State.Epoch // a fence below the record is a rolled-back one
	switch {
	case byMySQL && m.Fence.Epoch >= lower && alone(m.Fence) && (!byRedis || m.Fence.Epoch > r.Fence.Epoch):
		return m.Fence, true
	case byRedis && r.Fence.Epoch >= lower && (!byMySQL || r.Fence.Epoch > m.Fence.Epoch):
		return r.Fence, true
	case byMySQL && m.Fence.Epoch >= lower:
		return m.Fence, r.Known && r.Fence.AdmitsMirror(backends.Token{Epoch: m.Fence.Epoch}, backends.SideRedis)
	default:
		return highest(seen), false
	}
}

// highest is the fence that a pod without a truth is taken to be at, as an open one: Redis's, since it
// is part of every move, unless MySQL has been opened as the truth at a higher epoch. (MySQL's
// closed, or as a shadow, is no more than a part of something that Redis has not followed; and
// from live, realigning makes MySQL the truth, which has all that was acknowledged.)
func highest(seen Seen) backends.Fence {
	f, m := seen.Redis.Fence, seen.MySQL.Fence
	if f.Epoch == 0 || m.Epoch > f.Epoch && m.Open && m.Stage.Truth() == backends.SideMySQL {
		f = m
	}
	f.Open = f.Epoch > 0
	return f
}

// adoption describes a change that was found in the fences and not in the record.
func adoption(st PodState, f backends.Fence, now time.Time) Change {
	c := Change{At: now, Kind: KindAdopt, Outcome: Done, Who: "unknown", Why: "the fences were ahead of the record: a kill that could not be recorded, or a record that was lost"}
	if f.Epoch == st.Epoch {
		c.Why = "Redis's fence is not what the open switch had left there: it was lost or rolled back"
	}
	return c
}

// adopt is the record of a pod that serves f since the change c, whatever it did before. An open
// switch ends. It notes what is due: MySQL may have decided what nobody was told.
func adopt(st PodState, f backends.Fence, c Change) PodState {
	st = st.Clone()
	c.From, c.FromEpoch, c.To, c.Epoch = st.Stage, st.Epoch, f.Stage, f.Epoch
	opened := st.Stage.Truth() != backends.SideRedis
	if sw := st.Switch; sw != nil {
		opened = opened || sw.mayHaveOpenedMySQL()
		if sw.restores() {
			st.owe(WorkRestore, WorkBackfill)
		}
		c.Steps = append(slices.Clone(sw.Steps), c.Steps...)
		c.Cause = fmt.Sprintf("the switch from %s to %s by %s was superseded at step %q", sw.From, sw.To, sw.Who, sw.Name)
		if len(c.Steps) > MaxSteps {
			c.Steps = c.Steps[:MaxSteps]
		}
	}
	st.Stage, st.Epoch, st.Filled, st.Switch = f.Stage, f.Epoch, f.Arbitrates(), nil
	st.Phase, st.Who, st.Why, st.Since = phaseOf(f), Clip(c.Who), Clip(c.Why), c.At
	st.Alone = f.Alone
	st.found(c.At)
	st.seeEpoch(f.Epoch)
	switch {
	case f.Stage.Truth() == backends.SideRedis && opened:
		st.owe(WorkSettle, WorkBackfill)
	case f.Stage == backends.Live && !f.Filled:
		st.owe(WorkBackfill, WorkFill)
	}
	st.Due = fitting(st)
	st.record(c)
	return st
}

func phaseOf(f backends.Fence) Phase {
	switch {
	case f.Epoch == 0:
		return PhaseUnknown
	case f.Stage == backends.Live && !f.Filled:
		return Filling
	default:
		return Serving
	}
}
