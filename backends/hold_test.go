package backends_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/crossfade-proxy/crossfade/backends"
)

func sampleHold() *backends.Hold {
	return &backends.Hold{
		ID: "h", Shop: "s", Caller: "web",
		Lines: []backends.Line{
			{Item: "mug", Quantity: 5, Locations: []backends.Location{"east", "west"}, Split: true},
			{Item: "lamp", Quantity: 1, Locations: []backends.Location{"east"}},
		},
		Allocs: []backends.Allocation{
			{Line: 1, Location: "east", Quantity: 1}, {Line: 0, Location: "west", Quantity: 2}, {Line: 0, Location: "east", Quantity: 3},
		},
		State: backends.Held, Version: backends.Version{Epoch: 3, N: 1}, CreatedAt: 10, ExpiresAt: 20,
	}
}

func TestFootprint(t *testing.T) {
	h := sampleHold()
	all := []backends.Units{{Key: at("lamp", "east"), Quantity: 1}, {Key: at("mug", "east"), Quantity: 3}, {Key: at("mug", "west"), Quantity: 2}}
	for state, want := range map[backends.State][]backends.Units{
		backends.Held: all, backends.Claimed: all, backends.Released: nil, backends.Expired: nil, backends.StateUnknown: nil,
	} {
		h.State = state
		if d := cmp.Diff(want, h.Footprint(), cmpopts.EquateEmpty()); d != "" {
			t.Errorf("footprint when %s (-want +got):\n%s", state, d)
		}
		if d := cmp.Diff(all, h.Takes()); d != "" {
			t.Errorf("takes when %s (-want +got):\n%s", state, d)
		}
	}
	var none *backends.Hold
	if got := none.Footprint(); len(got) != 0 {
		t.Errorf("the footprint of no hold is %v", got)
	}
	h.Allocs = append(h.Allocs, backends.Allocation{Line: 2, Location: "east", Quantity: 9}, backends.Allocation{Line: -1, Location: "east", Quantity: 9})
	if d := cmp.Diff(all, h.Takes()); d != "" {
		t.Errorf("a damaged allocation takes something (-want +got):\n%s", d)
	}
}

func TestCloneSharesNothing(t *testing.T) {
	h := sampleHold()
	c := h.Clone()
	if d := cmp.Diff(h, c); d != "" {
		t.Fatalf("the clone differs (-want +got):\n%s", d)
	}
	c.State, c.Allocs[0].Quantity, c.Lines[0].Item, c.Lines[0].Locations[0] = backends.Claimed, 99, "other", "other"
	if d := cmp.Diff(sampleHold(), h); d != "" {
		t.Fatalf("a change of the clone changed the hold (-want +got):\n%s", d)
	}
	if (*backends.Hold)(nil).Clone() != nil {
		t.Fatal("the clone of nothing is something")
	}
}

func TestVersions(t *testing.T) {
	v := func(epoch, n uint64) backends.Version { return backends.Version{Epoch: epoch, N: n} }
	order := []backends.Version{{}, v(0, 1), v(1, 0), v(1, 1), v(1, 2), v(2, 0), v(2, 1), v(10, 1)}
	for i, a := range order {
		for j, b := range order {
			if got := a.After(b); got != (i > j) {
				t.Errorf("%s after %s is %v", a, b, got)
			}
		}
	}
	for _, c := range []struct {
		from  backends.Version
		epoch uint64
		want  backends.Version
	}{
		{v(0, 0), 5, v(5, 1)},
		{v(5, 1), 5, v(5, 2)},
		{v(5, 2), 6, v(6, 3)},
		{v(6, 3), 5, v(6, 4)}, // an epoch never runs backwards
	} {
		if got := c.from.Next(c.epoch); got != c.want || !got.After(c.from) {
			t.Errorf("after %s in epoch %d comes %s, want %s", c.from, c.epoch, got, c.want)
		}
	}
	if got := v(3, 7).String(); got != "3.7" {
		t.Errorf("a version reads %q", got)
	}
}

func TestStates(t *testing.T) {
	for _, c := range []struct {
		state              backends.State
		name               string
		open, ended, takes bool
	}{
		{backends.StateUnknown, "unknown", false, false, false},
		{backends.Held, "held", true, false, true},
		{backends.Claimed, "claimed", false, true, true},
		{backends.Released, "released", false, true, false},
		{backends.Expired, "expired", false, true, false},
		{backends.State(99), "unknown", false, false, false},
	} {
		if c.state.String() != c.name || c.state.Open() != c.open || c.state.Ended() != c.ended || c.state.Takes() != c.takes {
			t.Errorf("state %d: %s, open %v, ended %v, takes %v", c.state, c.state, c.state.Open(), c.state.Ended(), c.state.Takes())
		}
	}
	roundTrip(t, []backends.State{backends.StateUnknown, backends.Held, backends.Claimed, backends.Released, backends.Expired})
	var s backends.State
	if err := s.UnmarshalText([]byte("sold")); err == nil {
		t.Error("a state called sold was read")
	}
	h := sampleHold()
	h.EndedAt, h.LedgerOwed = 30, true
	roundTrip(t, h)
}

func TestInstants(t *testing.T) {
	i := backends.Instant(1_700_000_000_000)
	if got := i.Add(1500*time.Millisecond + 999*time.Microsecond); got != i+1500 {
		t.Errorf("an instant moves by %d", got-i)
	}
	if got := (i + 250).Sub(i); got != 250*time.Millisecond {
		t.Errorf("two instants are apart by %s", got)
	}
	if got := i.Time().Format(time.RFC3339); got != "2023-11-14T22:13:20Z" {
		t.Errorf("an instant reads %s", got)
	}
}

func TestDigest(t *testing.T) {
	lines := func() []backends.Line { return sampleHold().Lines }
	want := backends.Digest("s", lines())
	// The stores may keep it: it must never come out differently.
	if want != "271d119d151e42e8271b19ffa9684e6e" {
		t.Errorf("the digest is %s", want)
	}
	if got := backends.Digest("s", lines()); got != want {
		t.Errorf("the same body has digests %s and %s", want, got)
	}
	seen := map[string]string{want: "the original"}
	for name, change := range map[string]func(ls []backends.Line) (backends.Shop, []backends.Line){
		"another shop":     func(ls []backends.Line) (backends.Shop, []backends.Line) { return "S", ls },
		"another item":     func(ls []backends.Line) (backends.Shop, []backends.Line) { ls[0].Item = "Mug"; return "s", ls },
		"another quantity": func(ls []backends.Line) (backends.Shop, []backends.Line) { ls[0].Quantity++; return "s", ls },
		"no split":         func(ls []backends.Line) (backends.Shop, []backends.Line) { ls[0].Split = false; return "s", ls },
		"other locations": func(ls []backends.Line) (backends.Shop, []backends.Line) {
			ls[0].Locations[0] = "north"
			return "s", ls
		},
		"locations reversed": func(ls []backends.Line) (backends.Shop, []backends.Line) {
			ls[0].Locations = []backends.Location{"west", "east"}
			return "s", ls
		},
		"a location less": func(ls []backends.Line) (backends.Shop, []backends.Line) {
			ls[0].Locations = ls[0].Locations[:1]
			return "s", ls
		},
		"lines reversed": func(ls []backends.Line) (backends.Shop, []backends.Line) { return "s", []backends.Line{ls[1], ls[0]} },
		"a line less":    func(ls []backends.Line) (backends.Shop, []backends.Line) { return "s", ls[:1] },
		"no lines":       func([]backends.Line) (backends.Shop, []backends.Line) { return "s", nil },
		"borders moved": func(ls []backends.Line) (backends.Shop, []backends.Line) {
			ls[0].Locations = []backends.Location{"eas", "twest"}
			return "s", ls
		},
		"a trailing space": func(ls []backends.Line) (backends.Shop, []backends.Line) { ls[1].Item = "lamp "; return "s", ls },
	} {
		got := backends.Digest(change(lines()))
		if other, taken := seen[got]; taken {
			t.Errorf("%s has the digest of %s", name, other)
		}
		if len(got) != 32 || strings.ToLower(got) != got {
			t.Errorf("%s: the digest is %q, want 32 hex digits", name, got)
		}
		seen[got] = name
	}
}
