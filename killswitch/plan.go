package killswitch

import (
	"fmt"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Act is what a step does.
type Act uint8

// The acts.
const (
	ActUnknown Act = iota
	ActRaise       // move a store's fence
	ActDrain       // empty the outbox of the truth of Fence.Stage into the other store, under Fence
	ActRestore     // give Redis back what it has lost and MySQL has; Fence says whether it is closed
	ActServe       // write down what is served now, and close the record of the switch
)

// Step is one step of a switch. It may be taken any number of times.
type Step struct {
	Name string
	Act  Act
	Side backends.Side // of a raise
	// Fence is what a raise installs, what a drain works under, and what is served afterwards.
	Fence backends.Fence
	// Expect are the fences from which a raise of Redis may start; anything else is a kill, or a
	// server that has lost its data. For MySQL, and where Redis goes along if possible (no kill is
	// possible there), rank alone decides.
	Expect []backends.Fence
	// Complete belongs to ActRestore: see [Restorer].
	Complete bool
	// Anew: Redis may be another server than the one at which its fence was raised.
	Anew bool
	// BestEffort: the switch goes on without it; what is left is then found by WorkFor.
	BestEffort bool
}

func fence(epoch uint64, s backends.Stage, filled bool) backends.Fence {
	return backends.Fence{Epoch: epoch, Stage: s, Open: true, Filled: s == backends.Live && filled}
}

func closed(f backends.Fence) backends.Fence {
	f.Open = false
	return f
}

func raise(side backends.Side, f backends.Fence) Step {
	verb, label := "open", "MySQL"
	if side == backends.SideRedis {
		label = "Redis"
	}
	if !f.Open {
		verb = "close"
	}
	stage := f.Stage.String()
	if f.Stage == backends.Live && !f.Filled {
		stage += " (filling)"
	}
	return Step{Name: fmt.Sprintf("%s %s, %s", verb, label, stage), Act: ActRaise, Side: side, Fence: f}
}

func redis(f backends.Fence) Step { return raise(backends.SideRedis, f) }
func mysql(f backends.Fence) Step { return raise(backends.SideMySQL, f) }

func drain(under backends.Fence) Step {
	from := "Redis"
	if under.Stage.Truth() == backends.SideMySQL {
		from = "MySQL"
	}
	return Step{Name: "drain outbox of " + from, Act: ActDrain, Fence: under}
}

// Planned is a step that a dry run names.
type Planned struct {
	Name string `json:"name"`
	// Means says what the step does, for those who have not seen a switch yet.
	Means string `json:"means"`
}

// planned names the steps of a switch.
func (sw *Switch) planned() []Planned {
	var out []Planned
	for _, s := range Steps(*sw) {
		out = append(out, Planned{Name: s.Name, Means: s.means(sw.holds())})
	}
	return out
}

// means says what a step does. holds: callers wait during the switch.
func (s Step) means(holds bool) (text string) {
	store, truth := "Redis", s.Side == s.Fence.Stage.Truth()
	if s.Side == backends.SideMySQL {
		store = "MySQL"
	}
	switch {
	case s.Act == ActDrain:
		return "what the old truth has decided reaches the other store"
	case s.Act == ActRestore:
		return "Redis gets back what it has lost and MySQL has, as far as that is done in time"
	case s.Act == ActServe && holds:
		return "written down as served; callers go on"
	case s.Act == ActServe:
		return "written down as served; callers notice nothing"
	case s.Act != ActRaise:
		return ""
	case !s.Fence.Open:
		text = store + " decides nothing any more; callers of this pod wait from here"
	case truth:
		text = store + " decides under the new epoch"
	case s.Side == backends.SideRedis && s.Fence.Filled:
		text = "Redis takes mirrors, and each answer waits for it"
	case s.Fence.Stage.Dual():
		text = store + " follows as the shadow"
	default:
		text = store + " takes nothing under the new epoch"
	}
	if s.BestEffort {
		text += ", if it answers"
	}
	return text
}

func serve(f backends.Fence) Step {
	return Step{Name: "serve " + f.Stage.String(), Act: ActServe, Fence: f}
}

func (s Step) ifPossible() Step {
	s.BestEffort = true
	return s
}

func (s Step) anew() Step {
	s.Anew = true
	return s
}

// from and target are the open fences before and after the switch.
func (sw *Switch) from() backends.Fence {
	f := fence(sw.FromEpoch, sw.From, sw.FromFilled)
	f.Alone = sw.FromAlone
	return f
}

func (sw *Switch) target() backends.Fence {
	filled := sw.Kind == KindFill || sw.Kind == KindMove && sw.From == backends.Shadow
	f := fence(sw.Epoch, sw.To, filled)
	switch {
	case f.Arbitrates():
		f.Alone = sw.Alone
	case sw.From.Truth() == backends.SideRedis && sw.To.Truth() == backends.SideRedis:
		f.Alone = sw.FromAlone // what MySQL had answered alone may not be settled yet
	}
	return f
}

func (sw *Switch) back() backends.Fence {
	f := fence(sw.UndoEpoch, sw.From, sw.FromFilled)
	f.Alone = sw.FromAlone
	return f
}

func (sw *Switch) is(from, to backends.Stage) bool {
	return sw.Kind == KindMove && sw.From == from && sw.To == to
}

// holds tells whether there is a moment in the switch at which neither store decides.
func (sw *Switch) holds() bool {
	return sw.Kind == KindFill || sw.restores() || sw.refills() || sw.is(backends.Shadow, backends.Live) ||
		sw.is(backends.Live, backends.Shadow) || sw.is(backends.Live, backends.MySQLOnly) && sw.FromFilled
}

// restores tells whether Redis goes on as the truth, and may have lost what it had acknowledged.
func (sw *Switch) restores() bool {
	return sw.Kind == KindRealign && sw.To.Truth() == backends.SideRedis
}

// refills tells whether Redis goes on as the shadow of live, which it was the arbiter of: another server, which may lack what
// it had.
func (sw *Switch) refills() bool {
	return sw.Kind == KindRealign && sw.To == backends.Live && sw.Complete
}

// Steps lists the steps of a switch. They follow from the record alone, so that every process sees the
// same list. The last one is always to serve.
func Steps(sw Switch) []Step {
	return expect(sw.forward(), []backends.Fence{sw.RedisWas})
}

func (sw *Switch) forward() []Step {
	f := sw.target()
	switch {
	case sw.Kind == KindFill:
		// MySQL is closed so that nothing is decided that Redis has not; once Redis is at the new
		// epoch a kill is possible, and MySQL is not open without it any more.
		return []Step{mysql(closed(f)), drain(sw.from()), redis(f), mysql(f), serve(f)}
	case sw.restores():
		// Closed, so that nothing is sold twice before it is known again. MySQL comes first to the new epoch: what
		// a lane brings it late, under the old one, would not be restored.
		// Redis is closed in redis-only, where there is nothing to kill: in shadow a kill would open it too soon.
		shut := closed(fence(sw.Epoch, backends.RedisOnly, false))
		shut.Alone = f.Alone
		return []Step{redis(shut).anew(), mysql(f).ifPossible(), restore(closed(f), sw.Complete).ifPossible(), redis(f), serve(f)}
	case sw.refills():
		// No kill is possible before Redis is filled. MySQL is closed so that what is compared stands still.
		return []Step{redis(f).anew(), mysql(closed(f)), restore(closed(f), true).ifPossible(), mysql(f), serve(f)}
	case sw.Kind == KindRealign, sw.Kind == KindInit:
		return realignSteps(f)
	case sw.is(backends.RedisOnly, backends.Shadow):
		// MySQL first: what Redis writes under the new epoch finds it ready.
		return []Step{mysql(f), redis(f), serve(f)}
	case sw.is(backends.Shadow, backends.Live):
		// From the first step Redis refuses what is on its way. Its outbox is drained under the old
		// epoch, at which MySQL still is. Opened for live Redis decides nothing any more.
		return []Step{redis(closed(fence(sw.Epoch, backends.Shadow, false))), drain(sw.from()), redis(f), mysql(f), serve(f)}
	case sw.is(backends.Shadow, backends.RedisOnly):
		return []Step{redis(f), mysql(f).ifPossible(), serve(f)}
	case sw.is(backends.Live, backends.Shadow):
		return []Step{mysql(closed(fence(sw.Epoch, backends.Live, sw.FromFilled))), drain(sw.from()), mysql(f), redis(f), serve(f)}
	case sw.is(backends.Live, backends.MySQLOnly) && sw.FromFilled:
		// Redis first: after it no kill can make Redis decide, so MySQL may go without it.
		return []Step{redis(f), mysql(f), serve(f)}
	case sw.is(backends.Live, backends.MySQLOnly):
		// Not filled: MySQL goes without Redis already, and a dead Redis must not bar the way back.
		return []Step{mysql(f), redis(f).ifPossible(), serve(f)}
	case sw.is(backends.MySQLOnly, backends.Live):
		return []Step{redis(f), mysql(f), serve(f)}
	default:
		return nil
	}
}

// realignSteps bring both fences to f from wherever they are, without making anything a truth that
// was not. In live Redis is taken for unfilled, since nobody knows what it has missed.
func realignSteps(f backends.Fence) []Step {
	switch f.Stage {
	case backends.RedisOnly, backends.Shadow:
		return []Step{redis(f), mysql(f).ifPossible(), serve(f)}
	case backends.Live:
		return []Step{redis(f).anew(), mysql(f), serve(f)}
	case backends.MySQLOnly:
		return []Step{mysql(f), redis(f).ifPossible(), serve(f)}
	default:
		return nil
	}
}

// NoReturn is the place of the first step from which on a switch is only finished, never undone: its
// last step, or one after which undoing would not be safe or would need the same stores anyway.
func NoReturn(sw Switch) int {
	switch {
	case sw.Kind == KindRealign, sw.Kind == KindInit, sw.is(backends.Shadow, backends.RedisOnly),
		sw.is(backends.Live, backends.MySQLOnly) && !sw.FromFilled:
		return 0 // one fence matters; what moves it forward is what would move it back
	case sw.is(backends.Live, backends.MySQLOnly):
		return 1 // once MySQL may be open without Redis, filled live would be a lie
	case sw.is(backends.Live, backends.Shadow):
		return 2 // drained: going on needs Redis alone, going back would need both
	case sw.Kind == KindFill:
		return 2 // once Redis may be filled a kill is possible, and MySQL must not open alone
	default:
		return len(sw.forward()) - 1
	}
}

// UndoSteps lists the steps that take a switch back to its From under UndoEpoch. Their safety at every
// point: where Redis arbitrates, before or after, it is moved first and from an expected fence,
// so a kill that came between is met there and MySQL is not touched; where MySQL decides alone it
// goes first, since a dead Redis must not stop it, and no kill is possible.
func UndoSteps(sw Switch) []Step {
	b := sw.back()
	var steps []Step
	switch {
	case sw.Kind == KindFill, sw.is(backends.MySQLOnly, backends.Live):
		steps = []Step{mysql(b), redis(b).ifPossible(), serve(b)}
	case sw.is(backends.RedisOnly, backends.Shadow), sw.is(backends.Shadow, backends.Live):
		steps = []Step{redis(b), mysql(b).ifPossible(), serve(b)}
	case sw.is(backends.Live, backends.Shadow), sw.is(backends.Live, backends.MySQLOnly):
		steps = []Step{redis(b), mysql(b), serve(b)}
	}
	return expect(steps, redisMayBe(Steps(sw), []backends.Fence{sw.RedisWas}, sw.UndoneAt))
}

// expect fills in from where each raise of Redis may start, given where Redis may be at first.
func expect(steps []Step, at []backends.Fence) []Step {
	for i := range steps {
		s := &steps[i]
		if s.Act != ActRaise || s.Side != backends.SideRedis {
			continue
		}
		s.Expect = at
		if s.BestEffort {
			at = append(slices.Clone(at), s.Fence)
		} else {
			at = []backends.Fence{s.Fence}
		}
	}
	return steps
}

// redisMayBe tells where Redis's fence may be while step i is being taken, having begun at one of at.
func redisMayBe(steps []Step, at []backends.Fence, i int) []backends.Fence {
	for j := 0; j <= i && j < len(steps); j++ {
		s := steps[j]
		if s.Act != ActRaise || s.Side != backends.SideRedis {
			continue
		}
		if j == i || s.BestEffort {
			at = append(slices.Clone(at), s.Fence)
		} else {
			at = []backends.Fence{s.Fence}
		}
	}
	return at
}

// steps are those of the direction in which the switch is going.
func (sw *Switch) steps() []Step {
	if sw.Undo {
		return UndoSteps(*sw)
	}
	return Steps(*sw)
}

// redisMayBe tells where the record allows Redis's fence to be.
func (sw *Switch) redisMayBe() []backends.Fence {
	was := []backends.Fence{sw.RedisWas}
	if !sw.Undo {
		return redisMayBe(Steps(*sw), was, sw.Step)
	}
	return redisMayBe(UndoSteps(*sw), redisMayBe(Steps(*sw), was, sw.UndoneAt), sw.Step)
}

// mayHaveOpenedMySQL tells whether the switch may have let MySQL decide where it did not before.
func (sw *Switch) mayHaveOpenedMySQL() bool {
	at := sw.Step
	if sw.Undo {
		at = sw.UndoneAt
	}
	return sw.is(backends.Shadow, backends.Live) && at >= 3
}

// CheckMove gives a *backends.FieldError when a pod in from cannot go to to in one step, with the way.
func CheckMove(from PodState, to backends.Stage) error {
	refuse := func(bound, next string) error {
		return &backends.FieldError{Field: "stage", Value: to.String(), Bound: bound, Next: next}
	}
	if to < backends.RedisOnly || to > backends.MySQLOnly {
		return refuse("redis-only, shadow, live or mysql-only", "name one of them")
	}
	if from.Stage == to {
		return refuse(fmt.Sprintf("another stage than the present one, %s", from.Stage), "nothing is to be done; see 'crossfade status "+string(from.Pod)+"'")
	}
	if from.Stage < backends.RedisOnly || from.Stage > backends.MySQLOnly {
		return refuse("a pod whose present stage is known", "see 'crossfade status "+string(from.Pod)+"'")
	}
	next := from.Stage + 1
	if to < from.Stage {
		next = from.Stage - 1
	}
	if next != to {
		return refuse(fmt.Sprintf("one step at a time, and the pod is in %s", from.Stage), fmt.Sprintf("go to %s first: 'crossfade stage %s %s --why …'", next, from.Pod, next))
	}
	if from.Stage == backends.Live && to == backends.Shadow && !from.Filled {
		return refuse("mysql-only, while Redis is still being filled", fmt.Sprintf("wait until it is filled ('crossfade status %s --watch'), or go back: 'crossfade stage %s mysql-only --why …'", from.Pod, from.Pod))
	}
	return nil
}

// OpenSwitchError: another switch of the pod is open.
type OpenSwitchError struct {
	Pod    backends.Pod
	Switch Switch
}

func (e *OpenSwitchError) Error() string {
	return fmt.Sprintf("pod %s: a switch from %s to %s by %s is open, at step %q; wait for it ('crossfade status %s --watch')", e.Pod, e.Switch.From, e.Switch.To, e.Switch.Who, e.Switch.Name, e.Pod)
}

// WorkDueError: MySQL is not what Redis is, and would become the truth.
type WorkDueError struct {
	Pod backends.Pod
	Due []Work
}

func (e *WorkDueError) Error() string {
	return fmt.Sprintf("pod %s: MySQL is not complete yet (%s); wait until that is done ('crossfade status %s --watch')", e.Pod, workNames(e.Due), e.Pod)
}

// Plan begins the record of a move, for a pod whose record agrees with its fences (see Reconcile):
// Steps(sw) are its steps. It checks what no gate may be forced past; sw is empty unless there is such a move at all.
func Plan(seen Seen, to backends.Stage) (Switch, error) {
	st := seen.State
	if st.Switch != nil {
		return Switch{}, &OpenSwitchError{Pod: st.Pod, Switch: *st.Switch}
	}
	if err := CheckMove(st, to); err != nil {
		return Switch{}, err
	}
	if b := st.Behind(st.Epoch); b != nil {
		return Switch{}, &BehindError{Pod: st.Pod, Behind: *b}
	}
	if st.Stage.Truth() == backends.SideRedis || to.Truth() == backends.SideRedis {
		// A Redis that may have lost acknowledged writes is given them back first; a move would leave them lost.
		restarted := seen.Redis.Known && seen.Redis.Fence == closed(st.Fence())
		if restarted || slices.Contains(redisWork(st, st.Fence(), seen.Redis), WorkReissue) {
			return Switch{}, &ReissueError{Pod: st.Pod, Have: seen.Redis.Fence, Want: st.Fence()}
		}
	}
	sw := seen.begin(KindMove, to)
	if to == backends.Live && st.Stage == backends.Shadow {
		if w := WorkFor(seen); len(w) > 0 {
			return sw, &WorkDueError{Pod: st.Pod, Due: w}
		}
	}
	return sw, sw.needs(seen)
}

// needs checks that the stores without which the switch would only have to be undone answer, and
// that Redis is where a switch may start.
func (sw *Switch) needs(seen Seen) error {
	for i, s := range Steps(*sw) {
		if s.Act != ActRaise || s.BestEffort {
			continue
		}
		v := seen.of(s.Side)
		if !v.Known {
			return fmt.Errorf("the fence of %s could not be read, and step %d of the switch (%s) needs it: %s: %w", s.Side, i+1, s.Name, v.Why, backends.ErrUnavailable)
		}
	}
	return nil
}

func (s Seen) of(side backends.Side) View {
	if side == backends.SideRedis {
		return s.Redis
	}
	return s.MySQL
}

// arbiterReplaced tells whether Redis was complete in live, and is another server since.
func (s Seen) arbiterReplaced() bool {
	f := s.State.Fence()
	return f.Arbitrates() && s.Redis.Known && s.Redis.Fence == closed(f)
}

// begin makes the record of a switch, at its first step, with an epoch above all that were seen.
func (s Seen) begin(k Kind, to backends.Stage) Switch {
	st := s.State
	epoch := max(st.MaxEpoch, st.Epoch, s.Redis.Fence.Epoch, s.MySQL.Fence.Epoch) + 1
	sw := Switch{
		ID: epoch, Kind: k, From: st.Stage, To: to, FromEpoch: st.Epoch, FromFilled: st.Stage == backends.Live && st.Filled,
		FromAlone: st.Alone, Epoch: epoch, RedisWas: s.Redis.Fence,
	}
	if !s.Redis.Known {
		sw.RedisWas = st.Fence() // where it should be; only moves that can do without Redis get here
	}
	sw.Complete = !slices.Contains(st.Due, WorkBackfill) && (st.Stage == backends.Shadow || s.arbiterReplaced())
	sw.Name = Steps(sw)[0].Name
	return sw
}
