package comparator_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

var errKilled = errors.New("the proxy was killed")

// divergent is a pod of many holds and levels with faults of several classes in it, each at a place of its own.
func divergent(t *testing.T, rnd *rand.Rand) *pod {
	p := newPod(t, backends.Shadow)
	const items, holds = 130, 420
	for i := range items {
		p.must(p.truth.Restock(ctx, p.token, &backends.RestockRequest{OpID: backends.OpID(fmt.Sprint("op", i)), Key: key(fmt.Sprint("item", i), "A"), Amount: 1000}))
		wrong := i%43 == 7
		p.mirror(func(e *backends.Entry) {
			if wrong {
				e.Level.OnHandDelta -= 3
			}
		})
	}
	for i := range holds {
		id := fmt.Sprintf("h%03d", i)
		p.reserve(id, fmt.Sprint("item", rnd.IntN(items)), 1+rnd.Int64N(3))
		switch i % 60 {
		case 3:
			p.mirror(nil, backends.HoldID(id)) // lost
		case 17:
			p.mirror(nil)
			p.release(id)
			p.mirror(nil, backends.HoldID(id)) // its release is
		case 31:
			p.mirror(func(e *backends.Entry) { e.Hold.ExpiresAt++ })
		case 45:
			p.mirror(func(e *backends.Entry) { e.Hold.ID = backends.HoldID("ghost" + id) })
		default:
			p.mirror(nil)
		}
	}
	return p
}

// small has pages of at most some hundred, and rests for no time.
func small() *comparator.Pacer {
	return comparator.NewPacer(0, func() time.Time { return noon }, func(context.Context, time.Duration) error { return nil })
}

// played is an audit that is killed and gone on with until it is complete.
type played struct {
	*comparator.AuditResult
	kills int
	ids   []string // of what was handed over, each once
}

// playAudit kills the audit after each so many of its steps, at any of them; what was saved before is all that the next one
// has. Saved is what became text and was read again. between happens between two of them.
func playAudit(t *testing.T, p *pod, rnd *rand.Rand, kill bool, between func()) played {
	t.Helper()
	var out played
	var saved []byte
	for {
		left := 1 << 30
		if kill && out.kills < 200 {
			left = 1 + rnd.IntN(8)
		}
		step := func() error {
			if left--; left <= 0 {
				return errKilled
			}
			return nil
		}
		res, err := p.audit(func(in *comparator.AuditInput) {
			in.Pacer = small()
			wait := in.Wait
			in.Wait = func(ctx context.Context, d time.Duration) error { return errors.Join(wait(ctx, d), step()) }
			in.Pace = func(context.Context) error { return step() }
			in.Found = func(f comparator.Finding) {
				if !slices.Contains(out.ids, f.ID) {
					out.ids = append(out.ids, f.ID)
				}
			}
			in.Checkpoint = func(_ context.Context, state func() comparator.AuditState) error {
				if err := step(); err != nil {
					return err
				}
				if kill && rnd.IntN(3) > 0 { // not every one is saved
					b, err := json.Marshal(state())
					if err != nil {
						t.Fatal(err)
					}
					saved = b
				}
				return nil
			}
			if saved != nil {
				in.From = &comparator.AuditState{}
				if err := json.Unmarshal(saved, in.From); err != nil {
					t.Fatal(err)
				}
			}
		})
		if err == nil {
			out.AuditResult = res
			slices.Sort(out.ids)
			return out
		}
		if !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		out.kills++
		if between != nil {
			between()
		}
	}
}

// An audit that is killed at any of its steps, as often as you like, comes to what one that was never killed comes to.
func TestAuditThatIsKilledComesToTheSame(t *testing.T) {
	kills := 0
	for seed := range uint64(12) {
		p := divergent(t, rand.New(rand.NewPCG(seed, 1)))
		want := playAudit(t, p, nil, false, nil)
		if want.FindingsTotal < 20 || want.Attributed == 0 || len(want.Summary) < 5 {
			t.Fatalf("there is too little to find: %+v", want.AuditResult)
		}
		got := playAudit(t, p, rand.New(rand.NewPCG(seed, 2)), true, nil)
		ignore := cmpopts.IgnoreFields(comparator.AuditResult{}, "Started", "Ended", "Findings", "Resumed")
		if d := cmp.Diff(want.AuditResult, got.AuditResult, ignore, cmpopts.IgnoreFields(comparator.ClassSummary{}, "LastSeen")); d != "" {
			t.Errorf("seed %d, after %d kills: %s", seed, got.kills, d)
		}
		if d := cmp.Diff(want.ids, got.ids); d != "" {
			t.Errorf("seed %d: handed over %s", seed, d)
		}
		if got.kills > 0 && got.Resumed == 0 {
			t.Errorf("seed %d: killed %d times, and nothing was gone on with", seed, got.kills)
		}
		kills += got.kills
	}
	if kills < 100 {
		t.Errorf("only %d kills", kills)
	}
}

// The same while the pod sells, with entries on their way at each kill: nothing that is only on its way is found, and
// all that is wrong is.
func TestAuditThatIsKilledUnderTraffic(t *testing.T) {
	for seed := range uint64(6) {
		p := divergent(t, rand.New(rand.NewPCG(seed, 1)))
		want := playAudit(t, p, nil, false, nil)
		rnd := rand.New(rand.NewPCG(seed, 3))
		n := 0
		sell := func() {
			p.mirror(nil)
			for range 3 {
				n++
				p.reserve(fmt.Sprintf("new%d-%d", seed, n), fmt.Sprint("item", rnd.IntN(130)), 1)
			}
		}
		p.onWait = sell
		got := playAudit(t, p, rnd, true, sell)
		if d := cmp.Diff(want.ids, got.ids); d != "" {
			t.Errorf("seed %d, after %d kills: %s", seed, got.kills, d)
		}
		if got.FindingsTotal != want.FindingsTotal || got.UnitsTotal != want.UnitsTotal {
			t.Errorf("seed %d: %d findings, %d units; want %d, %d", seed, got.FindingsTotal, got.UnitsTotal, want.FindingsTotal, want.UnitsTotal)
		}
	}
}

// A state is of one stage, epoch and version.
func TestAuditGoesOnWithNothingElse(t *testing.T) {
	p := newPod(t, backends.Shadow)
	p.stock("mug", 3)
	p.mirror(nil)
	var state comparator.AuditState
	if _, err := p.audit(func(in *comparator.AuditInput) {
		in.Checkpoint = func(_ context.Context, s func() comparator.AuditState) error { state = s(); return nil }
	}); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*comparator.AuditState){
		"stage": func(s *comparator.AuditState) { s.Result.Stage = backends.Live }, "epoch": func(s *comparator.AuditState) { s.Result.Epoch = 7 },
		"version": func(s *comparator.AuditState) { s.Format++ }, "phase": func(s *comparator.AuditState) { s.Phase = 99 },
	} {
		s := state
		change(&s)
		if _, err := p.audit(func(in *comparator.AuditInput) { in.From = &s }); !errors.Is(err, comparator.ErrStageMoved) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if state.PhaseName() != "levels of the shadow" || (&comparator.AuditState{Phase: 9}).PhaseName() != "nothing" {
		t.Errorf("it is at the %s", state.PhaseName())
	}
}

// Moving between two pages ends an audit, also where nothing differs; so does a fence that was raised meanwhile, or lost.
func TestAuditOfAPodThatMoves(t *testing.T) {
	for name, move := range map[string]func(*pod){
		"stage": func(p *pod) { p.stage = backends.RedisOnly },
		"epoch": func(p *pod) { p.epoch = 2 },
		"fence": func(p *pod) {
			p.must(p.redis.Raise(ctx, backends.Fence{Epoch: 2, Stage: backends.Shadow, Open: true, Filled: true}, 0))
		},
	} {
		p := newPod(t, backends.Shadow)
		p.epoch = 1
		p.stock("mug", 3)
		p.mirror(nil)
		pages := 0
		_, err := p.audit(func(in *comparator.AuditInput) {
			in.Pace = func(context.Context) error {
				if pages++; pages == 2 {
					move(p)
				}
				return nil
			}
		})
		if !errors.Is(err, comparator.ErrStageMoved) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
