package comparator

import (
	"encoding/binary"
	"hash/maphash"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Followed is one attempt to bring entries of the truth to the shadow: what whoever mirrors them hands
// over after each attempt, before anything leaves the outbox. Nothing in it is written to any more.
type Followed struct {
	// Ticket is what [Comparator.Following] gave the attempt.
	Ticket uint64
	// Epoch and Stage are those under which it was made: they say whose clocks the spans are by.
	Epoch uint64
	Stage backends.Stage
	// Shadow is when the attempt was made, by the shadow's clock.
	Shadow Span
	Items  []FollowedItem
}

// FollowedItem is one entry of an attempt.
type FollowedItem struct {
	Entry backends.Entry
	// Truth is when the truth decided it, by its own clock.
	Truth Span
	// Confirmed: the shadow has it. Otherwise it may have taken effect, then or later.
	Confirmed bool
	// Changed: it was this attempt that brought it there, and none before.
	Changed bool
}

// Step is an operation that the truth has decided and the shadow was told of, as it is recorded.
type Step struct {
	Seq     string           `json:"seq,omitempty"`
	Op      backends.Op      `json:"op"`
	Hold    backends.HoldID  `json:"hold,omitempty"`
	OpID    backends.OpID    `json:"op_id,omitempty"` // of a delta; empty for a taken sum
	Version backends.Version `json:"version"`
	// Takes are the units that it takes from what is for sale, in all, once it is done: of a hold,
	// its allocations, also those that it has given back; of a restock, less than nothing.
	Takes []backends.Units `json:"takes,omitempty"`
	// Born is when the hold was made, by the truth's clock.
	Born backends.Instant `json:"born,omitempty"`
	// Gone: the hold takes nothing any more.
	Gone   bool `json:"gone,omitempty"`
	Truth  Span `json:"truth"`
	Shadow Span `json:"shadow"`
}

// steps makes an item's records: one for a hold, up to two for a level.
func (it *FollowedItem) steps(shadow Span) []Step {
	if !it.Confirmed {
		shadow.To = Never
	} else if !it.Changed {
		shadow.From = 0
	}
	e := &it.Entry
	s := Step{Seq: e.Seq, Op: e.Op, Truth: it.Truth, Shadow: shadow}
	if e.Op == backends.OpReemit {
		s.Truth.From = 0 // emitted once more: the truth decided it at any time before
	}
	if h := e.Hold; h != nil {
		s.Hold, s.Version, s.Takes, s.Born, s.Gone = h.ID, h.Version, h.Takes(), h.CreatedAt, !h.State.Takes() || h.LedgerOwed
		return []Step{s}
	}
	l := e.Level
	if l == nil {
		return nil
	}
	var out []Step
	if l.OpID != "" && (l.OnHandDelta != 0 || l.Void) {
		d := s
		d.OpID, d.Takes = l.OpID, []backends.Units{{Key: l.Key, Quantity: -l.OnHandDelta}}
		out = append(out, d)
	}
	if l.Version != (backends.Version{}) {
		s.Version, s.Takes = l.Version, []backends.Units{{Key: l.Key, Quantity: l.Taken}}
		out = append(out, s)
	}
	return out
}

// threadID is what a step is a state of.
type threadID struct {
	hold backends.HoldID
	op   backends.OpID
	key  backends.Key // of a taken sum
}

func (s *Step) thread() threadID {
	switch {
	case s.Hold != "":
		return threadID{hold: s.Hold}
	case s.OpID != "":
		return threadID{op: s.OpID}
	case len(s.Takes) > 0:
		return threadID{key: s.Takes[0].Key}
	default:
		return threadID{}
	}
}

// before is what a thread takes before its first recorded state: each alternative; empty when that is
// not known. decided is when the truth decided what this is about: where the hold is not much older than
// that, its first states may be missing because they come later, and were overtaken.
func (s *Step) before(keys []backends.Key, decided backends.Instant) []vec {
	whole := toVec(keys, s.Takes)
	switch {
	case s.OpID != "":
		return []vec{{}}
	case s.Hold == "":
		return nil // a taken sum says nothing about the one before
	case s.Version.N == 1:
		return []vec{{}}
	case s.Truth.From == 0:
		return []vec{whole, {}} // a state that was there already, told under whatever operation met it
	case s.Born.Add(bornBefore) > decided:
		return []vec{whole, {}}
	case s.Op == backends.OpRelease, s.Op == backends.OpExpire, s.Op == backends.OpExtend:
		return []vec{whole}
	case s.Op == backends.OpClaim && s.Version.N == 2:
		return []vec{whole} // it was held: nothing else follows a hold's first state and takes no units back
	case s.Op == backends.OpClaim:
		return []vec{whole, {}} // held, or given back and claimed late
	case len(s.Takes) == 0:
		return nil // a hold that the truth does not have
	default:
		return []vec{whole, {}} // a backfill: the shadow may have anything
	}
}

func toVec(keys []backends.Key, us []backends.Units) (v vec) {
	for _, u := range us {
		if i, ok := slices.BinarySearchFunc(keys, u.Key, backends.Key.Compare); ok {
			v[i] += u.Quantity
		}
	}
	return v
}

var markSeed = maphash.MakeSeed()

// markOf is the same for the same steps, in whatever order, and for others practically never.
func markOf(steps []Step) (mark uint64) {
	var h maphash.Hash
	h.SetSeed(markSeed)
	var b []byte
	word := func(n uint64) { b = binary.LittleEndian.AppendUint64(b, n) }
	text := func(t string) { word(uint64(len(t))); b = append(b, t...) }
	for i := range steps {
		s := &steps[i]
		b = b[:0]
		text(s.Seq)
		text(string(s.Hold))
		text(string(s.OpID))
		word(s.Version.Epoch)
		word(s.Version.N)
		for _, n := range []backends.Instant{backends.Instant(s.Op), s.Born, s.Truth.From, s.Truth.To, s.Shadow.From, s.Shadow.To} {
			word(uint64(n)) //nolint:gosec // as bits
		}
		if s.Gone {
			word(1)
		}
		for _, u := range s.Takes {
			text(u.Key.String())
			word(uint64(u.Quantity)) //nolint:gosec // as bits
		}
		h.Reset()
		_, _ = h.Write(b) // it never fails (hash.Hash)
		mark += h.Sum64() | 1
	}
	return mark
}

// ref names the step in a verdict.
func (s *Step) ref(keys []backends.Key) EntryRef {
	r := EntryRef{Seq: s.Seq, Op: s.Op, Hold: s.Hold, Version: s.Version}
	for _, u := range s.Takes {
		if _, ok := slices.BinarySearchFunc(keys, u.Key, backends.Key.Compare); ok && len(r.Keys) < maxRefKeys {
			r.Keys = append(r.Keys, u.Key)
		}
	}
	return r
}

// weave makes threads of steps that touch keys: in each the states in their order, and those that
// were told more than once joined. skip is a hold that is left out.
func weave(keys []backends.Key, steps []Step, skip backends.HoldID, decided backends.Instant) []thread {
	by := map[threadID][]*Step{}
	var ids []threadID
	for i := range steps {
		s := &steps[i]
		id := s.thread()
		if id == (threadID{}) || skip != "" && s.Hold == skip {
			continue
		}
		if by[id] == nil {
			ids = append(ids, id)
		}
		by[id] = append(by[id], s)
	}
	out := make([]thread, 0, len(ids))
	for _, id := range ids {
		out = append(out, weaveOne(keys, by[id], decided))
	}
	return out
}

func weaveOne(keys []backends.Key, ss []*Step, decided backends.Instant) thread {
	slices.SortStableFunc(ss, func(a, b *Step) int {
		switch {
		case b.Version.After(a.Version):
			return -1
		case a.Version.After(b.Version):
			return 1
		default:
			return 0
		}
	})
	th := thread{base: ss[0].before(keys, decided)}
	for i, s := range ss {
		if i > 0 && ss[i-1].Version == s.Version {
			last := &th.states[len(th.states)-1]
			last.truth, last.shadow = both(last.truth, s.Truth), attempts(last.shadow, s.Shadow)
			continue
		}
		if i > 0 && s.Version.N > ss[i-1].Version.N+1 {
			th.states[len(th.states)-1].hole = true
		}
		st := state{truth: s.Truth, shadow: s.Shadow, ref: s.ref(keys)}
		if !s.Gone {
			st.takes = toVec(keys, s.Takes)
		}
		th.states = append(th.states, st)
	}
	return th
}

// both is what two accounts of one instant have in common.
func both(a, b Span) Span {
	if c := (Span{max(a.From, b.From), min(a.To, b.To)}); c.From <= c.To {
		return c
	}
	return Span{min(a.From, b.From), max(a.To, b.To)}
}

// attempts joins two attempts at one step: the earlier one that began may have done it, and by the
// earlier end of a confirmed one it was done.
func attempts(a, b Span) Span { return Span{min(a.From, b.From), min(a.To, b.To)} }
