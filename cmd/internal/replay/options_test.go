package replay

import (
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Target
		err  string
	}{
		{"redis://:secret@127.0.0.1:6380", Target{Addr: "127.0.0.1:6380", Password: "secret"}, ""},
		{"redis://ann:s%40cret@proxy:6380/", Target{Addr: "proxy:6380", User: "ann", Password: "s@cret"}, ""},
		{"redis://[::1]:6380", Target{Addr: "[::1]:6380"}, ""},
		{"127.0.0.1:6380", Target{Addr: "127.0.0.1:6380"}, ""},
		{"localhost", Target{}, `"localhost"`},
		{":secret@127.0.0.1:6380", Target{}, "without redis://"},
		{"redis://:secret@127.0.0.1", Target{}, "xxxxx@127.0.0.1"},
		{"redis://:secret@127.0.0.1:6380/1", Target{}, "nothing after it"},
		{"redis://:secret@127.0.0.1:port", Target{}, "cannot be read"},
		{"redis://ann@127.0.0.1:6380", Target{}, "without a password"},
		{"rediss://:secret@127.0.0.1:6380", Target{}, "without TLS"},
	} {
		got, err := ParseTarget(c.in)
		switch {
		case got != c.want || (err != nil) != (c.err != ""):
			t.Errorf("%s: %+v, %v", c.in, got, err)
		case err != nil && (!strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "secret")):
			t.Errorf("%s: %v; want %q in it, and no password", c.in, err, c.err)
		}
	}
}

// A door's password comes with its address, and before the one for all.
func TestPasswordOfAnAddress(t *testing.T) {
	s := newShop(t)
	o := s.options(book(t, 20))
	o.Stock, o.User, o.Password = 1, "", "of another door"
	o.Against = []string{"redis://shop:secret@" + s.addr}
	var progress strings.Builder
	o.Progress = &progress
	sum, err := Run(t.Context(), o)
	if err != nil || !sum.Clean() || sum.Claimed != sum.Carts {
		t.Errorf("%+v, %v", sum, err)
	}
	if p := progress.String(); !strings.Contains(p, s.addr) || strings.Contains(p, "secret") {
		t.Errorf("progress: %s; want the address without its password", p)
	}
}
