package comparator

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
)

// mug is the key at which these histories happen.
var mug = backends.Key{Shop: "s", Item: "mug", Location: "A"}

func at(i backends.Instant) Span { return Span{i, i} }

func holdStep(op backends.Op, hold string, n uint64, qty int64, truth, shadow Span) Step {
	return Step{Seq: fmt.Sprint(hold, n), Op: op, Hold: backends.HoldID(hold), Version: backends.Version{Epoch: 1, N: n},
		Takes: []backends.Units{{Key: mug, Quantity: qty}}, Gone: op == backends.OpRelease || op == backends.OpExpire, Born: -100_000, Truth: truth, Shadow: shadow}
}

// young makes it a step of a hold that was made when the decision was.
func young(s Step) Step {
	s.Born = 99
	return s
}

// wants is an observation of a reserve of one mug: what each store saw, and when.
func wants(truth, shadow int64, tat, sat Span) (*Observation, *Judgement) {
	answer := func(n int64) Answer {
		a := Answer{Outcome: backends.OutcomeGranted, Allocs: []backends.Allocation{{Location: "A", Quantity: 1}}, Seen: []backends.Units{{Key: mug, Quantity: n}}}
		if n < 1 {
			a = Answer{Outcome: backends.OutcomeSoldOut, Short: []backends.Shortage{{Item: "mug", Wanted: 1}}, Seen: a.Seen}
		}
		return a
	}
	s := answer(shadow)
	return &Observation{Op: backends.OpReserve, Stage: backends.Shadow, Hold: "this", Shop: "s", Lines: []backends.Line{{Item: "mug", Quantity: 1, Locations: []backends.Location{"A"}}},
		Truth: answer(truth), Shadow: &backends.OwnDecision{Outcome: s.Outcome, Allocs: s.Allocs, Short: s.Short, Seen: s.Seen},
		TruthSpan: tat, ShadowSpan: sat}, &Judgement{Verdict: VerdictDiverged, Keys: []backends.Key{mug}}
}

func TestFindOrder(t *testing.T) {
	// The truth decides at 100, the shadow within 200 to 210.
	cases := []struct {
		name          string
		truth, shadow int64
		steps         []Step
		want          Found
		behind, ahead int
		change        func(*Observation)
	}{
		{name: "a release that the shadow had not followed yet explains its refusal", truth: 1, shadow: 0,
			steps: []Step{holdStep(backends.OpRelease, "a", 2, 1, at(90), Span{205, 215})}, want: FoundOrder, behind: 1},
		{name: "one that it had followed for sure does not", truth: 1, shadow: 0,
			steps: []Step{holdStep(backends.OpRelease, "a", 2, 1, at(90), Span{150, 160})}, want: FoundNone},
		{name: "nor one that was decided later", truth: 1, shadow: 0,
			steps: []Step{holdStep(backends.OpRelease, "a", 2, 1, at(110), Span{205, 215})}, want: FoundNone},
		{name: "a reserve that was decided later and followed before explains it", truth: 1, shadow: 0,
			steps: []Step{holdStep(backends.OpReserve, "b", 1, 1, at(110), Span{150, 160})}, want: FoundOrder, ahead: 1},
		{name: "of another quantity it does not", truth: 5, shadow: 0,
			steps: []Step{holdStep(backends.OpReserve, "b", 1, 2, at(110), Span{150, 160})}, want: FoundNone},
		{name: "two together do", truth: 5, shadow: 0, steps: []Step{
			holdStep(backends.OpReserve, "b", 1, 2, at(110), Span{150, 160}), holdStep(backends.OpReserve, "c", 1, 3, at(120), Span{205, 206})}, want: FoundOrder, ahead: 2},
		{name: "no operation at all", truth: 1, shadow: 0, want: FoundNone},
		{name: "a hold's states count once: taken and given back while on its way", truth: 0, shadow: 1, steps: []Step{
			holdStep(backends.OpReserve, "a", 1, 1, at(80), at(150)), holdStep(backends.OpRelease, "a", 2, 1, at(110), at(160))}, want: FoundOrder, ahead: 1},
		{name: "a release that overtakes its reserve leaves nothing", truth: 0, shadow: 1, steps: []Step{
			holdStep(backends.OpReserve, "a", 1, 1, at(80), at(300)), holdStep(backends.OpRelease, "a", 2, 1, at(110), at(160))}, want: FoundOrder, ahead: 1},
		{name: "a release that overtook its reserve, both decided later, adds nothing", truth: 0, shadow: 1,
			steps: []Step{young(holdStep(backends.OpRelease, "a", 2, 1, at(110), at(150))), holdStep(backends.OpReserve, "b", 1, 1, at(90), at(300))}, want: FoundOrder, behind: 1, ahead: 1},
		{name: "of a hold with a state that is not recorded nothing is known", truth: 1, shadow: 0, steps: []Step{
			holdStep(backends.OpReserve, "a", 1, 1, at(80), at(90)), holdStep(backends.OpClaim, "a", 3, 1, at(90), at(300))}, want: FoundNothing},
		{name: "nor by an order of the others", truth: 1, shadow: 0, steps: []Step{
			holdStep(backends.OpReserve, "a", 1, 1, at(80), at(90)), holdStep(backends.OpClaim, "a", 3, 1, at(90), at(300)),
			holdStep(backends.OpReserve, "b", 1, 1, at(110), at(150))}, want: FoundNothing},
		{name: "a missing state that both had left behind does not matter", truth: 1, shadow: 0, steps: []Step{
			holdStep(backends.OpReserve, "a", 1, 1, at(10), at(20)), holdStep(backends.OpExtend, "a", 3, 1, at(30), at(40)),
			holdStep(backends.OpRelease, "a", 4, 1, at(90), at(300))}, want: FoundOrder, behind: 1},
		{name: "a release that is told under another operation: the hold had taken its units before", truth: 1, shadow: 0,
			steps: []Step{{Op: backends.OpReserve, Hold: "a", Version: backends.Version{Epoch: 1, N: 2}, Takes: []backends.Units{{Key: mug, Quantity: 1}},
				Gone: true, Born: -100_000, Truth: Span{0, Never}, Shadow: Span{205, 215}}}, want: FoundOrder, behind: 1},
		{name: "an attempt whose end is not known may have been followed", truth: 1, shadow: 0,
			steps: []Step{holdStep(backends.OpReserve, "b", 1, 1, at(110), Span{150, Never})}, want: FoundOrder, ahead: 1},
		{name: "a claim of what was held takes nothing", truth: 1, shadow: 0,
			steps: []Step{holdStep(backends.OpClaim, "a", 2, 1, at(110), at(150))}, want: FoundNone},
		{name: "a late claim may", truth: 1, shadow: 0,
			steps: []Step{holdStep(backends.OpClaim, "a", 3, 1, at(110), at(150))}, want: FoundOrder, ahead: 1},
		{name: "a restock on its way", truth: 4, shadow: 0,
			steps: []Step{{Op: backends.OpRestock, OpID: "r", Takes: []backends.Units{{Key: mug, Quantity: -4}}, Truth: at(90), Shadow: at(300)}}, want: FoundOrder, behind: 1},
		{name: "a taken sum whose predecessor is not known proves nothing", truth: 1, shadow: 0,
			steps: []Step{{Op: backends.OpCount, Version: backends.Version{Epoch: 1, N: 7}, Takes: []backends.Units{{Key: mug, Quantity: 1}}, Truth: at(90), Shadow: at(300)}}, want: FoundNothing},
		{name: "the decision's own hold is left out", truth: 1, shadow: 0,
			steps: []Step{holdStep(backends.OpReserve, "this", 1, 1, at(100), Span{200, 210})}, want: FoundNone},
		{name: "debt sells as little as nothing does", truth: 1, shadow: -3,
			steps: []Step{holdStep(backends.OpReserve, "b", 1, 1, at(110), at(150))}, want: FoundOrder, ahead: 1},
		{name: "a store that did not say what it saw has to answer as it did", truth: 1, shadow: 0, change: func(o *Observation) { o.Truth.Seen = nil },
			steps: []Step{holdStep(backends.OpReserve, "b", 1, 1, at(110), at(150))}, want: FoundOrder, ahead: 1},
		{name: "and cannot where nothing overlaps", truth: 1, shadow: 0, change: func(o *Observation) { o.Truth.Seen = nil }, want: FoundNone},
		{name: "neither said", truth: 1, shadow: 0, change: func(o *Observation) { o.Truth.Seen, o.Shadow.Seen = nil, nil }, want: FoundNothing},
		{name: "when is not known", truth: 1, shadow: 0, change: func(o *Observation) { o.TruthSpan = Span{} }, want: FoundNothing},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o, j := wants(c.truth, c.shadow, at(100), Span{200, 210})
			if c.change != nil {
				c.change(o)
			}
			got := FindOrder(o, j, c.steps)
			if got.Found != c.want || got.Behind != c.behind || got.Ahead != c.ahead {
				t.Errorf("%s, want %s: %+v", got.Found, c.want, got)
			}
		})
	}
}

func TestTooLargeASearchSaysSo(t *testing.T) {
	o, j := wants(0, 1, at(100), Span{200, 210})
	var steps []Step
	for i := range 25 { // each subset has another sum, and none an odd one
		steps = append(steps, holdStep(backends.OpReserve, fmt.Sprint("h", i), 1, 2<<i, Span{90, 110}, Span{190, 220}))
	}
	if got := FindOrder(o, j, steps); got.Found != FoundTooLarge || got.Why == "" {
		t.Errorf("%+v", got)
	}
	steps = nil
	for i := range maxSearchSteps + 1 {
		steps = append(steps, holdStep(backends.OpReserve, fmt.Sprint("h", i), 1, 1, at(110), at(150)))
	}
	if got := FindOrder(o, j, steps); got.Found != FoundTooLarge {
		t.Errorf("%+v", got)
	}
}

// A store may read a cart of many keys in parts: no single instant has to fit all of its lines, but one has to
// fit each.
func TestOfALargeCartEachLineIsSearchedForOnItsOwn(t *testing.T) {
	cup := backends.Key{Shop: "s", Item: "cup", Location: "A"}
	cart := func(lines int) (*Observation, *Judgement) {
		o, j := wants(1, 0, at(100), Span{200, 210})
		o.Lines = append(o.Lines, backends.Line{Item: "cup", Quantity: 1, Locations: []backends.Location{"A"}})
		for i := range lines {
			o.Lines = append(o.Lines, backends.Line{Item: backends.Item(fmt.Sprint("i", i)), Quantity: 1, Locations: []backends.Location{"A"}})
		}
		o.Shadow.Short = append(o.Shadow.Short, backends.Shortage{Line: 1, Item: "cup", Wanted: 1})
		o.Truth.Seen, o.Shadow.Seen = append(o.Truth.Seen, backends.Units{Key: cup, Quantity: 1}), append(o.Shadow.Seen, backends.Units{Key: cup})
		j.Keys = []backends.Key{cup, mug}
		return o, j
	}
	// The mug was taken in the shadow from 201 on, and the cup came back at 203: at no instant were both sold out.
	taken := holdStep(backends.OpReserve, "a", 1, 1, at(110), at(204))
	back := holdStep(backends.OpRelease, "b", 2, 1, at(90), at(203))
	back.Takes = []backends.Units{{Key: cup, Quantity: 1}}
	for lines, want := range map[int]Found{0: FoundNone, maxCartKeys: FoundOrder} {
		o, j := cart(lines)
		if got := FindOrder(o, j, []Step{taken, back}); got.Found != want {
			t.Errorf("%d lines more: %+v", lines, got)
		}
	}
	o, j := cart(maxCartKeys)
	if got := FindOrder(o, j, []Step{taken}); got.Found != FoundNone {
		t.Errorf("a line that nothing explains: %+v", got)
	}
}

func BenchmarkSearch(b *testing.B) {
	for _, n := range []int{30, 300, 3000} {
		b.Run(fmt.Sprint("operations ", n), func(b *testing.B) {
			o, j := wants(0, 1, at(100), Span{200, 260}) // no sum is odd
			var steps []Step
			for i := range n {
				steps = append(steps, holdStep(backends.OpReserve, fmt.Sprint("h", i), 1, 2, Span{90, 110}, Span{backends.Instant(150 + i%60), backends.Instant(200 + i%60)}))
			}
			b.ReportAllocs()
			for b.Loop() {
				FindOrder(o, j, steps)
			}
		})
	}
}

// The taken sum of a busy counter has many thousand states, of which few stand between the decisions.
func TestALongThreadIsTrimmed(t *testing.T) {
	o, j := wants(600, 0, at(100_000), at(101_000))
	var steps []Step
	for i := range backends.Instant(maxSearchSteps) {
		steps = append(steps, Step{Op: backends.OpCount, Version: backends.Version{Epoch: 1, N: uint64(i) + 1}, //nolint:gosec // it counts up
			Takes: []backends.Units{{Key: mug, Quantity: int64(i)}}, Truth: at(10 * i), Shadow: at(10*i + 7000)})
	}
	// At 100,000 the truth had counted to 10,000 (or was about to), at 101,000 the shadow to 9,400: it has 600 more.
	got := FindOrder(o, j, steps)
	if got.Found != FoundNone {
		t.Errorf("a shadow that has nothing: %+v", got)
	}
	o, j = wants(0, 600, at(100_000), at(101_000))
	if got := FindOrder(o, j, steps); got.Found != FoundOrder || got.Behind < 599 || got.Behind > 601 {
		t.Errorf("a shadow that has 600 more: %s, %d behind", got.Found, got.Behind)
	}
}

// An operation that may have stood anywhere among many states is given up, and does not keep the judge busy.
func TestAThreadOfManyChoicesIsTooLarge(t *testing.T) {
	o, j := wants(1, 0, at(100_000), at(101_000))
	var steps []Step
	for i := range backends.Instant(maxSearchSteps) {
		steps = append(steps, Step{Op: backends.OpCount, Version: backends.Version{Epoch: 1, N: uint64(i) + 1}, //nolint:gosec // it counts up
			Takes: []backends.Units{{Key: mug, Quantity: int64(i)}}, Truth: Span{1, Never}, Shadow: Span{1, Never}})
	}
	if got := FindOrder(o, j, steps); got.Found != FoundTooLarge {
		t.Errorf("%+v", got)
	}
}

// What a backfill emits once more was reached at any time before.
func TestWhatIsEmittedOnceMoreWasReachedBefore(t *testing.T) {
	h := &backends.Hold{ID: "a", Shop: "s", Lines: []backends.Line{{Item: "mug", Quantity: 1, Locations: []backends.Location{"A"}}},
		Allocs: []backends.Allocation{{Location: "A", Quantity: 1}}, State: backends.Released, Version: backends.Version{Epoch: 2, N: 2}}
	it := FollowedItem{Entry: backends.Entry{Op: backends.OpReemit, At: 300, Hold: h}, Truth: at(300), Confirmed: true, Changed: true}
	o, j := wants(1, 0, at(100), Span{200, 210}) // the truth had released it by then, and nobody had told the shadow
	if got := FindOrder(o, j, it.steps(at(310))); got.Found != FoundOrder {
		t.Errorf("%+v", got)
	}
}

func TestWhatDoesNotOverlapIsLeftOut(t *testing.T) {
	o, j := wants(1, 0, at(100), Span{200, 210})
	got := FindOrder(o, j, []Step{
		holdStep(backends.OpReserve, "long ago", 1, 1, at(10), at(20)), holdStep(backends.OpReserve, "later", 1, 1, at(300), at(310)),
		holdStep(backends.OpReserve, "given back", 1, 1, at(10), at(20)), holdStep(backends.OpRelease, "given back", 2, 1, at(90), at(205)),
	})
	if got.Found != FoundOrder || got.Steps != 2 || got.Behind != 1 {
		t.Errorf("%+v", got)
	}
}

// small is a random history on one or two keys, with spans that overlap.
type small struct {
	h    history
	want vec
}

func drawSmall(t *rapid.T) small {
	span := func(what string, from int) Span {
		f := rapid.IntRange(from, 6).Draw(t, what)
		return Span{backends.Instant(f), backends.Instant(f + rapid.IntRange(0, 2).Draw(t, "wide"))}
	}
	draw := func(what string) (v vec) {
		v[0] = rapid.Int64Range(-2, 3).Draw(t, what)
		if rapid.Bool().Draw(t, "both keys") {
			v[1] = rapid.Int64Range(0, 2).Draw(t, what)
		}
		return v
	}
	s := small{want: draw("want")}
	s.h.truth, s.h.shadow = span("truth", 2), span("shadow", 2)
	for range rapid.IntRange(0, 4).Draw(t, "threads") {
		th := thread{base: []vec{draw("base")}}
		last := state{}
		for range rapid.IntRange(1, 2).Draw(t, "states") {
			st := state{takes: draw("takes"), truth: span("decided", 0), shadow: span("followed", 0)}
			st.truth.From, st.truth.To = max(st.truth.From, last.truth.From), max(st.truth.To, last.truth.To)
			th.states = append(th.states, st)
			last = st
		}
		s.h.threads = append(s.h.threads, th)
	}
	s.h.meets = func(v vec) bool { return v == s.want }
	return s
}

// orders tells, by going through every instant of every event and of both decisions, whether one
// order gives the sum that is wanted. What happens at the very instant of a decision may come before
// or after it.
func (s *small) orders() bool {
	for t := s.h.truth.From; t <= s.h.truth.To; t++ {
		for sh := s.h.shadow.From; sh <= s.h.shadow.To; sh++ {
			if s.rest(0, vec{}, t, sh) {
				return true
			}
		}
	}
	return false
}

// rest goes through the threads from i on.
func (s *small) rest(i int, sum vec, t, sh backends.Instant) bool {
	if i == len(s.h.threads) {
		return s.h.meets(sum)
	}
	th := &s.h.threads[i]
	for _, a := range reached(th, t, func(st *state) Span { return st.truth }) {
		for _, b := range reached(th, sh, func(st *state) Span { return st.shadow }) {
			if s.rest(i+1, sum.plus(stands(th, a)).minus(stands(th, b)), t, sh) {
				return true
			}
		}
	}
	return false
}

func stands(th *thread, i int) vec {
	if i == 0 {
		return th.base[0]
	}
	return th.states[i-1].takes
}

// reached lists the last states that the thread can have reached at tau, over all instants of its events.
func reached(th *thread, tau backends.Instant, of func(*state) Span) []int {
	lasts := map[int]bool{}
	var try func(i, last int)
	try = func(i, last int) {
		if i == len(th.states) {
			lasts[last] = true
			return
		}
		sp := of(&th.states[i])
		for at := sp.From; at <= sp.To; at++ {
			if at <= tau {
				try(i+1, i+1)
			}
			if at >= tau {
				try(i+1, last)
			}
		}
	}
	try(0, 0)
	var out []int
	for i := range lasts {
		out = append(out, i)
	}
	return out
}

// The search says that there is an order exactly when going through all of them finds one.
func TestTheSearchFindsAnOrderExactlyWhenThereIsOne(t *testing.T) {
	yes, no := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		s := drawSmall(rt)
		want := s.orders() // before the search trims the threads
		got := s.h.search(maxSearchWork)
		if (got.found == FoundOrder) != want || got.found == FoundTooLarge || got.found == FoundNothing {
			rt.Fatalf("%s, and going through all of them says %v: %+v", got.found, want, s)
		}
		if want {
			yes++
			sum := vec{}
			for i, p := range got.places {
				sum = sum.plus(stands(&s.h.threads[i], p.truth)).minus(stands(&s.h.threads[i], p.shadow))
			}
			if !s.h.meets(sum) {
				rt.Fatalf("the order that was found does not give it: %+v of %+v", got.places, s)
			}
		} else {
			no++
		}
	})
	if yes == 0 || no == 0 {
		t.Errorf("%d with an order, %d without: the test shows nothing", yes, no)
	}
}

// play makes a history in which the truth decides operations on mugs one after the other and the
// shadow follows each some time later, and a decision about it; everything is known to the instant.
type play struct {
	steps  []Step
	o      *Observation
	j      *Judgement
	shadow int64 // what the shadow really had
}

func drawPlay(t *rapid.T, wide int) play {
	var p play
	truth, shadow := int64(10), int64(10)
	const tat, sat = backends.Instant(1000), backends.Instant(1999)
	open := map[string]int64{}
	for i := range rapid.IntRange(1, 12).Draw(t, "operations") {
		decided, followed := backends.Instant(100*i+50), backends.Instant(rapid.IntRange(0, 15).Draw(t, "followed")*200+1000+i)
		qty, hold := rapid.Int64Range(1, 3).Draw(t, "qty"), fmt.Sprint("h", i)
		step := holdStep(backends.OpReserve, hold, 1, qty, at(decided), at(followed))
		if q, there := open[fmt.Sprint("h", i-1)]; there && rapid.Bool().Draw(t, "release") {
			hold, qty = fmt.Sprint("h", i-1), -q
			followed = max(followed, p.steps[i-1].Shadow.To+1)
			step = holdStep(backends.OpRelease, hold, 2, q, at(decided), at(followed))
		} else {
			open[hold] = qty
		}
		if decided < tat {
			truth -= qty
		}
		if followed < sat {
			shadow -= qty
		}
		step.Shadow.From -= backends.Instant(wide)
		step.Shadow.To += backends.Instant(wide)
		p.steps = append(p.steps, step)
	}
	p.shadow = shadow
	p.o, p.j = wants(truth, shadow, at(tat), Span{sat - backends.Instant(wide), sat + backends.Instant(wide)})
	return p
}

// What really happened is an order, however little is known of when.
func TestWhatHappenedIsAlwaysFound(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := drawPlay(rt, rapid.IntRange(0, 500).Draw(rt, "wide"))
		if got := FindOrder(p.o, p.j, p.steps); got.Found != FoundOrder {
			rt.Fatalf("%+v\n%+v", got, p)
		}
	})
}

// With every instant known, a shadow that saw anything else than what it followed comes to is never
// explained: an operation was lost on it, doubled, or made with another quantity.
func TestAWrongDecisionIsNeverExplainedByACompleteRecord(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := drawPlay(rt, 0)
		hit := rapid.SampledFrom(p.steps).Draw(rt, "hit")
		off := rapid.SampledFrom([]int64{1, -1, 2}).Draw(rt, "off") * hit.Takes[0].Quantity // lost, doubled, wrong
		o, j := wants(p.o.Truth.Seen[0].Quantity, p.shadow+off, p.o.TruthSpan, p.o.ShadowSpan)
		if max(0, p.shadow+off) == max(0, p.shadow) {
			return // debt sells as little as nothing does
		}
		if got := FindOrder(o, j, p.steps); got.Found != FoundNone {
			rt.Fatalf("off by %d: %+v\n%+v", off, got, p)
		}
	})
}
