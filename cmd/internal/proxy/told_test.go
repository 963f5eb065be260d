package proxy

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/comparator/memfindings"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// Nothing is concluded from a comparison of stores of which one is being brought up to the other.
func TestWhatTheControlStoreTellsOfTheShadow(t *testing.T) {
	for _, c := range []struct {
		name  string
		state killswitch.PodState
		under uint64
		want  string // part of why it is unsure; "" when it is sure
	}{
		{"nothing is due", killswitch.PodState{Stage: backends.Shadow, Epoch: 3}, 3, ""},
		{"a backfill is due", killswitch.PodState{Stage: backends.Shadow, Epoch: 3, Due: []killswitch.Work{killswitch.WorkBackfill}}, 3, "backfill"},
		{"an outbox has to be settled", killswitch.PodState{Stage: backends.Shadow, Epoch: 3, Due: []killswitch.Work{killswitch.WorkSettle, killswitch.WorkBackfill}}, 3, "settle MySQL's outbox"},
		{"only the end of filling is due", killswitch.PodState{Stage: backends.Live, Epoch: 3, Due: []killswitch.Work{killswitch.WorkFill}}, 3, ""},
		{"a switch is open", killswitch.PodState{Stage: backends.Shadow, Epoch: 3, Switch: &killswitch.Switch{}}, 3, "under way"},
		{"the fences are ahead of the record", killswitch.PodState{Stage: backends.RedisOnly, Epoch: 3}, 4, "epoch 4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := toldBy(c.state).unsureUnder(c.under)
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("%q, want something of %q", got, c.want)
			}
		})
	}
	if got := (told{}).unsureUnder(3); got == "" {
		t.Error("it is sure before the control store has told anything")
	}
}

// hanging is a store of findings that answers when nobody waits any more.
type hanging struct{ *memfindings.Store }

func (h hanging) SaveCoverage(ctx context.Context, _ []comparator.CoverageRow) error {
	<-ctx.Done()
	return ctx.Err()
}

// The comparators of several pods are stopped at the same time.
func TestComparatorsAreStoppedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pods []*podRuntime
		for _, name := range []backends.Pod{"a", "b", "c", "d"} {
			c, err := comparator.New(comparator.Config{Pod: name, Proxy: "p", Store: hanging{memfindings.New()}})
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(context.Background()); err != nil {
				t.Fatal(err)
			}
			c.Begin(1)
			pods = append(pods, &podRuntime{name: name, comparator: c})
		}
		begin := time.Now()
		stopComparing(pods)
		if took := time.Since(begin); took == 0 || took > 10*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}
