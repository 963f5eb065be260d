package comparator_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// reviewed is a finding that was acknowledged and seen again.
func reviewed(t *testing.T) comparator.Finding {
	t.Helper()
	f := aFinding("order-7", "85123A", 2)
	k := f.Units[0].Key
	f.Truth = comparator.Facts{Answer: &comparator.Answer{Outcome: backends.OutcomeSoldOut, Short: []backends.Shortage{{Line: 0, Item: "85123A", Wanted: 3, Available: 1}}, Seen: []backends.Units{{Key: k, Quantity: 1}}}}
	f.Shadow = comparator.Facts{Answer: &comparator.Answer{Outcome: backends.OutcomeGranted, Allocs: []backends.Allocation{{Line: 0, Location: "warehouse-1", Quantity: 3}}, Seen: []backends.Units{{Key: k, Quantity: 3}}}}
	f.Order = []comparator.EntryRef{{Seq: "1-7", Op: backends.OpReserve, Hold: "order-6", Keys: []backends.Key{k}}}
	f.TruthLatencyUS, f.ShadowLatencyUS, f.TraceID = 180, 2100, "4bf92f3577b34da6"
	m, err := comparator.LifeChange{To: comparator.LifeAcknowledged, By: "ann", Why: "known since the stock take of May, see ticket 1234", At: noon}.Apply(f)
	if err != nil {
		t.Fatal(err)
	}
	again := aFinding("order-7", "85123A", 5)
	again.Truth, again.Shadow, again.Order = f.Truth, f.Shadow, f.Order
	again.TruthLatencyUS, again.ShadowLatencyUS, again.TraceID = f.TruthLatencyUS, f.ShadowLatencyUS, f.TraceID
	again.LastSeen = noon.Add(time.Hour)
	return comparator.Merge(m.Finding, again)
}

func TestFindingPages(t *testing.T) {
	f := reviewed(t)
	if f.Life != comparator.LifeOpen {
		t.Fatalf("%+v", f)
	}
	d := comparator.Detail(f)
	render(t, "finding-again", func(b *bytes.Buffer, f comparator.Format) error { return d.Write(b, f) })

	level := aFinding("", "85123A", 2)
	level.Class, level.Source, level.Units = comparator.LevelDrift, "audit", append(level.Units, units(1, "85123A", "b"))
	slow := comparator.Finding{ID: strings.Repeat("0", 32), Pod: "one", Class: comparator.SlowShadow, Source: "mirror", FirstSeen: noon, LastSeen: noon, Count: 3, TotalUnits: 9, Life: comparator.LifeOpen}
	l := comparator.FindingList{Pod: "one", Asked: "open, seen in the last 24h0m0s", Findings: []comparator.Finding{f, level, slow}, Next: comparator.CursorOf(&slow).String()}
	render(t, "findings-list", func(b *bytes.Buffer, f comparator.Format) error { return l.Write(b, f) })
	none := comparator.FindingList{Pod: "one", Asked: "open", Findings: []comparator.Finding{}}
	render(t, "findings-none", func(b *bytes.Buffer, f comparator.Format) error { return none.Write(b, f) })

	m := comparator.NewMovedFindings("one", comparator.LifeAcknowledged, []comparator.Moved{{Finding: f, Changed: true}, {Finding: level}})
	var b bytes.Buffer
	if err := m.Write(&b, comparator.FormatTable); err != nil || !strings.Contains(b.String(), "1 finding of pod one changed, 1 in that state before.") {
		t.Errorf("%v\n%s", err, &b)
	}
}

// The timeline is in order: what somebody did after the last sight comes behind it.
func TestTimeline(t *testing.T) {
	f := aFinding("order-7", "85123A", 2)
	m, err := comparator.LifeChange{To: comparator.LifeAcknowledged, By: "ann", Why: "known", At: noon.Add(time.Hour)}.Apply(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		name          string
		f             comparator.Finding
		before, after string
	}{{"acknowledged after the last sight", m.Finding, "last seen", "by ann"}, {"seen again", reviewed(t), "by ann: known", "last seen"}} {
		d := comparator.Detail(x.f)
		var b bytes.Buffer
		if err := d.Write(&b, comparator.FormatTable); err != nil {
			t.Fatal(err)
		}
		before, after := strings.Index(b.String(), x.before), strings.LastIndex(b.String(), x.after)
		if before < 0 || after < before || strings.Count(b.String(), "last seen") != 1 {
			t.Errorf("%s:\n%s", x.name, &b)
		}
	}
}

// A list that is read page by page ends, and a cursor that nobody gave is refused.
func TestFindingCursor(t *testing.T) {
	f := aFinding("h", "mug", 1)
	c, err := comparator.ParseFindingCursor(comparator.CursorOf(&f).String())
	if err != nil || !c.LastSeen.Equal(f.LastSeen) || c.ID != f.ID {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := comparator.ParseFindingCursor(""); c != nil || err != nil {
		t.Errorf("%+v, %v", c, err)
	}
	for _, bad := range []string{"x", "1", "1-", "1-zz", fmt.Sprint("x-", f.ID), f.ID} {
		if _, err := comparator.ParseFindingCursor(bad); !backends.IsRejection(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Every detail says what to do, whatever the finding's state.
func TestDetailOfEachState(t *testing.T) {
	for _, l := range []comparator.Life{comparator.LifeOpen, comparator.LifeExplained, comparator.LifeRepaired, comparator.LifeAcknowledged, comparator.LifeUndetermined, comparator.LifeExcused} {
		f := aFinding("h", "mug", 1)
		f.Life = l
		d := comparator.Detail(f)
		var b bytes.Buffer
		if err := d.Write(&b, comparator.FormatTable); err != nil || len(d.Next) == 0 || !strings.Contains(b.String(), f.ID) {
			t.Errorf("%s: %v\n%s", l, err, &b)
		}
	}
}

func TestApologyPages(t *testing.T) {
	a := backends.Apology{Hold: "order-5", Key: key("22423", "warehouse-1"), Quantity: 4, Reason: "claimed after the hold had expired", At: backends.Instant(noon.UnixMilli())}
	open := comparator.NewApologyRecord("one", backends.SideMySQL, &a)
	open.Join(backends.SideRedis, &a)
	b := a
	b.Hold, b.Quantity = "order-6", 1
	acked := comparator.NewApologyRecord("one", backends.SideRedis, &b)
	if changed, err := (comparator.ApologyAck{By: "ann", Why: "customer 1234 has got a voucher", At: noon.Add(time.Hour)}).Apply(&acked); err != nil || !changed {
		t.Fatal(changed, err)
	}
	l := comparator.ApologyList{Pod: "one", Asked: "in every state", Sum: comparator.ApologySum{Open: 1, OpenUnits: 4, Acked: 1, AckedUnits: 1},
		Apologies: []comparator.ApologyRecord{open, acked}, Next: (&comparator.ApologyCursor{At: b.At, ID: acked.ID}).String(), Problems: []string{"redis does not answer"}}
	render(t, "apologies-list", func(b *bytes.Buffer, f comparator.Format) error { return l.Write(b, f) })
	for changed, want := range map[bool]string{true: "acknowledged by ann", false: "was acknowledged already, by ann"} {
		var out bytes.Buffer
		if err := (&comparator.AckedApology{ApologyRecord: acked, Changed: changed}).Write(&out, comparator.FormatTable); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%v: %q", err, &out)
		}
	}
	for _, bad := range []string{"x", "1", "1-zz"} {
		if _, err := comparator.ParseApologyCursor(bad); !backends.IsRejection(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
