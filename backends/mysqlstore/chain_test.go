package mysqlstore

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/crossfade-proxy/crossfade/backends"
)

// TestOwing: a claim tells the debt that an expiry behind it in the chain pays.
func TestOwing(t *testing.T) {
	k := backends.Key{Shop: "s", Item: "i", Location: "l"}
	hold := func(n int64) *backends.Hold {
		return &backends.Hold{Shop: "s", Lines: []backends.Line{{Item: "i", Quantity: n}}, Allocs: []backends.Allocation{{Location: "l", Quantity: n}}}
	}
	as := make([]backends.Applied, 4)
	links := []link{
		{h: hold(2), a: &as[0], next: hold(2), ms: []move{{key: k, onHand: -2}}},
		{h: hold(2), a: &as[1], next: hold(2), ms: []move{{key: k, sellable: 2}}},
		{h: hold(1), a: &as[2]}, // late: it changes nothing
		{h: hold(9), a: &as[3], next: hold(9), ms: []move{{key: k, sellable: 9}}},
	}
	owing(links, []backends.Units{{Key: k, Quantity: 3}})
	want := []backends.Applied{{Debt: []backends.Units{{Key: k, Quantity: 3}}}, {Debt: []backends.Units{{Key: k, Quantity: 1}}}, {}, {}}
	if d := cmp.Diff(want, as); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]backends.Key{k}, debtKeys(links)); d != "" {
		t.Error(d)
	}
}
