package comparator_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/backends/redisstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/comparator/mysqlfindings"
	"github.com/crossfade-proxy/crossfade/comparator/spool"
	"github.com/crossfade-proxy/crossfade/dualwrite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(lab.Wrap(m)) }

const (
	items, shops = 4, 24            // few items, all of them contended
	perItem      = 30               // units of each
	traffic      = 3 * time.Second  // how long they buy at least
	enough       = 30 * time.Second // and at most: a busy machine needs longer until stock runs out
	settling     = 60 * time.Second // for everything to come to rest
	pause        = 100 * time.Millisecond
)

// rig is a pod on real servers, with everything that the proxy has around it.
type rig struct {
	*testing.T
	ctx      context.Context
	stage    backends.Stage
	pods     []*dualwrite.Pod // one for each proxy
	stores   dualwrite.Stores
	findings *mysqlfindings.Store
	dsn      string
	cs       []*comparator.Comparator
}

func (r *rig) ok(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func newRig(t *testing.T, stage backends.Stage, sqlKind, redisKind lab.Kind, proxies int) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	r := &rig{T: t, ctx: ctx, stage: stage}
	redis := lab.ForTest(t, redisKind)
	prefix := redis.NewPrefix(t)
	template, err := backends.ParseKeyTemplate(prefix+"stock:{shop}:{item}:{location}", "", "")
	r.ok(err)
	rs, err := redisstore.Open(ctx, redisstore.Config{Pod: "one", Addr: redis.Addr(), Prefix: prefix + "xf:", Template: template})
	r.ok(err)
	t.Cleanup(func() { _ = rs.Close() })
	dsn := lab.ForTest(t, sqlKind).NewDatabase(t)
	ms, err := mysqlstore.Open(ctx, mysqlstore.Config{Pod: "one", DSN: dsn, PoolCap: 10})
	r.ok(err)
	t.Cleanup(func() { _ = ms.Close() })
	r.dsn, r.stores = dsn, dualwrite.Stores{Redis: rs, MySQL: ms}
	fence := backends.Fence{Epoch: 1, Stage: stage, Open: true, Filled: true}
	for _, s := range []backends.Store{rs, ms} {
		r.ok(s.Setup(ctx))
		_, err := s.Raise(ctx, fence, 0)
		r.ok(err)
	}
	r.findings = mysqlfindings.New(openDB(t, dsn))
	for n := range proxies {
		r.proxy(n, fence)
	}
	return r
}

// proxy adds one proxy of the pod, with everything of its own but the stores.
func (r *rig) proxy(n int, fence backends.Fence) {
	sp, err := spool.Open(filepath.Join(r.TempDir(), "spool"), 0)
	r.ok(err)
	r.Cleanup(func() { _ = sp.Close() })
	c, err := comparator.New(comparator.Config{Pod: "one", Proxy: fmt.Sprint("p", n), Store: r.findings, Sheets: r.findings, Spool: sp,
		Rechecker: comparator.NewStoreRechecker(r.pair, time.Now)})
	r.ok(err)
	r.ok(c.Start(r.ctx))
	r.Cleanup(c.Stop)
	pod := dualwrite.NewPod("one", r.stores, dualwrite.Options{Comparer: c})
	pod.Gate().Adopt(fence)
	service := dualwrite.NewService(pod, nil)
	service.Start(r.ctx)
	r.Cleanup(service.Stop)
	r.pods, r.cs = append(r.pods, pod), append(r.cs, c)
}

func openDB(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(conn)
	db.SetMaxOpenConns(2)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func (r *rig) pair() (comparator.Pair, error) {
	return comparator.Pair{Stage: r.stage, Truth: r.stores.Of(r.stage.Truth()), Shadow: r.stores.Of(r.stage.Truth().Other())}, nil
}

func itemOf(n int) backends.Item { return backends.Item(rune('a' + n)) }

// shop buys, gives back and pays until it is closed, and counts how often it was told that all is sold.
func (r *rig) shop(n int, closed <-chan struct{}, soldOut *atomic.Int64) {
	rnd, pod := rand.New(rand.NewPCG(uint64(n), 1)), r.pods[n%len(r.pods)]
	for i := 0; ; i++ {
		select {
		case <-closed:
			return
		default:
		}
		q := &backends.ReserveRequest{ID: backends.HoldID(fmt.Sprintf("h%d-%d", n, i)), Shop: "s", TTL: time.Hour, Caller: "web"}
		first := rnd.IntN(items)
		for k := range 1 + rnd.IntN(2) {
			q.Lines = append(q.Lines, backends.Line{Item: itemOf((first + k) % items), Quantity: int64(1 + rnd.IntN(3)), Locations: []backends.Location{"l"}})
		}
		d, err := pod.Reserve(r.ctx, q)
		switch {
		case errors.Is(err, backends.ErrBusy):
			continue
		case err != nil:
			r.Errorf("reserve: %v", err)
			return
		case d.Outcome == backends.OutcomeSoldOut:
			soldOut.Add(1)
			continue
		}
		if rnd.IntN(20) == 0 {
			_, err = pod.Claim(r.ctx, &backends.ClaimRequest{ID: q.ID}, 0)
		} else {
			_, err = pod.Release(r.ctx, &backends.ReleaseRequest{ID: q.ID})
		}
		if err != nil && !errors.Is(err, backends.ErrBusy) {
			r.Errorf("end: %v", err)
			return
		}
	}
}

// busy waits until they have bought for a while, and somebody was sold out.
func busy(soldOut *atomic.Int64) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < traffic || soldOut.Load() == 0 && time.Since(began) < enough; {
		<-tick.C
	}
}

// rest waits until every decision is in its last column.
func (r *rig) rest() comparator.Coverage {
	r.Helper()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for deadline := time.Now().Add(settling); ; <-tick.C {
		var got comparator.Coverage
		for _, c := range r.cs {
			got = sum(got, c.Snapshot())
		}
		if got.Pending == 0 && got.Settling == 0 {
			return got
		}
		if time.Now().After(deadline) {
			r.Fatalf("it does not come to rest: %+v", got)
		}
	}
}

// sum adds up what several proxies have counted: one may count what another began.
func sum(a, b comparator.Coverage) comparator.Coverage {
	rows := [2]comparator.CoverageRow{{Decisions: a.Decisions, Counts: a.Counts}, {Decisions: b.Decisions, Counts: b.Counts}}
	rows[0].Add(rows[1])
	return comparator.Coverage{Pod: b.Pod, Decisions: rows[0].Decisions, Counts: rows[0].Counts}
}

// proven checks that every explained decision that was kept has the order that explains it, and shows
// why others stayed undetermined.
func (r *rig) proven() {
	r.Helper()
	fs, err := r.findings.ListFindings(r.ctx, comparator.FindingQuery{Pod: "one", Lives: []comparator.Life{comparator.LifeExplained, comparator.LifeUndetermined}})
	r.ok(err)
	for _, f := range fs {
		switch {
		case f.Life == comparator.LifeUndetermined:
			r.Logf("undetermined: %s of hold %q: %s", f.Class, f.Hold, f.Proof)
		case len(f.Order) == 0 || f.Order[0].Place == "":
			r.Errorf("explained without an order: %s of hold %q: %s", f.Class, f.Hold, f.Proof)
		}
	}
}

// Real stores under contention for the last units: many decisions differ, since the shadow is behind;
// none is a finding, every one is accounted for, and at rest the audit finds nothing.
func TestContentionIsNoFinding(t *testing.T) {
	for _, c := range []struct {
		stage      backends.Stage
		sql, redis lab.Kind
		proxies    int
	}{
		{backends.Shadow, lab.MySQL, lab.Redis, 1}, {backends.Live, lab.MySQL, lab.Redis, 1},
		{backends.Shadow, lab.MariaDB, lab.Valkey, 1}, {backends.Live, lab.MariaDB, lab.Valkey, 1},
		{backends.Shadow, lab.MySQL, lab.Redis, 4}, {backends.Live, lab.MySQL, lab.Redis, 4},
	} {
		t.Run(fmt.Sprintf("%s on %s and %s, proxies %d", c.stage, c.sql, c.redis, c.proxies), func(t *testing.T) {
			r := newRig(t, c.stage, c.sql, c.redis, c.proxies)
			for n := range items {
				_, err := r.pods[0].Restock(r.ctx, &backends.RestockRequest{OpID: backends.OpID("stock-" + itemOf(n)), Key: backends.Key{Shop: "s", Item: itemOf(n), Location: "l"}, Amount: perItem})
				r.ok(err)
			}
			var wg sync.WaitGroup
			var sold atomic.Int64
			closed := make(chan struct{})
			for n := range shops {
				wg.Go(func() { r.shop(n, closed, &sold) })
			}
			busy(&sold)
			close(closed)
			wg.Wait()
			got, soldOut := r.rest(), sold.Load()
			t.Logf("%d sold out; %+v", soldOut, got)
			for _, c := range r.cs {
				t.Logf("undetermined by cause %v", c.Stats().Undetermined)
				r.ok(c.Check())
				r.ok(c.Flush(r.ctx))
			}
			fs, err := r.findings.ListFindings(r.ctx, comparator.FindingQuery{Pod: "one", Lives: []comparator.Life{comparator.LifeOpen}})
			r.ok(err)
			for _, f := range fs[:min(len(fs), 5)] {
				t.Errorf("%s of hold %q: %s\n%s", f.Class, f.Hold, f.Proof, f.Diff)
			}
			r.proven()
			if got.Confirmed != 0 || soldOut == 0 || got.Explained == 0 || got.Decisions == 0 || got.Lost != 0 {
				t.Errorf("it should have contention, explained, and no finding: %d sold out, %+v", soldOut, got)
			}
			res, err := comparator.Audit(r.ctx, comparator.AuditInput{Pod: "one", Epoch: 1, Pair: r.pair})
			r.ok(err)
			if !res.Clean() || res.HoldsTruth == 0 {
				t.Errorf("audit: %+v", res)
			}
		})
	}
}
