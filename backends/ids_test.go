package backends_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
)

func TestCheckID(t *testing.T) {
	long := strings.Repeat("x", backends.MaxIDLen)
	for _, c := range []struct{ name, id, refused string }{
		{"a stock code", "85123A", ""},
		{"one byte", "x", ""},
		{"the longest", long, ""},
		{"with a space inside", "BANK CHARGES", ""},
		{"of spaces", "  ", ""},
		{"every printable byte", ` !"#$%&'()*+,-./0123456789:;<=>?@[\]^_`, ""},
		{"and the rest", "`abcdefghijklmnopqrstuvwxyz{|}~", ""},
		{"empty", "", `""`},
		{"one byte too long", long + "x", "has 65"},
		{"a line feed", "a\nb", "byte 1 is 0x0a"},
		{"a tab", "\ta", "byte 0 is 0x09"},
		{"a nought", "a\x00", "byte 1 is 0x00"},
		{"delete", "ab\x7f", "byte 2 is 0x7f"},
		{"not ASCII", "Tür", "byte 1 is 0xc3"},
		{"not UTF-8", "a\xff", "byte 1 is 0xff"},
		{"very long", strings.Repeat("\x00", 1<<20), "has 1048576"},
	} {
		err := backends.CheckID("item", c.id)
		if c.refused == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		refused(t, c.name, err, c.refused)
	}
}

func TestCheckCaller(t *testing.T) {
	for _, c := range []struct{ name, caller, refused string }{
		{"a process", "checkout/web-1.eu:8080_a", ""},
		{"none", "", ""},
		{"the longest", strings.Repeat("x", backends.MaxCallerLen), ""},
		{"too long", strings.Repeat("x", backends.MaxCallerLen+1), "at most 64"},
		{"the end of a comment", "a*/b", "letters, digits"},
		{"a space", "a b", "letters, digits"},
		{"a quote", "a'b", "letters, digits"},
		{"a line feed", "a\nb", "letters, digits"},
		{"not ASCII", "ä", "letters, digits"},
	} {
		err := backends.CheckCaller(c.caller)
		if c.refused == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		refused(t, c.name, err, c.refused)
	}
}

func TestKeysAreOrderedByBytes(t *testing.T) {
	k := func(s, i, l string) backends.Key {
		return backends.Key{Shop: backends.Shop(s), Item: backends.Item(i), Location: backends.Location(l)}
	}
	want := []backends.Key{
		k("A", "z", "z"), k("a", "85123A", "z"), k("a", "85123A ", "a"), k("a", "85123a", "a"), k("a", "85123a", "b"),
		k("a ", "0", "0"), k("b", "1", "1"), k("b", "10", "1"), k("b", "2", "1"),
	}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, backends.Key.Compare)
	if !slices.Equal(got, want) {
		t.Fatalf("sorted as %v, want %v", got, want)
	}
	gen := rapid.Custom(func(rt *rapid.T) backends.Key {
		part := rapid.SampledFrom([]string{"a", "A", "a ", "b", "ab"})
		return k(part.Draw(rt, "shop"), part.Draw(rt, "item"), part.Draw(rt, "location"))
	})
	rapid.Check(t, func(rt *rapid.T) {
		a, b, c := gen.Draw(rt, "a"), gen.Draw(rt, "b"), gen.Draw(rt, "c")
		if (a.Compare(b) == 0) != (a == b) || a.Compare(b) != -b.Compare(a) {
			rt.Fatalf("%v and %v compare as %d and %d", a, b, a.Compare(b), b.Compare(a))
		}
		if a.Compare(b) <= 0 && b.Compare(c) <= 0 && a.Compare(c) > 0 {
			rt.Fatalf("%v, %v, %v are in no order", a, b, c)
		}
	})
}
