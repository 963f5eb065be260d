package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
	"github.com/crossfade-proxy/crossfade/killswitch"
	"github.com/crossfade-proxy/crossfade/killswitch/etcdstore"
)

// etcdNodes is how many members the control store has: the smallest number that outlives the death of one.
const etcdNodes = 3

// etcdControl is three etcds. Every proxy reaches each of them through a relay of its own.
type etcdControl struct {
	cluster *lab.EtcdCluster
	direct  *etcdstore.Store
	relays  [fleet][]*relay
}

// newEtcdControl starts them. What it has started is closed by close, whatever it answers.
func newEtcdControl(ctx context.Context, o lab.Options) (_ *etcdControl, err error) {
	c := &etcdControl{}
	if c.cluster, err = lab.StartEtcd(ctx, etcdNodes, o); err != nil {
		return c, err
	}
	for n := range fleet {
		for _, to := range c.cluster.Endpoints() {
			x, err := newRelay(ctx, strings.TrimPrefix(to, "http://"))
			if err != nil {
				return c, err
			}
			c.relays[n] = append(c.relays[n], x)
		}
	}
	c.direct, err = etcdstore.Open(etcdstore.Options{Endpoints: c.cluster.Endpoints()})
	return c, err
}

func (c *etcdControl) name() string { return fmt.Sprintf("etcd, %d members", etcdNodes) }

func (c *etcdControl) stanza(n int) string {
	var at []string
	for _, x := range c.relays[n] {
		at = append(at, fmt.Sprintf("%q", x.addr()))
	}
	return "{etcd: {endpoints: [" + strings.Join(at, ", ") + "]}}"
}

// cut takes all members away from one proxy: one by closed connections, the next by a black hole.
func (c *etcdControl) cut(n int) error {
	for i, x := range c.relays[n] {
		x.set(away(i), 0)
	}
	return nil
}

func (c *etcdControl) heal(n int) error {
	for _, x := range c.relays[n] {
		x.set(pass, 0)
	}
	return nil
}

// lose takes the quorum away: all members but one are killed.
func (c *etcdControl) lose() error {
	var errs []error
	for _, m := range c.cluster.Members[1:] {
		errs = append(errs, m.Kill())
	}
	return errors.Join(errs...)
}

// regain starts those that are gone, on their data. Again is nothing.
func (c *etcdControl) regain(ctx context.Context) error {
	var errs []error
	for _, m := range c.cluster.Members {
		if m.PID() == 0 {
			errs = append(errs, m.Restart(ctx))
		}
	}
	_, err := c.cluster.AwaitLeader(ctx)
	return errors.Join(append(errs, err)...)
}

func (c *etcdControl) store() killswitch.ControlStore { return c.direct }

func (c *etcdControl) close() error {
	var errs []error
	if c.direct != nil {
		errs = append(errs, c.direct.Close())
	}
	for n := range fleet {
		for _, x := range c.relays[n] {
			x.close()
		}
	}
	if c.cluster != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
		defer cancel()
		errs = append(errs, c.cluster.Stop(ctx))
	}
	return errors.Join(errs...)
}
