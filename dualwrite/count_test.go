package dualwrite_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/dualwrite"
)

// together is a store that takes counts together; fate, when set, answers in its place.
type together struct {
	*link
	fate  func(rs []*backends.CountRequest) []backends.CountAnswer
	calls []string
}

func (s *together) Counts(ctx context.Context, t backends.Token, rs []*backends.CountRequest) []backends.CountAnswer {
	s.calls = append(s.calls, fmt.Sprint("counts ", len(rs)))
	if s.fate != nil {
		return s.fate(rs)
	}
	out := make([]backends.CountAnswer, len(rs))
	for i, r := range rs {
		out[i].Result, out[i].Err = s.Store.Count(ctx, t, r)
	}
	return out
}

func (s *together) Count(ctx context.Context, t backends.Token, r *backends.CountRequest) (*backends.CountResult, error) {
	s.calls = append(s.calls, fmt.Sprintf("%s fresh %v tried %q", r.OpID, r.Fresh, r.Tried))
	return s.Store.Count(ctx, t, r)
}

// newCounting gives a pod whose Redis takes counts together.
func newCounting(t *testing.T, stage backends.Stage) (*rig, *together) {
	t.Helper()
	r := newRig(t, stage)
	s := &together{link: r.redis}
	r.Pod = dualwrite.NewPod("p", dualwrite.Stores{Redis: s, MySQL: r.mysql}, dualwrite.Options{Clock: r.clock, Comparer: r.book})
	if err := r.Refresh(r.ctx); err != nil {
		t.Fatal(err)
	}
	return r, s
}

func takes(n int) (rs []*backends.CountRequest) {
	for i := range n {
		rs = append(rs, &backends.CountRequest{OpID: backends.OpID(fmt.Sprint("op-", i)), Key: key("mug"), Delta: -1, Fresh: true})
	}
	return rs
}

func values(t *testing.T, as []backends.CountAnswer) string {
	t.Helper()
	s := ""
	for _, a := range as {
		if a.Err != nil {
			s += "! "
			continue
		}
		s += fmt.Sprint(a.Result.Value, " ")
	}
	return s
}

// TestCountsTogether: counts of one caller are one step where Redis decides, and one by one where it does
// not; in both cases they are answered in their order, and mirrored.
func TestCountsTogether(t *testing.T) {
	for stage, calls := range map[backends.Stage]int{backends.RedisOnly: 1, backends.Shadow: 1, backends.Live: 0, backends.MySQLOnly: 0} {
		t.Run(stage.String(), func(t *testing.T) {
			r, s := newCounting(t, stage)
			if got := values(t, r.Counts(r.ctx, takes(4))); got != "9 8 7 6 " {
				t.Fatalf("answered %s", got)
			}
			if len(s.calls) != calls {
				t.Errorf("Redis was asked %q", s.calls)
			}
			r.lane()
			r.waiting(r.redis, 0)
			r.waiting(r.mysql, 0)
			if stage.Dual() {
				r.agree()
			}
		})
	}
}

// TestCountsThatFail: what one step leaves undecided is sent again under its id, and says so; a refusal is
// final.
func TestCountsThatFail(t *testing.T) {
	r, s := newCounting(t, backends.RedisOnly)
	rs := takes(4)
	refusal := &backends.FieldError{Field: "quantity"}
	s.fate = func(rs []*backends.CountRequest) []backends.CountAnswer {
		s.fate = nil
		// The first was done, and nobody heard of it.
		if _, err := s.Store.Count(r.ctx, backends.Token{Epoch: r.epoch}, rs[0]); err != nil {
			t.Fatal(err)
		}
		rs[0].Tried = "call-1"
		return []backends.CountAnswer{{Err: backends.ErrAmbiguous}, {Err: refusal}, {Result: &backends.CountResult{Value: 77}}, {}}
	}
	if got := values(t, r.Counts(r.ctx, rs)); got != "9 ! 77 8 " {
		t.Fatalf("answered %s", got)
	}
	want := []string{"counts 4", `op-0 fresh false tried "call-1"`, `op-3 fresh true tried ""`}
	if fmt.Sprint(s.calls) != fmt.Sprint(want) {
		t.Fatalf("Redis was asked %q, want %q", s.calls, want)
	}
}

// TestCountsMeetAFence: a step that meets another fence is taken again under it, by whoever is the truth.
func TestCountsMeetAFence(t *testing.T) {
	r, s := newCounting(t, backends.RedisOnly)
	r.fences(backends.Shadow) // behind the proxy's back
	s.fate = func(rs []*backends.CountRequest) []backends.CountAnswer {
		s.fate = nil
		return s.Counts(r.ctx, backends.Token{Epoch: 1}, rs)
	}
	if got := values(t, r.Counts(r.ctx, takes(3))); got != "9 8 7 " {
		t.Fatalf("answered %s", got)
	}
	if got := r.Gate().Serving().Epoch; got != r.epoch {
		t.Fatalf("the proxy serves epoch %d, not %d", got, r.epoch)
	}
	// One alone goes the same way.
	r.fences(backends.RedisOnly)
	res, err := r.Count(r.ctx, &backends.CountRequest{OpID: "alone", Key: key("mug"), Delta: -1, Fresh: true})
	if err != nil || res.Value != 6 {
		t.Fatalf("%+v, %v", res, err)
	}
}
