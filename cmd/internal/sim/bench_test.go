package sim_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/comparator/memfindings"
	"github.com/crossfade-proxy/crossfade/dualwrite"
)

// BenchmarkReserve is a grant and its release through the writer, over memory stores with a comparator that runs:
// what a checkout waits for, and then what the mirror does behind it.
func BenchmarkReserve(b *testing.B) {
	for _, stage := range []backends.Stage{backends.Shadow, backends.Live} {
		for _, mirrored := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s, mirrored %v", stage, mirrored), func(b *testing.B) { benchReserve(b, stage, mirrored) })
		}
	}
}

func benchReserve(b *testing.B, stage backends.Stage, mirrored bool) {
	ctx := context.Background()
	ok := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	fence := backends.Fence{Epoch: 1, Stage: stage, Open: true, Filled: stage == backends.Live}
	open := func(side backends.Side) *memstore.Store {
		s := memstore.New(memstore.Options{Side: side})
		_, err := s.Raise(ctx, fence, 0)
		ok(err)
		return s
	}
	stores := dualwrite.Stores{Redis: open(backends.SideRedis), MySQL: open(backends.SideMySQL)}
	c, err := comparator.New(comparator.Config{Pod: "pod", Proxy: "p", Store: memfindings.New()})
	ok(err)
	ok(c.Start(ctx))
	defer c.Stop()
	pod := dualwrite.NewPod("pod", stores, dualwrite.Options{Comparer: c, Lanes: 1, LaneDepth: 8})
	pod.Gate().Adopt(fence)
	_, err = pod.Restock(ctx, &backends.RestockRequest{OpID: "load", Key: backends.Key{Shop: shop, Item: "mug", Location: "east"}, Amount: 1000})
	ok(err)
	for pod.LaneStep(ctx, 0) > 0 {
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		id := backends.HoldID(fmt.Sprint("h", i))
		_, err := pod.Reserve(ctx, &backends.ReserveRequest{ID: id, Shop: shop, TTL: time.Minute, Lines: []backends.Line{{Item: "mug", Quantity: 1, Locations: spots[:1]}}})
		ok(err)
		_, err = pod.Release(ctx, &backends.ReleaseRequest{ID: id})
		ok(err)
		if mirrored {
			for pod.LaneStep(ctx, 0) > 0 {
			}
		}
	}
}
