package comparator

import (
	"fmt"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// fill records n reserves of mugs that were followed one each millisecond, and answers the last instant.
func fill(r *recorder, n int) backends.Instant {
	for i := range backends.Instant(n) {
		h := &backends.Hold{ID: backends.HoldID(fmt.Sprint("h", i)), Shop: "s", Lines: []backends.Line{{Item: "mug", Quantity: 1, Locations: []backends.Location{"A"}}},
			Allocs: []backends.Allocation{{Location: "A", Quantity: 1}}, State: backends.Held, Version: backends.Version{Epoch: 1, N: 1}}
		r.take(Followed{Epoch: 1, Stage: backends.Shadow, Shadow: at(i), Items: []FollowedItem{{Entry: backends.Entry{Op: backends.OpReserve, Hold: h}, Truth: at(i), Confirmed: true, Changed: true}}})
		if i%1000 == 0 {
			r.tidy()
		}
	}
	r.tidy()
	return backends.Instant(n) - 1
}

func TestTheRecordListsWhatMayHaveBeenFollowedSince(t *testing.T) {
	r := newRecorder(time.Now)
	last := fill(r, 20_000)
	if got := r.at([]backends.Key{mug}, last-9); len(got.Steps) != 10 || got.Intact > last-9 {
		t.Errorf("%d steps, intact since %d", len(got.Steps), got.Intact)
	}
	// One that began long ago and ended just now is among them, and so is one that failed.
	h := &backends.Hold{ID: "slow", Shop: "s", Lines: []backends.Line{{Item: "mug", Quantity: 1, Locations: []backends.Location{"A"}}},
		Allocs: []backends.Allocation{{Location: "A", Quantity: 1}}, State: backends.Released, Version: backends.Version{Epoch: 1, N: 2}}
	slow := Followed{Epoch: 1, Stage: backends.Shadow, Shadow: Span{5, last}, Items: []FollowedItem{{Entry: backends.Entry{Op: backends.OpRelease, Hold: h}, Truth: at(4), Confirmed: true, Changed: true}}}
	r.take(slow)
	fill(r, 100) // by another clock, of which no more is known than that it comes later
	if got := r.at([]backends.Key{mug}, last); len(got.Steps) != 2 {
		t.Errorf("%d steps", len(got.Steps))
	}
	slow.Items[0].Entry.Hold, slow.Items[0].Confirmed = &backends.Hold{ID: "failed", Shop: "s", Lines: h.Lines, Allocs: h.Allocs, State: backends.Held, Version: backends.Version{Epoch: 1, N: 1}}, false
	r.take(slow)
	fill(r, 100)
	if got := r.at([]backends.Key{mug}, last+1); len(got.Steps) != 1 || got.Steps[0].Hold != "failed" {
		t.Errorf("%+v", got.Steps)
	}
}

// A hot item has many thousand steps in the record, and each decision about it asks for the last few.
func BenchmarkRecordOfAHotItem(b *testing.B) {
	r := newRecorder(time.Now)
	last := fill(r, 100_000)
	b.ReportAllocs()
	for b.Loop() {
		r.at([]backends.Key{mug}, last-200)
	}
}

// What a mirror pays for each attempt.
func BenchmarkFollowed(b *testing.B) {
	r := newRecorder(time.Now)
	h := &backends.Hold{ID: "h", Shop: "s", Lines: []backends.Line{{Item: "mug", Quantity: 1, Locations: []backends.Location{"A"}}},
		Allocs: []backends.Allocation{{Location: "A", Quantity: 1}}, State: backends.Held, Version: backends.Version{Epoch: 1, N: 1}}
	items := []FollowedItem{{Entry: backends.Entry{Op: backends.OpReserve, Hold: h}, Confirmed: true, Changed: true}}
	b.ReportAllocs()
	for b.Loop() {
		r.take(Followed{Ticket: r.begin(1), Epoch: 1, Stage: backends.Shadow, Shadow: at(2), Items: items})
	}
}
