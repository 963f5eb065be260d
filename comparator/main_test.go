package comparator_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/backends"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is when the tests' clocks begin.
var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// pass lets virtual time go by: it is called inside synctest's bubbles only.
func pass(d time.Duration) { <-time.After(d) }

func key(item, loc string) backends.Key {
	return backends.Key{Shop: "s", Item: backends.Item(item), Location: backends.Location(loc)}
}

func units(q int64, item, loc string) backends.Units {
	return backends.Units{Key: key(item, loc), Quantity: q}
}

// line asks for q units of an item, whole, from locations in order.
func line(q int64, item string, locs ...backends.Location) backends.Line {
	return backends.Line{Item: backends.Item(item), Quantity: q, Locations: locs}
}

func split(l backends.Line) backends.Line {
	l.Split = true
	return l
}

func alloc(line int, loc string, q int64) backends.Allocation {
	return backends.Allocation{Line: line, Location: backends.Location(loc), Quantity: q}
}

func short(line int, item string, wanted, available int64) backends.Shortage {
	return backends.Shortage{Line: line, Item: backends.Item(item), Wanted: wanted, Available: available}
}

func level(item, loc string, sellable, held, taken int64) *backends.Level {
	l := backends.Level{Key: key(item, loc), OnHand: sellable + held + taken, Held: held, Taken: taken}
	if sellable >= 0 {
		l.Available = sellable
	} else {
		l.Unmaterialised = sellable
	}
	return &l
}
