package proxy

import (
	"strings"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
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
