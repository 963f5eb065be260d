package admin

import (
	"context"
	"time"

	"connectrpc.com/connect"

	"github.com/crossfade-proxy/crossfade/backends"
	adminv1 "github.com/crossfade-proxy/crossfade/cmd/internal/admin/gen/crossfade/admin/v1"
	"github.com/crossfade-proxy/crossfade/killswitch/rollout"
)

// What can be done to a rollout.
const (
	PauseRollout  = "pause"
	ResumeRollout = "resume"
	AbortRollout  = "abort"
)

// RolloutChange asks for one of them.
type RolloutChange struct {
	Change string
	// Skip names pods to leave out, with resume.
	Skip []backends.Pod
	// Who is the name of the token.
	Who, Why string
}

func (s *server) StartRollout(ctx context.Context, r *connect.Request[adminv1.StartRolloutRequest]) (*connect.Response[adminv1.StartRolloutResponse], error) {
	to, err := backends.ParseStage(r.Msg.GetTo())
	if err != nil {
		return nil, problem(err)
	}
	st, err := s.b.StartRollout(ctx, rollout.Request{
		Select: r.Msg.GetSelect(), To: to, Order: rollout.Order(r.Msg.GetOrder()), Waves: r.Msg.GetWaves(),
		Soak: time.Duration(r.Msg.GetSoakMs()) * time.Millisecond, Who: who(ctx), Why: r.Msg.GetWhy(),
	}, r.Msg.GetDryRun())
	if err != nil {
		return nil, problem(err)
	}
	t, err := text(st)
	return connect.NewResponse(&adminv1.StartRolloutResponse{RolloutJson: t}), problem(err)
}

func (s *server) GetRollout(ctx context.Context, _ *connect.Request[adminv1.GetRolloutRequest]) (*connect.Response[adminv1.GetRolloutResponse], error) {
	o, err := s.b.Rollout(ctx)
	if err != nil {
		return nil, problem(err)
	}
	t, err := text(o)
	return connect.NewResponse(&adminv1.GetRolloutResponse{OverviewJson: t}), problem(err)
}

func (s *server) ChangeRollout(ctx context.Context, r *connect.Request[adminv1.ChangeRolloutRequest]) (*connect.Response[adminv1.ChangeRolloutResponse], error) {
	q := RolloutChange{Change: r.Msg.GetChange(), Who: who(ctx), Why: r.Msg.GetWhy()}
	for _, pod := range r.Msg.GetSkip() {
		q.Skip = append(q.Skip, backends.Pod(pod))
	}
	st, err := s.b.ChangeRollout(ctx, q)
	if err != nil {
		return nil, problem(err)
	}
	t, err := text(st)
	return connect.NewResponse(&adminv1.ChangeRolloutResponse{RolloutJson: t}), problem(err)
}

// StartRollout plans a rollout, and begins it unless it is dry.
func (c *Client) StartRollout(ctx context.Context, r rollout.Request, dry bool) (*rollout.State, error) {
	m, err := c.c.StartRollout(ctx, connect.NewRequest(&adminv1.StartRolloutRequest{
		Select: r.Select, To: r.To.String(), Order: string(r.Order), Waves: r.Waves, SoakMs: r.Soak.Milliseconds(), Why: r.Why, DryRun: dry,
	}))
	if err != nil {
		return nil, c.told(err)
	}
	return decode[*rollout.State](m.Msg.GetRolloutJson())
}

// Rollout gives the present rollout, or the last one, and those before it.
func (c *Client) Rollout(ctx context.Context) (rollout.Overview, error) {
	m, err := c.c.GetRollout(ctx, connect.NewRequest(&adminv1.GetRolloutRequest{}))
	if err != nil {
		return rollout.Overview{}, c.told(err)
	}
	return decode[rollout.Overview](m.Msg.GetOverviewJson())
}

// ChangeRollout pauses, resumes or aborts it.
func (c *Client) ChangeRollout(ctx context.Context, q RolloutChange) (*rollout.State, error) {
	r := &adminv1.ChangeRolloutRequest{Change: q.Change, Why: q.Why}
	for _, pod := range q.Skip {
		r.Skip = append(r.Skip, string(pod))
	}
	m, err := c.c.ChangeRollout(ctx, connect.NewRequest(r))
	if err != nil {
		return nil, c.told(err)
	}
	return decode[*rollout.State](m.Msg.GetRolloutJson())
}
