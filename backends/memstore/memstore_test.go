package memstore_test

import (
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/backends/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, storetest.Harness{
		Sides: []backends.Side{backends.SideRedis, backends.SideMySQL},
		Open: func(_ *testing.T, side backends.Side, o storetest.Options) backends.Store {
			if o.Same != nil {
				return o.Same.(*memstore.Store).Handle()
			}
			return memstore.New(memstore.Options{Side: side, OutboxMax: o.OutboxMax, Retain: o.Retain})
		},
		Corrupt: func(_ *testing.T, s backends.Store, k backends.Key, delta int64) {
			s.(*memstore.Store).Bypass(k, delta)
		},
		Checks: 300,
	})
}
