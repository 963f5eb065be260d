package findingstest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

const noID = "00000000000000000000000000000000"

// change is one by hand, some seconds after noon.
func change(to comparator.Life, by string, sec int) comparator.LifeChange {
	return comparator.LifeChange{To: to, By: by, Why: "so said " + by, At: noon.Add(time.Duration(sec) * time.Second)}
}

// moved makes a change that has to succeed.
func (s *suite) moved(c comparator.LifeChange, ids ...string) []comparator.Moved {
	s.t.Helper()
	got, err := s.SetLife(s.ctx, "one", ids, c)
	s.must(err)
	return got
}

func lives(t *testing.T, s *suite) {
	f := finding("one", comparator.OversellRisk, "h1", 1, 3)
	s.save(f)
	ack := change(comparator.LifeAcknowledged, "ann", 60)
	want := f
	want.Life, want.By, want.Why = ack.To, ack.By, ack.Why
	want.History = []comparator.LifeEvent{{At: ack.At, From: comparator.LifeOpen, To: ack.To, By: "ann", Why: ack.Why, Units: 3, Sights: 1}}
	s.same([]comparator.Moved{{Finding: want, Changed: true}}, s.moved(ack, f.ID, f.ID))
	s.same(want, s.get(f))
	s.same([]comparator.Moved{{Finding: want}}, s.moved(change(comparator.LifeAcknowledged, "bob", 61), f.ID)) // twice is once: it stays ann's
	s.same(want, s.get(f))

	var le *comparator.LifeError
	if _, err := s.SetLife(s.ctx, "one", []string{f.ID}, change(comparator.LifeRepaired, "ann", 62)); !errors.As(err, &le) || le.From != comparator.LifeAcknowledged {
		t.Errorf("acknowledged → repaired: %v", err)
	}
	s.save(f) // the sight that was acknowledged, sent again
	s.same(want, s.get(f))

	reopen := change(comparator.LifeOpen, "bob", 63)
	want.Life, want.By, want.Why = reopen.To, reopen.By, reopen.Why
	want.History = append(want.History, comparator.LifeEvent{At: reopen.At, From: comparator.LifeAcknowledged, To: reopen.To, By: "bob", Why: reopen.Why, Units: 3, Sights: 1})
	s.same([]comparator.Moved{{Finding: want, Changed: true}}, s.moved(reopen, f.ID))
	s.same([]comparator.Moved{{Finding: want}}, s.moved(reopen, f.ID))
	s.same(want, s.get(f))

	for range comparator.MaxHistory {
		s.moved(change(comparator.LifeAcknowledged, "ann", 64), f.ID)
		s.moved(change(comparator.LifeOpen, "ann", 65), f.ID)
	}
	got := s.get(f)
	if n := len(got.History); n != comparator.MaxHistory || got.HistoryDropped != comparator.MaxHistory+2 || got.History[0] != want.History[0] || got.History[n-1].To != comparator.LifeOpen {
		t.Errorf("a long history has %d changes and %d left out: %+v", n, got.HistoryDropped, got.History)
	}
}

// together: a change of several findings that cannot be made of one of them is made of none.
func together(t *testing.T, s *suite) {
	f, g := finding("one", comparator.OversellRisk, "h1", 1, 3), finding("one", comparator.Quantity, "h2", 2, 1)
	other := finding("two", comparator.Quantity, "h3", 2, 1)
	explained := finding("one", comparator.Location, "h4", 3, 1)
	explained.Life = comparator.LifeExplained
	s.save(f, g, other, explained)
	ack := change(comparator.LifeAcknowledged, "ann", 60)
	var le *comparator.LifeError
	var fe *backends.FieldError
	for _, c := range []struct {
		name  string
		ids   []string
		c     comparator.LifeChange
		right func(error) bool
	}{
		{"an id that is not there", []string{f.ID, noID}, ack, func(err error) bool {
			return errors.Is(err, comparator.ErrNoFinding) && strings.Contains(err.Error(), noID)
		}},
		{"an id of another pod", []string{f.ID, other.ID}, ack, func(err error) bool { return errors.Is(err, comparator.ErrNoFinding) }},
		{"one that cannot", []string{f.ID, explained.ID}, ack, func(err error) bool { return errors.As(err, &le) && le.ID == explained.ID }},
		{"no id", nil, ack, func(err error) bool { return errors.As(err, &fe) && fe.Field == "ids" }},
		{"too many", make([]string, comparator.MaxLifeChanges+1), ack, func(err error) bool { return errors.As(err, &fe) && fe.Field == "ids" }},
		{"what is no id", []string{f.ID, strings.ToUpper(g.ID)}, ack, func(err error) bool { return errors.As(err, &fe) && fe.Field == "id" }},
		{"nobody", []string{f.ID}, comparator.LifeChange{To: ack.To, Why: "x"}, func(err error) bool { return errors.As(err, &fe) && fe.Field == "by" }},
		{"no reason", []string{f.ID}, comparator.LifeChange{To: ack.To, By: "ann", Why: " "}, func(err error) bool { return errors.As(err, &fe) && fe.Field == "why" }},
		{"a long reason", []string{f.ID}, comparator.LifeChange{To: ack.To, By: "ann", Why: strings.Repeat("x", comparator.MaxWhy+1)}, func(err error) bool { return errors.As(err, &fe) && fe.Field == "why" }},
	} {
		if got, err := s.SetLife(s.ctx, "one", c.ids, c.c); !c.right(err) || got != nil {
			t.Errorf("%s: %v, %+v", c.name, err, got)
		}
		s.same(f, s.get(f))
	}
	got := s.moved(ack, g.ID, f.ID)
	if len(got) != 2 || got[0].Finding.ID != g.ID || got[1].Finding.ID != f.ID || s.get(f).Life != comparator.LifeAcknowledged || s.get(g).Life != comparator.LifeAcknowledged {
		t.Errorf("%+v", got)
	}
	if s.get(other).Life != comparator.LifeOpen {
		t.Error("another pod's finding was moved")
	}
}

// seenAgain: an acknowledgement is of what had been seen. What is seen later opens the finding again, and its
// history says so, with the units.
func seenAgain(t *testing.T, s *suite) {
	f := finding("one", comparator.LevelDrift, "", 5, 2)
	s.save(f)
	s.moved(change(comparator.LifeAcknowledged, "ann", 60), f.ID)
	s.save(finding("one", comparator.LevelDrift, "", 4, 9)) // an earlier sight, late
	if got := s.get(f); got.Life != comparator.LifeAcknowledged || got.TotalUnits != 2 {
		t.Errorf("an earlier sight made it %+v", got)
	}
	again := finding("one", comparator.LevelDrift, "", 6, 3)
	s.save(again, again)
	got := s.get(f)
	if got.Life != comparator.LifeOpen || got.By != "" || got.TotalUnits != 3 || got.Count != 2 || len(got.History) != 2 {
		t.Fatalf("seen again: %+v", got)
	}
	e := got.History[1]
	if e.By != "" || e.From != comparator.LifeAcknowledged || e.To != comparator.LifeOpen || !e.At.Equal(again.LastSeen) || !strings.Contains(e.Why, "acknowledged by ann, with 3 units instead of 2") {
		t.Errorf("the history says %+v", e)
	}
	sums, err := s.Summary(s.ctx, "one", noon)
	s.must(err)
	if len(sums) != 1 || sums[0].Life != comparator.LifeOpen || sums[0].Findings != 1 {
		t.Errorf("it is counted as %+v", sums)
	}
	explained := finding("one", comparator.LevelDrift, "", 7, 1)
	explained.Life = comparator.LifeExplained
	s.moved(change(comparator.LifeAcknowledged, "ann", 61), f.ID)
	s.save(explained)
	if got := s.get(f); got.Life != comparator.LifeAcknowledged || got.Count != 3 {
		t.Errorf("an explained sight made it %+v", got)
	}
}

// reviewers: of several who move the same findings at once each is told what it was that they found, and
// exactly one change is recorded for each that was made. A call that fails is repeated.
func reviewers(t *testing.T, s *suite) {
	const findings, people, rounds = 6, 4, 5
	var ids []string
	for i := range findings {
		f := finding("one", comparator.OversellRisk, backends.HoldID(fmt.Sprint("h", i)), i, 1)
		s.save(f)
		ids = append(ids, f.ID)
	}
	var wg sync.WaitGroup
	var made atomic.Int64
	for p := range people {
		wg.Go(func() {
			mine := append(append([]string{}, ids[p:]...), ids[:p]...)
			for round := range rounds {
				to := comparator.LifeAcknowledged
				if (p+round)%2 == 1 {
					to = comparator.LifeOpen
				}
				made.Add(s.reviewed(mine, change(to, fmt.Sprint("person-", p), round)))
			}
		})
	}
	wg.Wait()
	var recorded int64
	for _, id := range ids {
		f, err := s.Finding(s.ctx, "one", id)
		s.must(err)
		recorded += int64(len(f.History))
		for i, e := range f.History {
			if i > 0 && e.From != f.History[i-1].To || i == 0 && e.From != comparator.LifeOpen {
				t.Errorf("the history of %s breaks at %d: %+v", id, i, f.History)
			}
		}
	}
	if recorded != made.Load() || recorded == 0 {
		t.Errorf("%d changes were made and %d are recorded", made.Load(), recorded)
	}
}

// reviewed makes one change, however often it takes, and answers how many findings it moved.
func (s *suite) reviewed(ids []string, c comparator.LifeChange) (made int64) {
	for {
		got, err := s.SetLife(s.ctx, "one", ids, c)
		switch {
		case err != nil && s.ctx.Err() != nil:
			s.t.Errorf("not moved in time: %v", err)
			return made
		case err != nil:
			continue
		}
		for i := range got {
			if got[i].Finding.Life != c.To || got[i].Finding.ID != ids[i] {
				s.t.Errorf("moved to %s: %+v", c.To, got[i])
			}
			if got[i].Changed {
				made++
			}
		}
		return made
	}
}

func subjects(t *testing.T, s *suite) {
	at := func(f comparator.Finding, keys ...backends.Key) comparator.Finding {
		f.Units = nil
		for _, k := range keys {
			f.Units = append(f.Units, backends.Units{Key: k, Quantity: 1})
		}
		return f
	}
	key := func(shop backends.Shop, item backends.Item) backends.Key {
		return backends.Key{Shop: shop, Item: item, Location: "A"}
	}
	mug := at(finding("one", comparator.OversellRisk, "h1", 1, 1), key("s", "mug"))
	both := at(finding("one", comparator.OversellRisk, "h2", 2, 2), key("s", "mug"), key("s", "cup"))
	other := at(finding("one", comparator.OversellRisk, "h3", 3, 1), key("t", "Mug"))
	other.Shop = "t"
	slow := at(finding("one", comparator.SlowShadow, "", 4, 1))
	s.save(mug, both, other, slow)
	cupless := at(finding("one", comparator.OversellRisk, "h2", 5, 1), key("s", "mug")) // seen again, without the cup
	for _, c := range []struct {
		name string
		shop backends.Shop
		item backends.Item
		want []string
	}{
		{"an item", "", "mug", []string{both.ID, mug.ID}},
		{"an item of a shop", "s", "cup", []string{both.ID}},
		{"another shop's", "t", "cup", nil},
		{"byte for byte", "", "Mug", []string{other.ID}},
		{"part of an item", "", "mu", nil},
		{"a shop", "s", "", []string{slow.ID, both.ID, mug.ID}},
		{"nobody's", "u", "", nil},
	} {
		fs, err := s.ListFindings(s.ctx, comparator.FindingQuery{Pod: "one", Shop: c.shop, Item: c.item})
		s.must(err)
		s.same(c.want, idsOf(fs))
	}
	s.save(cupless)
	fs, err := s.ListFindings(s.ctx, comparator.FindingQuery{Pod: "one", Item: "cup"})
	s.must(err)
	s.same([]string(nil), idsOf(fs))
	if len(fs) != 0 {
		t.Error("it is still found by what it is no longer about")
	}
}

func idsOf(fs []comparator.Finding) (ids []string) {
	for i := range fs {
		ids = append(ids, fs[i].ID)
	}
	return ids
}

// pages: page after page gives each finding once, in order, also where many were seen at the same time.
func pages(t *testing.T, s *suite) {
	const n = 11
	for i := range n {
		s.save(finding("one", comparator.OversellRisk, backends.HoldID(fmt.Sprint("h", i)), i/4, 1))
	}
	all, err := s.ListFindings(s.ctx, comparator.FindingQuery{Pod: "one"})
	s.must(err)
	var got []comparator.Finding
	q := comparator.FindingQuery{Pod: "one", Lives: []comparator.Life{comparator.LifeOpen}, Since: noon, Limit: 3}
	for {
		page, err := s.ListFindings(s.ctx, q)
		s.must(err)
		got = append(got, page...)
		if len(page) < q.Limit {
			break
		}
		if q.After, err = comparator.ParseFindingCursor(comparator.CursorOf(&page[len(page)-1]).String()); err != nil {
			t.Fatal(err)
		}
	}
	s.same(all, got)
	if len(all) != n {
		t.Errorf("%d findings, want %d", len(all), n)
	}
}

// excused: what an excuse covers is no open finding, is counted by the excuse's name, and is open as soon as it is
// seen without one. An open finding is not closed by an excused sight.
func excused(t *testing.T, s *suite) {
	under := func(f comparator.Finding, name string) comparator.Finding {
		f.Life, f.Excuse = comparator.LifeExcused, name
		return f
	}
	a, b := finding("one", comparator.LevelDrift, "h1", 1, 3), finding("one", comparator.LevelDrift, "h2", 2, 4)
	c := finding("one", comparator.Quantity, "h3", 3, 5)
	s.save(under(a, "recount"), under(b, "recount"), under(c, "move"), finding("one", comparator.Location, "h4", 4, 1), under(finding("two", comparator.Quantity, "h1", 1, 9), "recount"))
	use := func(since time.Time) []comparator.ExcuseUse {
		t.Helper()
		got, err := s.ExcuseUse(s.ctx, "one", since)
		s.must(err)
		return got
	}
	s.same([]comparator.ExcuseUse{{Name: "move", Findings: 1, Units: 5, LastSeen: c.LastSeen}, {Name: "recount", Findings: 2, Units: 7, LastSeen: b.LastSeen}}, use(time.Time{}))
	s.same([]comparator.ExcuseUse{{Name: "move", Findings: 1, Units: 5, LastSeen: c.LastSeen}}, use(c.LastSeen))
	s.same(under(a, "recount"), s.get(a))

	again := finding("one", comparator.LevelDrift, "h1", 5, 3)
	s.save(again)
	got := s.get(a)
	if got.Life != comparator.LifeOpen || got.Excuse != "" || len(got.History) != 1 || !strings.Contains(got.History[0].Why, "excused (recount)") {
		t.Errorf("seen without an excuse: %+v", got)
	}
	s.save(under(finding("one", comparator.LevelDrift, "h1", 6, 3), "recount"))
	if got := s.get(a); got.Life != comparator.LifeOpen || got.Excuse != "recount" || got.Count != 3 {
		t.Errorf("an excused sight made an open finding %+v", got)
	}
	s.moved(change(comparator.LifeAcknowledged, "ann", 60), a.ID)
	s.save(under(finding("one", comparator.LevelDrift, "h1", 7, 3), "recount"))
	if got := s.get(a); got.Life != comparator.LifeAcknowledged {
		t.Errorf("an excused sight made an acknowledged finding %+v", got)
	}
	list, err := s.ListFindings(s.ctx, comparator.FindingQuery{Pod: "one", Lives: []comparator.Life{comparator.LifeExcused}})
	s.must(err)
	s.same([]string{c.ID, b.ID}, idsOf(list))
}
