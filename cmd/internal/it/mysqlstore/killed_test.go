package mysqlstore_test

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// TestKilledSessions kills the store's sessions at random moments while buyers reserve, claim and
// release, in batches and each alone. Every answer is true afterwards: what was granted is there, what
// was refused or failed is not, and only an ambiguous answer leaves it open. P2 holds.
func TestKilledSessions(t *testing.T) {
	for _, kind := range servers {
		srv := lab.Private(t, kind) // whose sessions are ours alone
		for _, c := range []struct {
			name                  string
			combine, buyers, each int
		}{{"together", 0, 32, 20}, {"alone", 1, 8, 60}} {
			t.Run(string(kind)+"/"+c.name, func(t *testing.T) {
				dsn := srv.NewDatabase(t)
				r := live(t, dsn, func(cfg *mysqlstore.Config) { cfg.Combine = c.combine })
				items := []backends.Item{"i0", "i1", "i2"}
				for _, item := range items {
					r.stock(t, item, 150)
				}
				stop := make(chan struct{})
				var killer sync.WaitGroup
				killer.Go(func() { killSessions(t, r, dsn, stop) })
				logs := r.buyers(c.buyers, func(i, n int, log *[]said) bool {
					*log = append(*log, r.buy(fmt.Sprintf("cart-%d-%d", i, n), items))
					return n+1 < c.each
				})
				close(stop)
				killer.Wait()
				r.said(t, logs)
				if r.s.Stats().Restarts == 0 {
					t.Error("no session was hit at work")
				}
			})
		}
	}
}

// TestRaiseUnderBatches raises the fence while many buy in full batches: each of them is fenced in the
// end, no answer is wrong, and nothing of the old epoch comes later.
func TestRaiseUnderBatches(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		const buyers = 64
		r := live(t, srv.NewDatabase(t))
		items := []backends.Item{"i0", "i1", "i2"}
		for _, item := range items {
			r.stock(t, item, 100_000)
		}
		var begun atomic.Int64
		next := backends.Fence{Epoch: epoch + 1, Stage: backends.Live, Open: true, Filled: true}
		raised := make(chan error, 1)
		enough := make(chan struct{})
		go func() {
			select {
			case <-enough:
			case <-r.ctx.Done():
			}
			_, err := r.s.Raise(r.ctx, next, 0)
			raised <- err
		}()
		logs := r.buyers(buyers, func(i, n int, log *[]said) bool {
			if begun.Add(1) == 10*buyers {
				close(enough)
			}
			s := r.buy(fmt.Sprintf("cart-%d-%d", i, n), items)
			*log = append(*log, s)
			return !s.fenced && r.ctx.Err() == nil
		})
		if err := <-raised; err != nil {
			t.Fatal(err)
		}
		for i, log := range logs {
			if !log[len(log)-1].fenced {
				t.Errorf("buyer %d was never fenced: %+v", i, log[len(log)-1])
			}
		}
		r.said(t, logs)
		if st := r.s.Stats(); st.Members < 2*st.Batches {
			t.Errorf("the batches were not full: %+v", st)
		}
	})
}

// buyers run at once until they want no more, and keep their logs.
func (r rig) buyers(n int, buy func(i, n int, log *[]said) (more bool)) [][]said {
	logs := make([][]said, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			for k := 0; buy(i, k, &logs[i]); k++ {
				continue
			}
		})
	}
	all.Wait()
	return logs
}

// said wants every answer to be true.
func (r rig) said(t *testing.T, logs [][]said) {
	t.Helper()
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
			if state := stateOf(h); state != s.state || h != nil && h.Version.Epoch != epoch {
				t.Errorf("%s is %s, the answers said %s (%+v)", s.id, state, s.state, h)
			}
		}
	}
	r.conserved(t)
	t.Logf("%d answers, %d ambiguous; %+v", done+open, open, r.s.Stats())
}

// said is what the answers to one cart amount to.
type said struct {
	id        backends.HoldID
	state     backends.State
	ambiguous bool
	fenced    bool // the last of the answers was so
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
		s.ambiguous, s.fenced = backends.IsAmbiguous(err), isFenced(err)
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
	default:
		s.ambiguous, s.fenced = backends.IsAmbiguous(err), isFenced(err)
	}
	return s
}

func isFenced(err error) bool {
	var fe *backends.FencedError
	return errors.As(err, &fe)
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
