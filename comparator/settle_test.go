package comparator_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// at is a look after some time, at a pod in shadow.
func look(after time.Duration, keys map[backends.Key]comparator.KeyEvidence) comparator.Evidence {
	return comparator.Evidence{At: noon.Add(after), Stage: backends.Shadow, Keys: keys}
}

// rest is a key at which nothing moved during the look.
func rest(truth, shadow *backends.Level) comparator.KeyEvidence {
	return comparator.KeyEvidence{TruthBefore: truth, TruthAfter: truth, ShadowBefore: shadow, ShadowAfter: shadow}
}

func waitingFor(e comparator.KeyEvidence, before, after int) comparator.KeyEvidence {
	e.PendingBefore, e.PendingAfter = before, after
	return e
}

func TestSettle(t *testing.T) {
	mug, cup := key("mug", "A"), key("cup", "A")
	type looks = map[backends.Key]comparator.KeyEvidence
	five, four := level("mug", "A", 5, 1, 0), level("mug", "A", 4, 1, 0)
	owing := *five
	owing.Owed = 1
	const second = time.Second
	none := comparator.Search{Found: comparator.FoundNone, Intact: true, Complete: true}
	refusedBy := comparator.Observation{Truth: grantOne, Shadow: ownOf(refuseOne)}
	bothRefused := comparator.Observation{Truth: refuseOne, Shadow: ownOf(refuseOne)}
	inDebt := refusedBy
	inDebt.Debt = []backends.Units{{Key: mug, Quantity: 1}}
	cases := []struct {
		name    string
		keys    []backends.Key // default: mug
		atOnce  bool
		history []comparator.Evidence
		now     time.Duration // since the case was opened; the window is a minute
		want    comparator.Settled
		drift   []comparator.Drift
		search  *comparator.Search     // default: an order was found, in a complete record
		about   comparator.Observation // what was decided
	}{
		{name: "an order, and the levels agree at rest: explained",
			history: []comparator.Evidence{look(second, looks{mug: rest(five, five)})}, now: second, want: comparator.SettledExplained},
		{name: "levels differ at two moments of rest: confirmed",
			history: []comparator.Evidence{look(second, looks{mug: rest(five, four)}), look(2*second, looks{mug: rest(five, four)})},
			now:     2 * second, want: comparator.SettledConfirmed,
			drift: []comparator.Drift{{Key: mug, Gap: comparator.Gap{Sellable: -1, OnHand: -1}, Truth: five, Shadow: four}}},
		{name: "no order explains it: confirmed without a look", atOnce: true, want: comparator.SettledConfirmed},
		{name: "once is not enough",
			history: []comparator.Evidence{look(second, looks{mug: rest(five, four)})}, now: second, want: comparator.SettledWait},
		{name: "twice in the same moment is once",
			history: []comparator.Evidence{look(second, looks{mug: rest(five, four)}), look(second, looks{mug: rest(five, four)})}, now: second, want: comparator.SettledWait},
		{name: "two moments with different gaps are no proof",
			history: []comparator.Evidence{look(second, looks{mug: rest(five, four)}), look(2*second, looks{mug: rest(five, level("mug", "A", 3, 1, 0))})},
			now:     2 * second, want: comparator.SettledWait},
		{name: "a gap that closes is explained",
			history: []comparator.Evidence{look(second, looks{mug: rest(five, four)}), look(2*second, looks{mug: rest(five, five)})},
			now:     2 * second, want: comparator.SettledExplained},
		{name: "agreement while entries wait is no rest",
			history: []comparator.Evidence{look(second, looks{mug: waitingFor(rest(five, five), 1, 0)}), look(2*second, looks{mug: waitingFor(rest(five, five), 0, 1)})},
			now:     2 * second, want: comparator.SettledWait},
		{name: "a truth that moved during the look is no rest",
			history: []comparator.Evidence{look(second, looks{mug: {TruthBefore: four, TruthAfter: five, ShadowBefore: five, ShadowAfter: five}})},
			now:     second, want: comparator.SettledWait},
		{name: "a shadow that moved during the look is no rest",
			history: []comparator.Evidence{look(second, looks{mug: {TruthBefore: five, TruthAfter: five, ShadowBefore: four, ShadowAfter: five}})},
			now:     second, want: comparator.SettledWait},
		{name: "a level that owes a delta is no rest",
			history: []comparator.Evidence{look(second, looks{mug: rest(&owing, &owing)})}, now: second, want: comparator.SettledWait},
		{name: "a look that concludes nothing is none",
			history: []comparator.Evidence{{At: noon, Stage: backends.Shadow, Unsure: "entries were lost", Keys: looks{mug: rest(five, five)}}},
			now:     second, want: comparator.SettledWait},
		{name: "never at rest, and no order within the window: undetermined", search: &comparator.Search{},
			history: []comparator.Evidence{look(59*second, looks{mug: waitingFor(rest(five, five), 3, 2)})}, now: 60 * second, want: comparator.SettledUndetermined},
		{name: "no look at all within the window: undetermined", search: &comparator.Search{}, now: 60 * second, want: comparator.SettledUndetermined},
		{name: "the pod left dual-write: undetermined",
			history: []comparator.Evidence{{At: noon, Stage: backends.RedisOnly, Keys: looks{mug: rest(five, five)}}}, now: second, want: comparator.SettledUndetermined},
		{name: "each key may have its own moment of rest", keys: []backends.Key{cup, mug},
			history: []comparator.Evidence{look(second, looks{cup: rest(four, four)}), look(2*second, looks{mug: rest(five, five), cup: rest(five, four)})},
			now:     2 * second, want: comparator.SettledExplained},
		{name: "one key that agrees does not explain the other", keys: []backends.Key{cup, mug},
			history: []comparator.Evidence{look(second, looks{cup: rest(four, four)})}, now: second, want: comparator.SettledWait},
		{name: "one key that differs confirms, whatever the others say", keys: []backends.Key{cup, mug},
			history: []comparator.Evidence{look(second, looks{cup: rest(four, four), mug: rest(five, four)}), look(2*second, looks{mug: rest(five, four)})},
			now:     2 * second, want: comparator.SettledConfirmed,
			drift: []comparator.Drift{{Key: mug, Gap: comparator.Gap{Sellable: -1, OnHand: -1}, Truth: five, Shadow: four}}},
		{name: "a level that is missing on one side and empty on the other agrees",
			history: []comparator.Evidence{look(second, looks{mug: rest(nil, level("mug", "A", 0, 0, 0))})}, now: second, want: comparator.SettledExplained},
		{name: "the same stock for sale with other units taken differs",
			history: []comparator.Evidence{look(second, looks{mug: rest(five, level("mug", "A", 5, 0, 1))}), look(2*second, looks{mug: rest(five, level("mug", "A", 5, 0, 1))})},
			now:     2 * second, want: comparator.SettledConfirmed,
			drift: []comparator.Drift{{Key: mug, Gap: comparator.Gap{Taken: 1}, Truth: five, Shadow: level("mug", "A", 5, 0, 1)}}},
		{name: "agreement at rest is no proof: without an order in a complete record it is confirmed", search: &none, about: refusedBy,
			history: []comparator.Evidence{look(second, looks{mug: rest(five, five)})}, now: 10 * second, want: comparator.SettledConfirmed},
		{name: "and whatever is at rest, when nothing comes to rest", search: &none, about: refusedBy, now: 10 * second, want: comparator.SettledConfirmed},
		{name: "it waits a little for what differs at rest, and for a proxy that nobody has heard of yet", search: &none, about: refusedBy,
			history: []comparator.Evidence{look(second, looks{mug: rest(five, five)})}, now: 9 * second, want: comparator.SettledWait},
		{name: "no order in an incomplete record is no proof either", search: &comparator.Search{Found: comparator.FoundNone, Intact: true}, about: refusedBy,
			history: []comparator.Evidence{look(second, looks{mug: rest(five, five)})}, now: 30 * second, want: comparator.SettledWait},
		{name: "nor is an order in one", search: &comparator.Search{Found: comparator.FoundOrder, Intact: true}, about: refusedBy,
			history: []comparator.Evidence{look(second, looks{mug: rest(five, five)})}, now: 30 * second, want: comparator.SettledWait},
		{name: "and within the window it stays undetermined", search: &comparator.Search{Found: comparator.FoundOrder, Intact: true}, about: refusedBy,
			history: []comparator.Evidence{look(second, looks{mug: rest(five, five)})}, now: 60 * second, want: comparator.SettledUndetermined},
		{name: "an order waits for rest", history: []comparator.Evidence{look(second, looks{mug: waitingFor(rest(five, five), 1, 1)})}, now: 2 * second, want: comparator.SettledWait},
		{name: "but not for ever", history: []comparator.Evidence{look(second, looks{mug: waitingFor(rest(five, five), 1, 1)})}, now: 11 * second, want: comparator.SettledExplained},
		{name: "and not past a gap at rest", history: []comparator.Evidence{look(second, looks{mug: rest(five, four)})}, now: 11 * second, want: comparator.SettledWait},
		{name: "two refusals that name different lines are never confirmed by a search", search: &none, about: bothRefused,
			history: []comparator.Evidence{look(second, looks{mug: rest(five, five)})}, now: second, want: comparator.SettledUndetermined},
		{name: "too large a search is undetermined", search: &comparator.Search{Found: comparator.FoundTooLarge, Intact: true, Complete: true, Why: "too many"}, about: refusedBy,
			history: []comparator.Evidence{look(second, looks{mug: rest(five, five)})}, now: second, want: comparator.SettledUndetermined},
		{name: "unless the debt that it left was paid", search: &comparator.Search{Found: comparator.FoundTooLarge, Intact: true, Complete: true}, about: inDebt,
			history: []comparator.Evidence{look(second, looks{mug: rest(five, five)})}, now: second, want: comparator.SettledExplained},
		{name: "a debt at another key does not help", search: &comparator.Search{Found: comparator.FoundTooLarge, Intact: true, Complete: true, Why: "too many"}, about: inDebt, keys: []backends.Key{cup},
			history: []comparator.Evidence{look(second, looks{cup: rest(five, five)})}, now: second, want: comparator.SettledUndetermined},
		{name: "nor does a paid one where no order explains it", search: &none, about: inDebt,
			history: []comparator.Evidence{look(second, looks{mug: rest(five, five)})}, now: 10 * second, want: comparator.SettledConfirmed},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if c.keys == nil {
				c.keys = []backends.Key{mug}
			}
			if c.search == nil {
				c.search = &comparator.Search{Found: comparator.FoundOrder, Intact: true, Complete: true}
			}
			got := comparator.Settle(comparator.Case{
				Judgement: comparator.Judgement{Verdict: comparator.VerdictDiverged, Class: comparator.OversellRisk, Keys: c.keys, AtOnce: c.atOnce, Why: "seen"},
				Since:     noon, Window: time.Minute, History: c.history, Search: *c.search, Observation: c.about,
			}, noon.Add(c.now))
			if got.End != c.want {
				t.Fatalf("%s, want %s; proof: %s", got.End, c.want, got.Proof)
			}
			if d := cmp.Diff(c.drift, got.Drift); d != "" {
				t.Error(d)
			}
			if (got.Proof == "") != (got.End == comparator.SettledWait) {
				t.Errorf("proof: %q", got.Proof)
			}
		})
	}
}

func TestSettleWithoutKeysIsUndetermined(t *testing.T) {
	if got := comparator.Settle(comparator.Case{Since: noon, Window: time.Minute}, noon); got.End != comparator.SettledUndetermined {
		t.Errorf("%s", got.End)
	}
}

// The proof says which operations stand between the two decisions: the order that explains it.
func TestExplanationKeepsTheOrder(t *testing.T) {
	mug := key("mug", "A")
	five := level("mug", "A", 5, 1, 0)
	between := []comparator.EntryRef{{Seq: "1", Op: backends.OpReserve, Hold: "h1", Place: comparator.PlaceBehind}, {Seq: "2", Op: backends.OpRelease, Hold: "h2", Place: comparator.PlaceAhead}}
	got := comparator.Settle(comparator.Case{
		Judgement: comparator.Judgement{Keys: []backends.Key{mug}}, Since: noon, Window: time.Minute,
		History: []comparator.Evidence{look(350*time.Millisecond, map[backends.Key]comparator.KeyEvidence{mug: rest(five, five)})},
		Search:  comparator.Search{Found: comparator.FoundOrder, Intact: true, Complete: true, Steps: 7, Order: between, Behind: 1, Ahead: 3},
	}, noon.Add(time.Second))
	if d := cmp.Diff(between, got.Order); d != "" {
		t.Error(d)
	}
	for _, want := range []string{"s/mug@A", "sellable 5, on hand 6, taken 0", "350ms after", "7 operations that overlap", "1 stood before", "3 the other way round", "2 of them are listed"} {
		if !strings.Contains(got.Proof, want) {
			t.Errorf("no %q in the proof: %s", want, got.Proof)
		}
	}
}
