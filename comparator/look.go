package comparator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// TruthReader is what is read of a truth. Every backends.Store is one.
type TruthReader interface {
	backends.Inspector
	backends.Outbox
	Now(ctx context.Context) (backends.Instant, error)
}

// Pair is the two stores of a pod in the roles that a stage gives them.
type Pair struct {
	Stage backends.Stage
	// Epoch at which it is so; 0 when it is not known.
	Epoch  uint64
	Truth  TruthReader
	Shadow backends.Inspector
	// Unsure says why nothing can be concluded from the stores at present, such as that the shadow is being
	// filled; "" when something can.
	Unsure string
	// SureSince is since when it is empty, by the local clock: while the shadow was being filled it lacked states
	// of which nobody told it, so that decisions from before can not be proven either way.
	SureSince time.Time
}

// ErrNoPair: the pod serves no stage in which two stores could be compared.
var ErrNoPair = errors.New("the pod has no truth and shadow to compare at present")

// NewStoreRechecker looks through the stores' ports. pair answers the pod's present roles and is
// asked before and after each look, so that a look across a change of stage concludes nothing; now
// is the local clock. Its Recheck fails when a store cannot be read.
func NewStoreRechecker(pair func() (Pair, error), now func() time.Time) *StoreRechecker {
	return &StoreRechecker{pair: pair, now: now}
}

// StoreRechecker is the [Rechecker] over the stores' ports.
type StoreRechecker struct {
	pair func() (Pair, error)
	now  func() time.Time
}

// Recheck implements [Rechecker].
func (r *StoreRechecker) Recheck(ctx context.Context, keys []backends.Key, holds []backends.HoldID) (Evidence, error) {
	p, err := r.pair()
	if err != nil {
		return Evidence{}, err
	}
	ev, err := Look(ctx, p, keys, holds, r.now())
	if err != nil {
		return Evidence{}, err
	}
	after, err := r.pair()
	if err != nil {
		return Evidence{}, err
	}
	if after.Stage != p.Stage && ev.Unsure == "" {
		ev.Unsure = fmt.Sprintf("the pod went from %s to %s during the look", p.Stage, after.Stage)
	}
	ev.Unsure = cmp.Or(ev.Unsure, after.Unsure)
	return ev, nil
}

// Look takes one look at keys and holds, each read in batches of at most backends.MaxPage. at is the
// local time now.
func Look(ctx context.Context, p Pair, keys []backends.Key, holds []backends.HoldID, at time.Time) (Evidence, error) {
	if p.Truth == nil || p.Shadow == nil {
		return Evidence{}, ErrNoPair
	}
	w := waiting{keys: make(map[backends.Key]int, len(keys)), holds: make(map[backends.HoldID]int, len(holds))}
	for _, k := range keys {
		w.keys[k] = 0
	}
	for _, h := range holds {
		w.holds[h] = 0
	}
	ev := Evidence{At: at, Stage: p.Stage, SureSince: p.SureSince}
	before, err := w.read(ctx, p.Truth, true)
	if err != nil {
		return ev, fmt.Errorf("reading the truth's outbox: %w", err)
	}
	tk1, th1, err := facts(ctx, p.Truth, keys, holds)
	if err != nil {
		return ev, fmt.Errorf("reading the truth: %w", err)
	}
	sk1, sh1, err := facts(ctx, p.Shadow, keys, holds)
	if err != nil {
		return ev, fmt.Errorf("reading the shadow: %w", err)
	}
	tk2, th2, err := facts(ctx, p.Truth, keys, holds)
	if err != nil {
		return ev, fmt.Errorf("reading the truth again: %w", err)
	}
	sk2, _, err := facts(ctx, p.Shadow, keys, nil)
	if err != nil {
		return ev, fmt.Errorf("reading the shadow again: %w", err)
	}
	after, err := w.read(ctx, p.Truth, false)
	if err != nil {
		return ev, fmt.Errorf("reading the truth's outbox again: %w", err)
	}
	ev.Unsure = cmp.Or(p.Unsure, before.unsure, after.unsure)
	ev.Pending = before.refs
	ev.Keys = make(map[backends.Key]KeyEvidence, len(keys))
	for _, k := range keys {
		ev.Keys[k] = KeyEvidence{
			TruthBefore: tk1[k], TruthAfter: tk2[k], ShadowBefore: sk1[k], ShadowAfter: sk2[k],
			PendingBefore: before.keys[k] + before.any, PendingAfter: after.keys[k] + after.any,
			Oldest: before.oldestAt(k),
		}
	}
	ev.Holds = make(map[backends.HoldID]HoldEvidence, len(holds))
	for _, h := range holds {
		ev.Holds[h] = HoldEvidence{
			TruthBefore: th1[h], TruthAfter: th2[h], Shadow: sh1[h],
			PendingBefore: before.holds[h], PendingAfter: after.holds[h],
		}
	}
	return ev, nil
}

// facts reads levels and holds of one store.
func facts(ctx context.Context, s backends.Inspector, keys []backends.Key, holds []backends.HoldID) (map[backends.Key]*backends.Level, map[backends.HoldID]*backends.Hold, error) {
	levels := make(map[backends.Key]*backends.Level, len(keys))
	for part := range slices.Chunk(keys, backends.MaxPage) {
		ls, err := s.Levels(ctx, part)
		if err != nil {
			return nil, nil, err
		}
		for i := range ls {
			levels[ls[i].Key] = &ls[i]
		}
	}
	known := make(map[backends.HoldID]*backends.Hold, len(holds))
	for part := range slices.Chunk(holds, backends.MaxPage) {
		m, err := s.GetMany(ctx, part)
		if err != nil {
			return nil, nil, err
		}
		for id, h := range m {
			known[id] = h
		}
	}
	return levels, known, nil
}

// waiting is what one reading of an outbox says about the keys and holds that are asked for.
type waiting struct {
	keys  map[backends.Key]int
	holds map[backends.HoldID]int
	// any counts entries that may move keys that they do not name (a voided hold).
	any int
	// oldest is when the truth decided the oldest entry at a key; 0 when one of them does not say.
	oldest map[backends.Key]backends.Instant
	unsure string
	refs   []EntryRef
}

func (w *waiting) oldestAt(k backends.Key) backends.Instant {
	if w.any > 0 {
		return 0
	}
	return w.oldest[k]
}

// read reads the outbox into a copy of w's shape; w itself only says what is asked for.
func (w *waiting) read(ctx context.Context, o backends.Outbox, keep bool) (waiting, error) {
	out := waiting{keys: map[backends.Key]int{}, oldest: map[backends.Key]backends.Instant{}, holds: map[backends.HoldID]int{}}
	st, err := o.OutboxStats(ctx)
	if err != nil {
		return out, err
	}
	if st.Lost {
		out.unsure = "the outbox has dropped entries: the shadow is not complete before a backfill"
	}
	if st.Entries > MaxPendingScan {
		out.unsure = fmt.Sprintf("%s entries are waiting in the outbox, more than a look reads", group(st.Entries))
		return out, nil
	}
	for after, n := "", 0; ; {
		es, err := o.Pending(ctx, after, 0, pendingPage)
		if err != nil {
			return out, err
		}
		for i := range es {
			w.note(&out, &es[i], keep)
		}
		if len(es) < pendingPage {
			return out, nil
		}
		if n += len(es); n >= MaxPendingScan {
			out.unsure = fmt.Sprintf("more than %s entries are waiting in the outbox, more than a look reads", group(MaxPendingScan))
			return out, nil
		}
		after = es[len(es)-1].Seq
	}
}

func (w *waiting) note(out *waiting, e *backends.Entry, keep bool) {
	r := EntryRef{Seq: e.Seq, Op: e.Op}
	if e.Level != nil {
		r.Version = e.Level.Version
	}
	ks := e.Keys()
	hit := len(ks) == 0
	if hit {
		out.any++
	}
	for _, k := range ks {
		if _, asked := w.keys[k]; asked {
			if at, seen := out.oldest[k]; !seen || e.At < at {
				out.oldest[k] = e.At
			}
			out.keys[k]++
			hit = true
			if len(r.Keys) < maxRefKeys {
				r.Keys = append(r.Keys, k)
			}
		}
	}
	if e.Hold != nil {
		r.Hold, r.Version = e.Hold.ID, e.Hold.Version
		if _, asked := w.holds[e.Hold.ID]; asked {
			out.holds[e.Hold.ID]++
			hit = true
		}
	}
	if hit && keep && len(out.refs) < maxLookRefs {
		out.refs = append(out.refs, r)
	}
}
