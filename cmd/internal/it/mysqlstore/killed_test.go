package mysqlstore_test

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// TestKilledSessions kills the store's sessions at random moments while buyers reserve, claim and
// release. Every answer is true afterwards: what was granted is there, what was refused or failed
// is not, and only an ambiguous answer leaves it open. P2 holds.
func TestKilledSessions(t *testing.T) {
	for _, kind := range servers {
		t.Run(string(kind), func(t *testing.T) {
			srv := lab.Private(t, kind) // whose sessions are ours alone
			dsn := srv.NewDatabase(t)
			r := live(t, dsn)
			items := []backends.Item{"i0", "i1", "i2"}
			for _, item := range items {
				r.stock(t, item, 150)
			}
			const buyers, each = 8, 60
			stop := make(chan struct{})
			var killer sync.WaitGroup
			killer.Go(func() { killSessions(t, r, dsn, stop) })
			logs := make([][]said, buyers)
			var all sync.WaitGroup
			for i := range buyers {
				all.Go(func() {
					for n := range each {
						logs[i] = append(logs[i], r.buy(fmt.Sprintf("cart-%d-%d", i, n), items))
					}
				})
			}
			all.Wait()
			close(stop)
			killer.Wait()
			var open, done int
			for _, log := range logs {
				for _, s := range log {
					h, err := r.s.Get(r.ctx, s.id)
					if err != nil {
						t.Fatal(err)
					}
					if s.ambiguous {
						open++
						continue
					}
					done++
					if state := stateOf(h); state != s.state {
						t.Errorf("%s is %s, the answers said %s", s.id, state, s.state)
					}
				}
			}
			r.conserved(t)
			st := r.s.Stats()
			t.Logf("%d answers, %d ambiguous; %+v", done+open, open, st)
			if st.Restarts == 0 {
				t.Error("no session was hit at work")
			}
		})
	}
}

// said is what the answers to one cart amount to.
type said struct {
	id        backends.HoldID
	state     backends.State
	ambiguous bool
}

func stateOf(h *backends.Hold) backends.State {
	if h == nil {
		return backends.StateUnknown
	}
	return h.State
}

// buy reserves, and then claims, releases or leaves it.
func (r rig) buy(id string, items []backends.Item) said {
	q := cart(id, line(items[rand.N(3)], 1+rand.N(int64(3))))
	s := said{id: q.ID}
	d, err := r.s.Reserve(r.ctx, token, q)
	if err != nil {
		s.ambiguous = backends.IsAmbiguous(err)
		return s
	}
	s.state = stateOf(d.Hold)
	if d.Outcome != backends.OutcomeGranted {
		return s
	}
	switch rand.N(3) {
	case 0:
		d, err = r.s.Claim(r.ctx, token, &backends.ClaimRequest{ID: q.ID})
	case 1:
		d, err = r.s.Release(r.ctx, token, &backends.ReleaseRequest{ID: q.ID})
	default:
		return s
	}
	switch {
	case err == nil:
		s.state = stateOf(d.Hold)
	case backends.IsAmbiguous(err):
		s.ambiguous = true
	}
	return s
}

// killSessions kills a session that is at work every few milliseconds.
func killSessions(t *testing.T, r rig, dsn string, stop <-chan struct{}) {
	db := raw(t, dsn)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		var id uint64
		err := db.QueryRowContext(r.ctx, "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND db = DATABASE() ORDER BY RAND() LIMIT 1").Scan(&id)
		switch {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			t.Error(err)
			return
		default:
			_, _ = db.ExecContext(r.ctx, "KILL ?", id) // it may be gone by now
		}
	}
}
