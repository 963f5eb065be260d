package spool_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/comparator/spool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ctx = context.Background()

// batch number n; its texts have what a line could trip over.
func batch(n int) comparator.Batch {
	hold := backends.HoldID(fmt.Sprintf("h%d \"\\ ", n))
	at := time.Date(2026, 5, 1, 12, 0, n, 0, time.UTC)
	return comparator.Batch{
		Findings: []comparator.Finding{{ID: fmt.Sprint("f", n), Pod: "one", Stage: backends.Shadow, Class: comparator.OversellRisk, Hold: hold,
			Units: []backends.Units{{Key: backends.Key{Shop: "s", Item: "mug", Location: "A"}, Quantity: int64(n)}}, Diff: "a\nb → c\r\n", FirstSeen: at, LastSeen: at, Count: 1, Life: comparator.LifeOpen}},
		Coverage: []comparator.CoverageRow{{Pod: "one", Proxy: "p", Run: "r", Minute: int64(n), Rev: uint64(n), Decisions: 1, Counts: comparator.Counts{Matched: 1}}},
	}
}

// small is a short batch, for tests that try every byte.
func small(n int) comparator.Batch { return comparator.Batch{Coverage: batch(n).Coverage} }

func batches(from, to int) (bs []comparator.Batch) {
	for n := from; n < to; n++ {
		bs = append(bs, batch(n))
	}
	return bs
}

func open(t interface {
	Helper()
	Fatal(...any)
}, path string, most int64) *spool.Spool {
	t.Helper()
	s, err := spool.Open(path, most)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func add(t interface {
	Helper()
	Fatal(...any)
}, s *spool.Spool, bs ...comparator.Batch) {
	t.Helper()
	for _, b := range bs {
		if err := s.Append(b); err != nil {
			t.Fatal(err)
		}
	}
}

// drain replays everything.
func drain(t interface {
	Helper()
	Fatal(...any)
}, s *spool.Spool) (got []comparator.Batch) {
	t.Helper()
	err := s.Replay(ctx, func(_ context.Context, b comparator.Batch) error {
		got = append(got, b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.Size() != 0 {
		t.Fatal("it is not empty after a replay")
	}
	return got
}

func closed(t *testing.T, s *spool.Spool) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func same(t *testing.T, want, got []comparator.Batch) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("want → got\n%s", d)
	}
}

func TestWhatWasAppendedIsReplayedInOrderByAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool")
	s := open(t, path, 0)
	add(t, s, batches(0, 5)...)
	closed(t, s)
	s = open(t, path, 0)
	defer closed(t, s)
	add(t, s, batch(5))
	same(t, batches(0, 6), drain(t, s))
	same(t, nil, drain(t, s))
	add(t, s, batch(6))
	same(t, batches(6, 7), drain(t, s))
}

// whole is the content of a spool with some small batches, and where each ends.
func whole(t *testing.T, n int) (content []byte, ends []int64) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "whole")
	s := open(t, path, 0)
	ends = []int64{0}
	for i := range n {
		add(t, s, small(i))
		ends = append(ends, s.Size())
	}
	closed(t, s)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content, ends
}

// A crash may leave any prefix of the file: what was complete in it is replayed, and the spool goes on
// from there.
func TestTornAtEveryByte(t *testing.T) {
	content, ends := whole(t, 2)
	path := filepath.Join(t.TempDir(), "torn")
	for cut := range len(content) + 1 {
		if err := os.WriteFile(path, content[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		complete := 0
		for complete+1 < len(ends) && ends[complete+1] <= int64(cut) {
			complete++
		}
		s := open(t, path, 0)
		if s.Size() != ends[complete] {
			t.Fatalf("cut at %d: %d bytes are left, want %d", cut, s.Size(), ends[complete])
		}
		add(t, s, small(9))
		var want []comparator.Batch
		for i := range complete {
			want = append(want, small(i))
		}
		if d := cmp.Diff(append(want, small(9)), drain(t, s)); d != "" || s.Damaged() != 0 {
			t.Fatalf("cut at %d, %d damaged: %s", cut, s.Damaged(), d)
		}
		closed(t, s)
	}
}

// A damaged byte costs the lines that it touches, and no other.
func TestDamageAtEveryByte(t *testing.T) {
	content, _ := whole(t, 2)
	path := filepath.Join(t.TempDir(), "damaged")
	for i := range len(content) {
		bad := append([]byte(nil), content...)
		bad[i] ^= 0x41 // never makes a line feed of a printable byte
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, path, 0)
		got := drain(t, s)
		closed(t, s)
		lost := 2 - len(got)
		lineFeed := content[i] == '\n' // it joins two lines, or tears the last
		if lost < 1 || lost > 1 && !lineFeed || lost > 2 {
			t.Fatalf("byte %d: %d of 2 batches are left", i, len(got))
		}
		if s.Damaged() == 0 && (!lineFeed || i != len(content)-1) {
			t.Fatalf("byte %d: the damage was not counted", i)
		}
	}
}

func TestAFailedReplayGoesOnWhereItStopped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool")
	s := open(t, path, 0)
	add(t, s, batches(0, 5)...)
	size := s.Size()
	away := errors.New("away")
	var got []comparator.Batch
	save := func(_ context.Context, b comparator.Batch) error {
		if len(got) == 3 {
			return away
		}
		got = append(got, b)
		return nil
	}
	for range 2 {
		if err := s.Replay(ctx, save); !errors.Is(err, away) || s.Size() != size {
			t.Fatalf("%v; %d of %d bytes", err, s.Size(), size)
		}
	}
	add(t, s, batch(5))
	same(t, batches(3, 6), drain(t, s))
	same(t, batches(0, 3), got)
	closed(t, s)
}

// A process that dies during a replay replays from the start: twice is once for the store.
func TestAReplayCutShortByACrashIsRepeated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool")
	s := open(t, path, 0)
	add(t, s, batches(0, 3)...)
	n := 0
	_ = s.Replay(ctx, func(context.Context, comparator.Batch) error {
		if n++; n == 3 {
			return errors.New("killed")
		}
		return nil
	})
	closed(t, s)
	s = open(t, path, 0)
	same(t, batches(0, 3), drain(t, s))
	closed(t, s)
}

func TestTheBoundHolds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool")
	const most = 4000
	s := open(t, path, most)
	defer closed(t, s)
	n := 0
	for ; ; n++ {
		if err := s.Append(batch(n)); err != nil {
			if !errors.Is(err, comparator.ErrSpoolFull) {
				t.Fatal(err)
			}
			break
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > most || n == 0 {
		t.Fatalf("%v, %v, %d batches", info, err, n)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v: findings are nobody else's", info.Mode())
	}
	same(t, batches(0, n), drain(t, s))
	add(t, s, batch(n))
}

func TestOneProcessAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool")
	s := open(t, path, 0)
	if _, err := spool.Open(path, 0); !errors.Is(err, spool.ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	closed(t, s)
	closed(t, s)
	if err := s.Append(batch(1)); !errors.Is(err, comparator.ErrSpoolClosed) {
		t.Errorf("append after close: %v", err)
	}
	if err := s.Replay(ctx, nil); !errors.Is(err, comparator.ErrSpoolClosed) {
		t.Errorf("replay after close: %v", err)
	}
	closed(t, open(t, path, 0))
	if _, err := spool.Open(filepath.Join(path, "nowhere", "spool"), 0); err == nil {
		t.Error("opened where there is no folder")
	}
}

// Any mix of appends, failed and whole replays, and crashes that tear the tail: each acknowledged batch
// is handed out, in order, and only those handed out before a crash come again.
func TestAnyHistory(t *testing.T) {
	dir := t.TempDir()
	files := 0
	rapid.Check(t, func(t *rapid.T) {
		files++
		path := filepath.Join(dir, fmt.Sprint("spool", files))
		s := open(t, path, 0)
		defer func() { _ = s.Close() }()
		n, replayed := 0, 0 // batches appended; of which handed out
		from := 0           // the first that may come again
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1:
				add(t, s, batch(n))
				n++
			case 2: // a replay that stops after some
				stop := rapid.IntRange(0, 4).Draw(t, "stop")
				next := replayed
				err := s.Replay(ctx, func(_ context.Context, b comparator.Batch) error {
					if stop == 0 {
						return errors.New("away")
					}
					stop--
					if b.Findings[0].ID != fmt.Sprint("f", next) {
						t.Fatalf("%s came, want f%d", b.Findings[0].ID, next)
					}
					next++
					return nil
				})
				replayed = next
				if err == nil {
					if next != n {
						t.Fatalf("%d of %d were handed out", next, n)
					}
					from = n
				}
			case 3: // a crash in the middle of an append
				_ = s.Close()
				f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteString(rapid.StringMatching("[0-9a-f ]{0,20}").Draw(t, "torn")); err != nil {
					t.Fatal(err)
				}
				_ = f.Close()
				s = open(t, path, 0)
				replayed = from
			}
		}
		if got := drain(t, s); len(got) != n-replayed {
			t.Fatalf("%d came at the end, want %d", len(got), n-replayed)
		}
	})
}
