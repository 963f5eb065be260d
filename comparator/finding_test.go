package comparator_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

func TestFindingIDIsTheSameForTheSameThing(t *testing.T) {
	mug, cup := key("mug", "A"), key("cup", "A")
	id := comparator.FindingID("one", comparator.OversellRisk, "h1", mug)
	if id != comparator.FindingID("one", comparator.OversellRisk, "h1", cup) {
		t.Error("a hold's finding depends on a key")
	}
	others := map[string]string{
		"pod":   comparator.FindingID("two", comparator.OversellRisk, "h1", mug),
		"class": comparator.FindingID("one", comparator.Quantity, "h1", mug),
		"hold":  comparator.FindingID("one", comparator.OversellRisk, "h2", mug),
		"level": comparator.FindingID("one", comparator.OversellRisk, "", mug),
		"key":   comparator.FindingID("one", comparator.OversellRisk, "", cup),
		// parts must not run into one another
		"split": comparator.FindingID("one", comparator.OversellRisk, "", backends.Key{Shop: "sm", Item: "ug", Location: "A"}),
	}
	seen := map[string]string{id: "itself"}
	for name, other := range others {
		if len(other) != 32 || seen[other] != "" {
			t.Errorf("%s: %s is that of %s", name, other, seen[other])
		}
		seen[other] = name
	}
}

// drawSight draws a sight of one finding.
func drawSight(t *rapid.T) comparator.Finding {
	at := noon.Add(time.Duration(rapid.IntRange(0, 5).Draw(t, "at")) * time.Second)
	return comparator.Finding{ID: "x", Pod: "one", Class: comparator.LevelDrift, FirstSeen: at, LastSeen: at, Count: 1,
		Life: rapid.SampledFrom([]comparator.Life{comparator.LifeOpen, comparator.LifeExplained, comparator.LifeUndetermined}).Draw(t, "life")}
}

// In whatever order sights arrive, and however often: first and last sight are right, an open one is
// never hidden by an explained one, and the same sight twice is once.
func TestMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sights := rapid.SliceOfN(rapid.Custom(drawSight), 1, 8).Draw(t, "sights")
		kept := sights[0]
		first, last, open := kept.FirstSeen, kept.LastSeen, kept.Life == comparator.LifeOpen
		for _, s := range sights[1:] {
			kept = comparator.Merge(kept, s)
			if s.FirstSeen.Before(first) {
				first = s.FirstSeen
			}
			if s.LastSeen.After(last) {
				last = s.LastSeen
			}
			open = open || s.Life == comparator.LifeOpen
			again := comparator.Merge(kept, s)
			if d := cmp.Diff(kept, again); d != "" {
				t.Fatalf("saved twice:\n%s", d)
			}
		}
		if !kept.FirstSeen.Equal(first) || !kept.LastSeen.Equal(last) || open != (kept.Life == comparator.LifeOpen) || kept.Count > int64(len(sights)) {
			t.Fatalf("%+v; first %s last %s open %v", kept, first, last, open)
		}
	})
}

func TestMergeAndLivesByHand(t *testing.T) {
	sight := func(sec int, l comparator.Life) comparator.Finding {
		at := noon.Add(time.Duration(sec) * time.Second)
		return comparator.Finding{ID: "x", FirstSeen: at, LastSeen: at, Count: 1, Life: l, TotalUnits: int64(sec)}
	}
	by := func(f comparator.Finding, l comparator.Life) comparator.Finding {
		t.Helper()
		m, err := comparator.LifeChange{To: l, By: "ann", Why: "known"}.Apply(f)
		if err != nil || !m.Changed {
			t.Fatal(m, err)
		}
		return m.Finding
	}
	open := sight(1, comparator.LifeOpen)
	cases := []struct {
		name string
		old  comparator.Finding
		new  comparator.Finding
		life comparator.Life
		by   string
		n    int64
	}{
		{"the same sight does not reopen what was explained by hand", by(open, comparator.LifeExplained), open, comparator.LifeExplained, "ann", 1},
		{"a later sight does", by(open, comparator.LifeExplained), sight(2, comparator.LifeOpen), comparator.LifeOpen, "", 2},
		{"the same sight does not reopen what was repaired", by(open, comparator.LifeRepaired), open, comparator.LifeRepaired, "ann", 1},
		{"a later sight does", by(open, comparator.LifeRepaired), sight(2, comparator.LifeOpen), comparator.LifeOpen, "", 2},
		{"the same sight does not reopen what was acknowledged", by(open, comparator.LifeAcknowledged), open, comparator.LifeAcknowledged, "ann", 1},
		{"a later sight does", by(open, comparator.LifeAcknowledged), sight(2, comparator.LifeOpen), comparator.LifeOpen, "", 2},
		{"a later explained one does not", by(open, comparator.LifeAcknowledged), sight(2, comparator.LifeExplained), comparator.LifeAcknowledged, "ann", 2},
		{"an explanation does not cover an open finding", open, sight(2, comparator.LifeExplained), comparator.LifeOpen, "", 2},
		{"an earlier open sight opens what the machine explained", sight(2, comparator.LifeExplained), open, comparator.LifeOpen, "", 1},
	}
	for _, c := range cases {
		got := comparator.Merge(c.old, c.new)
		if c.new.Life == comparator.LifeExplained && got.TotalUnits != c.old.TotalUnits {
			t.Errorf("%s: an explanation changed the units to %d", c.name, got.TotalUnits)
		}
		if got.Life != c.life || got.By != c.by || got.Count != c.n {
			t.Errorf("%s: %s by %q, seen %d times", c.name, got.Life, got.By, got.Count)
		}
	}
}

func TestLifeChange(t *testing.T) {
	open := comparator.Finding{ID: "x", Life: comparator.LifeOpen}
	if _, err := (comparator.LifeChange{To: comparator.LifeAcknowledged, By: "ann"}).Apply(open); err == nil {
		t.Error("no reason given, and accepted")
	}
	var le *comparator.LifeError
	for _, to := range []comparator.Life{comparator.LifeUnknown, comparator.LifeUndetermined} {
		if _, err := (comparator.LifeChange{To: to, By: "ann", Why: "so"}).Apply(open); !errors.As(err, &le) {
			t.Errorf("open → %s: %v", to, err)
		}
	}
}

// Every class, life, stage and column reads back what it writes, unknown ones too.
func TestTextForms(t *testing.T) {
	for _, c := range append(comparator.Classes(), comparator.ClassUnknown) {
		f := comparator.Finding{Class: c, Life: comparator.LifeUnknown}
		body, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		var back comparator.Finding
		if err := json.Unmarshal(body, &back); err != nil || back.Class != c {
			t.Errorf("%s: %v, read back as %s", body, err, back.Class)
		}
		if c.Meaning() == "" || c.Next() == "" {
			t.Errorf("%s explains nothing", c)
		}
	}
	if len(comparator.Classes()) != 12 {
		t.Errorf("%d classes", len(comparator.Classes()))
	}
	if _, err := comparator.ParseClass("nonsense"); err == nil {
		t.Error("nonsense is a class")
	}
	if _, err := comparator.ParseLife("nonsense"); err == nil {
		t.Error("nonsense is a life")
	}
	for _, c := range comparator.Columns() {
		if c.String() == "unknown" || c.Meaning() == "" {
			t.Errorf("column %d explains nothing", c)
		}
	}
	for _, s := range []string{
		comparator.Class(99).String(), comparator.Life(99).String(), comparator.Column(99).String(),
		comparator.Verdict(99).String(), comparator.How(99).String(), comparator.Settled(99).String(),
	} {
		if s != "unknown" {
			t.Errorf("%q", s)
		}
	}
}

// A finding stays small, whatever the cart: its totals count what its lists leave out.
func TestFindingsAreBounded(t *testing.T) {
	const n = 5000
	f := comparator.Finding{Class: comparator.LevelDrift, Diff: strings.Repeat("ä", n), Proof: strings.Repeat("x", n), Why: strings.Repeat("y", n)}
	for range n {
		f.Units = append(f.Units, units(2, "mug", "A"))
	}
	r := newRig(t, nil)
	r.Record(f)
	if err := r.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	got := r.findings()[comparator.LevelDrift][0]
	body, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Units) != comparator.MaxFindingUnits || got.TotalUnits != 2*n || len(body) > 40_000 || len(got.Diff) > comparator.MaxText {
		t.Errorf("%d units listed, %d in total, %d bytes", len(got.Units), got.TotalUnits, len(body))
	}
}
