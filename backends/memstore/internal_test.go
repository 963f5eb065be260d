package memstore

import (
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
)

// TestConservationSumsTheHolds: a running sum that is wrong on both sides of the equation balances
// its level, and is found all the same.
func TestConservationSumsTheHolds(t *testing.T) {
	s := New(Options{Side: backends.SideRedis})
	l := s.d.level(backends.Key{Shop: "s", Item: "mug", Location: "east"})
	l.restock(10)
	l.held, l.sellable = 3, 7
	if v := l.view(); v.Imbalance() != 0 {
		t.Fatalf("the level is meant to be balanced: %+v", v)
	}
	broken, checked, err := s.Conservation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if checked != 1 || len(broken) != 1 || broken[0].Held != 0 || broken[0].Imbalance() != 3 {
		t.Fatalf("of %d levels these are broken: %+v", checked, broken)
	}
}
