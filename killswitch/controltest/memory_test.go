package controltest

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/killswitch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	Run(t, func(*testing.T) Open {
		m := NewMemory()
		return func(tb testing.TB) killswitch.ControlStore {
			h := m.Handle()
			tb.Cleanup(func() { _ = h.Close() })
			return h
		}
	})
}
