package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(lab.Wrap(m)) }

// TestShort is the soak in its short form, on a real server.
func TestShort(t *testing.T) {
	kinds := []lab.Kind{lab.MySQL}
	if os.Getenv("CROSSFADE_LONG") != "" {
		kinds = append(kinds, lab.MariaDB)
	}
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			var progress bytes.Buffer
			r, err := Run(t.Context(), Options{Dialect: kind, For: 4 * time.Second, Sample: time.Second, Fast: true, Seed: 1, Progress: &progress})
			if err != nil {
				t.Fatal(err)
			}
			var table bytes.Buffer
			if err := r.WriteTable(&table); err != nil {
				t.Fatal(err)
			}
			t.Logf("%s\n%s", &progress, &table)
			if !r.Kept() {
				t.Error("a promise was broken")
			}
			if len(r.Samples) < 3 || r.Refusals.Scarce == 0 || r.Stats.Refills == 0 || r.Stats.Members <= r.Stats.Batches {
				t.Error("too little happened for the checks to mean anything")
			}
			if _, err := json.Marshal(r); err != nil {
				t.Error(err)
			}
		})
	}
}

// saboteur is a store that breaks a promise.
type saboteur struct {
	backends.Store
	reserve  func(ctx context.Context, r *backends.ReserveRequest) (*backends.Decision, error)
	claim    func(ctx context.Context, r *backends.ClaimRequest) (*backends.Decision, error)
	conserve func(ctx context.Context) ([]backends.Level, int, error)
}

func (s *saboteur) Reserve(ctx context.Context, t backends.Token, r *backends.ReserveRequest) (*backends.Decision, error) {
	if s.reserve != nil {
		if d, err := s.reserve(ctx, r); d != nil || err != nil {
			return d, err
		}
	}
	return s.Store.Reserve(ctx, t, r)
}

func (s *saboteur) Claim(ctx context.Context, t backends.Token, r *backends.ClaimRequest) (*backends.Decision, error) {
	if s.claim != nil {
		if d, err := s.claim(ctx, r); d != nil || err != nil {
			return d, err
		}
	}
	return s.Store.Claim(ctx, t, r)
}

func (s *saboteur) Conservation(ctx context.Context) ([]backends.Level, int, error) {
	if s.conserve != nil {
		return s.conserve(ctx)
	}
	return s.Store.Conservation(ctx)
}

func refuse(r *backends.ReserveRequest) *backends.Decision {
	return &backends.Decision{Op: backends.OpReserve, Outcome: backends.OutcomeSoldOut, Short: []backends.Shortage{{Item: r.Lines[0].Item, Wanted: r.Lines[0].Quantity}}}
}

func isScarce(r *backends.ReserveRequest) bool {
	return strings.HasPrefix(string(r.Lines[0].Item), "scarce")
}

// sabotage is one way to break a promise, now and then.
type sabotage struct {
	name  string
	spoil func(s *saboteur, now func() bool)
	says  string // empty: every promise was kept
}

// spoiledReserves answers some reserves wrongly.
func spoiledReserves(scarce bool, answer func(r *backends.ReserveRequest) *backends.Decision) func(*saboteur, func() bool) {
	return func(s *saboteur, now func() bool) {
		s.reserve = func(_ context.Context, r *backends.ReserveRequest) (*backends.Decision, error) {
			if isScarce(r) != scarce || !now() {
				return nil, nil
			}
			return answer(r), nil
		}
	}
}

// failedClaims answers some claims with an error.
func failedClaims(err error) func(*saboteur, func() bool) {
	return func(s *saboteur, now func() bool) {
		s.claim = func(context.Context, *backends.ClaimRequest) (*backends.Decision, error) {
			if !now() {
				return nil, nil
			}
			return nil, err
		}
	}
}

var sabotages = []sabotage{
	{"an honest store", func(*saboteur, func() bool) {}, ""},
	{"a plentiful item is refused", spoiledReserves(false, refuse), "P3: cart"},
	{"a scarce item is refused while a unit is there", spoiledReserves(true, refuse), "P3: no order"},
	{"a scarce unit is sold twice", spoiledReserves(true, func(r *backends.ReserveRequest) *backends.Decision {
		return &backends.Decision{Outcome: backends.OutcomeGranted, Hold: &backends.Hold{ID: r.ID}}
	}), "P3: no order"},
	{"a level is out of balance", func(s *saboteur, _ func() bool) {
		s.conserve = func(context.Context) ([]backends.Level, int, error) {
			return []backends.Level{{Key: plentyKey(0), OnHand: 1}}, 1, nil
		}
	}, "P2 while traffic"},
	{"a claim is answered and lost", func(s *saboteur, now func() bool) {
		s.claim = func(ctx context.Context, r *backends.ClaimRequest) (*backends.Decision, error) {
			if !now() {
				return nil, nil
			}
			d, err := s.Release(ctx, token, &backends.ReleaseRequest{ID: r.ID})
			if err == nil {
				d.Outcome = backends.OutcomeClaimed
			}
			return d, err
		}
	}, "P2, P4 at the end"},
	{"a deadlock is answered", failedClaims(fmt.Errorf("%w: %w", backends.ErrBusy, &mysql.MySQLError{Number: erLockDeadlock})), "P8: a deadlock"},
	{"an error that no caller should get", failedClaims(errors.New("a surprise")), "a surprise"},
	{"busy, and answered when asked again", failedClaims(backends.ErrBusy), ""},
}

// TestBreachesAreSeen: a store that breaks a promise is found out, and one that keeps them is not.
func TestBreachesAreSeen(t *testing.T) {
	for _, c := range sabotages {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // they mostly wait
			var n atomic.Int64
			s := &saboteur{Store: memstore.New(memstore.Options{Side: backends.SideMySQL})}
			c.spoil(s, func() bool { return n.Add(1)%3 == 0 })
			r, err := Play(t.Context(), Target{Store: s}, Options{For: time.Second, Sample: 200 * time.Millisecond, Workers: 8})
			if err != nil {
				t.Fatal(err)
			}
			if r.Kept() != (c.says == "") || !strings.Contains(strings.Join(r.Broken, "\n"), c.says) {
				t.Errorf("kept: %t, broken: %q; want %q", r.Kept(), r.Broken, c.says)
			}
			var table bytes.Buffer
			if err := r.WriteTable(&table); err != nil || strings.Contains(table.String(), "Every promise held") != (c.says == "") {
				t.Errorf("the table says %s (%v)", &table, err)
			}
		})
	}
}

// TestInterrupted: a run that is interrupted ends, and says so.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := &saboteur{Store: memstore.New(memstore.Options{Side: backends.SideMySQL})}
	s.conserve = func(context.Context) ([]backends.Level, int, error) {
		cancel()
		return nil, 1, nil
	}
	if _, err := Play(ctx, Target{Store: s}, Options{For: time.Hour, Sample: minSample}); !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		name string
		o    Options
		says string // empty: accepted
	}{
		{"the defaults", Options{}, ""},
		{"a store without a pool", Options{Dialect: lab.Redis}, "--dialect"},
		{"too short", Options{For: time.Millisecond}, "--for"},
		{"samples longer than the run", Options{For: time.Minute, Sample: time.Hour}, "--sample"},
		{"nobody", Options{Workers: -1}, "--workers"},
		{"too many connections", Options{Connections: 1000}, "--connections"},
		{"batches of less than none", Options{Combine: -1}, "--combine"},
	} {
		o, err := c.o.complete()
		if (err == nil) != (c.says == "") || err != nil && (!strings.Contains(err.Error(), c.says) || !backends.IsRejection(err)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
		if err == nil && (o.For != DefaultFor || o.Workers != DefaultWorkers || o.Connections != 8 || o.Dialect != lab.MySQL) {
			t.Errorf("the defaults are %+v", o)
		}
	}
}

func TestTrend(t *testing.T) {
	var ss []Sample
	for _, r := range []float64{100, 110, 500, 1, 1, 1, 50, 55, 0} {
		ss = append(ss, Sample{Rate: r})
	}
	of := func(s Sample) float64 { return s.Rate }
	if got := trend(ss, of); got != 50.0/110 {
		t.Errorf("the trend is %g", got)
	}
	if got := trend(ss[:2], of); got != 0 {
		t.Errorf("of two samples it is %g", got)
	}
	if got := trend(make([]Sample, 9), of); got != 0 {
		t.Errorf("of nothing it is %g", got)
	}
}

func TestLatency(t *testing.T) {
	for _, d := range []time.Duration{0, 1, 63 * time.Microsecond, 64 * time.Microsecond, 999 * time.Microsecond, 123456 * time.Microsecond, time.Hour} {
		us := d.Truncate(time.Microsecond)
		if v := valueOf(bucketOf(d)); v > us || us-v > us/32 {
			t.Errorf("%s is counted as %s", d, v)
		}
	}
	h := &histogram{}
	for i := range 100 {
		h.add(time.Duration(i+1) * time.Millisecond)
	}
	before := h.now()
	if l := before.latency(); l.Count != 100 || l.P50 < 48 || l.P50 > 50 || l.P99 < 96 || l.P99 > 99 || l.Max < 96 || l.Max > 100 {
		t.Errorf("of 1 to 100 ms: %+v", l)
	}
	h.add(time.Second)
	later := h.now()
	after := later.since(&before)
	if l := after.latency(); l.Count != 1 || l.P50 < 960 || l.P50 > 1000 {
		t.Errorf("of one second: %+v", l)
	}
	var none counts
	if l := none.latency(); l != (Latency{}) {
		t.Errorf("of nothing: %+v", l)
	}
}
