package comparator

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
)

// keyed is a key of its own item.
func keyed(item string) backends.Key {
	return backends.Key{Shop: "s", Item: backends.Item(item), Location: "A"}
}

// took records one state of a hold at some keys.
func took(r *recorder, hold string, n uint64, shadow Span, keys ...backends.Key) {
	h := &backends.Hold{ID: backends.HoldID(hold), Shop: "s", State: backends.Held, Version: backends.Version{Epoch: 1, N: n}}
	for i, k := range keys {
		h.Lines = append(h.Lines, backends.Line{Item: k.Item, Quantity: 1, Locations: []backends.Location{"A"}})
		h.Allocs = append(h.Allocs, backends.Allocation{Line: i, Location: "A", Quantity: 1})
	}
	r.take(Followed{Epoch: 1, Stage: backends.Shadow, Shadow: shadow, Items: []FollowedItem{{Entry: backends.Entry{Op: backends.OpReserve, Hold: h}, Truth: shadow, Confirmed: shadow.To != Never, Changed: true}}})
}

// holdsAt are the holds of which steps at a key are told.
func holdsAt(t told, k backends.Key) map[backends.HoldID]bool {
	out := map[backends.HoldID]bool{}
	for i := range t.Steps {
		if slices.ContainsFunc(t.Steps[i].Takes, func(u backends.Units) bool { return u.Key == k }) {
			out[t.Steps[i].Hold] = true
		}
	}
	return out
}

// A key with more operations than a sheet holds lacks the oldest of them, and no other key lacks any.
func TestAKeyThatOverflowsSpoilsNoOther(t *testing.T) {
	r := newRecorder(time.Now)
	cup, bowl := keyed("cup"), keyed("bowl")
	const hot, some = 2 * maxSheetSteps, 100
	for i := range backends.Instant(hot) {
		took(r, fmt.Sprint("hot", i), 1, at(1000+i), mug)
		if i%1000 == 0 {
			r.tidy()
		}
	}
	for i := range backends.Instant(some) {
		took(r, fmt.Sprint("cup", i), 1, at(1000+i), cup)
		took(r, fmt.Sprint("bowl", i), 1, at(1000+i), bowl)
	}
	x := newExchange("one", "p2", "r2", time.Minute, time.Now)
	x.learn([]Sheet{{Pod: "one", Proxy: "p1", Run: "r1", N: 1, Wants: []Want{{mug, 1000}, {cup, 1000}, {bowl, 1090}}}}, time.Now())
	s, _ := x.next(r)
	told := told{Steps: s.Steps}
	if n := len(holdsAt(told, cup)); n != some || s.intactAt([]backends.Key{cup}) > 1000 {
		t.Errorf("%d operations at the cup, intact since %d", n, s.intactAt([]backends.Key{cup}))
	}
	if n := len(holdsAt(told, bowl)); n != 10 || s.intactAt([]backends.Key{bowl}) > 1000 {
		t.Errorf("%d operations at the bowl, intact since %d", n, s.intactAt([]backends.Key{bowl}))
	}
	n, since := len(holdsAt(told, mug)), s.intactAt([]backends.Key{bowl, cup, mug})
	if len(s.Steps) > maxSheetSteps || n < maxSheetSteps/2 || since != 1000+hot-backends.Instant(n) {
		t.Errorf("%d operations at the mug, intact since %d", n, since)
	}
}

// Whatever the room is: at a key that lacks nothing since an instant, all is told of each hold of which anything may
// have been followed since; and what is left out is said.
func TestAnAnswerIsAsCompleteAsItSays(t *testing.T) {
	cut := 0
	rapid.Check(t, func(t *rapid.T) {
		r := newRecorder(time.Now)
		keys := []backends.Key{keyed("a"), keyed("b"), keyed("c")}
		states := map[backends.HoldID]int{}
		last := map[backends.HoldID]map[backends.Key]backends.Instant{}
		fillers := rapid.SampledFrom([]int{0, 100, maxSheetSteps / 2, maxSheetSteps - 200, maxSheetSteps}).Draw(t, "fillers")
		for i := range fillers {
			took(r, fmt.Sprint("filler", i), 1, at(backends.Instant(500+i%100)), keys[i%2])
		}
		for i := range rapid.IntRange(100, 1000).Draw(t, "steps") {
			hold := fmt.Sprint("h", rapid.IntRange(0, 300).Draw(t, "hold"))
			span := at(backends.Instant(rapid.IntRange(1, 1000).Draw(t, "followed")))
			if i%97 == 96 {
				span.To = Never
			}
			id := backends.HoldID(hold)
			if states[id]++; last[id] == nil {
				last[id] = map[backends.Key]backends.Instant{}
			}
			n := rapid.IntRange(0, 2).Draw(t, "key")
			took(r, hold, uint64(states[id]), span, keys[n:]...)
			for _, k := range keys[n:] {
				last[id][k] = max(last[id][k], span.To)
			}
		}
		since := map[backends.Key]backends.Instant{}
		for _, k := range keys {
			since[k] = backends.Instant(rapid.IntRange(1, 1000).Draw(t, "since"))
		}
		got := r.wanted(since)
		s := Sheet{}
		s.tell(got)
		if len(s.Steps) > maxSheetSteps {
			t.Fatalf("%d steps", len(s.Steps))
		}
		cut += len(s.Lacks)
		count := map[backends.HoldID]int{}
		for i := range s.Steps {
			count[s.Steps[i].Hold]++
		}
		for id, at := range last {
			for k, to := range at {
				if to >= max(since[k], s.intactAt([]backends.Key{k})) && count[id] != states[id] {
					t.Fatalf("of hold %s %d states of %d are told; at %v it was followed until %d, and nothing is missing since %d", id, count[id], states[id], k, to, s.intactAt([]backends.Key{k}))
				}
			}
		}
	})
	if cut == 0 {
		t.Error("there was always room: the test shows less than it says")
	}
}

// A question begins with the oldest case that is still open.
func TestAQuestionMovesOnWithItsCases(t *testing.T) {
	x := newExchange("one", "p1", "r1", time.Minute, time.Now)
	cup := keyed("cup")
	wants := func(want ...Want) {
		t.Helper()
		if s, _ := x.next(newRecorder(time.Now)); !slices.Equal(s.Wants, want) {
			t.Errorf("wants %+v, not %+v", s.Wants, want)
		}
	}
	both := []backends.Key{cup, mug}
	x.ask(both, 20)
	x.ask([]backends.Key{mug}, 10)
	x.ask([]backends.Key{mug}, 20)
	x.ask([]backends.Key{mug}, 30)
	wants(Want{cup, 20}, Want{mug, 10})
	x.drop([]backends.Key{mug}, 10)
	wants(Want{cup, 20}, Want{mug, 20})
	x.drop(both, 20)
	wants(Want{mug, 20}) // two cases wanted it since then
	x.drop([]backends.Key{mug}, 20)
	wants(Want{mug, 30})
	x.drop([]backends.Key{mug}, 30)
	wants()
}

// What a proxy pays for each sheet while another asks about a hot item: of the last few seconds, and of more than
// there is room for.
func BenchmarkAnswerAboutAHotItem(b *testing.B) {
	r := newRecorder(time.Now)
	last := fill(r, 100_000)
	for _, n := range []backends.Instant{1_000, 20_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.wanted(map[backends.Key]backends.Instant{mug: last - n})
			}
		})
	}
}
