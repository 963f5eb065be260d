package comparator

import (
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

type noStore struct{ Store }

// That there is no order is searched for again only when there is something new to search among.
func TestASearchThatFoundNoneIsNotRepeated(t *testing.T) {
	now := time.Now()
	c, err := New(Config{Pod: "one", Proxy: "p", Store: noStore{}, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	follow := func(hold backends.HoldID, units int64, decided, followed backends.Instant) {
		h := &backends.Hold{ID: hold, Shop: "s", Lines: []backends.Line{{Item: "mug", Quantity: units, Locations: []backends.Location{"A"}}},
			Allocs: []backends.Allocation{{Location: "A", Quantity: units}}, State: backends.Held, Version: backends.Version{Epoch: 1, N: 1}}
		c.Followed(Followed{Epoch: 1, Stage: backends.Shadow, Shadow: Span{followed, followed}, Items: []FollowedItem{
			{Entry: backends.Entry{Seq: string(hold), Op: backends.OpReserve, Hold: h}, Truth: Span{decided, decided}, Confirmed: true, Changed: true}}})
	}
	o, j := wants(0, 1, Span{100, 100}, Span{140, 160})
	o.Stage, o.Epoch, o.RecordSince, o.Decided = backends.Shadow, 1, 90, now
	oc := &openCase{Case: Case{Observation: *o, Judgement: *j, Since: now, Window: time.Minute}}
	ev := Evidence{At: now, Stage: backends.Shadow, Keys: map[backends.Key]KeyEvidence{}}
	const mine = 99 // a search would write another number over it
	for _, step := range []struct {
		what   string
		do     func()
		search bool
		found  Found
	}{
		{"at first", func() { follow("two", 2, 95, 200) }, true, FoundNone},
		{"nothing is new", func() {}, false, FoundNone},
		{"what is new does not overlap", func() { follow("later", 1, 900, 910) }, false, FoundNone},
		{"one more overlaps", func() { follow("one", 1, 150, 130) }, true, FoundOrder},
	} {
		step.do()
		oc.Search.Steps = mine
		c.inquire(oc, &ev)
		if searched := oc.Search.Steps != mine; searched != step.search || oc.Search.Found != step.found || !oc.Search.Complete {
			t.Errorf("%s: searched %v, %+v", step.what, searched, oc.Search)
		}
	}
}
