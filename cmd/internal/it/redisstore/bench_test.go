package redisstore_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/redisstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

const benchCallers = 64

// BenchmarkReserve is the rate of reserves of one unit, 64 callers at once, with the outbox
// written.
func BenchmarkReserve(b *testing.B) {
	for _, k := range servers {
		for _, lines := range []int{1, 20} {
			b.Run(fmt.Sprintf("%s/lines=%d", k, lines), func(b *testing.B) { benchmarkReserve(b, k, lines) })
		}
	}
}

func benchmarkReserve(b *testing.B, k lab.Kind, lines int) {
	srv := lab.ForTest(b, k)
	prefix := srv.NewPrefix(b)
	tpl, err := backends.ParseKeyTemplate(prefix+"stock:{shop}:{item}:{location}", "", "")
	if err != nil {
		b.Fatal(err)
	}
	s, err := redisstore.Open(b.Context(), redisstore.Config{Pod: "p", Addr: srv.Addr(), Prefix: prefix + "xf:", Template: tpl})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Raise(b.Context(), backends.Fence{Epoch: 1, Stage: backends.Shadow, Open: true}, 0); err != nil {
		b.Fatal(err)
	}
	tok := backends.Token{Epoch: 1}
	var ls []backends.Line
	for i := range lines {
		it := backends.Item(fmt.Sprint("i", i))
		if _, err := s.Restock(b.Context(), tok, &backends.RestockRequest{OpID: backends.OpID(it), Key: item(it), Amount: backends.MaxOnHand}); err != nil {
			b.Fatal(err)
		}
		ls = append(ls, backends.Line{Item: it, Quantity: 1, Locations: []backends.Location{"l"}})
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	start := time.Now()
	for range benchCallers {
		wg.Go(func() {
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					return
				}
				if _, err := s.Reserve(b.Context(), tok, &backends.ReserveRequest{ID: backends.HoldID(fmt.Sprint("h", n)), Shop: "s", Lines: ls, TTL: time.Hour}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "reserves/s")
}
