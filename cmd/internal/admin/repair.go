package admin

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"

	"github.com/crossfade-proxy/crossfade/backends"
	adminv1 "github.com/crossfade-proxy/crossfade/cmd/internal/admin/gen/crossfade/admin/v1"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// MaxRepairIDs bounds the findings that one repair names; without names it takes all that are open.
const MaxRepairIDs = 1000

// RepairAsked is what to repair.
type RepairAsked struct {
	Pod backends.Pod
	// IDs names findings; none means all that are open.
	IDs []string
	// Apply executes the plan; else it is only made.
	Apply bool
	// CorrectLedger: the truth's units on hand are right, and the ledger's are not.
	CorrectLedger bool
	// By and Why are for the findings' history; By is the name of the token.
	By, Why string
}

func (q *RepairAsked) check() error {
	if n := len(q.IDs); n > MaxRepairIDs {
		return &backends.FieldError{Field: "finding", Value: fmt.Sprint(n) + " ids", Bound: fmt.Sprintf("at most %d", MaxRepairIDs), Next: "name fewer, or none for all that are open"}
	}
	for _, id := range q.IDs {
		if err := comparator.CheckFindingID(id); err != nil {
			return err
		}
	}
	if q.Apply {
		return comparator.CheckWhy(q.Why)
	}
	return nil
}

func (s *server) Repair(ctx context.Context, r *connect.Request[adminv1.RepairRequest], out *connect.ServerStream[adminv1.RepairResponse]) error {
	q := RepairAsked{
		Pod: backends.Pod(r.Msg.GetPod()), IDs: r.Msg.GetIds(), Apply: r.Msg.GetApply(), CorrectLedger: r.Msg.GetCorrectLedger(), By: who(ctx), Why: r.Msg.GetWhy(),
	}
	if err := q.check(); err != nil {
		return problem(err)
	}
	var sendErr error
	res, err := s.b.Repair(ctx, q, func(g comparator.RepairProgress) {
		if sendErr == nil {
			sendErr = out.Send(&adminv1.RepairResponse{Phase: g.Phase, Done: g.Done, Total: g.Total})
		}
	})
	if res != nil {
		t, terr := text(res)
		if terr != nil {
			return problem(errors.Join(err, terr))
		}
		sendErr = errors.Join(sendErr, out.Send(&adminv1.RepairResponse{ResultJson: t}))
	}
	if err != nil {
		return problem(err)
	}
	return sendErr
}

// Repair makes a plan, or executes it. With an error the result, if there is one, says how far it came.
func (c *Client) Repair(ctx context.Context, q RepairAsked, progress func(phase string, done, total int64)) (*comparator.RepairResult, error) {
	st, err := c.long.Repair(ctx, connect.NewRequest(&adminv1.RepairRequest{
		Pod: string(q.Pod), Ids: q.IDs, Apply: q.Apply, CorrectLedger: q.CorrectLedger, Why: q.Why,
	}))
	if err != nil {
		return nil, c.told(err)
	}
	defer func() { _ = st.Close() }()
	var res *comparator.RepairResult
	for st.Receive() {
		m := st.Msg()
		if m.GetResultJson() == "" {
			progress(m.GetPhase(), m.GetDone(), m.GetTotal())
			continue
		}
		if res, err = decode[*comparator.RepairResult](m.GetResultJson()); err != nil {
			return nil, err
		}
	}
	if err := st.Err(); err != nil || res == nil {
		return res, c.ended(err)
	}
	return res, nil
}
