package comparator_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
	"github.com/crossfade-proxy/crossfade/comparator"
)

const auditedHolds = 900

// cut ends an audit: as a stop of its proxy does, or, when it is dead, as a kill.
type cut struct {
	comparator.AuditBook
	pages int // left until then
	dead  bool
	stop  context.CancelFunc
}

var errCut = errors.New("the proxy was killed")

func (c *cut) pace(context.Context) error {
	if c.pages--; c.pages > 0 {
		return nil
	}
	if c.dead {
		return errCut
	}
	c.stop()
	return nil
}

// SaveAudit implements [comparator.AuditBook]; a killed proxy's last words reach nobody.
func (c *cut) SaveAudit(ctx context.Context, pod backends.Pod, n uint64, s comparator.AuditSave) error {
	if c.dead && c.pages <= 0 {
		return errCut
	}
	return c.AuditBook.SaveAudit(ctx, pod, n, s)
}

// An audit that is stopped and killed again and again, each time gone on with by another proxy, reads everything, finds what
// is wrong and nothing else, and has it in MySQL, once.
func TestAuditGoesOnWithAnotherProxy(t *testing.T) {
	for _, servers := range [][2]lab.Kind{{lab.MySQL, lab.Redis}, {lab.MariaDB, lab.Valkey}} {
		t.Run(string(servers[0])+" and "+string(servers[1]), func(t *testing.T) {
			r := newRig(t, backends.Shadow, servers[0], servers[1], 2)
			db := r.faults(servers[0])
			rnd := rand.New(rand.NewPCG(7, 7))
			const most = 60
			for tries := 0; ; tries++ {
				if tries == most {
					t.Fatal("it never ends")
				}
				run, stop := context.WithCancel(r.ctx)
				c := &cut{AuditBook: r.findings, pages: 1 + rnd.IntN(6), dead: tries%2 == 1, stop: stop}
				if tries > 12 {
					c.pages = 1 << 30
				}
				res, err := r.auditor(tries, c).ByHand(run, true, nil)
				stop()
				if err == nil {
					r.judge(res, tries)
					break
				}
				if !errors.Is(err, errCut) && !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
				if c.dead { // its term ends
					if _, err := r.auditor(0, c).ByHand(r.ctx, true, nil); !errors.Is(err, comparator.ErrAuditTaken) {
						t.Errorf("while it is another's: %v", err)
					}
					if _, err := db.ExecContext(r.ctx, "UPDATE crossfade_audits SET until = 1 WHERE pod = ?", "one"); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}

// auditor is what one of the proxies has.
func (r *rig) auditor(n int, book comparator.AuditBook) *comparator.Audits {
	c := r.cs[n%len(r.cs)]
	pace := func(context.Context) error { return nil }
	if b, ok := book.(*cut); ok {
		pace = b.pace
	}
	now := time.Now()
	return comparator.NewAudits(comparator.AuditsConfig{
		Pod: "one", Holder: fmt.Sprint("p", n), Book: book, Flush: c.Flush, Share: comparator.MaxAuditShare,
		// Each look at the clock is a second later, so that every page is saved.
		Now: func() time.Time { now = now.Add(time.Second); return now },
		Sleep: func(ctx context.Context, _ time.Duration) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(150 * time.Millisecond): // two looks have to be apart
				return nil
			}
		},
		Input: func() comparator.AuditInput {
			return comparator.AuditInput{Pod: "one", Epoch: 1, Pair: r.pair, Found: c.Record, Pace: pace}
		},
	})
}

// faults has holds open in both stores, of which three are then taken out of MySQL behind everybody's back.
func (r *rig) faults(kind lab.Kind) *sql.DB {
	r.Helper()
	p := r.pods[0]
	for i := range items {
		_, err := p.Restock(r.ctx, &backends.RestockRequest{OpID: backends.OpID(fmt.Sprint("op", i)), Key: backends.Key{Shop: "s", Item: itemOf(i), Location: "l"}, Amount: 10_000})
		r.ok(err)
	}
	for i := range auditedHolds {
		_, err := p.Reserve(r.ctx, &backends.ReserveRequest{ID: backends.HoldID(fmt.Sprintf("h%04d", i)), Shop: "s", TTL: time.Hour, Caller: "web",
			Lines: []backends.Line{{Item: itemOf(i % items), Quantity: 1, Locations: []backends.Location{"l"}}}})
		r.ok(err)
	}
	r.delivered()
	db := openDB(r.T, r.dsn)
	for _, id := range []string{"h0007", "h0400", "h0899"} {
		res, err := db.ExecContext(r.ctx, "DELETE FROM crossfade_holds WHERE pod = ? AND id = ?", "one", id)
		r.ok(err)
		if n, err := res.RowsAffected(); err != nil || n != 1 {
			r.Fatalf("%s: %d rows were deleted from %s: %v", id, n, kind, err)
		}
	}
	return db
}

// delivered waits until the shadow has everything.
func (r *rig) delivered() {
	r.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		st, err := r.stores.Redis.OutboxStats(r.ctx)
		r.ok(err)
		if st.Entries == 0 {
			return
		}
		select {
		case <-r.ctx.Done():
			r.Fatalf("%d entries are still on their way", st.Entries)
		case <-tick.C:
		}
	}
}

func (r *rig) judge(res *comparator.AuditResult, tries int) {
	r.Helper()
	if res.HoldsTruth < auditedHolds || res.HoldsShadow != auditedHolds-3 || res.LevelsTruth != items || res.LevelsShadow != items ||
		res.FindingsTotal != 3 || res.UnitsTotal != 3 || res.UndeterminedTotal != 0 || len(res.Summary) != 1 || res.Summary[0].Class != comparator.MissingHold {
		r.Errorf("after %d tries: %+v", tries, res)
	}
	if res.Resumed < 3 {
		r.Errorf("in %d tries it was gone on with %d times", tries, res.Resumed)
	}
	fs, err := r.findings.ListFindings(r.ctx, comparator.FindingQuery{Pod: "one", Lives: comparator.ConfirmedLives()})
	r.ok(err)
	if len(fs) != 3 {
		r.Errorf("%d findings are in the store: %+v", len(fs), fs)
	}
	row, err := r.findings.AuditRow(r.ctx, "one")
	r.ok(err)
	if row.Last == nil || row.Last.FindingsTotal != 3 || row.State != nil || row.Lease > 0 {
		r.Errorf("%+v", row)
	}
	r.Logf("%d tries, gone on with %d times: %d holds of the truth, %d of the shadow", tries+1, res.Resumed, res.HoldsTruth, res.HoldsShadow)
}
