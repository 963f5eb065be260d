package mysqlstore

import (
	"testing"
	"time"
)

func TestFloor(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	f := &floor[uint64]{now: func() time.Time { return now }}
	if got := f.begin(); got != 0 {
		t.Errorf("the first scan begins at %d, want the head", got)
	}
	f.saw(7)
	now = now.Add(fromHead - time.Millisecond)
	if got := f.begin(); got != 7 {
		t.Errorf("a scan soon after begins at %d, want 7", got)
	}
	now = now.Add(time.Millisecond)
	if got := f.begin(); got != 0 {
		t.Errorf("after %s a scan begins at %d, want the head", fromHead, got)
	}
	f.saw(9)
	f.forget()
	if got := f.begin(); got != 0 {
		t.Errorf("after forget a scan begins at %d, want the head", got)
	}
}

// TestBefore: a number made by a clock that is right is above what was before it.
func TestBefore(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	s := newIDSource(func() time.Time { return at })
	if id := s.one(); id < before(at) || id >= before(at.Add(time.Millisecond)) {
		t.Errorf("id %d of an instant is not within [%d, %d)", id, before(at), before(at.Add(time.Millisecond)))
	}
	if got := before(time.Unix(0, 0)); got != 0 {
		t.Errorf("before the epoch of ids: %d", got)
	}
}
