package findingstest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// ExerciseBook runs the suite of a book of apologies. open gives a fresh, empty one.
func ExerciseBook(t *testing.T, open func(testing.TB) comparator.ApologyBook) {
	for _, c := range []struct {
		name string
		do   func(*testing.T, *book)
	}{
		{"one promise is one, whichever store files it and however often", filedOnce},
		{"oldest first, in pages, by state", bookPages},
		{"twice acknowledged is once", ackedOnce},
		{"what is filed with more units is open again", grown},
		{"wrong input", bookRefuses},
		{"many proxies and people at once", bookCrowd},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			c.do(t, &book{t: t, ctx: ctx, ApologyBook: open(t)})
		})
	}
}

type book struct {
	comparator.ApologyBook
	t   *testing.T
	ctx context.Context //nolint:containedctx // one test's
}

func (b *book) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *book) same(want, got any) {
	b.t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		b.t.Errorf("want → got\n%s", d)
	}
}

func (b *book) list(q comparator.ApologyQuery) []comparator.ApologyRecord {
	b.t.Helper()
	q.Pod = "one"
	rs, err := b.ListApologies(b.ctx, q)
	b.must(err)
	return rs
}

func (b *book) sum(want comparator.ApologySum) {
	b.t.Helper()
	got, err := b.SumApologies(b.ctx, "one")
	b.must(err)
	b.same(want, got)
}

// apology is one of some units, filed at a moment in milliseconds.
func apology(hold backends.HoldID, item backends.Item, units, at int64) backends.Apology {
	return backends.Apology{Hold: hold, Key: backends.Key{Shop: "s", Item: item, Location: "A"}, Quantity: units, Reason: fmt.Sprint("claimed late at ", at), At: backends.Instant(at)}
}

var bookAck = comparator.ApologyAck{By: "ann", Why: "“called the customer”", At: noon}

func filedOnce(t *testing.T, b *book) {
	mug, cup := apology("h1", "mug", 2, 1000), apology("h1", "cup", 1, 1001)
	for range 2 {
		b.must(b.FileApologies(b.ctx, "one", backends.SideMySQL, []backends.Apology{mug, cup}))
	}
	id := comparator.ApologyID("one", "h1", mug.Key)
	want := []comparator.ApologyRecord{{ID: id, Apology: mug, MySQL: true}, {ID: comparator.ApologyID("one", "h1", cup.Key), Apology: cup, MySQL: true}}
	b.same(want, b.list(comparator.ApologyQuery{}))
	b.must(b.FileApologies(b.ctx, "one", backends.SideRedis, []backends.Apology{apology("h1", "mug", 3, 2000)})) // after a kill
	b.must(b.FileApologies(b.ctx, "two", backends.SideRedis, []backends.Apology{apology("h1", "mug", 9, 1)}))
	want[0].Quantity, want[0].Redis = 3, true
	b.same(want, b.list(comparator.ApologyQuery{}))
	earlier := apology("h1", "mug", 1, 500)
	b.must(b.FileApologies(b.ctx, "one", backends.SideRedis, []backends.Apology{earlier}))
	want[0].At, want[0].Reason = earlier.At, earlier.Reason
	b.same(want, b.list(comparator.ApologyQuery{}))
	b.must(b.FileApologies(b.ctx, "one", backends.SideRedis, nil))
	b.sum(comparator.ApologySum{Open: 2, OpenUnits: 4})
}

func bookPages(t *testing.T, b *book) {
	const n = 9
	var as []backends.Apology
	for i := range n {
		as = append(as, apology(backends.HoldID(fmt.Sprint("h", i)), "mug", 1, int64(1000+(n-i)/3)))
	}
	b.must(b.FileApologies(b.ctx, "one", backends.SideRedis, as))
	all := b.list(comparator.ApologyQuery{})
	for i := range all {
		if i > 0 && (all[i].At < all[i-1].At || all[i].At == all[i-1].At && all[i].ID < all[i-1].ID) {
			t.Errorf("%+v is behind %+v", all[i], all[i-1])
		}
	}
	var got []comparator.ApologyRecord
	q := comparator.ApologyQuery{Limit: 2, Open: true}
	for {
		page := b.list(q)
		got = append(got, page...)
		if len(page) < q.Limit {
			break
		}
		last := page[len(page)-1]
		var err error
		q.After, err = comparator.ParseApologyCursor((&comparator.ApologyCursor{At: last.At, ID: last.ID}).String())
		b.must(err)
	}
	b.same(all, got)
	if len(all) != n {
		t.Fatalf("%d are listed, want %d", len(all), n)
	}
	if _, _, err := b.AckApology(b.ctx, "one", all[4].ID, bookAck); err != nil {
		t.Fatal(err)
	}
	if acked := b.list(comparator.ApologyQuery{Acked: true}); len(acked) != 1 || acked[0].ID != all[4].ID {
		t.Errorf("%+v", acked)
	}
	if n := len(b.list(comparator.ApologyQuery{Open: true})); n != len(all)-1 {
		t.Errorf("%d are open", n)
	}
	if n := len(b.list(comparator.ApologyQuery{Open: true, Acked: true})); n != len(all) {
		t.Errorf("%d in both states", n)
	}
}

func ackedOnce(t *testing.T, b *book) {
	a := apology("h1", "mug", 2, 1000)
	b.must(b.FileApologies(b.ctx, "one", backends.SideMySQL, []backends.Apology{a}))
	id := comparator.ApologyID("one", "h1", a.Key)
	want := comparator.ApologyRecord{ID: id, Apology: a, MySQL: true, Acked: 2, AckedBy: "ann", Why: bookAck.Why, AckedAt: noon}
	for i, by := range []string{"ann", "bob"} {
		got, changed, err := b.AckApology(b.ctx, "one", id, comparator.ApologyAck{By: by, Why: bookAck.Why, At: noon.Add(time.Duration(i) * time.Hour)})
		b.must(err)
		b.same(&want, got)
		if changed != (i == 0) {
			t.Errorf("%s changed %v", by, changed)
		}
	}
	b.must(b.FileApologies(b.ctx, "one", backends.SideMySQL, []backends.Apology{a})) // it is read again
	b.same([]comparator.ApologyRecord{want}, b.list(comparator.ApologyQuery{}))
	b.sum(comparator.ApologySum{Acked: 1, AckedUnits: 2})
}

func grown(t *testing.T, b *book) {
	a := apology("h1", "mug", 2, 1000)
	id := comparator.ApologyID("one", "h1", a.Key)
	b.must(b.FileApologies(b.ctx, "one", backends.SideMySQL, []backends.Apology{a}))
	if _, _, err := b.AckApology(b.ctx, "one", id, bookAck); err != nil {
		t.Fatal(err)
	}
	b.must(b.FileApologies(b.ctx, "one", backends.SideRedis, []backends.Apology{apology("h1", "mug", 5, 2000)}))
	open := b.list(comparator.ApologyQuery{Open: true})
	if len(open) != 1 || open[0].Quantity != 5 || open[0].Acked != 2 || open[0].AckedBy != "ann" {
		t.Fatalf("%+v", open)
	}
	b.sum(comparator.ApologySum{Open: 1, OpenUnits: 3, AckedUnits: 2})
	if r, changed, err := b.AckApology(b.ctx, "one", id, comparator.ApologyAck{By: "bob", Why: "the rest", At: noon}); err != nil || !changed || r.Acked != 5 || r.AckedBy != "bob" {
		t.Errorf("%+v %v %v", r, changed, err)
	}
	b.sum(comparator.ApologySum{Acked: 1, AckedUnits: 5})
}

func bookRefuses(t *testing.T, b *book) {
	a := apology("h1", "mug", 2, 1000)
	b.must(b.FileApologies(b.ctx, "one", backends.SideMySQL, []backends.Apology{a}))
	id := comparator.ApologyID("one", "h1", a.Key)
	for _, c := range []struct {
		name  string
		pod   backends.Pod
		id    string
		ack   comparator.ApologyAck
		right func(error) bool
	}{
		{"an id that is not there", "one", noID, bookAck, func(err error) bool { return errors.Is(err, comparator.ErrNoApology) }},
		{"another pod's", "two", id, bookAck, func(err error) bool { return errors.Is(err, comparator.ErrNoApology) }},
		{"what is no id", "one", "x", bookAck, backends.IsRejection},
		{"nobody", "one", id, comparator.ApologyAck{Why: "x"}, backends.IsRejection},
		{"no reason", "one", id, comparator.ApologyAck{By: "ann"}, backends.IsRejection},
		{"a long reason", "one", id, comparator.ApologyAck{By: "ann", Why: strings.Repeat("x", comparator.MaxWhy+1)}, backends.IsRejection},
	} {
		if r, changed, err := b.AckApology(b.ctx, c.pod, c.id, c.ack); !c.right(err) || changed || r != nil {
			t.Errorf("%s: %+v %v %v", c.name, r, changed, err)
		}
	}
	if _, err := b.ListApologies(b.ctx, comparator.ApologyQuery{}); err == nil {
		t.Error("a list without a pod was answered")
	}
	b.sum(comparator.ApologySum{Open: 1, OpenUnits: 2})
	ended, cancel := context.WithCancel(b.ctx)
	cancel()
	if err := b.FileApologies(ended, "one", backends.SideRedis, []backends.Apology{a}); err == nil {
		t.Error("filed under a context that had ended")
	}
}

// bookCrowd: proxies that file the same pages and people who acknowledge the same ones at once: each promise
// is once, and each is acknowledged by one. A call that fails (a deadlock is legal) is repeated.
func bookCrowd(t *testing.T, b *book) {
	const n, proxies, people = 40, 3, 3
	var as []backends.Apology
	for i := range n {
		as = append(as, apology(backends.HoldID(fmt.Sprint("h", i)), "mug", 1, int64(i)))
	}
	b.must(b.FileApologies(b.ctx, "one", backends.SideRedis, as[:n/2]))
	var wg sync.WaitGroup
	var acked atomic.Int64
	for range proxies {
		wg.Go(func() {
			for b.FileApologies(b.ctx, "one", backends.SideRedis, as) != nil && b.ctx.Err() == nil {
				continue
			}
		})
	}
	for p := range people {
		wg.Go(func() {
			for i := range n / 2 {
				id := comparator.ApologyID("one", as[i].Hold, as[i].Key)
				for b.ctx.Err() == nil {
					_, changed, err := b.AckApology(b.ctx, "one", id, comparator.ApologyAck{By: fmt.Sprint("person-", p), Why: "x", At: noon})
					if changed {
						acked.Add(1)
					}
					if err == nil {
						break
					}
				}
			}
		})
	}
	wg.Wait()
	b.sum(comparator.ApologySum{Open: n / 2, OpenUnits: n / 2, Acked: n / 2, AckedUnits: n / 2})
	if acked.Load() != n/2 {
		t.Errorf("%d were acknowledged by somebody, want %d", acked.Load(), n/2)
	}
}
