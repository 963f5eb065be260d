package backends_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/crossfade-proxy/crossfade/backends"
)

func goodReserve() *backends.ReserveRequest {
	return &backends.ReserveRequest{ID: "h", Shop: "s", TTL: time.Minute, Caller: "web", Lines: sampleHold().Lines}
}

func manyLines(n int) []backends.Line {
	var ls []backends.Line
	for i := range n {
		ls = append(ls, backends.Line{Item: backends.Item(fmt.Sprint(i)), Quantity: 1, Locations: []backends.Location{"east"}})
	}
	return ls
}

func TestReserveRequestCheck(t *testing.T) {
	one := func(q int64, locs ...backends.Location) []backends.Line {
		return []backends.Line{{Item: "mug", Quantity: q, Locations: locs}}
	}
	for _, c := range []struct {
		name   string
		change func(r *backends.ReserveRequest)
		part   string // of the error; none: it is good
	}{
		{"good", func(*backends.ReserveRequest) {}, ""},
		{"the shortest life", func(r *backends.ReserveRequest) { r.TTL = backends.MinTTL }, ""},
		{"the longest life", func(r *backends.ReserveRequest) { r.TTL = backends.MaxTTL }, ""},
		{"the most lines", func(r *backends.ReserveRequest) { r.Lines = manyLines(backends.MaxLines) }, ""},
		{"the most units of a line", func(r *backends.ReserveRequest) { r.Lines = one(backends.MaxQuantity, "east") }, ""},
		{"no id", func(r *backends.ReserveRequest) { r.ID = "" }, "hold id"},
		{"a long id", func(r *backends.ReserveRequest) { r.ID = backends.HoldID(strings.Repeat("h", 65)) }, "hold id"},
		{"no life", func(r *backends.ReserveRequest) { r.TTL = 0 }, "ttl is 0s"},
		{"a life too short", func(r *backends.ReserveRequest) { r.TTL = backends.MinTTL - 1 }, "ttl"},
		{"a life too long", func(r *backends.ReserveRequest) { r.TTL = backends.MaxTTL + 1 }, "ttl"},
		{"a life before birth", func(r *backends.ReserveRequest) { r.TTL = -time.Second }, "ttl"},
		{"a bad caller", func(r *backends.ReserveRequest) { r.Caller = "*/" }, "caller"},
		{"no shop", func(r *backends.ReserveRequest) { r.Shop = "" }, "shop"},
		{"no lines", func(r *backends.ReserveRequest) { r.Lines = nil }, "lines is 0"},
		{"too many lines", func(r *backends.ReserveRequest) { r.Lines = manyLines(backends.MaxLines + 1) }, "lines is 1001"},
		{"no item", func(r *backends.ReserveRequest) { r.Lines[1].Item = "" }, "line 2 item"},
		{"nothing wanted", func(r *backends.ReserveRequest) { r.Lines[1].Quantity = 0 }, "line 2 quantity is 0"},
		{"less than nothing", func(r *backends.ReserveRequest) { r.Lines[0].Quantity = -1 }, "line 1 quantity is -1"},
		{"too much", func(r *backends.ReserveRequest) { r.Lines = one(backends.MaxQuantity+1, "east") }, "quantity"},
		{"no location", func(r *backends.ReserveRequest) { r.Lines = one(1) }, "line 1 locations is 0"},
		{"too many locations", func(r *backends.ReserveRequest) {
			r.Lines = one(1)
			for i := range backends.MaxLocations + 1 {
				r.Lines[0].Locations = append(r.Lines[0].Locations, backends.Location(fmt.Sprint(i)))
			}
		}, "line 1 locations is 17"},
		{"a bad location", func(r *backends.ReserveRequest) { r.Lines = one(1, "east", "") }, "line 1 location"},
		{"a location twice in a line", func(r *backends.ReserveRequest) { r.Lines = one(1, "east", "east") }, "merge the lines"},
		{"an item and location twice", func(r *backends.ReserveRequest) {
			r.Lines = append(one(1, "west", "east"), one(2, "north", "east")...)
		}, "line 1 names it too"},
		{"an item twice, elsewhere", func(r *backends.ReserveRequest) { r.Lines = append(one(1, "west"), one(2, "east")...) }, ""},
		{"items that differ in case", func(r *backends.ReserveRequest) {
			r.Lines = append(one(1, "east"), one(2, "east")...)
			r.Lines[1].Item = "Mug"
		}, ""},
		{"too many units in all", func(r *backends.ReserveRequest) {
			r.Lines = manyLines(3)
			for i := range r.Lines {
				r.Lines[i].Quantity = backends.MaxQuantity
			}
		}, "units of the cart is 3000000"},
	} {
		r := goodReserve()
		c.change(r)
		err := r.Check()
		if c.part != "" {
			refused(t, c.name, err, c.part)
		} else if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestRestockRequestCheck(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(r *backends.RestockRequest)
		part   string
	}{
		{"good", func(*backends.RestockRequest) {}, ""},
		{"negative", func(r *backends.RestockRequest) { r.Amount = -backends.MaxOnHand }, ""},
		{"sellable below zero", func(r *backends.RestockRequest) { r.Kind, r.Amount = backends.RestockSetSellable, -1 }, ""},
		{"the most", func(r *backends.RestockRequest) { r.Amount = backends.MaxOnHand }, ""},
		{"too much", func(r *backends.RestockRequest) { r.Amount = backends.MaxOnHand + 1 }, "quantity"},
		{"too little", func(r *backends.RestockRequest) { r.Amount = -backends.MaxOnHand - 1 }, "quantity"},
		{"on hand below zero", func(r *backends.RestockRequest) { r.Kind, r.Amount = backends.RestockSetOnHand, -1 }, "not below zero"},
		{"no operation id", func(r *backends.RestockRequest) { r.OpID = "" }, "operation id"},
		{"no shop", func(r *backends.RestockRequest) { r.Key.Shop = "" }, "shop"},
		{"no item", func(r *backends.RestockRequest) { r.Key.Item = "" }, "item"},
		{"no location", func(r *backends.RestockRequest) { r.Key.Location = "" }, "location"},
		{"a bad caller", func(r *backends.RestockRequest) { r.Caller = "a b" }, "caller"},
	} {
		r := &backends.RestockRequest{OpID: "op", Key: at("mug", "east"), Amount: 5}
		c.change(r)
		err := r.Check()
		if c.part != "" {
			refused(t, c.name, err, c.part)
		} else if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestNamesOfOpsAndOutcomes(t *testing.T) {
	ops := backends.Ops()
	names := map[string]bool{backends.OpUnknown.String(): true}
	for _, op := range ops {
		if names[op.String()] {
			t.Errorf("operation %d has the name %q of another", op, op)
		}
		names[op.String()] = true
	}
	roundTrip(t, append(ops, backends.OpUnknown))
	outcomes := []backends.Outcome{
		backends.OutcomeUnknown, backends.OutcomeGranted, backends.OutcomeSoldOut, backends.OutcomeClaimed, backends.OutcomeReleased,
		backends.OutcomeExtended, backends.OutcomeExpired, backends.OutcomeRestocked, backends.OutcomeEnded, backends.OutcomeNotFound,
	}
	roundTrip(t, outcomes)
	if got := backends.OutcomeSoldOut.String() + ", " + backends.Outcome(99).String() + ", " + backends.Op(99).String(); got != "sold out, unknown, unknown" {
		t.Errorf("the names are %s", got)
	}
	var op backends.Op
	var outcome backends.Outcome
	if op.UnmarshalText([]byte("steal")) == nil || outcome.UnmarshalText([]byte("lost")) == nil {
		t.Error("a name that nothing has was read")
	}
}

func TestLevel(t *testing.T) {
	for _, c := range []struct {
		name                      string
		l                         backends.Level
		sellable, debt, imbalance int64
	}{
		{"balanced", backends.Level{OnHand: 10, Available: 3, Held: 2, Taken: 1, Unmaterialised: 4}, 7, 0, 0},
		{"debt", backends.Level{OnHand: 3, Held: 5, Unmaterialised: -2}, -2, 2, 0},
		{"a unit too many", backends.Level{OnHand: 3, Available: 4}, 4, 0, -1},
		{"a unit too few", backends.Level{OnHand: 3, Held: 2}, 0, 0, 1},
	} {
		if c.l.Sellable() != c.sellable || c.l.Debt() != c.debt || c.l.Imbalance() != c.imbalance {
			t.Errorf("%s: sellable %d, debt %d, imbalance %d", c.name, c.l.Sellable(), c.l.Debt(), c.l.Imbalance())
		}
		roundTrip(t, c.l)
	}
}

func TestEntryKeys(t *testing.T) {
	h := sampleHold()
	for _, c := range []struct {
		name string
		e    backends.Entry
		want []backends.Key
	}{
		{"of a hold", backends.Entry{Hold: h}, []backends.Key{at("lamp", "east"), at("mug", "east"), at("mug", "west")}},
		{"of a level", backends.Entry{Level: &backends.LevelChange{Key: at("mug", "east")}}, []backends.Key{at("mug", "east")}},
		{"of a tombstone", backends.Entry{Hold: &backends.Hold{ID: "h", State: backends.Released}}, nil},
		{"of nothing", backends.Entry{}, nil},
	} {
		if d := cmp.Diff(c.want, c.e.Keys()); d != "" {
			t.Errorf("keys %s (-want +got):\n%s", c.name, d)
		}
	}
	roundTrip(t, backends.Entry{Seq: "1-1", Op: backends.OpCount, At: 5, Level: &backends.LevelChange{Key: at("mug", "east"), Taken: 3, OpID: "o", OnHandDelta: -1}})
}
