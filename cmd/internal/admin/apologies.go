package admin

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"

	"github.com/crossfade-proxy/crossfade/backends"
	adminv1 "github.com/crossfade-proxy/crossfade/cmd/internal/admin/gen/crossfade/admin/v1"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// The states of an apology, as requests name them.
const (
	ApologyOpen  = "open"
	ApologyAcked = "acknowledged"
)

// apologyQuery reads what to list. Its limit is one more than that of the page, to know whether there is
// a page behind it.
func apologyQuery(m *adminv1.ListApologiesRequest) (q comparator.ApologyQuery, err error) {
	q.Pod = backends.Pod(m.GetPod())
	for _, s := range m.GetStates() {
		switch s {
		case ApologyOpen:
			q.Open = true
		case ApologyAcked:
			q.Acked = true
		default:
			return q, &backends.FieldError{Field: "state", Value: fmt.Sprintf("%.80q", s), Bound: "open or acknowledged", Next: "choose one, or leave it out for both"}
		}
	}
	if q.After, err = comparator.ParseApologyCursor(m.GetAfter()); err != nil {
		return q, err
	}
	q.Limit, err = pageLimit(m.GetLimit())
	q.Limit++
	return q, err
}

func (s *server) ListApologies(ctx context.Context, r *connect.Request[adminv1.ListApologiesRequest]) (*connect.Response[adminv1.ListApologiesResponse], error) {
	q, err := apologyQuery(r.Msg)
	if err != nil {
		return nil, problem(err)
	}
	as, sum, problems, err := s.b.ListApologies(ctx, q)
	if err != nil {
		return nil, problem(err)
	}
	out := &adminv1.ListApologiesResponse{Problems: problems}
	if page := q.Limit - 1; len(as) > page {
		as = as[:page]
		out.Next = (&comparator.ApologyCursor{At: as[page-1].At, ID: as[page-1].ID}).String()
	}
	if out.SumJson, err = text(sum); err != nil {
		return nil, problem(err)
	}
	for i := range as {
		t, err := text(&as[i])
		if err != nil {
			return nil, problem(err)
		}
		out.ApologiesJson = append(out.ApologiesJson, t)
	}
	return connect.NewResponse(out), nil
}

func (s *server) AcknowledgeApology(ctx context.Context, r *connect.Request[adminv1.AcknowledgeApologyRequest]) (*connect.Response[adminv1.AcknowledgeApologyResponse], error) {
	rec, changed, err := s.b.AckApology(ctx, backends.Pod(r.Msg.GetPod()), r.Msg.GetId(), comparator.ApologyAck{By: who(ctx), Why: r.Msg.GetWhy(), At: time.Now()})
	if err != nil {
		return nil, problem(err)
	}
	t, err := text(rec)
	return connect.NewResponse(&adminv1.AcknowledgeApologyResponse{ApologyJson: t, Changed: changed}), problem(err)
}

// Apologies gives a page; its Next is "" when nothing comes behind. states none means all.
func (c *Client) Apologies(ctx context.Context, pod string, states []string, limit int, after string) (l comparator.ApologyList, err error) {
	r, err := c.c.ListApologies(ctx, connect.NewRequest(&adminv1.ListApologiesRequest{
		Pod: pod, States: states, Limit: int32(min(max(limit, -1), MaxPage+1)), After: after, //nolint:gosec // what is beyond the bounds is refused there
	}))
	if err != nil {
		return l, c.told(err)
	}
	l = comparator.ApologyList{Pod: backends.Pod(pod), Next: r.Msg.GetNext(), Problems: append([]string{}, r.Msg.GetProblems()...), Apologies: []comparator.ApologyRecord{}}
	if l.Sum, err = decode[comparator.ApologySum](r.Msg.GetSumJson()); err != nil {
		return l, err
	}
	for _, t := range r.Msg.GetApologiesJson() {
		a, err := decode[comparator.ApologyRecord](t)
		if err != nil {
			return l, err
		}
		l.Apologies = append(l.Apologies, a)
	}
	return l, nil
}

// AcknowledgeApology says that the shop has seen to one. It answers the apology, and whether it was this call
// that changed it.
func (c *Client) AcknowledgeApology(ctx context.Context, pod, id, why string) (rec comparator.ApologyRecord, changed bool, err error) {
	r, err := c.c.AcknowledgeApology(ctx, connect.NewRequest(&adminv1.AcknowledgeApologyRequest{Pod: pod, Id: id, Why: why}))
	if err != nil {
		return rec, false, c.told(err)
	}
	rec, err = decode[comparator.ApologyRecord](r.Msg.GetApologyJson())
	return rec, r.Msg.GetChanged(), err
}
