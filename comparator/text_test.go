package comparator

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestGroup(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567", 100000: "100,000"} {
		if got := group(n); got != want {
			t.Errorf("%d is %q", n, got)
		}
	}
}

func TestPercentIsHonest(t *testing.T) {
	for _, c := range []struct {
		n, of int64
		want  string
	}{
		{1, 1, "100 %"}, {0, 5, "0 %"}, {0, 0, "–"}, {999_999, 1_000_000, "99.9999 %"}, {9_999_999, 10_000_000, "99.9999 %"},
		{1, 3, "33.3333 %"}, {1, 10_000_000, "<0.0001 %"}, {1, 20, "5.0000 %"},
	} {
		if got := percent(c.n, c.of); got != c.want {
			t.Errorf("%d of %d is %q, want %q", c.n, c.of, got, c.want)
		}
	}
}

// Whatever is wrapped or clipped keeps to its width, and wrapping loses nothing.
func TestWrapAndClip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching("[a-zé →]{0,200}").Draw(t, "text")
		width := rapid.IntRange(8, 60).Draw(t, "width")
		lines := wrap(s, width, "  ")
		for _, l := range lines {
			if utf8.RuneCountInString(l) > width {
				t.Fatalf("%q has more than %d columns", l, width)
			}
		}
		flat := func(s string) string { return strings.Join(strings.Fields(s), "") }
		if flat(strings.Join(lines, "")) != flat(s) {
			t.Fatalf("%q became %q", s, lines)
		}
		if c := clip(s, width); len(c) > width || !utf8.ValidString(c) || len(s) <= width && c != s {
			t.Fatalf("%q clipped to %d bytes is %q", s, width, c)
		}
	})
}

// Quantiles are right to a sixteenth.
func TestLatencies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ds := rapid.SliceOfN(rapid.Int64Range(1000, int64(time.Hour)), 1, 300).Draw(t, "durations")
		var l latencies
		for _, d := range ds {
			l.add(time.Duration(d))
		}
		slices.Sort(ds)
		got := l.sum()
		for _, q := range []struct {
			share float64
			us    int64
		}{{.5, got.P50}, {.95, got.P95}, {.99, got.P99}} {
			exact := ds[max(int(q.share*float64(len(ds))+0.5), 1)-1] / 1000
			if q.us < exact || q.us > exact+exact/16+1 {
				t.Fatalf("quantile %v is %d µs, want %d", q.share, q.us, exact)
			}
		}
		if got.Count != int64(len(ds)) || got.Max != ds[len(ds)-1]/1000 {
			t.Fatalf("%+v", got)
		}
	})
}
