package comparator_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// pod is two stores of the memory model, one following the other.
type pod struct {
	t             *testing.T
	stage         backends.Stage
	token         backends.Token
	redis, mysql  *memstore.Store
	truth, shadow *memstore.Store
	now           time.Time
	skew          atomic.Int64 // milliseconds that the stores' clock is ahead of now
	waited        int
	epoch         uint64 // that the pair says; 0: nothing
	onWait        func()
}

var ctx = context.Background()

func newPod(t *testing.T, stage backends.Stage) *pod {
	p := &pod{t: t, stage: stage, token: backends.Token{Epoch: 1}, now: noon}
	clock := func() backends.Instant { return backends.Instant(p.now.UnixMilli() + p.skew.Load()) }
	p.redis = memstore.New(memstore.Options{Side: backends.SideRedis, Clock: clock, OutboxMax: 100})
	p.mysql = memstore.New(memstore.Options{Side: backends.SideMySQL, Clock: clock, OutboxMax: 100})
	p.truth, p.shadow = p.redis, p.mysql
	if stage.Truth() == backends.SideMySQL {
		p.truth, p.shadow = p.mysql, p.redis
	}
	for _, s := range []*memstore.Store{p.redis, p.mysql} {
		if _, err := s.Raise(ctx, backends.Fence{Epoch: 1, Stage: stage, Open: true, Filled: true}, 0); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *pod) pair() (comparator.Pair, error) {
	return comparator.Pair{Stage: p.stage, Epoch: p.epoch, Truth: p.truth, Shadow: p.shadow}, nil
}

func (p *pod) must(_ any, err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *pod) stock(item string, n int64) {
	p.t.Helper()
	p.must(p.truth.Restock(ctx, p.token, &backends.RestockRequest{OpID: backends.OpID("op-" + item + fmt.Sprint(n)), Key: key(item, "A"), Amount: n}))
}

func (p *pod) reserve(hold, item string, q int64) {
	p.t.Helper()
	p.must(p.truth.Reserve(ctx, p.token, &backends.ReserveRequest{ID: backends.HoldID(hold), Shop: "s", Lines: []backends.Line{line(q, item, "A")}, TTL: time.Hour, Caller: "web"}))
}

func (p *pod) release(hold string) {
	p.t.Helper()
	p.must(p.truth.Release(ctx, p.token, &backends.ReleaseRequest{ID: backends.HoldID(hold)}))
}

func (p *pod) claim(hold string) {
	p.t.Helper()
	p.must(p.truth.Claim(ctx, p.token, &backends.ClaimRequest{ID: backends.HoldID(hold)}))
}

// mirror brings the outbox to the shadow; the entries of the holds named are dropped on the way, and
// change may change others.
func (p *pod) mirror(change func(*backends.Entry), lost ...backends.HoldID) {
	p.t.Helper()
	es, err := p.truth.Pending(ctx, "", 0, 1000)
	p.must(nil, err)
	now, err := p.shadow.Now(ctx)
	p.must(nil, err)
	var seqs []string
	for _, e := range es {
		seqs = append(seqs, e.Seq)
		drop := false
		for _, l := range lost {
			drop = drop || e.Hold != nil && e.Hold.ID == l
		}
		if drop {
			continue
		}
		if change != nil {
			change(&e)
		}
		p.must(p.shadow.Apply(ctx, p.token, now, []backends.Entry{e}))
	}
	p.must(p.truth.Done(ctx, seqs))
}

// audit audits in the pod's own time.
func (p *pod) audit(change func(*comparator.AuditInput)) (*comparator.AuditResult, error) {
	in := comparator.AuditInput{
		Pod: "one", Epoch: 1, Pair: p.pair, Now: func() time.Time { return p.now }, Rounds: 5,
		Wait: func(_ context.Context, d time.Duration) error {
			p.now = p.now.Add(d)
			p.waited++
			if p.onWait != nil {
				p.onWait()
			}
			return nil
		},
	}
	if change != nil {
		change(&in)
	}
	return comparator.Audit(ctx, in)
}

type found struct {
	Class comparator.Class
	Hold  backends.HoldID
	Key   backends.Key
	Units int64
}

func summary(r *comparator.AuditResult) []found {
	var fs []found
	for _, f := range r.Findings {
		one := found{Class: f.Class, Hold: f.Hold, Units: f.TotalUnits}
		if f.Hold == "" {
			one.Key = f.Units[0].Key
		}
		fs = append(fs, one)
	}
	return fs
}

// auditCases are faults, and what an audit makes of them.
var auditCases = []struct {
	name  string
	stage backends.Stage
	do    func(*pod)
	want  []found
	attr  int64
}{
	{name: "a lost shadow write is a missing hold, and its level no second finding", stage: backends.Shadow,
		do:   func(p *pod) { p.reserve("h1", "mug", 3); p.reserve("h2", "mug", 1); p.mirror(nil, "h1") },
		want: []found{{comparator.MissingHold, "h1", backends.Key{}, 3}}, attr: 1},
	{name: "nothing", stage: backends.Shadow,
		do: func(p *pod) {
			p.reserve("h1", "mug", 3)
			p.mirror(nil)
			p.claim("h1")
			p.reserve("h2", "cup", 1)
			p.release("h2")
			p.mirror(nil)
		}},
	{name: "the same the other way round", stage: backends.Live,
		do:   func(p *pod) { p.reserve("h1", "mug", 3); p.mirror(nil, "h1") },
		want: []found{{comparator.MissingHold, "h1", backends.Key{}, 3}}, attr: 1},
	{name: "a lost release", stage: backends.Shadow,
		do:   func(p *pod) { p.reserve("h1", "mug", 3); p.mirror(nil); p.release("h1"); p.mirror(nil, "h1") },
		want: []found{{comparator.LostRelease, "h1", backends.Key{}, 3}}, attr: 1},
	{name: "a lost claim", stage: backends.Shadow,
		do:   func(p *pod) { p.reserve("h1", "mug", 3); p.mirror(nil); p.claim("h1"); p.mirror(nil, "h1") },
		want: []found{{comparator.LedgerShort, "h1", backends.Key{}, 3}}, attr: 1},
	{name: "an orphan", stage: backends.Shadow,
		do: func(p *pod) {
			p.reserve("h1", "mug", 3)
			p.mirror(func(e *backends.Entry) { e.Hold.ID = "ghost" })
			p.release("h1")
			p.mirror(nil)
		},
		want: []found{{comparator.OrphanHold, "ghost", backends.Key{}, 3}}, attr: 1},
	{name: "a wrong quantity", stage: backends.Shadow,
		do: func(p *pod) {
			p.reserve("h1", "mug", 3)
			p.mirror(func(e *backends.Entry) { e.Hold.Lines[0].Quantity, e.Hold.Allocs[0].Quantity = 1, 1 })
		},
		want: []found{{comparator.Quantity, "h1", backends.Key{}, 2}}, attr: 1},
	{name: "a wrong location", stage: backends.Shadow,
		do: func(p *pod) {
			p.reserve("h1", "mug", 3)
			p.mirror(func(e *backends.Entry) { e.Hold.Allocs[0].Location = "B" })
		},
		want: []found{{comparator.Location, "h1", backends.Key{}, 3}}, attr: 2},
	{name: "a skewed expiry", stage: backends.Shadow,
		do: func(p *pod) {
			p.reserve("h1", "mug", 3)
			p.mirror(func(e *backends.Entry) { e.Hold.ExpiresAt++ })
		},
		want: []found{{comparator.ExpirySkew, "h1", backends.Key{}, 3}}},
	{name: "a drifted level", stage: backends.Shadow,
		do: func(p *pod) {
			p.must(p.truth.Restock(ctx, p.token, &backends.RestockRequest{OpID: "x", Key: key("mug", "A"), Amount: 7}))
			p.mirror(func(e *backends.Entry) { e.Level.OnHandDelta = 2 })
		},
		want: []found{{comparator.LevelDrift, "", key("mug", "A"), 5}}},
	{name: "a level that only the shadow has", stage: backends.Shadow,
		do: func(p *pod) {
			p.must(p.truth.Restock(ctx, p.token, &backends.RestockRequest{OpID: "x", Key: key("mug", "A"), Amount: 7}))
			p.mirror(func(e *backends.Entry) { e.Level.Key = key("hat", "A") })
		},
		want: []found{{comparator.LevelDrift, "", key("mug", "A"), 7}, {comparator.LevelDrift, "", key("hat", "A"), 7}}},
	{name: "a ledger that promises more than it has", stage: backends.Shadow,
		do: func(p *pod) {
			p.must(p.truth.Restock(ctx, p.token, &backends.RestockRequest{OpID: "x", Key: key("hat", "A"), Amount: 7}))
			p.mirror(func(e *backends.Entry) { e.Level.OnHandDelta = 1 })
			p.reserve("h1", "hat", 4)
			p.mirror(nil)
		},
		want: []found{{comparator.LedgerShort, "", key("hat", "A"), 6}}},
	{name: "a hold and a level, each counted once", stage: backends.Shadow,
		do: func(p *pod) {
			p.reserve("h1", "mug", 3)
			p.must(p.truth.Restock(ctx, p.token, &backends.RestockRequest{OpID: "x", Key: key("mug", "A"), Amount: 7}))
			p.mirror(func(e *backends.Entry) {
				if e.Level != nil {
					e.Level.OnHandDelta = 5
				}
			}, "h1")
		},
		want: []found{{comparator.MissingHold, "h1", backends.Key{}, 3}, {comparator.LevelDrift, "", key("mug", "A"), 2}}},
	{name: "redis-only: a claim that the ledger missed", stage: backends.RedisOnly,
		do: func(p *pod) {
			p.reserve("h1", "mug", 3)
			p.reserve("h2", "mug", 2)
			p.claim("h1")
			p.mirror(nil, "h1")
		},
		want: []found{{comparator.LedgerShort, "h1", backends.Key{}, 3}}, attr: 1},
}

func TestAuditFindsEachFaultInItsClassWithExactUnits(t *testing.T) {
	for _, c := range auditCases {
		t.Run(c.name, func(t *testing.T) {
			p := newPod(t, c.stage)
			p.stock("mug", 20)
			p.stock("cup", 20)
			p.mirror(nil)
			c.do(p)
			var told []comparator.Finding
			r, err := p.audit(func(in *comparator.AuditInput) {
				in.Found = func(f comparator.Finding) { told = append(told, f) }
			})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, summary(r)); d != "" {
				t.Error(d)
			}
			if len(told) != len(c.want) || r.FindingsTotal != int64(len(c.want)) || r.UndeterminedTotal != 0 || r.Attributed != c.attr {
				t.Errorf("told of %d; %+v", len(told), r)
			}
			if r.Clean() != (len(c.want) == 0) {
				t.Error("clean is wrong")
			}
			for _, f := range r.Findings {
				if f.Diff == "" && f.Class != comparator.LevelDrift || f.Proof == "" || f.Life != comparator.LifeOpen || f.Source != "audit" {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

// What is still in the outbox is no finding: it is looked at again until it has arrived.
func TestAuditWaitsForTheOutbox(t *testing.T) {
	p := newPod(t, backends.Shadow)
	p.stock("mug", 20)
	p.mirror(nil)
	p.reserve("h1", "mug", 3)
	p.onWait = func() {
		if p.waited == 2 {
			p.mirror(nil)
		}
	}
	r, err := p.audit(nil)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Clean() || r.Passing != 1 {
		t.Errorf("%+v", r)
	}
}

// What stays in the outbox, and what an outbox that lost entries hides, is undetermined: never a
// finding, never a clean audit.
func TestAuditOfAShadowThatDoesNotFollow(t *testing.T) {
	p := newPod(t, backends.Shadow)
	p.stock("mug", 20)
	p.mirror(nil)
	p.reserve("h1", "mug", 3)
	r, err := p.audit(nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.FindingsTotal != 0 || r.UndeterminedTotal != 2 || r.Clean() {
		t.Errorf("%+v", r)
	}
}

func TestAuditWithALostOutbox(t *testing.T) {
	p := newPod(t, backends.Shadow)
	p.stock("mug", 200)
	for i := range 120 { // the bound of its outbox is 100
		p.reserve(fmt.Sprint("h", i), "mug", 1)
	}
	p.mirror(nil)
	r, err := p.audit(nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.FindingsTotal != 0 || r.UndeterminedTotal == 0 {
		t.Errorf("%+v", r)
	}
}

// busy is a shadow around whose reads of levels things happen.
type busy struct {
	*memstore.Store
	reads         int
	before, after map[int]func()
}

func (m *busy) Levels(ctx context.Context, keys []backends.Key) ([]backends.Level, error) {
	m.reads++
	if do := m.before[m.reads]; do != nil {
		do()
	}
	ls, err := m.Store.Levels(ctx, keys)
	if do := m.after[m.reads]; do != nil {
		do()
	}
	return ls, err
}

// One quiescent difference is not enough: here a release and a reserve of as many units pass entirely
// between the two readings of the outbox, and the shadow is read in between, twice.
func TestAuditIsNotDeceivedOnce(t *testing.T) {
	p := newPod(t, backends.Shadow)
	p.stock("mug", 20)
	p.reserve("h0", "mug", 2)
	p.mirror(nil)
	shadow := &busy{Store: p.shadow}
	shadow.before = map[int]func(){
		1: func() { p.release("h0"); p.mirror(nil) },           // the scan: a first difference
		2: func() { p.reserve("h1", "mug", 2); p.mirror(nil) }, // first reading of the look, after the truth's
	}
	shadow.after = map[int]func(){
		2: func() { p.release("h1") }, // the truth is as before when it is read again
		3: func() { p.mirror(nil) },   // and the outbox empty when that is read again
	}
	r, err := p.audit(func(in *comparator.AuditInput) {
		in.Pair = func() (comparator.Pair, error) {
			return comparator.Pair{Stage: p.stage, Truth: p.truth, Shadow: shadow}, nil
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.FindingsTotal != 0 || r.Passing != 1 || p.waited != 1 {
		t.Errorf("waited %d times; %+v", p.waited, r)
	}
}

func TestAuditRefusals(t *testing.T) {
	p := newPod(t, backends.MySQLOnly)
	if _, err := p.audit(nil); !errors.Is(err, comparator.ErrNothingToAudit) {
		t.Errorf("mysql-only: %v", err)
	}
	p = newPod(t, backends.Shadow)
	if _, err := p.audit(func(in *comparator.AuditInput) {
		in.Pair = func() (comparator.Pair, error) { return comparator.Pair{}, nil }
	}); !errors.Is(err, comparator.ErrNoPair) {
		t.Errorf("no stage: %v", err)
	}
	p.stock("mug", 3)
	p.mirror(nil)
	p.reserve("h1", "mug", 1)
	p.mirror(nil, "h1")
	p.onWait = func() { p.stage = backends.RedisOnly }
	if _, err := p.audit(nil); !errors.Is(err, comparator.ErrStageMoved) {
		t.Errorf("a moved stage: %v", err)
	}
	p.stage = backends.Shadow
	stopped := errors.New("stopped")
	if _, err := p.audit(func(in *comparator.AuditInput) {
		in.Pace = func(context.Context) error { return stopped }
		in.Wait = func(context.Context, time.Duration) error { return stopped }
	}); !errors.Is(err, stopped) {
		t.Errorf("a stop: %v", err)
	}
}

// Old claims may be gone from the shadow: each store forgets ended holds at a time of its own.
func TestAuditForgivesForgottenClaims(t *testing.T) {
	p := newPod(t, backends.Shadow)
	p.stock("mug", 20)
	p.reserve("h1", "mug", 3)
	p.claim("h1")
	p.mirror(nil)
	p.now = p.now.Add(backends.DefaultRetain/2 + time.Hour)
	gone := memstore.New(memstore.Options{Side: backends.SideMySQL})
	p.must(gone.Raise(ctx, backends.Fence{Epoch: 1, Stage: backends.Shadow, Open: true}, 0))
	p.shadow = gone
	r, err := p.audit(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		if f.Hold != "" {
			t.Errorf("%+v", f)
		}
	}
}

// Many differences are looked at in pages, and the totals count what the list does not show.
func TestAuditOfManyDifferences(t *testing.T) {
	p := newPod(t, backends.Shadow)
	p.stock("mug", 5000)
	p.mirror(nil)
	const n = 1300
	for i := range n {
		p.reserve(fmt.Sprintf("h%04d", i), "mug", 2)
		p.mirror(nil, backends.HoldID(fmt.Sprintf("h%04d", i)))
	}
	most := 0
	r, err := p.audit(func(in *comparator.AuditInput) {
		in.Progress = func(g comparator.AuditProgress) { most = max(most, g.Checking) }
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.FindingsTotal != n || r.UnitsTotal != 2*n || len(r.Summary) != 1 || r.Summary[0].Findings != n || r.Attributed != 1 {
		t.Errorf("%d findings, %d units, %+v, attributed %d", r.FindingsTotal, r.UnitsTotal, r.Summary, r.Attributed)
	}
	if most == 0 || most > 1000 {
		t.Errorf("%d differences were open at once", most)
	}
}

func TestConservationReportsEachStore(t *testing.T) {
	p := newPod(t, backends.Shadow)
	p.stock("mug", 5)
	p.mirror(nil)
	now := func() time.Time { return p.now }
	c := comparator.CheckConservation(ctx, "one", []comparator.NamedStore{{Name: "redis", Store: p.redis}, {Name: "mysql", Store: p.mysql}}, now)
	if !c.Clean() || len(c.Stores) != 2 || c.Stores[0].Checked != 1 {
		t.Errorf("%+v", c)
	}
	_ = p.mysql.Close()
	c = comparator.CheckConservation(ctx, "one", []comparator.NamedStore{{Name: "redis", Store: p.redis}, {Name: "mysql", Store: p.mysql}}, now)
	if c.Clean() || c.Stores[0].Error != "" || c.Stores[1].Error == "" {
		t.Errorf("%+v", c)
	}
	if none := comparator.CheckConservation(ctx, "one", nil, now); none.Clean() {
		t.Error("nothing checked is not clean")
	}
}

// A write past Crossfade is one finding, whichever check sees it, and however often.
func TestBypassIsFoundAndNamed(t *testing.T) {
	for _, c := range []struct {
		name  string
		stage backends.Stage
		store func(*pod) *memstore.Store
	}{
		{"truth", backends.Shadow, func(p *pod) *memstore.Store { return p.redis }},
		{"shadow", backends.Shadow, func(p *pod) *memstore.Store { return p.mysql }},
		{"truth of live", backends.Live, func(p *pod) *memstore.Store { return p.mysql }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPod(t, c.stage)
			p.stock("mug", 9)
			p.reserve("h1", "mug", 3)
			p.mirror(nil)
			c.store(p).Bypass(key("mug", "A"), -4)
			r, err := p.audit(nil)
			if err != nil || len(r.Findings) != 1 || r.Findings[0].Class != comparator.BypassWrite || r.Findings[0].TotalUnits != 4 {
				t.Fatalf("%+v, %v", r, err)
			}
			f := comparator.CheckConservation(ctx, "one", []comparator.NamedStore{{Name: "redis", Store: p.redis}, {Name: "mysql", Store: p.mysql}},
				func() time.Time { return p.now }).Findings(c.stage, 1)
			if len(f) != 1 || f[0].ID != r.Findings[0].ID || f[0].Units[0].Quantity != 4 || f[0].Class != comparator.BypassWrite || f[0].Proof == "" {
				t.Errorf("%+v", f)
			}
		})
	}
}

// Compared with itself a store is always right, so nothing is compared.
func TestAuditOfAStoreWithItself(t *testing.T) {
	p := newPod(t, backends.Shadow)
	p.shadow = p.redis.Handle()
	if _, err := p.audit(nil); !errors.Is(err, backends.ErrSameStore) {
		t.Errorf("%v", err)
	}
}
