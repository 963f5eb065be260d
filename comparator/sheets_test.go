package comparator_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/comparator/memfindings"
)

// together is two proxies of a pod that share a store of findings; the first has a decision that differs,
// and only the second knows the operation that explains it.
func together(t *testing.T, change func(*comparator.Config)) (one, two *rig, store *memfindings.Store) {
	store = memfindings.New()
	start := func(proxy string) *rig {
		r := newRig(t, func(c *comparator.Config) {
			c.Proxy, c.Store, c.Sheets, c.SettleWindow = proxy, store, store, 30*time.Second
			if change != nil {
				change(c)
			}
		})
		if err := r.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		return r
	}
	one, two = start("p1"), start("p2")
	pass(8 * time.Second) // they know of each other
	return one, two, store
}

func TestWhatAnotherProxyFollowedExplains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, store := together(t, nil)
		two.overlap(5, 200)
		one.decide("h1", refuseOne, wouldGrant)
		pass(10 * time.Second)
		one.want(comparator.Counts{Explained: 1})
		one.Stop()
		two.Stop()
		fs, err := store.ListFindings(context.Background(), comparator.FindingQuery{Pod: "one"})
		if err != nil || len(fs) != 1 || len(fs[0].Order) != 1 || fs[0].Order[0].Hold != "other reserve" || fs[0].Order[0].Place != comparator.PlaceBehind {
			t.Errorf("%v %+v", err, fs)
		}
	})
}

func TestWithoutAnOrderInAnyProxysRecordItIsConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, store := together(t, nil)
		two.overlap(500, 200) // decided after the truth's decision, and followed after the shadow's
		one.decide("h1", refuseOne, wouldGrant)
		pass(16 * time.Second)
		one.want(comparator.Counts{Confirmed: 1})
		one.Stop()
		two.Stop()
		fs, err := store.ListFindings(context.Background(), comparator.FindingQuery{Pod: "one"})
		if err != nil || len(fs) != 1 || fs[0].Class != comparator.OversellRisk || !strings.Contains(fs[0].Proof, "no order of operations") || fs[0].Severity != "1 unit at risk of oversell" {
			t.Errorf("%v %+v", err, fs)
		}
	})
}

// A proxy that has not told what it had followed leaves the record incomplete, whatever the rest says.
func TestAProxyThatIsSilentLeavesItUndetermined(t *testing.T) {
	for name, helps := range map[string]bool{"an order in what is known": true, "none": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hang := &mute{Store: memfindings.New()}
				one, two, _ := together(t, func(c *comparator.Config) { c.Store, c.Sheets = hang, hang })
				hang.silence("p2")
				if helps {
					one.overlap(5, 200)
				}
				one.decide("h1", refuseOne, wouldGrant)
				pass(45 * time.Second)
				one.want(comparator.Counts{Undetermined: 1})
				if n := one.Stats().Undetermined["record_incomplete"]; n != 1 {
					t.Errorf("by cause: %v", one.Stats().Undetermined)
				}
				one.Stop()
				two.Stop()
			})
		})
	}
}

// What does not fit into the record is counted, and leaves what overlaps it undetermined.
func TestARecordThatIsFullProvesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.start()
		f := comparator.Followed{Epoch: 1, Stage: backends.Shadow, Shadow: comparator.Span{From: 100, To: 120}, Items: make([]comparator.FollowedItem, 1000)}
		for range 30 {
			r.Followed(f)
		}
		r.decide("h1", refuseOne, wouldGrant)
		pass(16 * time.Second)
		r.want(comparator.Counts{Undetermined: 1})
		if n := r.Stats().NotRecorded; n == 0 {
			t.Error("nothing was dropped")
		}
		r.Stop()
	})
}

// An attempt that is under way may have taken effect already: until it ends, nothing is proven.
func TestAnAttemptUnderWayIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, _ := together(t, nil)
		other := two.Following(120)
		one.decide("h1", refuseOne, wouldGrant)
		pass(12 * time.Second)
		one.want(comparator.Counts{Settling: 1})
		own := one.Following(120)
		two.overlap(5, 200)
		two.Followed(comparator.Followed{Ticket: other, Epoch: 1, Stage: backends.Shadow, Shadow: comparator.Span{From: 120, To: 500}})
		pass(7 * time.Second)
		one.want(comparator.Counts{Settling: 1})
		one.Followed(comparator.Followed{Ticket: own, Epoch: 1, Stage: backends.Shadow, Shadow: comparator.Span{From: 120, To: 400}})
		pass(7 * time.Second)
		one.want(comparator.Counts{Explained: 1})
		one.Stop()
		two.Stop()
	})
}

// A proxy that said good-bye, or was gone long before the decision, is not waited for.
func TestAProxyThatHasLeftIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, _ := together(t, nil)
		two.Stop()
		one.overlap(5, 200)
		one.decide("h1", refuseOne, wouldGrant)
		pass(10 * time.Second)
		one.want(comparator.Counts{Explained: 1})
		one.Stop()
	})
}

// mute loses the sheets of a proxy on their way.
type mute struct {
	*memfindings.Store
	who string
}

func (m *mute) silence(proxy string) { m.who = proxy }

func (m *mute) PutSheet(ctx context.Context, s comparator.Sheet) error {
	if s.Proxy == m.who {
		return errAway
	}
	return m.Store.PutSheet(ctx, s)
}
