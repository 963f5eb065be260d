package contend

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
	"github.com/crossfade-proxy/crossfade/comparator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(lab.Wrap(m)) }

// TestShort is the fight in its short form, on real servers: every loss is found, and nothing else. How many
// differences stay undetermined is left to the long form, which has the machine for itself.
func TestShort(t *testing.T) {
	pairs := [][2]lab.Kind{{lab.MySQL, lab.Redis}}
	if os.Getenv("CROSSFADE_LONG") != "" {
		pairs = append(pairs, [2]lab.Kind{lab.MariaDB, lab.Valkey})
	}
	for _, kinds := range pairs {
		for _, stage := range []backends.Stage{backends.Shadow, backends.Live} {
			t.Run(stage.String()+" on "+string(kinds[0]), func(t *testing.T) {
				redis := lab.ForTest(t, kinds[1])
				s := Servers{DSN: lab.ForTest(t, kinds[0]).NewDatabase(t), Redis: redis.Addr(), Prefix: redis.NewPrefix(t)}
				var progress, table bytes.Buffer
				r, err := Play(t.Context(), s, Options{Decisions: 3200, Sale: 800, Stage: stage, Buyers: 24, Lose: true, Undetermined: 1, SQL: kinds[0], Redis: kinds[1], Seed: 1, Progress: &progress})
				if err != nil {
					t.Fatalf("%v\n%s", err, &progress)
				}
				if err := r.WriteTable(&table); err != nil {
					t.Fatal(err)
				}
				t.Logf("%s\n%s", &progress, &table)
				if !r.Kept() {
					t.Error("something came out that should not")
				}
				if r.Losses.Found != 4 {
					t.Errorf("%d losses were found, of four", r.Losses.Found)
				}
				if _, err := json.Marshal(r); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func units(item string, n int64) []backends.Units {
	return []backends.Units{{Key: keyOf(backends.Item(item)), Quantity: n}}
}

// TestWeigh: what has to be told is told.
func TestWeigh(t *testing.T) {
	played := func() *losses {
		return &losses{
			list: []lost{
				{kind: loseGrant, hold: "lost-grant-0", units: units("a", 2)},
				{kind: loseRelease, hold: "lost-release-1", units: units("b", 1)},
				{kind: loseRestock, op: "lost-restock-3", units: units("c", 3)},
			},
			swallowed: map[string]bool{"lost-grant-0": true, "lost-release-1": true, "lost-restock-3": true},
		}
	}
	found := func() []comparator.Finding {
		return []comparator.Finding{
			{ID: "1", Class: comparator.MissingHold, Hold: "lost-grant-0", Units: units("a", 2), TotalUnits: 2},
			{ID: "2", Class: comparator.LostRelease, Hold: "lost-release-1", Units: units("b", 1), TotalUnits: 1},
			{ID: "3", Class: comparator.LevelDrift, Units: units("c", 3), TotalUnits: 3},
		}
	}
	report := func() *Report {
		return &Report{
			Lose: true, Decisions: 10, Granted: 5, SoldOut: 5, Allowed: MaxUndetermined,
			Coverage: comparator.Coverage{Decisions: 10, Counts: comparator.Counts{Matched: 7, Explained: 2, Confirmed: 1}},
		}
	}
	explained := []comparator.Finding{{Order: []comparator.EntryRef{{Place: comparator.PlaceAhead}}}, {Proof: "… the debt that following the truth left in the shadow has been paid"}}
	for name, c := range map[string]struct {
		change func(r *Report, l *losses, audited, open, explained *[]comparator.Finding)
		broken string // "": nothing is
	}{
		"all is well":      {func(*Report, *losses, *[]comparator.Finding, *[]comparator.Finding, *[]comparator.Finding) {}, ""},
		"one is not found": {func(_ *Report, _ *losses, a, _, _ *[]comparator.Finding) { *a = (*a)[1:] }, "did not find the lost grant"},
		"one level is not": {func(_ *Report, _ *losses, a, _, _ *[]comparator.Finding) { *a = (*a)[:2] }, "did not find 3 units"},
		"by another class": {func(_ *Report, _ *losses, a, _, _ *[]comparator.Finding) { (*a)[0].Class = comparator.Quantity }, "not lost, or not so"},
		"with other units": {func(_ *Report, _ *losses, a, _, _ *[]comparator.Finding) { (*a)[1].Units = units("b", 2) }, "not lost, or not so"},
		"twice":            {func(_ *Report, _ *losses, a, _, _ *[]comparator.Finding) { *a = append(*a, (*a)[0]) }, "not lost, or not so"},
		"what was not lost": {func(_ *Report, _ *losses, _, o, _ *[]comparator.Finding) {
			*o = append(*o, comparator.Finding{ID: "9", Units: units("d", 1)})
		}, ": "},
		"an order is missing": {func(_ *Report, _ *losses, _, _, e *[]comparator.Finding) { *e = append(*e, comparator.Finding{}) }, "explained without an order"},
		"a decision too few":  {func(r *Report, _ *losses, _, _, _ *[]comparator.Finding) { r.Decisions++ }, "decisions are counted"},
		"a sum that is wrong": {func(r *Report, _ *losses, _, _, _ *[]comparator.Finding) { r.Coverage.Matched++ }, "coverage"},
		"too many open ends": {func(r *Report, _ *losses, _, _, _ *[]comparator.Finding) {
			r.Coverage.Undetermined, r.Coverage.Matched = 1, 6
		}, "undetermined"},
		"a panic":             {func(r *Report, _ *losses, _, _, _ *[]comparator.Finding) { r.Panics = 1 }, "panics"},
		"never asked to lose": {func(_ *Report, l *losses, _, _, _ *[]comparator.Finding) { delete(l.swallowed, "lost-grant-0") }, "never asked"},
		"confirmed for nothing": {func(r *Report, l *losses, a, o, _ *[]comparator.Finding) {
			r.Lose, l.list, *a, *o = false, nil, nil, nil
		}, "nothing was lost"},
	} {
		t.Run(name, func(t *testing.T) {
			r, l, audited, open, ex := report(), played(), found(), found(), slices.Clone(explained)
			c.change(r, l, &audited, &open, &ex)
			r.weigh(l, audited, open, ex)
			text := strings.Join(r.Broken, "\n")
			if (c.broken == "") != r.Kept() || !strings.Contains(text, c.broken) {
				t.Errorf("wanted %q, got %q", c.broken, text)
			}
			if c.broken == "" && (r.Losses.Found != 3 || r.Losses.Consequences != 3 || r.Losses.Early != 3 || r.Ordered != 1 || r.Paid != 1) {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestOptions: what is out of bounds is refused by its name.
func TestOptions(t *testing.T) {
	for field, o := range map[string]Options{
		"--stage":     {Stage: backends.RedisOnly},
		"--dialect":   {SQL: lab.Redis},
		"--redis":     {Redis: lab.MySQL},
		"--sale":      {Sale: 1},
		"--decisions": {Decisions: 10},
		"--proxies":   {Proxies: 99},
		"--buyers":    {Buyers: -1},
	} {
		var fe *backends.FieldError
		if _, err := Play(t.Context(), Servers{}, o); !errors.As(err, &fe) || fe.Field != field || fe.Next == "" {
			t.Errorf("%s: %v", field, err)
		}
	}
}
