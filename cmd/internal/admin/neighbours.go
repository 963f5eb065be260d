package admin

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"

	"github.com/crossfade-proxy/crossfade/backends"
	adminv1 "github.com/crossfade-proxy/crossfade/cmd/internal/admin/gen/crossfade/admin/v1"
	"github.com/crossfade-proxy/crossfade/cmd/internal/neighbours"
)

// progressEvery bounds how often a caller is told that samples are being taken.
const progressEvery = 500 * time.Millisecond

func (s *server) SampleConnections(ctx context.Context, r *connect.Request[adminv1.SampleConnectionsRequest], out *connect.ServerStream[adminv1.SampleConnectionsResponse]) error {
	var sendErr error
	var told time.Time
	res, err := s.b.Connections(ctx, backends.Pod(r.Msg.GetPod()), millis(r.Msg.GetForMs()), millis(r.Msg.GetEveryMs()), func(n int) {
		if sendErr == nil && time.Since(told) >= progressEvery {
			told = time.Now()
			sendErr = out.Send(&adminv1.SampleConnectionsResponse{Samples: int64(n)})
		}
	})
	if err != nil {
		return problem(err)
	}
	t, err := text(res)
	if err != nil {
		return problem(err)
	}
	return errors.Join(sendErr, out.Send(&adminv1.SampleConnectionsResponse{Samples: int64(res.Samples), ResultJson: t}))
}

// millis is so many milliseconds, or as near as a Duration gets: what is too long is refused later on.
func millis(n int64) time.Duration {
	const most = int64(time.Hour / time.Millisecond)
	return time.Duration(min(max(n, -most), most)) * time.Millisecond
}

func (s *server) GetLocks(ctx context.Context, r *connect.Request[adminv1.GetLocksRequest]) (*connect.Response[adminv1.GetLocksResponse], error) {
	v, err := s.b.Locks(ctx, backends.Pod(r.Msg.GetPod()))
	if err != nil {
		return nil, problem(err)
	}
	t, err := text(v)
	return connect.NewResponse(&adminv1.GetLocksResponse{LocksJson: t}), problem(err)
}

// Connections looks at all sessions of the pod's MySQL for so long, so often; 0 gives the defaults.
func (c *Client) Connections(ctx context.Context, pod string, last, every time.Duration, progress func(samples int64)) (out neighbours.Connections, err error) {
	st, err := c.c.SampleConnections(ctx, connect.NewRequest(&adminv1.SampleConnectionsRequest{Pod: pod, ForMs: toMillis(last), EveryMs: toMillis(every)}))
	if err != nil {
		return out, c.told(err)
	}
	defer func() { _ = st.Close() }()
	for st.Receive() {
		m := st.Msg()
		if m.GetResultJson() != "" {
			return decode[neighbours.Connections](m.GetResultJson())
		}
		progress(m.GetSamples())
	}
	return out, c.ended(st.Err())
}

// toMillis gives 0, which is the default, for 0 alone.
func toMillis(d time.Duration) int64 {
	if d > 0 {
		return max(1, d.Milliseconds())
	}
	return min(d.Milliseconds(), 0)
}

// Locks gives the locks of the pod's MySQL at this moment.
func (c *Client) Locks(ctx context.Context, pod string) (neighbours.Locks, error) {
	r, err := c.c.GetLocks(ctx, connect.NewRequest(&adminv1.GetLocksRequest{Pod: pod}))
	if err != nil {
		return neighbours.Locks{}, c.told(err)
	}
	return decode[neighbours.Locks](r.Msg.GetLocksJson())
}
