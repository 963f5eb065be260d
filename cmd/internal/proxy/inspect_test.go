package proxy

import (
	"context"
	"strings"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/dualwrite"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// fit is a store that can be set up, and nothing else: whatever scans it is a nil call.
type fit struct {
	backends.Store
	name string
}

func (fit) Setup(context.Context) error { return nil }

func (f fit) Identity(context.Context) (string, error) { return f.name, nil }

// Evidence of set-up asks the stores for their set-up only: no level is read, however many there are.
func TestEvidenceIsWhatIsNeeded(t *testing.T) {
	runtime := func(redis, mysql backends.Store) *podRuntime {
		stores := dualwrite.Stores{Redis: redis, MySQL: mysql}
		p := &podRuntime{stores: stores, pod: dualwrite.NewPod("pod-1", stores, dualwrite.Options{})}
		p.pod.Gate().Adopt(backends.Fence{Epoch: 1, Stage: backends.RedisOnly, Open: true})
		return p
	}
	e := runtime(fit{name: "a"}, fit{name: "b"}).evidence(t.Context(), killswitch.NeedsFor(backends.RedisOnly, backends.Shadow))
	if _, err := killswitch.JudgeGates("pod-1", backends.RedisOnly, backends.Shadow, e, killswitch.Bounds{}, nil); err != nil {
		t.Error(err)
	}
	p := runtime(memstore.New(memstore.Options{Side: backends.SideRedis}), memstore.New(memstore.Options{Side: backends.SideMySQL}))
	e = p.evidence(t.Context(), killswitch.NeedOutbox|killswitch.NeedDebt|killswitch.NeedBalance|killswitch.NeedBreaker)
	if !e.Debt.Known || !e.Imbalances.Known || !e.Lost.Known || !e.BreakerClosed.Known || e.SetupRedis.Known {
		t.Errorf("%+v", e)
	}
}

// What a fence that cannot be read would tell is not known; what the record tells is.
func TestBackfillOnUnknown(t *testing.T) {
	at := killswitch.Saw(backends.Fence{Epoch: 2, Stage: backends.Shadow, Open: true}, nil)
	away := killswitch.Saw(backends.Fence{}, backends.ErrUnavailable)
	st := killswitch.PodState{Pod: "pod-1", Stage: backends.Shadow, Epoch: 2, MaxEpoch: 2}
	due := st
	due.Due = []killswitch.Work{killswitch.WorkBackfill}
	for what, c := range map[string]struct {
		seen killswitch.Seen
		want killswitch.Figure[bool]
	}{
		"nothing is due": {killswitch.Seen{State: st, Redis: at, MySQL: at}, killswitch.Is(true)},
		"MySQL is away":  {killswitch.Seen{State: st, Redis: at, MySQL: away}, killswitch.Figure[bool]{Value: true}},
		"Redis is away":  {killswitch.Seen{State: st, Redis: away, MySQL: at}, killswitch.Figure[bool]{Value: true}},
		"a backfill is":  {killswitch.Seen{State: due, Redis: at, MySQL: away}, killswitch.Is(false)},
	} {
		if got := backfillFigure(c.seen); got != c.want {
			t.Errorf("%s: %+v", what, got)
		}
	}
}

// A shadow that is the truth itself is not set up: no gate lets the pod move.
func TestShadowThatIsTheTruth(t *testing.T) {
	same := fit{name: "a"}
	stores := dualwrite.Stores{Redis: same, MySQL: same}
	p := &podRuntime{stores: stores, pod: dualwrite.NewPod("pod-1", stores, dualwrite.Options{})}
	e := p.evidence(t.Context(), killswitch.NeedsFor(backends.RedisOnly, backends.Shadow))
	if !e.SetupMySQL.Known || !strings.Contains(e.SetupMySQL.Value, backends.ErrSameStore.Error()) {
		t.Fatalf("%+v", e.SetupMySQL)
	}
}
