package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// failoverCases promote a replica of Redis that lacks the last writes.
func failoverCases() (out []faultCase) {
	for _, stage := range []backends.Stage{backends.Live, backends.Shadow} {
		out = append(out, faultCase{
			name: stage.String(), says: "a replica of Redis without the last writes promoted in " + stage.String(), stage: stage,
			figure: "from the death of the primary until every proxy answers",
			play:   func(ctx context.Context, t *trial) error { return t.failOver(ctx) },
		})
	}
	return out
}

// failOver cuts the replication, lets writes be acknowledged that only the primary has, kills that and promotes the
// replica. Nobody may write there before an operator says so; then the pod goes on.
func (t *trial) failOver(ctx context.Context) (err error) {
	const lost, within = 60, 30 * time.Second // reserves that the replica does not get
	link, err := t.relay(ctx, t.kv.Addr())
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(link.addr())
	if err != nil {
		return err
	}
	replica, err := t.server(ctx, lab.Redis, "--replicaof", host, port)
	if err != nil {
		return err
	}
	c := newClient(replica.Addr(), 1)
	defer c.Close()
	if err := eventually(ctx, within, "the replica has what the primary has", func() error { return inSync(ctx, c) }); err != nil {
		return err
	}
	link.set(cut, 0)
	t.mark()
	if err := t.load.warm(ctx, lost); err != nil {
		return err
	}
	over := t.load.excuse(-1, "Redis is away, and nobody has said that its replica may go on")
	died := time.Now()
	if err := t.kv.Kill(); err != nil {
		return err
	}
	t.mark()
	if err := c.Do(ctx, "REPLICAOF", "NO", "ONE").Err(); err != nil {
		return err
	}
	for _, p := range t.proxies {
		p.redis.point(replica.Addr())
	}
	t.kv = replica
	if err := t.look(ctx, replica.Addr()); err != nil {
		return err
	}
	rest(ctx, time.Second) // in which nobody may be granted anything by the replica
	t.silent(died)
	if err := eventually(ctx, within, "the fence can be re-issued", func() error {
		_, err := t.proxies[t.no%fleet].admin.Reissue(ctx, podName, "chaos")
		return err
	}); err != nil {
		return err
	}
	t.mark()
	if _, err := t.settled(ctx); err != nil {
		return err
	}
	rest(ctx, shyFor)
	over()
	for n := range fleet {
		d, err := t.load.servedAfter(n, died)
		if err != nil {
			return err
		}
		t.figure(d)
	}
	return nil
}

// silent complains when a grant was begun after the primary's death: no store may have given it.
func (t *trial) silent(died time.Time) {
	const settle = 100 * time.Millisecond
	for n := range fleet {
		for _, p := range t.load.probesOf(n, died.Add(settle)) {
			if p.status == "granted" && p.began.After(died) {
				t.broken("proxy %d granted %s after the primary's death, and nobody had said that the replica may go on", n, p.id)
			}
		}
	}
}

// inSync tells whether a replica follows its primary.
func inSync(ctx context.Context, c *redis.Client) error {
	info, err := c.Info(ctx, "replication").Result()
	switch {
	case err != nil:
		return err
	case !strings.Contains(info, "master_link_status:up"):
		return errors.New("its link is not up")
	case strings.Contains(info, "master_sync_in_progress:1"):
		return fmt.Errorf("it is still being filled")
	}
	return nil
}
