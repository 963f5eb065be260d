package admin

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"connectrpc.com/connect"

	"github.com/crossfade-proxy/crossfade/backends"
	adminv1 "github.com/crossfade-proxy/crossfade/cmd/internal/admin/gen/crossfade/admin/v1"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// How many findings a page has; each has up to some 100 kB.
const (
	DefaultPage = 50
	MaxPage     = 200
	// maxSince is longer than anything is kept.
	maxSince = 10 * 365 * 24 * time.Hour
)

// pageLimit gives what a request's limit means.
func pageLimit(n int32) (int, error) {
	switch {
	case n == 0:
		return DefaultPage, nil
	case n < 0 || n > MaxPage:
		return 0, &backends.FieldError{Field: "limit", Value: strconv.Itoa(int(n)), Bound: fmt.Sprintf("1 to %d a page", MaxPage), Next: "ask for the next page for more"}
	}
	return int(n), nil
}

// sinceOf is the instant so many seconds ago; zero for 0.
func sinceOf(seconds int64, now time.Time) (time.Time, error) {
	switch {
	case seconds == 0:
		return time.Time{}, nil
	case seconds < 0 || seconds > int64(maxSince/time.Second):
		return time.Time{}, &backends.FieldError{Field: "since", Value: strconv.FormatInt(seconds, 10) + " seconds", Bound: "above zero, at most ten years", Next: "write it like 24h, or leave it out for all that is kept"}
	}
	return now.Add(-time.Duration(seconds) * time.Second), nil
}

// findingQuery reads what to list. Its limit is one more than that of the page, to know whether there is
// a page behind it.
func findingQuery(m *adminv1.ListFindingsRequest, now time.Time) (q comparator.FindingQuery, err error) {
	q = comparator.FindingQuery{Pod: backends.Pod(m.GetPod()), Shop: backends.Shop(m.GetShop()), Item: backends.Item(m.GetItem())}
	for _, f := range []struct{ name, value string }{{"shop", m.GetShop()}, {"item", m.GetItem()}} {
		if f.value != "" {
			if err := backends.CheckID(f.name, f.value); err != nil {
				return q, err
			}
		}
	}
	for _, name := range m.GetClasses() {
		c, err := comparator.ParseClass(name)
		if err != nil {
			return q, err
		}
		q.Classes = append(q.Classes, c)
	}
	for _, name := range m.GetStates() {
		l, err := comparator.ParseLife(name)
		if err != nil {
			return q, err
		}
		q.Lives = append(q.Lives, l)
	}
	if q.Since, err = sinceOf(m.GetSinceSeconds(), now); err != nil {
		return q, err
	}
	if q.After, err = comparator.ParseFindingCursor(m.GetAfter()); err != nil {
		return q, err
	}
	q.Limit, err = pageLimit(m.GetLimit())
	q.Limit++
	return q, err
}

func (s *server) ListFindings(ctx context.Context, r *connect.Request[adminv1.ListFindingsRequest]) (*connect.Response[adminv1.ListFindingsResponse], error) {
	q, err := findingQuery(r.Msg, time.Now())
	if err != nil {
		return nil, problem(err)
	}
	fs, err := s.b.ListFindings(ctx, q)
	if err != nil {
		return nil, problem(err)
	}
	out := &adminv1.ListFindingsResponse{}
	if page := q.Limit - 1; len(fs) > page {
		fs = fs[:page]
		out.Next = comparator.CursorOf(&fs[page-1]).String()
	}
	for i := range fs {
		t, err := text(&fs[i])
		if err != nil {
			return nil, problem(err)
		}
		out.FindingsJson = append(out.FindingsJson, t)
	}
	return connect.NewResponse(out), nil
}

func (s *server) GetFinding(ctx context.Context, r *connect.Request[adminv1.GetFindingRequest]) (*connect.Response[adminv1.GetFindingResponse], error) {
	f, err := s.b.Finding(ctx, backends.Pod(r.Msg.GetPod()), r.Msg.GetId())
	if err != nil {
		return nil, problem(err)
	}
	t, err := text(f)
	return connect.NewResponse(&adminv1.GetFindingResponse{FindingJson: t}), problem(err)
}

func (s *server) move(ctx context.Context, pod string, ids []string, why string, to comparator.Life) ([]*adminv1.MovedFinding, error) {
	ms, err := s.b.MoveFindings(ctx, backends.Pod(pod), ids, comparator.LifeChange{To: to, By: who(ctx), Why: why, At: time.Now()})
	if err != nil {
		return nil, problem(err)
	}
	out := make([]*adminv1.MovedFinding, len(ms))
	for i := range ms {
		t, err := text(ms[i].Finding)
		if err != nil {
			return nil, problem(err)
		}
		out[i] = &adminv1.MovedFinding{FindingJson: t, Changed: ms[i].Changed}
	}
	return out, nil
}

func (s *server) AcknowledgeFindings(ctx context.Context, r *connect.Request[adminv1.AcknowledgeFindingsRequest]) (*connect.Response[adminv1.AcknowledgeFindingsResponse], error) {
	out, err := s.move(ctx, r.Msg.GetPod(), r.Msg.GetIds(), r.Msg.GetWhy(), comparator.LifeAcknowledged)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&adminv1.AcknowledgeFindingsResponse{Findings: out}), nil
}

func (s *server) ReopenFindings(ctx context.Context, r *connect.Request[adminv1.ReopenFindingsRequest]) (*connect.Response[adminv1.ReopenFindingsResponse], error) {
	out, err := s.move(ctx, r.Msg.GetPod(), r.Msg.GetIds(), r.Msg.GetWhy(), comparator.LifeOpen)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&adminv1.ReopenFindingsResponse{Findings: out}), nil
}

// FindingsAsked is what to list. Empty fields do not restrict; Limit 0 is DefaultPage.
type FindingsAsked struct {
	Classes, States []string
	Shop, Item      string
	Since           time.Duration
	Limit           int
	After           string
}

// Findings gives a page, and what comes behind it; "" when nothing does.
func (c *Client) Findings(ctx context.Context, pod string, q FindingsAsked) (fs []comparator.Finding, next string, err error) {
	r, err := c.c.ListFindings(ctx, connect.NewRequest(&adminv1.ListFindingsRequest{
		Pod: pod, Classes: q.Classes, States: q.States, Shop: q.Shop, Item: q.Item, SinceSeconds: int64(q.Since.Seconds()),
		Limit: int32(min(max(q.Limit, -1), MaxPage+1)), After: q.After, //nolint:gosec // what is beyond the bounds is refused there
	}))
	if err != nil {
		return nil, "", c.told(err)
	}
	for _, t := range r.Msg.GetFindingsJson() {
		f, err := decode[comparator.Finding](t)
		if err != nil {
			return nil, "", err
		}
		fs = append(fs, f)
	}
	return fs, r.Msg.GetNext(), nil
}

// Finding gives one.
func (c *Client) Finding(ctx context.Context, pod, id string) (comparator.Finding, error) {
	r, err := c.c.GetFinding(ctx, connect.NewRequest(&adminv1.GetFindingRequest{Pod: pod, Id: id}))
	if err != nil {
		return comparator.Finding{}, c.told(err)
	}
	return decode[comparator.Finding](r.Msg.GetFindingJson())
}

// AcknowledgeFindings says that somebody knows of them: all of them, or none.
func (c *Client) AcknowledgeFindings(ctx context.Context, pod string, ids []string, why string) ([]comparator.Moved, error) {
	r, err := c.c.AcknowledgeFindings(ctx, connect.NewRequest(&adminv1.AcknowledgeFindingsRequest{Pod: pod, Ids: ids, Why: why}))
	if err != nil {
		return nil, c.told(err)
	}
	return moved(r.Msg.GetFindings())
}

// ReopenFindings opens them again: all of them, or none.
func (c *Client) ReopenFindings(ctx context.Context, pod string, ids []string, why string) ([]comparator.Moved, error) {
	r, err := c.c.ReopenFindings(ctx, connect.NewRequest(&adminv1.ReopenFindingsRequest{Pod: pod, Ids: ids, Why: why}))
	if err != nil {
		return nil, c.told(err)
	}
	return moved(r.Msg.GetFindings())
}

func moved(ms []*adminv1.MovedFinding) ([]comparator.Moved, error) {
	out := make([]comparator.Moved, len(ms))
	for i, m := range ms {
		f, err := decode[comparator.Finding](m.GetFindingJson())
		if err != nil {
			return nil, err
		}
		out[i] = comparator.Moved{Finding: f, Changed: m.GetChanged()}
	}
	return out, nil
}
