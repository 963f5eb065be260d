package findingstest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// ExerciseSheets runs the suite of [comparator.Sheets]. open gives a fresh, empty store.
func ExerciseSheets(t *testing.T, open func(testing.TB) comparator.Sheets) {
	t.Run("sheets", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		s := open(t)
		list := func(pod backends.Pod, known map[string]uint64) []comparator.Sheet {
			t.Helper()
			out, err := s.Sheets(ctx, pod, patience, known)
			if err != nil {
				t.Fatal(err)
			}
			slices.SortFunc(out, func(a, b comparator.Sheet) int { return int(a.N) - int(b.N) }) //nolint:gosec // small numbers
			for _, sh := range out {
				if sh.Age < 0 || sh.Age > patience {
					t.Errorf("the sheet of %s is %s old", sh.Run, sh.Age)
				}
			}
			return out
		}
		same := func(what string, got []comparator.Sheet, want ...comparator.Sheet) {
			t.Helper()
			if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(comparator.Sheet{}, "Age")); d != "" {
				t.Errorf("%s: %s", what, d)
			}
		}
		put := func(sh comparator.Sheet) {
			t.Helper()
			if err := s.PutSheet(ctx, sh); err != nil {
				t.Fatal(err)
			}
		}
		same("nobody", list("one", nil))
		k := backends.Key{Shop: "Shop", Item: "mug", Location: "a"}
		first := comparator.Sheet{Pod: "one", Proxy: "p1", Run: "r1", N: 1, Wants: []comparator.Want{{Key: k, Since: 7}}, Intact: 5}
		second := comparator.Sheet{Pod: "one", Proxy: "p2", Run: "r2", N: 4, Read: map[string]uint64{"r1": 1}, Ended: true, Steps: []comparator.Step{{
			Seq: "9-1", Op: backends.OpRelease, Hold: "h", Version: backends.Version{Epoch: 2, N: 3}, Takes: []backends.Units{{Key: k, Quantity: 2}}, Gone: true,
			Truth: comparator.Span{From: 1, To: 2}, Shadow: comparator.Span{From: 3, To: comparator.Never},
		}}}
		put(first)
		put(second)
		put(comparator.Sheet{Pod: "One", Proxy: "p1", Run: "r1", N: 1})
		same("all that is new", list("one", nil), first, second)
		same("one is known", list("one", map[string]uint64{"r1": 1}), comparator.Sheet{Pod: "one", Proxy: "p1", Run: "r1", N: 1}, second)
		first.N, first.Wants = 2, nil
		put(first)
		same("written again", list("one", map[string]uint64{"r1": 1, "r2": 4}), first, comparator.Sheet{Pod: "one", Proxy: "p2", Run: "r2", N: 4})
		if out, err := s.Sheets(ctx, "one", -time.Second, nil); err != nil || len(out) != 0 {
			t.Errorf("%v: older than asked for: %+v", err, out)
		}
		prune := func(pod backends.Pod, age time.Duration, limit, want int) {
			t.Helper()
			if n, err := s.PruneSheets(ctx, pod, age, limit); err != nil || n != want {
				t.Errorf("%v: %d sheets were removed, want %d", err, n, want)
			}
		}
		prune("one", patience, 10, 0) // none is so old
		prune("none", -patience, 10, 0)
		prune("one", -patience, 1, 1) // whatever its age: as if it were written later than now
		if left := list("one", nil); len(left) != 1 {
			t.Errorf("left: %+v", left)
		}
		prune("one", -patience, 10, 1)
		same("all are gone", list("one", nil))
		put(first)
		same("a removed run goes on", list("one", map[string]uint64{"r2": 4}), first)
		if other := list("One", nil); len(other) != 1 {
			t.Errorf("the other pod's: %+v", other)
		}
		over, end := context.WithTimeout(ctx, -time.Second)
		defer end()
		if err := s.PutSheet(over, first); err == nil {
			t.Error("it wrote with a context that had ended")
		}
		if _, err := s.PruneSheets(over, "one", 0, 1); err == nil {
			t.Error("it pruned with a context that had ended")
		}
	})
}
