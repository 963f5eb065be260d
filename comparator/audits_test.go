package comparator_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/comparator/memfindings"
)

// fleet is a pod with proxies that audit it, in virtual time.
type fleet struct {
	*pod
	kept  *memfindings.Store
	since time.Time
	mu    sync.Mutex
	found []comparator.Finding
	// What happens before each page of any proxy; may be nil. What a proxy reads is behind it.
	page func()
}

// newFleet has 60 holds at as many keys, of which one is missing in the shadow, and has been in its stage for an hour.
func newFleet(t *testing.T) *fleet {
	f := &fleet{pod: newPod(t, backends.Shadow), kept: memfindings.New(), since: time.Now().Add(-time.Hour)}
	f.epoch = 1
	for i := range 60 {
		f.stock(fmt.Sprint("item", i), 5)
		f.mirror(nil)
		f.reserve(fmt.Sprint("h", i), fmt.Sprint("item", i), 1)
		if i == 30 {
			f.mirror(nil, "h30")
		} else {
			f.mirror(nil)
		}
	}
	return f
}

// paged is a truth with pages of ten holds or levels.
type paged struct {
	backends.Store
	f *fleet
}

func (p paged) ScanHolds(ctx context.Context, cursor string, limit int, openOnly bool) ([]*backends.Hold, string, error) {
	p.f.mu.Lock()
	page := p.f.page
	p.f.mu.Unlock()
	if page != nil {
		page()
	}
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	return p.Store.ScanHolds(ctx, cursor, min(limit, 10), openOnly)
}

// proxy is one of the fleet: pages of ten, each some seconds after the last.
func (f *fleet) proxy(name string, change func(*comparator.AuditsConfig)) *comparator.Audits {
	cfg := comparator.AuditsConfig{
		Pod: "one", Holder: name, Book: f.kept, Schedule: comparator.AuditSchedule{Every: 24 * time.Hour},
		Input: func() comparator.AuditInput {
			return comparator.AuditInput{
				Pod: "one", Epoch: 1, Rounds: 5,
				Pair: func() (comparator.Pair, error) {
					p, err := f.pair()
					p.SureSince, p.Truth = f.since, paged{f.truth, f}
					return p, err
				},
				Pace: func(context.Context) error { pass(3 * time.Second); return nil },
				Found: func(g comparator.Finding) {
					f.mu.Lock()
					defer f.mu.Unlock()
					f.found = append(f.found, g)
				},
			}
		},
	}
	if change != nil {
		change(&cfg)
	}
	return comparator.NewAudits(cfg)
}

func (f *fleet) row() comparator.AuditRow {
	f.t.Helper()
	row, err := f.kept.AuditRow(ctx, "one")
	f.must(nil, err)
	return row
}

// complete demands that the last audit has read everything and found the one hold.
func (f *fleet) complete() *comparator.AuditResult {
	f.t.Helper()
	row := f.row()
	if l := row.Last; l == nil || l.HoldsTruth != 60 || l.LevelsTruth != 60 || l.FindingsTotal != 1 || l.UndeterminedTotal != 0 || row.State != nil || row.Lease > 0 || row.Fails > 0 {
		f.t.Fatalf("%+v, last %+v", row, row.Last)
	}
	return row.Last
}

// The schedule by itself, over two days: one audit of one proxy at a time, once a day.
func TestAuditsRunByTheSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		run, stop := context.WithCancel(ctx)
		var wg sync.WaitGroup
		running, most := 0, 0
		f.page = func() {
			f.mu.Lock()
			running++
			most = max(most, running)
			f.mu.Unlock()
			pass(time.Second)
			f.mu.Lock()
			running--
			f.mu.Unlock()
		}
		var proxies []*comparator.Audits
		for i := range 3 {
			a := f.proxy(fmt.Sprint("p", i), func(c *comparator.AuditsConfig) {
				c.Failed = func(err error) {
					if err != nil {
						t.Error(err)
					}
				}
			})
			proxies = append(proxies, a)
			wg.Go(func() { a.Run(run) })
		}
		pass(12 * time.Minute)
		f.complete()
		if n := f.row().N; n > 3 {
			t.Errorf("it was taken %d times", n)
		}
		pass(47 * time.Hour)
		f.complete()
		f.mu.Lock()
		if len(f.found) != 2 || most != 1 {
			t.Errorf("the missing hold was found %d times in two days; %d pages were read at once", len(f.found), most)
		}
		f.mu.Unlock()
		if row, age, ok := proxies[1].Seen(); !ok || age > 80*time.Second || row.Last == nil {
			t.Errorf("%+v, %s ago", row, age)
		}
		stop()
		wg.Wait()
	})
}

// kills stands for a process that is gone from some moment on: nothing that it does takes effect.
type kills struct {
	comparator.AuditBook
	dead bool
}

func (k *kills) SaveAudit(ctx context.Context, pod backends.Pod, n uint64, s comparator.AuditSave) error {
	if k.dead {
		return errKilled
	}
	return k.AuditBook.SaveAudit(ctx, pod, n, s)
}

// A proxy that is killed is relieved when its term is over, and what it had saved is not read again.
func TestKilledAuditIsGoneOnWithByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		book := &kills{AuditBook: f.kept}
		pages := 0
		f.page = func() { pages++ }
		one := f.proxy("p1", func(c *comparator.AuditsConfig) {
			c.Book = book
			input := c.Input
			c.Input = func() comparator.AuditInput {
				in := input()
				in.Pace = func(context.Context) error {
					pass(3 * time.Second)
					if pages == 4 {
						book.dead = true
						return errKilled
					}
					return nil
				}
				return in
			}
		})
		if _, err := one.Step(ctx); !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		two := f.proxy("p2", nil)
		if more, err := two.Step(ctx); more || err != nil || f.row().Holder != "p1" {
			t.Fatalf("%v, %v: %+v", more, err, f.row())
		}
		if _, err := two.ByHand(ctx, true, nil); !errors.Is(err, comparator.ErrAuditTaken) {
			t.Errorf("%v", err)
		}
		pass(time.Minute)
		if _, err := two.Step(ctx); err != nil {
			t.Fatal(err)
		}
		if last := f.complete(); last.Resumed != 1 || f.row().Holder != "p2" {
			t.Errorf("%+v", f.row())
		}
		if pages > 9 { // six, and what was read since the last save
			t.Errorf("%d pages of holds were read", pages)
		}
	})
}

// P5: whatever of an audit panics or fails, its proxy goes on, says so, and tries again later, ever more seldom.
func TestAuditThatPanicsDoesNotHurt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		f.page = func() { panic("the store is broken") }
		a := f.proxy("p1", nil)
		_, err := a.Step(ctx)
		if err == nil || !strings.Contains(err.Error(), "the store is broken") {
			t.Fatalf("%v", err)
		}
		row := f.row()
		if row.Fails != 1 || !strings.Contains(row.Failure, "the store is broken") || row.Lease > 0 {
			t.Errorf("%+v", row)
		}
		var last error
		run, stop := context.WithCancel(ctx)
		var wg sync.WaitGroup
		b := f.proxy("p2", func(c *comparator.AuditsConfig) {
			c.Failed = func(err error) {
				f.mu.Lock()
				defer f.mu.Unlock()
				last = errors.Join(last, err)
			}
		})
		wg.Go(func() { b.Run(run) })
		pass(30 * time.Minute)
		fails := f.row().Fails
		f.mu.Lock()
		if fails < 4 || fails > 6 || last == nil { // after 1, 2, 4, 8 and 16 minutes
			t.Errorf("it failed %d times in half an hour: %v", fails, last)
		}
		f.page = nil
		f.mu.Unlock()
		pass(time.Hour)
		f.complete()
		stop()
		wg.Wait()
	})
}

// panicky panics wherever it is asked.
type panicky struct{ comparator.AuditBook }

func (panicky) TakeAudit(context.Context, backends.Pod, string, time.Duration) (comparator.AuditRow, bool, error) {
	return comparator.AuditRow{}, false, errAway
}

func (panicky) AuditRow(context.Context, backends.Pod) (comparator.AuditRow, error) { panic("row") }

func TestNothingAroundAnAuditHurts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		away := errors.New("away")
		for name, change := range map[string]func(*comparator.AuditsConfig){
			"the input panics": func(c *comparator.AuditsConfig) { c.Input = func() comparator.AuditInput { panic("input") } },
			"the book panics":  func(c *comparator.AuditsConfig) { c.Book = panicky{f.kept} },
			"findings cannot be saved": func(c *comparator.AuditsConfig) {
				c.Flush = func(context.Context) error { return away }
			},
		} {
			if _, err := f.proxy("p1", change).Step(ctx); err == nil {
				t.Errorf("%s, and nobody is told", name)
			}
			pass(time.Hour)
		}
		if row := f.row(); row.Last != nil || row.State != nil {
			t.Errorf("progress was saved, and its findings were not: %+v", row)
		}
		if _, err := f.proxy("p1", func(c *comparator.AuditsConfig) { c.Book = panicky{f.kept} }).ByHand(ctx, false, nil); !errors.Is(err, backends.ErrUnavailable) || !errors.Is(err, errAway) {
			t.Errorf("the book is away: %v", err)
		}
		none := f.proxy("p1", func(c *comparator.AuditsConfig) {
			c.Input = func() comparator.AuditInput {
				return comparator.AuditInput{Pair: func() (comparator.Pair, error) { return comparator.Pair{}, comparator.ErrNoPair }}
			}
		})
		if more, err := none.Step(ctx); more || err != nil {
			t.Errorf("a pod that serves no stage: %v, %v", more, err)
		}
	})
}

// An audit that does not fit into its window goes on in the next one.
func TestAuditWaitsForItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		midnight := time.Now().Truncate(24 * time.Hour).Add(24 * time.Hour)
		pass(time.Until(midnight.Add(2*time.Hour + 59*time.Minute + 45*time.Second)))
		a := f.proxy("p1", func(c *comparator.AuditsConfig) {
			c.Schedule.Window = comparator.DayWindow{From: 2 * time.Hour, Until: 3 * time.Hour}
		})
		more, err := a.Step(ctx)
		if err != nil || f.row().State == nil || f.row().Lease > 0 {
			t.Fatalf("%v, %v: %+v", more, err, f.row())
		}
		read := f.row().State.Result.HoldsTruth
		pass(12 * time.Hour)
		if more, err := a.Step(ctx); more || err != nil || f.row().State == nil || f.row().State.Result.HoldsTruth != read {
			t.Fatalf("outside its window: %v, %v", more, err)
		}
		pass(11*time.Hour + 15*time.Minute)
		if _, err := a.Step(ctx); err != nil {
			t.Fatal(err)
		}
		if f.complete().Resumed != 1 {
			t.Errorf("%+v", f.row().Last)
		}
	})
}

// A slice ends after two minutes; another follows at once.
func TestAuditsGoOnInSlices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		f.page = func() { pass(50 * time.Second) }
		a := f.proxy("p1", nil)
		slices := 1
		for {
			more, err := a.Step(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if !more {
				break
			}
			slices++
		}
		if last := f.complete(); slices < 2 || last.Resumed != int64(slices-1) {
			t.Errorf("%d slices, %+v", slices, last)
		}
	})
}

// When the pod moves, what was saved is forgotten, and an audit of the new epoch begins.
func TestAuditBeginsAnewAfterAMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		pages := 0
		f.page = func() {
			if pages++; pages == 4 {
				f.epoch = 2
			}
		}
		a := f.proxy("p1", nil)
		if more, err := a.Step(ctx); more || err != nil {
			t.Fatalf("%v, %v", more, err)
		}
		if row := f.row(); row.State != nil || row.Last != nil || row.Lease > 0 || row.Fails > 0 || row.Begun > 0 {
			t.Errorf("%+v", row)
		}
	})
}

// By hand it is the same audit, at once; who ends it early leaves it to be gone on with only when that was asked for.
func TestAuditByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		f.since = time.Now() // nothing is due
		a := f.proxy("p1", func(c *comparator.AuditsConfig) { c.Schedule.Every = 0 })
		res, err := a.ByHand(ctx, false, nil)
		if err != nil || len(res.Findings) != 1 {
			t.Fatalf("%v: %+v", err, res)
		}
		if last := f.complete(); last.Findings != nil {
			t.Error("the findings are kept twice")
		}
		for _, resume := range []bool{false, true} {
			short, stop := context.WithCancel(ctx)
			pages := 0
			f.page = func() {
				if pages++; pages == 4 {
					stop()
				}
			}
			if _, err := a.ByHand(short, resume, nil); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			if row := f.row(); (row.State != nil) != resume || row.Lease > 0 || row.Fails > 0 {
				t.Errorf("resume %v: %+v", resume, row)
			}
		}
		f.page = nil
		if res, err = a.ByHand(ctx, true, nil); err != nil || res.Resumed != 1 {
			t.Fatalf("%v: %+v", err, res)
		}
		f.complete()
		if _, _, err := f.kept.TakeAudit(ctx, "one", "p9", time.Minute); err != nil {
			t.Fatal(err)
		}
		if res, err = a.ByHand(ctx, false, nil); err != nil || res.FindingsTotal != 1 || f.row().Holder != "p9" {
			t.Errorf("beside another: %v, %+v", err, res)
		}
		if _, err = a.ByHand(ctx, true, nil); !errors.Is(err, comparator.ErrAuditTaken) || !strings.Contains(err.Error(), "p9") {
			t.Errorf("beside another: %v", err)
		}
	})
}

// The pods of a proxy wait for each other.
func TestAuditsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := make(chan struct{}, 1)
		var wg sync.WaitGroup
		var mu sync.Mutex
		running, most := 0, 0
		fleets := []*fleet{newFleet(t), newFleet(t), newFleet(t)}
		for _, f := range fleets {
			f.page = func() {
				mu.Lock()
				running++
				most = max(most, running)
				mu.Unlock()
				pass(time.Second)
				mu.Lock()
				running--
				mu.Unlock()
			}
			a := f.proxy("p1", func(c *comparator.AuditsConfig) { c.Turns = turns })
			wg.Go(func() {
				if _, err := a.Step(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, f := range fleets {
			f.complete()
		}
		turns <- struct{}{}
		late := newFleet(t)
		short, stop := context.WithTimeout(ctx, time.Second)
		defer stop()
		if _, err := late.proxy("p1", func(c *comparator.AuditsConfig) { c.Turns = turns }).Step(short); !errors.Is(err, context.DeadlineExceeded) || late.row().N > 0 {
			t.Errorf("%v, %+v", err, late.row())
		}
		if most != 1 {
			t.Errorf("%d of them were at it at once", most)
		}
	})
}
