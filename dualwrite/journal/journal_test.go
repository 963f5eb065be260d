package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/dualwrite/journal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func states(from, n int) (es []backends.Entry) {
	for i := range n {
		es = append(es, backends.Entry{Op: backends.OpReserve, Hold: &backends.Hold{ID: backends.HoldID(fmt.Sprint("h", from+i)), Shop: "s", State: backends.Held, Version: backends.Version{Epoch: 3, N: 1}}})
	}
	return es
}

func open(t *testing.T, path, run string, most int64) *journal.Journal {
	t.Helper()
	j, err := journal.Open(path, run, most)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func read(t *testing.T, j *journal.Journal, from int64) (ids map[string]string, next int64) {
	t.Helper()
	ids = map[string]string{}
	next, err := j.Each(from, func(k journal.Kept) error {
		ids[string(k.Entry.Hold.ID)] = fmt.Sprintf("%s/%d", k.Run, k.Epoch)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids, next
}

// TestSurvivesACrash: what Append has returned for is there for the next run, and a torn line is not.
func TestSurvivesACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := open(t, path, "one", 0)
	if _, err := journal.Open(path, "two", 0); !errors.Is(err, journal.ErrInUse) {
		t.Errorf("two have it open: %v", err)
	}
	if err := j.Append(3, states(0, 2)); err != nil {
		t.Fatal(err)
	}
	size := j.Size()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.Append(3, states(9, 1)); err == nil {
		t.Error("a closed journal keeps things")
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`0badc0de {"run":"one","epoch":3,"ent`); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	j = open(t, path, "two", 0)
	if j.Size() != size {
		t.Errorf("the torn line is there: %d bytes, want %d", j.Size(), size)
	}
	if err := j.Append(4, states(2, 1)); err != nil {
		t.Fatal(err)
	}
	ids, next := read(t, j, 0)
	if len(ids) != 3 || ids["h0"] != "one/3" || ids["h2"] != "two/4" || next != j.Size() {
		t.Errorf("%v, %d of %d", ids, next, j.Size())
	}
	if ids, _ = read(t, j, size); len(ids) != 1 || ids["h2"] == "" {
		t.Errorf("from an offset on: %v", ids)
	}
}

// TestDamage: a line that cannot be read is known to be one, and the others are there.
func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := open(t, path, "one", 0)
	if err := j.Append(3, states(0, 3)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[bytes.IndexByte(text, '\n')+20] ^= 1 // in the second
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	ids, next := read(t, j, 0)
	if len(ids) != 2 || ids["h0"] == "" || ids["h2"] == "" || next != j.Size() || j.Damaged() != 1 {
		t.Errorf("%v, %d of %d, %d damaged", ids, next, j.Size(), j.Damaged())
	}
	if err := j.Empty(j.Size()); err != nil || j.Damaged() != 0 {
		t.Errorf("emptied: %v, %d damaged", err, j.Damaged())
	}
}

// TestTogether: many append at the same time, and each finds what it has appended.
func TestTogether(t *testing.T) {
	j := open(t, filepath.Join(t.TempDir(), "j"), "one", 0)
	var wg sync.WaitGroup
	const callers, each = 16, 20
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				if err := j.Append(3, states(1000*c+i, 1)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if ids, _ := read(t, j, 0); len(ids) != callers*each {
		t.Errorf("%d of %d", len(ids), callers*each)
	}
}

// TestEmptiedOnlyWhenNothingHasCome, and bounded.
func TestEmptiedOnlyWhenNothingHasCome(t *testing.T) {
	j := open(t, filepath.Join(t.TempDir(), "j"), "one", 1000)
	if err := j.Append(3, states(0, 1)); err != nil {
		t.Fatal(err)
	}
	size := j.Size()
	if err := j.Append(3, states(1, 1)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.Empty(size), j.Empty(0)); err != nil || j.Size() != 2*size {
		t.Fatalf("%v, %d", err, j.Size())
	}
	if err := j.Append(3, states(2, 8)); !errors.Is(err, journal.ErrFull) {
		t.Errorf("beyond its bound: %v", err)
	}
	if err := j.Empty(2 * size); err != nil || j.Size() != 0 {
		t.Fatalf("%v, %d", err, j.Size())
	}
	if err := j.Append(3, states(3, 1)); err != nil {
		t.Fatal(err)
	}
	if ids, _ := read(t, j, 0); len(ids) != 1 {
		t.Errorf("%v", ids)
	}
}
