package mysqlstore_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// TestBelowTheFloor: an entry of a proxy whose clock is far behind has a number below where the
// scans begin. It is counted at once, since that an outbox is empty is never said without a look at
// the head of it; and the next page has it.
func TestBelowTheFloor(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		var late atomic.Int64 // of a proxy's clock
		r := live(t, dsn)
		slow := rig{open(t, dsn, func(c *mysqlstore.Config) {
			c.Now = func() time.Time { return time.Now().Add(-time.Duration(late.Load())) }
		}), r.ctx}
		r.stock(t, "mug", 10)
		r.grant(t, cart("first", line("mug", 1)))
		drained(t, r)
		late.Store(int64(time.Hour))
		slow.grant(t, cart("late", line("mug", 1)))
		st, err := r.s.OutboxStats(r.ctx)
		if err != nil || st.Entries != 1 {
			t.Fatalf("%d entries are counted, %v; want the late one", st.Entries, err)
		}
		if es := drained(t, r); len(es) != 1 || es[0].Hold.ID != "late" {
			t.Fatalf("the page has %+v, want the late one", es)
		}
	})
}

// TestRewind: while other entries wait, nobody looks at the head; who has to say that nothing is left does.
func TestRewind(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		var late atomic.Int64
		r := live(t, dsn)
		slow := rig{open(t, dsn, func(c *mysqlstore.Config) {
			c.Now = func() time.Time { return time.Now().Add(-time.Duration(late.Load())) }
		}), r.ctx}
		r.stock(t, "mug", 10)
		drained(t, r)
		r.grant(t, cart("first", line("mug", 1)))
		if es, err := r.s.Pending(r.ctx, "", 0, 100); err != nil || len(es) != 1 {
			t.Fatalf("the page has %+v, %v", es, err)
		}
		late.Store(int64(time.Hour))
		slow.grant(t, cart("late", line("mug", 1)))
		if es, err := r.s.Pending(r.ctx, "", 0, 100); err != nil || len(es) != 1 {
			t.Fatalf("the page begins at the head by itself: %+v, %v", es, err)
		}
		r.s.Rewind()
		if es := drained(t, r); len(es) != 2 || es[0].Hold.ID != "late" {
			t.Fatalf("the page has %+v, want both", es)
		}
	})
}

// drained takes a page of the outbox, and what is in it off.
func drained(t *testing.T, r rig) []backends.Entry {
	t.Helper()
	es, err := r.s.Pending(r.ctx, "", 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var seqs []string
	for _, e := range es {
		seqs = append(seqs, e.Seq)
	}
	if _, err := r.s.Done(r.ctx, seqs); err != nil {
		t.Fatal(err)
	}
	return es
}
