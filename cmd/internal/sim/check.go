package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/dualwrite"
)

// backfillTime bounds the backfill at the end, in virtual time: with all well, it is over in some of its pauses.
const backfillTime = time.Minute

// quiesce ends the disturbances and lets one healthy proxy finish what is open, as it would by
// itself: learn the fences, settle, go to a stage in which both stores are complete, backfill.
func (w *world) quiesce() {
	w.faults = false
	w.s.close()
	ctx := context.Background()
	if w.orderly || w.failovers > 0 { // what still waits in lanes; nobody repairs levels before those have been tried
		for _, p := range w.proxies {
			if p.g.dead {
				continue
			}
			for lane := range 2 {
				p.pod.LaneStep(ctx, lane)
			}
		}
	}
	w.putInOrder()
	w.giveBack(ctx)
	f, _ := w.redis.Fence(ctx)
	m, _ := w.mysql.Fence(ctx)
	to := backends.Fence{Epoch: max(f.Epoch, m.Epoch) + 1, Stage: backends.Shadow, Open: true}
	if f.Stage.Truth() == backends.SideMySQL {
		to.Stage, to.Filled = backends.Live, f.Stage == backends.Live && f.Filled
	}
	settle := f.Stage.Truth() == backends.SideRedis
	to.Alone = settle && f.Alone
	_, _ = w.redis.Raise(ctx, to, 0)
	_, _ = w.mysql.Raise(ctx, to, 0)
	pod := w.healthy().pod
	if err := pod.Refresh(ctx); err != nil {
		w.fail("at the end: refresh: %v", err)
	}
	if settle {
		if _, err := pod.Settle(ctx); err != nil {
			w.fail("at the end: settle: %v", err)
		}
	}
	// What the old truth had ended for its time, and sold again, the new one ends as well.
	if _, err := w.store(to.Stage.Truth()).Expire(ctx, backends.Token{Epoch: to.Epoch}, len(w.holds)+1); err != nil {
		w.fail("at the end: expire: %v", err)
	}
	err := w.backfill(ctx, pod)
	var differ *dualwrite.LevelsDifferError
	if errors.As(err, &differ) && w.failovers > 0 {
		w.repair(ctx)
		err = w.backfill(ctx, pod)
	}
	if err != nil {
		w.fail("at the end: backfill: %v", err)
	}
	for range 10 {
		if _, saw, err := pod.SweepNow(ctx, 0); err != nil || saw == 0 {
			break
		}
	}
	w.settleListed(ctx, w.store(to.Stage.Truth()), w.store(to.Stage.Truth().Other()))
	st, _ := w.store(to.Stage.Truth()).OutboxStats(ctx)
	if st.Entries != 0 {
		w.fail("P4: %d entries never leave the outbox", st.Entries)
	}
}

func (w *world) backfill(ctx context.Context, pod *dualwrite.Pod) error {
	ends := w.s.now.Add(backfillTime)
	bounded, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := pod.Backfill(bounded, func(b dualwrite.BackfillProgress) {
		if w.s.now.After(ends) {
			cancel(fmt.Errorf("%d entries do not leave the outbox", b.Waiting))
		}
	})
	if err != nil && context.Cause(bounded) != nil {
		return fmt.Errorf("%w (%w)", err, context.Cause(bounded))
	}
	return err
}

// singly is a store with a tight outbox, into which no page of a backfill fits: each state is re-emitted
// by itself, and mirrored.
type singly struct {
	*memstore.Store
	sweep func()
}

// Reemit implements backends.Refiller.
func (s singly) Reemit(ctx context.Context, t backends.Token, ids []backends.HoldID) (written int, err error) {
	for _, id := range ids {
		n, err := s.Store.Reemit(ctx, t, []backends.HoldID{id})
		if err != nil {
			return written, err
		}
		written += n
		s.sweep()
	}
	return written, nil
}

// ReemitLevels implements backends.Refiller.
func (s singly) ReemitLevels(ctx context.Context, t backends.Token, keys []backends.Key) (written int, err error) {
	for _, k := range keys {
		n, err := s.Store.ReemitLevels(ctx, t, []backends.Key{k})
		if err != nil {
			return written, err
		}
		written += n
		s.sweep()
	}
	return written, nil
}

// check judges the schedule.
func (w *world) check() {
	ctx := context.Background()
	f, _ := w.redis.Fence(ctx)
	truth := w.store(f.Stage.Truth())
	shadow := w.store(f.Stage.Truth().Other())
	tl := w.compareLevels(ctx, truth, shadow)
	w.compareHolds(ctx, truth, shadow)
	for side, st := range map[string]backends.Store{"truth": truth, "shadow": shadow} {
		broken, _, err := st.Conservation(ctx)
		if err != nil || len(broken) > 0 {
			w.fail("P2: at the end the %s is out of balance: %+v %v", side, broken, err)
		}
	}
	w.checkOps(ctx, truth)
	w.checkBehind(ctx, truth)
	w.checkTotals(ctx, truth, tl)
	w.checkSoldOuts()
	w.checkCounts()
	for id, n := range w.counted {
		if n > 1 && w.failovers == 0 { // an entry that a failover brings back is mirrored again
			w.fail("P6: the grant of %s was counted %d times", id, n)
		}
	}
	if ends := w.observed + w.sampledOut + w.lost; w.orderly && w.begun != ends {
		w.fail("P6: %d decisions were begun, and %d observed, %d sampled out, %d lost", w.begun, w.observed, w.sampledOut, w.lost)
	}
}

func (w *world) compareLevels(ctx context.Context, truth, shadow backends.Store) []backends.Level {
	a, _ := truth.Levels(ctx, keys[:])
	b, _ := shadow.Levels(ctx, keys[:])
	if len(a) != len(b) {
		w.fail("P7: %d levels in the truth, %d in the shadow", len(a), len(b))
		return a
	}
	for i := range a {
		x, y := a[i], b[i]
		if x.Key != y.Key || x.OnHand != y.OnHand || x.Sellable() != y.Sellable() || x.Held != y.Held || x.Taken != y.Taken {
			w.fail("P7: the levels differ at the end:\n  truth  %+v\n  shadow %+v", x, y)
		}
	}
	return a
}

func (w *world) compareHolds(ctx context.Context, truth, shadow backends.Store) {
	for _, id := range w.holds {
		a, _ := truth.Get(ctx, id)
		b, _ := shadow.Get(ctx, id)
		as, bs := backends.StateUnknown, backends.StateUnknown
		if a != nil {
			as = a.State
		}
		if b != nil {
			bs = b.State
		}
		// A hold that ended before the shadow first heard of it has no footprint anywhere.
		quiet := func(s backends.State) bool {
			return s == backends.StateUnknown || s == backends.Released || s == backends.Expired
		}
		// Reserved and claimed in mysql-only: its deduction travelled in the level's Owed.
		owed := a != nil && a.LedgerOwed && quiet(bs) || b != nil && b.LedgerOwed && quiet(as)
		if as != bs && !(quiet(as) && quiet(bs)) && !owed {
			w.fail("P4: hold %s is %s in the truth and %s in the shadow", id, as, bs)
		}
	}
}

// seen is what the clients know of a hold.
type seen struct {
	granted, claimed, released            bool
	triedClaim, triedRelease, soldOutOnly bool
}

func (w *world) checkOps(ctx context.Context, truth backends.Store) {
	all := map[backends.HoldID]*seen{}
	for _, o := range w.ops {
		if o.hold == "" {
			continue
		}
		s := all[o.hold]
		if s == nil {
			s = &seen{soldOutOnly: true}
			all[o.hold] = s
		}
		known := o.ended && o.err == nil
		switch o.kind {
		case backends.OpReserve:
			s.granted = s.granted || known && o.outcome == backends.OutcomeGranted
			s.soldOutOnly = s.soldOutOnly && known && o.outcome == backends.OutcomeSoldOut
		case backends.OpClaim:
			s.triedClaim = true
			s.claimed = s.claimed || known && o.outcome == backends.OutcomeClaimed
		case backends.OpRelease:
			s.triedRelease = true
			s.released = s.released || known && o.outcome == backends.OutcomeReleased
		default:
		}
	}
	for id, s := range all {
		if _, lost := w.lostHolds[id]; lost && (w.forgiven(string(id)) || w.listedHolds[id]) {
			continue // nobody has it
		}
		h, _ := truth.Get(ctx, id)
		if h == nil {
			// It began and ended under a single store and has no footprint any more: backfill
			// carries open holds only. The store that decided it still knows it.
			if h, _ = w.store(truth.Side().Other()).Get(ctx, id); h != nil && !h.State.Ended() {
				h = nil
			}
		}
		st := backends.StateUnknown
		if h != nil {
			st = h.State
		}
		switch {
		case s.claimed && st != backends.Claimed:
			w.fail("P4: hold %s was acknowledged as claimed and is %s", id, st)
		case w.behind.excused[id]:
			// A kill has said that Redis does not have it as it was acknowledged.
		case s.released && !s.triedClaim && st != backends.Released && !w.endedAgain(st):
			w.fail("P4: hold %s was acknowledged as released and is %s", id, st)
		case s.granted && st == backends.StateUnknown:
			w.fail("P4: hold %s was acknowledged as granted and is gone", id)
		case s.granted && st == backends.Claimed && !s.triedClaim, s.granted && st == backends.Released && !s.triedRelease:
			w.fail("P4: hold %s was granted, nobody asked for it, and it is %s", id, st)
		}
	}
}

// endedAgain tells whether a hold that was released may have expired as well: Redis had lost the release in a failover, and decided
// again before it could be restored, since MySQL did not answer meanwhile; then the hold's time came. Either is an end without a
// sale, and all that follows is answered alike.
func (w *world) endedAgain(s backends.State) bool { return w.failovers > 0 && s == backends.Expired }

// unaccountable tells whether a failover has lost something at a key, or may have made a count twice that was decided
// again between a kill and its settling (docs/limits.md).
func (w *world) unaccountable(k backends.Key) bool {
	counted := slices.ContainsFunc(w.ops, func(o *op) bool { return o.kind == backends.OpCount && keys[o.key] == k })
	return w.lostAt(k) || w.failovers > 0 && w.kills > 0 && counted
}

// promise is what an apology is of; the list of them keeps the larger number of units.
type promise struct {
	hold backends.HoldID
	key  backends.Key
}

type promises map[promise]int64

func (l promises) file(as []backends.Apology) {
	for _, a := range as {
		p := promise{a.Hold, a.Key}
		l[p] = max(l[p], a.Quantity)
	}
}

// apologised are the units that may be short, by key: that was filed, by a store or by a proxy that gave back what a
// failover had lost, or settled what a kill had left.
func (w *world) apologised(ctx context.Context) map[backends.Key]int64 {
	all := maps.Clone(w.sorry)
	for _, s := range []*memstore.Store{w.redis, w.mysql} {
		as, _, _ := s.Apologies(ctx, "", backends.MaxPage)
		all.file(as)
	}
	out := map[backends.Key]int64{}
	for p, n := range all {
		out[p.key] += n
	}
	return out
}

// soldAt is what claims have taken at a key.
func (w *world) soldAt(ctx context.Context, truth backends.Store, k backends.Key) int64 {
	var sold int64
	for _, id := range w.holds {
		h, _ := truth.Get(ctx, id)
		if h == nil { // as in checkOps
			h, _ = w.store(truth.Side().Other()).Get(ctx, id)
		}
		if h != nil && h.State == backends.Claimed {
			for _, u := range h.Takes() {
				if u.Key == k {
					sold += u.Quantity
				}
			}
		}
	}
	return sold
}

// checkTotals: what was ever there = what is there + what was sold, per key.
func (w *world) checkTotals(ctx context.Context, truth backends.Store, levels []backends.Level) {
	apologised := w.apologised(ctx)
	for i, k := range keys {
		overdrawn := w.behind.incomplete > 0
		lo, hi := w.initial[i], w.initial[i]
		for _, o := range w.ops {
			if o.hold != "" || o.key != i {
				continue
			}
			// An INCR that nobody was told of is void after a kill, and others may have been granted what it had brought.
			overdrawn = overdrawn || o.delta < 0 || o.kind == backends.OpCount && o.delta > 0 && !(o.ended && o.err == nil)
			if o.ended && o.err == nil && !o.listed {
				lo, hi = lo+o.delta, hi+o.delta
			} else {
				lo, hi = lo+min(0, o.delta), hi+max(0, o.delta)
			}
		}
		sold := w.soldAt(ctx, truth, k)
		at := slices.IndexFunc(levels, func(l backends.Level) bool { return l.Key == k })
		if at < 0 {
			w.fail("P4: level %s is gone", k)
			continue
		}
		l := levels[at]
		if w.unaccountable(k) {
			continue
		}
		if total := l.OnHand - l.Taken + sold; total < lo || total > hi {
			w.fail("P4: at %s %d units are accounted for, between %d and %d were put in (%+v, %d sold)", k, total, lo, hi, l, sold)
		}
		if !overdrawn && -l.Sellable() > apologised[k] {
			w.fail("P2: %s is oversold by %d, and there are apologies for %d", k, -l.Sellable(), apologised[k])
		}
	}
}

// checkSoldOuts: at some instant of each call that was refused, the store that was the truth then
// had too little for the whole cart.
func (w *world) checkSoldOuts() {
	for _, o := range w.ops {
		if !o.ended || o.err != nil || o.kind != backends.OpReserve || o.outcome != backends.OutcomeSoldOut {
			continue
		}
		ok := false
		for _, in := range w.hist[max(0, o.start):min(o.end+1, len(w.hist))] {
			if in.truth == backends.SideUnknown {
				continue
			}
			for i, q := range o.want {
				ok = ok || q > 0 && in.sellable[i] < q
			}
		}
		if !ok {
			w.fail("P3: %s was refused %v between steps %d and %d although it was there all the time", o.hold, o.want, o.start, o.end)
		}
	}
}

// checkCounts: what a count was answered was for sale at some instant of its call, in the store that
// was the truth then.
func (w *world) checkCounts() {
	for _, o := range w.ops {
		if !o.ended || o.err != nil || o.kind != backends.OpCount {
			continue
		}
		during := w.hist[max(0, o.start):min(o.end+1, len(w.hist))]
		if !slices.ContainsFunc(during, func(in instant) bool { return in.answers(o.key, o.value) }) {
			w.fail("P4: a count of %+d at %s answered %d, which was never for sale between steps %d and %d", o.delta, keys[o.key], o.value, o.start, o.end)
		}
	}
}

// Result of one schedule.
type Result struct {
	Seed     uint64
	Steps    int
	Ops      int
	Crashes  int
	Kills    int
	Switches int
	// Alone are answers that were given without Redis, Behind kills of pods that were marked, Listed those of them that had
	// something to list.
	Alone, Behind, Listed int
	Failure               string // empty when every promise held
}

// Run plays one schedule.
func Run(seed uint64) Result { return Replay(seed, nil) }

// Replay plays one schedule and writes each call of a store to trace, when it is not nil.
func Replay(seed uint64, trace func(string)) Result {
	var pool coroutines
	defer pool.close()
	return play(seed, trace, &pool)
}

func play(seed uint64, trace func(string), pool *coroutines) (r Result) {
	w := newWorld(seed, pool)
	w.s.trace = trace
	defer func() {
		if e := recover(); e != nil {
			r.Seed, r.Failure = seed, fmt.Sprintf("panic: %v", e)
		}
	}()
	w.setUp()
	w.play()
	ended := w.s.run(maxSteps)
	w.orderly = ended && w.crashes == 0 && w.faultPct == 0 && w.failovers == 0
	w.quiesce()
	if w.failure == "" {
		w.check()
	}
	return Result{Seed: seed, Steps: w.s.steps, Ops: len(w.ops), Crashes: w.crashes, Kills: w.kills, Switches: w.switches, Alone: w.aloneAnswers(), Behind: w.behind.marked, Listed: w.behind.incomplete, Failure: w.failure}
}
