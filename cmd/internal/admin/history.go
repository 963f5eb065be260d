package admin

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	"github.com/crossfade-proxy/crossfade/backends"
	adminv1 "github.com/crossfade-proxy/crossfade/cmd/internal/admin/gen/crossfade/admin/v1"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

func (s *server) GetHistory(ctx context.Context, r *connect.Request[adminv1.GetHistoryRequest]) (*connect.Response[adminv1.GetHistoryResponse], error) {
	limit := int(r.Msg.GetLimit())
	switch {
	case limit == 0:
		limit = DefaultPage
	case limit < 0 || limit > killswitch.MaxHistoryPage:
		return nil, problem(&backends.FieldError{Field: "limit", Value: fmt.Sprint(limit), Bound: fmt.Sprintf("1 to %d a page", killswitch.MaxHistoryPage), Next: "ask for the next page for more"})
	}
	pod := backends.Pod(r.Msg.GetPod())
	cs, err := s.b.History(ctx, pod, r.Msg.GetBefore(), limit)
	if err != nil {
		return nil, problem(err)
	}
	l := killswitch.HistoryList{Changes: make([]killswitch.HistoryLine, len(cs))}
	for i, c := range cs {
		l.Changes[len(cs)-1-i] = killswitch.HistoryLine{Pod: pod, Change: c}
	}
	if len(cs) == limit && cs[0].Seq > 1 { // older ones may be there
		l.Next = cs[0].Seq
	}
	t, err := text(l)
	return connect.NewResponse(&adminv1.GetHistoryResponse{HistoryJson: t}), problem(err)
}

// History gives a page of a pod's changes, the newest first: limit of those with a number below before, or of all when that is
// 0. The list's Next is the before of the page behind it.
func (c *Client) History(ctx context.Context, pod string, before uint64, limit int) (killswitch.HistoryList, error) {
	r, err := c.c.GetHistory(ctx, connect.NewRequest(&adminv1.GetHistoryRequest{Pod: pod, Before: before, Limit: int32(min(limit, killswitch.MaxHistoryPage))})) //nolint:gosec // at most a page
	if err != nil {
		return killswitch.HistoryList{}, c.told(err)
	}
	return decode[killswitch.HistoryList](r.Msg.GetHistoryJson())
}
