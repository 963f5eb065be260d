package mysqlstore_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// BenchmarkReserve reserves single units of one hot item, by one buyer and by 32, on servers that
// keep what they commit (durable) and on those of the tests.
//
//	go test ./cmd/internal/it/mysqlstore -run '^$' -bench Reserve -benchtime 3s
func BenchmarkReserve(b *testing.B) {
	for _, kind := range servers {
		for _, durable := range []bool{false, true} {
			name := fmt.Sprintf("%s/durable=%t", kind, durable)
			b.Run(name, func(b *testing.B) {
				srv := lab.Private(b, kind, func(o *lab.Options) { o.Fast = !durable })
				for _, combine := range []int{1, mysqlstore.DefaultCombine} {
					for _, buyers := range []int{1, 32, 128} {
						b.Run(fmt.Sprintf("combine=%d/buyers=%d", combine, buyers), func(b *testing.B) { reserveMany(b, srv, combine, buyers) })
					}
				}
			})
		}
	}
}

func reserveMany(b *testing.B, srv *lab.Server, combine, buyers int) {
	s := open(b, srv.NewDatabase(b), func(c *mysqlstore.Config) { c.Combine = combine })
	r := rig{s, testContext(b)}
	r.raise(b, backends.Live)
	r.stock(b, "mug", 5_000_000)
	stop := make(chan struct{})
	var upkeep sync.WaitGroup
	upkeep.Go(func() { // as a proxy would
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				_, _ = s.Maintain(r.ctx, token)
			}
		}
	})
	var next atomic.Int64
	var all sync.WaitGroup
	before := s.Stats()
	b.ResetTimer()
	for range buyers {
		all.Go(func() {
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					return
				}
				d, err := s.Reserve(b.Context(), token, cart(fmt.Sprintf("%s-%d", b.Name(), n), line("mug", 1)))
				if err != nil && !errors.Is(err, backends.ErrBusy) || err == nil && d.Outcome != backends.OutcomeGranted {
					b.Errorf("reserve answered %+v, %v", d, err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	close(stop)
	upkeep.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "holds/s")
	after := s.Stats()
	b.ReportMetric(float64(after.Confirmed-before.Confirmed)/float64(b.N), "confirmed/op")
	reportRefills(b, before, after)
}

func reportRefills(b *testing.B, before, after mysqlstore.Stats) {
	b.ReportMetric(float64(after.Refills-before.Refills), "refills")
	b.ReportMetric(float64(after.Restarts-before.Restarts)/float64(b.N), "restarts/op")
}

// BenchmarkRefuse asks for an item that is sold out.
func BenchmarkRefuse(b *testing.B) {
	for _, kind := range servers {
		b.Run(string(kind), func(b *testing.B) {
			srv := lab.Private(b, kind, func(o *lab.Options) { o.Fast = false })
			for _, buyers := range []int{1, 32, 128} {
				b.Run(fmt.Sprintf("buyers=%d", buyers), func(b *testing.B) {
					s := open(b, srv.NewDatabase(b))
					r := rig{s, testContext(b)}
					r.raise(b, backends.Live)
					r.stock(b, "mug", 1)
					if d, err := s.Reserve(r.ctx, token, cart("last", line("mug", 1))); err != nil || d.Outcome != backends.OutcomeGranted {
						b.Fatalf("the last unit: %+v, %v", d, err)
					}
					before := s.Stats().Views
					var next atomic.Int64
					var all sync.WaitGroup
					b.ResetTimer()
					for range buyers {
						all.Go(func() {
							for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
								d, err := s.Reserve(b.Context(), token, cart(fmt.Sprintf("%s-%d", b.Name(), n), line("mug", 1)))
								if err != nil || d.Outcome != backends.OutcomeSoldOut {
									b.Errorf("answered %+v, %v", d, err)
									return
								}
							}
						})
					}
					all.Wait()
					b.StopTimer()
					b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "refusals/s")
					b.ReportMetric(1000*float64(s.Stats().Views-before)/float64(b.N), "views/1000")
				})
			}
		})
	}
}
