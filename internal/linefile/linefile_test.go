package linefile_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/internal/linefile"
)

const most = 1 << 16

func open(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func read(t failer, f *os.File, size int64) (texts []string, damaged int) {
	err := linefile.Lines(f, 0, size, most, func(line []byte) error {
		var s string
		if linefile.Decode(line, &s) {
			texts = append(texts, s)
		} else {
			damaged++
		}
		return nil
	})
	if err != nil {
		t.Fatalf("reading: %v", err)
	}
	return texts, damaged
}

type failer interface{ Fatalf(string, ...any) }

// TestDamageStaysWhereItIs: whatever becomes of one byte, no line is read as another, and only those that have the byte are lost;
// what is behind the last line feed goes.
func TestDamageStaysWhereItIs(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOfN(rapid.String(), 1, 6).Draw(t, "lines")
		var file []byte
		var ends []int
		for _, s := range texts {
			var err error
			if file, err = linefile.Append(file, s); err != nil {
				t.Fatal(err)
			}
			ends = append(ends, len(file))
		}
		torn := rapid.StringMatching(`[0-9a-f ]{0,20}`).Draw(t, "torn")
		at := rapid.IntRange(0, len(file)-1).Draw(t, "damage")
		hit, _ := slices.BinarySearch(ends, at+1)
		feed := at == ends[hit]-1 // two lines become one, or the last one is torn
		bad := slices.Concat(file, []byte(torn))
		bad[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "by"))
		path := filepath.Join(dir, "f")
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		size, err := linefile.Begin(f)
		if err != nil {
			t.Fatal(err)
		}
		got, damaged := read(t, f, size)
		lost := 1
		if feed && hit+1 < len(texts) {
			lost = 2
		}
		want := slices.Concat(texts[:hit], texts[hit+lost:])
		if !slices.Equal(got, want) || damaged == 0 && !(feed && hit+1 == len(texts)) {
			t.Fatalf("%d damaged, and %q; want %q", damaged, got, want)
		}
	})
}

// TestEveryByteOfTheSum: a digit of the checksum in capitals was a whole line once.
func TestEveryByteOfTheSum(t *testing.T) {
	line, err := linefile.Append(nil, "A")
	if err != nil {
		t.Fatal(err)
	}
	for at := range len(line) - 1 { // the line feed is no part of what a line says
		for by := 1; by < 256; by++ {
			bad := bytes.Clone(line)
			bad[at] ^= byte(by)
			if s := ""; linefile.Decode(bad, &s) {
				t.Errorf("byte %d of %q as %q: read as %q", at, line, bad[at], s)
			}
		}
	}
}

func TestOneAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	first := open(t, path)
	if _, err := linefile.Begin(first); err != nil {
		t.Fatal(err)
	}
	if _, err := linefile.Begin(open(t, path)); !errors.Is(err, linefile.ErrInUse) {
		t.Errorf("a second opening: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := linefile.Begin(open(t, path)); err != nil {
		t.Errorf("after it was closed: %v", err)
	}
}

// TestLongLine: what is longer than any of ours is damage, and is not held in memory whole.
func TestLongLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	good, err := linefile.Append(nil, "x")
	if err != nil {
		t.Fatal(err)
	}
	long := []byte(strings.Repeat("y", 3*most) + "\n")
	if err := os.WriteFile(path, bytes.Join([][]byte{good, long, good}, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	f := open(t, path)
	size, err := linefile.Begin(f)
	if err != nil {
		t.Fatal(err)
	}
	if got, damaged := read(t, f, size); len(got) != 2 || damaged < 2 {
		t.Errorf("%q, %d damaged", got, damaged)
	}
	long1 := 0
	err = linefile.Lines(f, 0, size, most, func(line []byte) error { long1 = max(long1, len(line)); return nil })
	if err != nil || long1 > 2*most {
		t.Errorf("%d bytes at once, %v", long1, err)
	}
}
