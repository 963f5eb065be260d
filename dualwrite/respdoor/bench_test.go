package respdoor_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/dualwrite/respdoor"
)

// BenchmarkDecr is the door alone, over a service that does nothing, from 50 connections on the
// same machine.
func BenchmarkDecr(b *testing.B) {
	const connections = 50
	result := &backends.CountResult{Value: 7}
	for _, pipeline := range []int{1, 16} {
		b.Run(fmt.Sprintf("pipeline=%d", pipeline), func(b *testing.B) {
			addr, _ := counting(b, respdoor.Config{}, func(context.Context, *backends.CountRequest) (*backends.CountResult, error) {
				return result, nil
			})
			ask := []byte(strings.Repeat(frame("DECR", "stock:s:mug"), pipeline))
			want := bytes.Repeat([]byte(":7\r\n"), pipeline)
			conns := make([]net.Conn, connections)
			for i := range conns {
				conns[i] = dial(b, addr).nc
			}
			b.ResetTimer()
			var wg sync.WaitGroup
			for i, nc := range conns {
				wg.Go(func() {
					got := make([]byte, len(want))
					for n := i; n < b.N; n += connections {
						if _, err := nc.Write(ask); err != nil {
							b.Error(err)
							return
						}
						if _, err := io.ReadFull(nc, got); err != nil || !bytes.Equal(got, want) {
							b.Errorf("%q %v", got, err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N*pipeline)/b.Elapsed().Seconds(), "commands/s")
		})
	}
}
