package comparator_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

type (
	answer = comparator.Answer
	own    = backends.OwnDecision
)

const (
	granted = backends.OutcomeGranted
	soldOut = backends.OutcomeSoldOut
)

var judgeCases = []struct {
	name   string
	lines  []backends.Line
	truth  answer
	shadow *own
	want   comparator.Judgement // Why is not compared
}{
	{
		name:   "truth sold out, shadow would grant: units at risk of oversell",
		lines:  []backends.Line{line(3, "mug", "A")},
		truth:  answer{Outcome: soldOut, Short: []backends.Shortage{short(0, "mug", 3, 1)}},
		shadow: &own{Outcome: granted, Allocs: []backends.Allocation{alloc(0, "A", 3)}},
		want: comparator.Judgement{Verdict: comparator.VerdictDiverged, Class: comparator.OversellRisk,
			Units: []backends.Units{units(2, "mug", "A")}, Keys: []backends.Key{key("mug", "A")}},
	},
	{
		name:   "oversell risk of one line of a cart concerns that line only, least preferred location first",
		lines:  []backends.Line{line(1, "cup", "A"), split(line(5, "mug", "A", "B"))},
		truth:  answer{Outcome: soldOut, Short: []backends.Shortage{short(1, "mug", 5, 1)}},
		shadow: &own{Outcome: granted, Allocs: []backends.Allocation{alloc(0, "A", 1), alloc(1, "A", 2), alloc(1, "B", 3)}},
		want: comparator.Judgement{Verdict: comparator.VerdictDiverged, Class: comparator.OversellRisk,
			Units: []backends.Units{units(1, "mug", "A"), units(3, "mug", "B")}, Keys: []backends.Key{key("mug", "A"), key("mug", "B")}},
	},
	{
		name:   "a refusal that names no line is short of all",
		lines:  []backends.Line{line(3, "mug", "A")},
		truth:  answer{Outcome: soldOut},
		shadow: &own{Outcome: granted, Allocs: []backends.Allocation{alloc(0, "A", 3)}},
		want: comparator.Judgement{Verdict: comparator.VerdictDiverged, Class: comparator.OversellRisk,
			Units: []backends.Units{units(3, "mug", "A")}, Keys: []backends.Key{key("mug", "A")}},
	},
	{
		name:   "truth granted, shadow would refuse: the short line is wrongly refused, whole",
		lines:  []backends.Line{line(1, "cup", "A"), line(2, "mug", "A", "B")},
		truth:  answer{Outcome: granted, Allocs: []backends.Allocation{alloc(0, "A", 1), alloc(1, "B", 2)}},
		shadow: &own{Outcome: soldOut, Short: []backends.Shortage{short(1, "mug", 2, 1)}},
		want: comparator.Judgement{Verdict: comparator.VerdictDiverged, Class: comparator.FalseSoldOut,
			Units: []backends.Units{units(2, "mug", "B")}, Keys: []backends.Key{key("mug", "A"), key("mug", "B")}},
	},
	{
		name:   "different numbers of units",
		lines:  []backends.Line{line(3, "mug", "A")},
		truth:  answer{Outcome: granted, Allocs: []backends.Allocation{alloc(0, "A", 3)}},
		shadow: &own{Outcome: granted, Allocs: []backends.Allocation{alloc(0, "A", 1)}},
		want: comparator.Judgement{Verdict: comparator.VerdictDiverged, Class: comparator.Quantity, AtOnce: true,
			Units: []backends.Units{units(2, "mug", "A")}, Keys: []backends.Key{key("mug", "A")}},
	},
	{
		name:   "the same units from another location is to be settled when they saw different stock",
		lines:  []backends.Line{line(2, "mug", "A", "B")},
		truth:  answer{Outcome: granted, Allocs: []backends.Allocation{alloc(0, "B", 2)}, Seen: []backends.Units{units(1, "mug", "A"), units(5, "mug", "B")}},
		shadow: &own{Outcome: granted, Allocs: []backends.Allocation{alloc(0, "A", 2)}, Seen: []backends.Units{units(2, "mug", "A"), units(5, "mug", "B")}},
		want: comparator.Judgement{Verdict: comparator.VerdictDiverged, Class: comparator.Location,
			Units: []backends.Units{units(2, "mug", "B")}, Keys: []backends.Key{key("mug", "A"), key("mug", "B")}},
	},
	{
		name:   "the same stock seen, different answers: at once",
		lines:  []backends.Line{line(2, "mug", "A")},
		truth:  answer{Outcome: soldOut, Short: []backends.Shortage{short(0, "mug", 2, 1)}, Seen: []backends.Units{units(1, "mug", "A")}},
		shadow: &own{Outcome: granted, Allocs: []backends.Allocation{alloc(0, "A", 2)}, Seen: []backends.Units{units(1, "mug", "A")}},
		want: comparator.Judgement{Verdict: comparator.VerdictDiverged, Class: comparator.OversellRisk, AtOnce: true,
			Units: []backends.Units{units(1, "mug", "A")}, Keys: []backends.Key{key("mug", "A")}},
	},
	{
		name:   "debt and nothing are the same stock",
		lines:  []backends.Line{line(1, "mug", "A")},
		truth:  answer{Outcome: soldOut, Short: []backends.Shortage{short(0, "mug", 1, 0)}, Seen: []backends.Units{units(0, "mug", "A")}},
		shadow: &own{Outcome: granted, Allocs: []backends.Allocation{alloc(0, "A", 1)}, Seen: []backends.Units{units(-3, "mug", "A")}},
		want: comparator.Judgement{Verdict: comparator.VerdictDiverged, Class: comparator.OversellRisk, AtOnce: true,
			Units: []backends.Units{units(1, "mug", "A")}, Keys: []backends.Key{key("mug", "A")}},
	},
	{
		name:   "an answer that does not follow from the stock seen: at once, whatever the other saw",
		lines:  []backends.Line{line(2, "mug", "A")},
		truth:  answer{Outcome: granted, Allocs: []backends.Allocation{alloc(0, "A", 2)}},
		shadow: &own{Outcome: soldOut, Short: []backends.Shortage{short(0, "mug", 2, 0)}, Seen: []backends.Units{units(7, "mug", "A")}},
		want: comparator.Judgement{Verdict: comparator.VerdictDiverged, Class: comparator.FalseSoldOut, AtOnce: true,
			Units: []backends.Units{units(2, "mug", "A")}, Keys: []backends.Key{key("mug", "A")}},
	},
	{
		name:   "the same of the truth's answer",
		lines:  []backends.Line{line(2, "mug", "A")},
		truth:  answer{Outcome: soldOut, Short: []backends.Shortage{short(0, "mug", 2, 0)}, Seen: []backends.Units{units(7, "mug", "A")}},
		shadow: &own{Outcome: granted, Allocs: []backends.Allocation{alloc(0, "A", 2)}},
		want: comparator.Judgement{Verdict: comparator.VerdictDiverged, Class: comparator.OversellRisk, AtOnce: true,
			Units: []backends.Units{units(2, "mug", "A")}, Keys: []backends.Key{key("mug", "A")}},
	},
	{
		name:   "stock seen at some keys only proves nothing",
		lines:  []backends.Line{line(2, "mug", "A", "B")},
		truth:  answer{Outcome: soldOut, Short: []backends.Shortage{short(0, "mug", 2, 1)}, Seen: []backends.Units{units(1, "mug", "A")}},
		shadow: &own{Outcome: granted, Allocs: []backends.Allocation{alloc(0, "B", 2)}, Seen: []backends.Units{units(1, "mug", "A")}},
		want: comparator.Judgement{Verdict: comparator.VerdictDiverged, Class: comparator.OversellRisk,
			Units: []backends.Units{units(1, "mug", "B")}, Keys: []backends.Key{key("mug", "A"), key("mug", "B")}},
	},
	{
		name:   "both sold out for other lines is part of the verdict",
		lines:  []backends.Line{line(2, "cup", "A"), line(3, "mug", "A")},
		truth:  answer{Outcome: soldOut, Short: []backends.Shortage{short(0, "cup", 2, 1)}},
		shadow: &own{Outcome: soldOut, Short: []backends.Shortage{short(1, "mug", 3, 0)}},
		want: comparator.Judgement{Verdict: comparator.VerdictDiverged, Class: comparator.Quantity,
			Units: []backends.Units{units(1, "cup", "A"), units(3, "mug", "A")}, Keys: []backends.Key{key("cup", "A"), key("mug", "A")}},
	},
	{
		name:  "and never confirmed at once: the lines that do not decide a refusal may have been looked at apart",
		lines: []backends.Line{line(2, "cup", "A"), line(3, "mug", "A")},
		truth: answer{Outcome: soldOut, Short: []backends.Shortage{short(0, "cup", 2, 1)}, Seen: []backends.Units{units(1, "cup", "A"), units(3, "mug", "A")}},
		shadow: &own{Outcome: soldOut, Short: []backends.Shortage{short(0, "cup", 2, 1), short(1, "mug", 3, 2)},
			Seen: []backends.Units{units(1, "cup", "A"), units(3, "mug", "A")}},
		want: comparator.Judgement{Verdict: comparator.VerdictDiverged, Class: comparator.Quantity,
			Units: []backends.Units{units(1, "mug", "A")}, Keys: []backends.Key{key("mug", "A")}},
	},
	{
		name:   "a damaged line index is a finding at once, and no panic",
		lines:  []backends.Line{line(1, "mug", "A")},
		truth:  answer{Outcome: granted, Allocs: []backends.Allocation{alloc(0, "A", 1)}},
		shadow: &own{Outcome: granted, Allocs: []backends.Allocation{alloc(0, "A", 1), alloc(7, "A", 2)}},
		want: comparator.Judgement{Verdict: comparator.VerdictDiverged, Class: comparator.Quantity, AtOnce: true,
			Units: []backends.Units{{Key: backends.Key{Shop: "s"}, Quantity: 2}}},
	},
	{
		name:   "both granted alike, in another order",
		lines:  []backends.Line{line(1, "cup", "A"), line(2, "mug", "A")},
		truth:  answer{Outcome: granted, Allocs: []backends.Allocation{alloc(0, "A", 1), alloc(1, "A", 2)}},
		shadow: &own{Outcome: granted, Allocs: []backends.Allocation{alloc(1, "A", 2), alloc(0, "A", 1)}},
		want:   comparator.Judgement{Verdict: comparator.VerdictMatch},
	},
	{
		name:   "both sold out for the same line, with other leftovers",
		lines:  []backends.Line{line(3, "mug", "A")},
		truth:  answer{Outcome: soldOut, Short: []backends.Shortage{short(0, "mug", 3, 1)}},
		shadow: &own{Outcome: soldOut, Short: []backends.Shortage{short(0, "mug", 3, 2)}},
		want:   comparator.Judgement{Verdict: comparator.VerdictMatch},
	},
	{
		name:  "no decision of the shadow: unknown",
		lines: []backends.Line{line(3, "mug", "A")},
		truth: answer{Outcome: soldOut},
	},
	{
		name:   "an unknown outcome is never a match",
		lines:  []backends.Line{line(3, "mug", "A")},
		shadow: &own{},
	},
	{
		name:   "an ended hold is no verdict on stock",
		lines:  []backends.Line{line(3, "mug", "A")},
		truth:  answer{Outcome: backends.OutcomeEnded},
		shadow: &own{Outcome: granted},
	},
}

func TestJudge(t *testing.T) {
	for _, c := range judgeCases {
		t.Run(c.name, func(t *testing.T) {
			got := comparator.Judge(comparator.Observation{Stage: backends.Shadow, Op: backends.OpReserve, Shop: "s", Lines: c.lines, Truth: c.truth, Shadow: c.shadow})
			if got.Why == "" {
				t.Error("no reason given")
			}
			got.Why = ""
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("want → got\n%s", d)
			}
		})
	}
}

// The proof says which of the two it is: the same stock seen, or an answer against its own stock.
func TestProofOfAContradiction(t *testing.T) {
	o := comparator.Observation{Op: backends.OpReserve, Shop: "s", Lines: []backends.Line{line(2, "mug", "A")},
		Truth:  answer{Outcome: soldOut, Seen: []backends.Units{units(1, "mug", "A")}},
		Shadow: &own{Outcome: granted, Allocs: []backends.Allocation{alloc(0, "A", 2)}, Seen: []backends.Units{units(1, "mug", "A")}}}
	if j := comparator.Judge(o); !strings.HasPrefix(j.Why, "both stores saw the same stock") {
		t.Error(j.Why)
	}
	o.Truth.Seen = []backends.Units{units(0, "mug", "A")}
	if j := comparator.Judge(o); !strings.HasPrefix(j.Why, "the shadow's answer does not follow") {
		t.Error(j.Why)
	}
}

func TestJudgeIgnoresOtherOperations(t *testing.T) {
	for _, op := range backends.Ops() {
		if op == backends.OpReserve {
			continue
		}
		o := comparator.Observation{Op: op, Shop: "s", Truth: answer{Outcome: granted}, Shadow: &own{Outcome: soldOut}}
		if v := comparator.Judge(o).Verdict; v != comparator.VerdictUnknown {
			t.Errorf("%s: %s", op, v)
		}
	}
}

// An honest pair of stores, each of which decides by the one rule on what it sees: the judge calls it
// a match exactly when the verdicts are alike, and never confirms at once.
func TestJudgeOfHonestStores(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lines := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) backends.Line {
			return backends.Line{Quantity: rapid.Int64Range(1, 4).Draw(t, "qty"), Locations: []backends.Location{"A", "B"}, Split: rapid.Bool().Draw(t, "split")}
		}), 1, 4).Draw(t, "lines")
		for i := range lines {
			lines[i].Item = backends.Item(rune('a' + i))
		}
		keys := backends.Keys("s", lines)
		decide := func(name string) answer {
			stock := map[backends.Key]int64{}
			a := answer{Outcome: granted}
			for _, k := range keys {
				stock[k] = rapid.Int64Range(-1, 5).Draw(t, name)
				a.Seen = append(a.Seen, backends.Units{Key: k, Quantity: stock[k]})
			}
			if a.Allocs, a.Short = backends.Allocate("s", lines, func(k backends.Key) int64 { return stock[k] }); len(a.Short) > 0 {
				a.Outcome = soldOut
			}
			return a
		}
		truth, shadow := decide("truth"), decide("shadow")
		j := comparator.Judge(comparator.Observation{Op: backends.OpReserve, Shop: "s", Lines: lines, Truth: truth,
			Shadow: &own{Outcome: shadow.Outcome, Allocs: shadow.Allocs, Short: shadow.Short, Seen: shadow.Seen}})
		if j.AtOnce {
			t.Fatalf("confirmed at once: %s", j.Why)
		}
		shortLines := func(a answer) (ls []int) {
			for _, s := range a.Short {
				ls = append(ls, s.Line)
			}
			return ls
		}
		alike := truth.Outcome == shadow.Outcome && cmp.Equal(truth.Allocs, shadow.Allocs) && cmp.Equal(shortLines(truth), shortLines(shadow))
		if alike != (j.Verdict == comparator.VerdictMatch) {
			t.Fatalf("alike %v, verdict %s (%s)", alike, j.Verdict, j.Why)
		}
		if j.Verdict == comparator.VerdictDiverged && (j.TotalUnits() <= 0 || len(j.Keys) == 0) {
			t.Fatalf("%s of %d units at %d keys", j.Class, j.TotalUnits(), len(j.Keys))
		}
	})
}

func TestDiffNamesFields(t *testing.T) {
	lines := []backends.Line{line(3, "mug", "A", "B")}
	got := comparator.Diff("s", lines,
		comparator.Facts{Answer: &answer{Outcome: soldOut, Short: []backends.Shortage{short(0, "mug", 3, 1)}, Seen: []backends.Units{units(1, "mug", "A")}}},
		comparator.Facts{Answer: &answer{Outcome: granted, Allocs: []backends.Allocation{alloc(0, "A", 3)}, Seen: []backends.Units{units(4, "mug", "A")}}})
	want := "outcome: sold out → granted\n" +
		"seen[s/mug@A]: 1 → 4\n" +
		"short[line 1 mug]: wants 3 has 1 → none\n" +
		"units[s/mug@A]: none → 3"
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if same := comparator.Diff("s", lines, comparator.Facts{}, comparator.Facts{}); same != "" {
		t.Errorf("a difference between nothing and nothing: %q", same)
	}
}
