package comparator_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// excuse holds from an hour before noon to an hour after it.
func excuse(name string, change func(*comparator.Excuse)) comparator.Excuse {
	e := comparator.Excuse{Name: name, Owner: "ann", Why: "known", From: noon.Add(-time.Hour), Until: noon.Add(time.Hour)}
	if change != nil {
		change(&e)
	}
	return e
}

func TestExcusesCover(t *testing.T) {
	drift := func(change func(*comparator.Finding)) comparator.Finding {
		f := comparator.Finding{Pod: "one", Class: comparator.LevelDrift, Shop: "s", Units: []backends.Units{units(2, "mug", "A")}, TotalUnits: 2, Caller: "web", LastSeen: noon}
		if change != nil {
			change(&f)
		}
		return f
	}
	mug := func(e *comparator.Excuse) { e.Items = []backends.Item{"mug"} }
	twoItems := func(f *comparator.Finding) { f.Units, f.TotalUnits = append(f.Units, units(1, "cup", "A")), 3 }
	for _, c := range []struct {
		name   string
		excuse func(*comparator.Excuse)
		find   func(*comparator.Finding)
		want   bool
	}{
		{"its class, pod, shop, item and caller", func(e *comparator.Excuse) {
			e.Classes, e.Pods, e.Shops, e.Items, e.Callers = []comparator.Class{comparator.LevelDrift}, []backends.Pod{"one"}, []backends.Shop{"s"}, []backends.Item{"mug"}, []string{"web"}
		}, nil, true},
		{"its item", mug, nil, true},
		{"another class", func(e *comparator.Excuse) { e.Classes = []comparator.Class{comparator.Quantity} }, nil, false},
		{"one of its classes", func(e *comparator.Excuse) {
			e.Classes = []comparator.Class{comparator.Quantity, comparator.LevelDrift}
		}, nil, true},
		{"another pod", func(e *comparator.Excuse) { e.Pods = []backends.Pod{"two"} }, nil, false},
		{"another shop", func(e *comparator.Excuse) { e.Shops = []backends.Shop{"t"} }, nil, false},
		{"another item", func(e *comparator.Excuse) { e.Items = []backends.Item{"Mug"} }, nil, false},
		{"another caller", func(e *comparator.Excuse) { e.Callers = []string{"till"} }, nil, false},
		{"a caller, of a finding without one", func(e *comparator.Excuse) { e.Callers = []string{"web"} }, func(f *comparator.Finding) { f.Caller = "" }, false},
		{"the class alone is not enough where the item is another", func(e *comparator.Excuse) {
			e.Classes = []comparator.Class{comparator.LevelDrift}
			e.Items = []backends.Item{"cup"}
		}, nil, false},
		{"one of two items", mug, twoItems, false},
		{"both items", func(e *comparator.Excuse) { e.Items = []backends.Item{"cup", "mug"} }, twoItems, true},
		{"the item, of a finding that does not list all of its keys", mug, func(f *comparator.Finding) { f.TotalUnits = 99 }, false},
		{"the item, of a finding without keys", mug, func(f *comparator.Finding) { f.Units = nil }, false},
		{"the shop, of a finding without keys", func(e *comparator.Excuse) { e.Shops = []backends.Shop{"s"} }, func(f *comparator.Finding) { f.Units = nil }, true},
		{"another shop, of a finding without keys", func(e *comparator.Excuse) { e.Shops = []backends.Shop{"t"} }, func(f *comparator.Finding) { f.Units = nil }, false},
		{"its first instant", mug, func(f *comparator.Finding) { f.LastSeen = noon.Add(-time.Hour) }, true},
		{"before it", mug, func(f *comparator.Finding) { f.LastSeen = noon.Add(-time.Hour - time.Microsecond) }, false},
		{"its last instant", mug, func(f *comparator.Finding) { f.LastSeen = noon.Add(time.Hour - time.Microsecond) }, true},
		{"run out", mug, func(f *comparator.Finding) { f.LastSeen = noon.Add(time.Hour) }, false},
	} {
		e, f := excuse("e", c.excuse), drift(c.find)
		if got := e.Covers(&f); got != c.want {
			t.Errorf("%s: covered %v, want %v", c.name, got, c.want)
		}
	}
	f := drift(nil)
	if e := (comparator.Excuses{excuse("other", func(e *comparator.Excuse) { e.Items = []backends.Item{"cup"} }), excuse("first", mug), excuse("second", mug)}).Find(&f); e == nil || e.Name != "first" {
		t.Errorf("found %+v, want the first that covers it", e)
	}
	if e := (comparator.Excuses)(nil).Find(&f); e != nil {
		t.Errorf("no excuse is %+v", e)
	}
}

// everything is an excuse for a pod, for a day of the virtual clock.
func everything() comparator.Excuses {
	return comparator.Excuses{{Name: "all", Owner: "ann", Why: "known", From: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Hour), Pods: []backends.Pod{"one"}}}
}

// TestExcusedIsCountedApart: what an excuse covers is neither a match nor a finding, and is in the account once.
func TestExcusedIsCountedApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		es := everything()
		r := newRig(t, func(c *comparator.Config) { c.Excuses = func() comparator.Excuses { return es } })
		r.look.say(1)
		r.start()
		r.decide("h1", refuseOne, wouldGrant)
		r.decide("h2", grantOne, ownOf(grantOne))
		r.decide("h3", refuseOne, ownOf(refuseOne))
		pass(6 * time.Second)
		r.want(comparator.Counts{Excused: 1, Matched: 1, Probed: 1})
		if p := r.Snapshot().Parity(); p.Agreed != 2 || p.Compared != 2 || p.Decisions != 3 {
			t.Errorf("an excused decision is in the parity: %+v", p)
		}
		if n := len(r.Stats().Confirmed); n != 0 {
			t.Errorf("%d classes are counted as confirmed", n)
		}
		pass(2 * time.Hour) // the excuse runs out
		r.decide("h4", refuseOne, wouldGrant)
		pass(6 * time.Second)
		r.want(comparator.Counts{Excused: 1, Confirmed: 1, Matched: 1, Probed: 1})
		r.Stop()
		fs := r.findings()
		if fs := fs[comparator.OversellRisk]; len(fs) != 2 || fs[0].Life != comparator.LifeOpen || fs[1].Life != comparator.LifeExcused || fs[1].Excuse != "all" {
			t.Errorf("%+v", fs)
		}
		if d := fs[comparator.LevelDrift]; len(d) != 1 || d[0].Life != comparator.LifeOpen || !strings.Contains(d[0].History[0].Why, "excused (all)") {
			t.Errorf("the key's drift, which was excused and then seen without an excuse: %+v", d)
		}
	})
}

// TestExplainedNeedsNoExcuse: what concurrency explains is explained, whatever an excuse covers; and excuses that
// cannot be asked excuse nothing.
func TestExplainedNeedsNoExcuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		es := everything()
		r := newRig(t, func(c *comparator.Config) {
			c.Excuses = func() comparator.Excuses {
				if es == nil {
					panic("no excuses")
				}
				return es
			}
		})
		r.start()
		r.decide("h1", refuseOne, wouldGrant)
		pass(6 * time.Second)
		r.want(comparator.Counts{Explained: 1})
		es = nil
		r.look.say(1)
		r.decide("h2", refuseOne, wouldGrant)
		pass(6 * time.Second)
		r.want(comparator.Counts{Explained: 1, Confirmed: 1})
		r.Stop()
	})
}

// TestManyExcused: beyond so many a minute excused decisions are only counted.
func TestManyExcused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 200
		es := everything()
		r := newRig(t, func(c *comparator.Config) { c.Excuses = func() comparator.Excuses { return es } })
		r.start()
		truth, shadow := refuseOne, *wouldGrant
		truth.Seen = []backends.Units{units(0, "mug", "A")}
		shadow.Seen = truth.Seen
		for i := range n {
			r.decide(strings.Repeat("h", i%60+1)+string(rune('a'+i/60)), truth, &shadow)
		}
		pass(time.Second)
		r.want(comparator.Counts{Excused: n})
		kept := r.Stats()
		r.Stop()
		if got := len(r.findings()[comparator.OversellRisk]); got == 0 || int64(got)+kept.NotKept != n {
			t.Errorf("%d kept and %d not, of %d", got, kept.NotKept, n)
		}
	})
}

// TestAuditExcuses: an audit counts what an excuse covers apart, and is clean when there is nothing else.
func TestAuditExcuses(t *testing.T) {
	p := newPod(t, backends.Shadow)
	p.stock("mug", 20)
	p.stock("cup", 20)
	p.mirror(nil)
	p.reserve("h1", "mug", 3)
	p.reserve("h2", "cup", 2)
	p.mirror(nil, "h1", "h2")
	holds := comparator.Excuse{Name: "mugs", From: p.now.Add(-time.Hour), Until: p.now.Add(time.Hour), Items: []backends.Item{"mug"}}
	for _, c := range []struct {
		items            []backends.Item
		findings, excuse int64
	}{{[]backends.Item{"mug"}, 1, 1}, {[]backends.Item{"mug", "cup"}, 0, 2}, {[]backends.Item{"hat"}, 2, 0}} {
		var told []comparator.Finding
		holds.Items = c.items
		r, err := p.audit(func(in *comparator.AuditInput) {
			in.Excuses = comparator.Excuses{holds}
			in.Found = func(f comparator.Finding) { told = append(told, f) }
		})
		if err != nil {
			t.Fatal(err)
		}
		var excused, units int64
		for _, f := range told {
			if f.Life == comparator.LifeExcused && f.Excuse == "mugs" {
				excused, units = excused+1, units+f.TotalUnits
			}
		}
		if r.FindingsTotal != c.findings || r.ExcusedTotal != c.excuse || excused != c.excuse || r.ExcusedUnits != units || len(told) != 2 || r.Clean() != (c.findings == 0) || r.Attributed != 2 {
			t.Errorf("%v: %d findings, %d excused with %d units, told of %d, clean %v: %+v", c.items, r.FindingsTotal, r.ExcusedTotal, r.ExcusedUnits, len(told), r.Clean(), r)
		}
	}
}
