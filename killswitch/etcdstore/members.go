package etcdstore

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// member is the body of a registration.
type member struct {
	killswitch.Member
	// Run tells one process that registers under a name from another.
	Run string `json:"run"`
}

// Join implements killswitch.ControlStore.
func (s *Store) Join(ctx context.Context, m killswitch.Member, ttl time.Duration) (killswitch.Membership, error) {
	if err := errors.Join(m.Check(), killswitch.CheckLease("lease", ttl)); err != nil {
		return nil, err
	}
	r := &registrar{s: s, ttl: ttl, self: member{Member: m, Run: rand.Text()}, first: true}
	got, err := killswitch.Register(ctx, s.o.Clock, ttl, r)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.own = append(s.own, got)
		s.leases[m.Proxy] = r
	}
	s.mu.Unlock()
	if closed {
		got.Abandon()
		return nil, explain(errClosed)
	}
	return got, nil
}

// registrar is one registration.
type registrar struct {
	s     *Store
	ttl   time.Duration
	self  member
	first bool // the next renewal takes the name over

	mu       sync.Mutex
	lease    clientv3.LeaseID // 0: none, or one that has run out
	replaced bool
}

// holds answers the lease that acknowledgements go under.
func (r *registrar) holds() (clientv3.LeaseID, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.replaced:
		return 0, killswitch.ErrReplaced
	case r.lease == 0:
		return 0, fmt.Errorf("%w: etcd: the registration of %s has run out and is not back yet", killswitch.ErrControlUnavailable, r.self.Proxy)
	}
	return r.lease, nil
}

func (r *registrar) set(id clientv3.LeaseID, replaced bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lease, r.replaced = id, replaced
}

func (r *registrar) key() string { return r.s.key("members", r.self.Proxy) }

// Renew implements killswitch.Registrar.
func (r *registrar) Renew(ctx context.Context) error {
	err := r.s.try(ctx, r.renew)
	if errors.Is(err, killswitch.ErrReplaced) {
		r.set(0, true)
	}
	return err
}

func (r *registrar) renew(ctx context.Context, c *clientv3.Client) error {
	id, _ := r.holds()
	if id != 0 {
		alive, err := keepAlive(ctx, c, id)
		if err != nil {
			return err
		}
		if !alive {
			id = 0
			r.set(0, false)
		}
	}
	have, err := c.Get(ctx, r.key())
	if err != nil {
		return err
	}
	rev, mine, err := r.look(have.Kvs)
	if err != nil {
		return err
	}
	if mine && id != 0 && have.Kvs[0].Lease == int64(id) {
		r.first = false
		return nil
	}
	if rev > 0 && !mine && !r.first {
		return killswitch.ErrReplaced
	}
	return r.register(ctx, c, id, rev)
}

// look reads who is registered under the name.
func (r *registrar) look(there []*mvccpb.KeyValue) (rev int64, mine bool, err error) {
	if len(there) == 0 {
		return 0, false, nil
	}
	var m member
	if err := decode(there[0].Key, there[0].Value, &m); err != nil {
		return 0, false, err
	}
	return there[0].ModRevision, m.Run == r.self.Run, nil
}

// register writes the key where it is still at rev. What another has done meanwhile is looked at by the next attempt.
func (r *registrar) register(ctx context.Context, c *clientv3.Client, id clientv3.LeaseID, rev int64) error {
	if rev == 0 {
		n, err := c.Get(ctx, r.s.key("members")+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			return err
		}
		if n.Count >= killswitch.MaxMembers {
			return fmt.Errorf("control store: it has %d registered proxies, and cannot have more", n.Count)
		}
	}
	if id == 0 {
		l, err := c.Grant(ctx, seconds(r.ttl))
		if err != nil {
			return err
		}
		id = l.ID
	}
	body, err := encode(r.self)
	if err != nil {
		return err
	}
	key := r.key()
	t, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", rev)).Then(clientv3.OpPut(key, body, clientv3.WithLease(id))).Commit()
	if errors.Is(err, rpctypes.ErrLeaseNotFound) || err == nil && !t.Succeeded {
		return errMoved
	}
	if err != nil {
		return err
	}
	r.first = false
	r.set(id, false)
	return nil
}

// seconds rounds up: etcd keeps leases in whole ones, and one that is shorter than we say would end too soon.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// keepAlive renews a lease, and tells whether it was there. The client's own KeepAliveOnce asks again without a pause for
// as long as nobody answers.
func keepAlive(ctx context.Context, c *clientv3.Client, id clientv3.LeaseID) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // which ends the stream
	stream, err := etcdserverpb.NewLeaseClient(c.ActiveConnection()).LeaseKeepAlive(ctx)
	if err != nil {
		return false, rpctypes.Error(err)
	}
	if err := stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: int64(id)}); err != nil {
		return false, rpctypes.Error(err)
	}
	r, err := stream.Recv()
	if err != nil {
		return false, rpctypes.Error(err)
	}
	return r.GetTTL() > 0, nil
}

// Remove implements killswitch.Registrar. With the lease go the registration and the acknowledgements under it.
func (r *registrar) Remove(ctx context.Context) error {
	id, _ := r.holds()
	r.s.mu.Lock()
	if r.s.leases[r.self.Proxy] == r {
		delete(r.s.leases, r.self.Proxy)
	}
	r.s.mu.Unlock()
	if id == 0 {
		return nil
	}
	return r.s.try(ctx, func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.Revoke(ctx, id)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return nil
		}
		return err
	})
}

// Members implements killswitch.ControlStore.
func (s *Store) Members(ctx context.Context) ([]killswitch.Member, error) {
	kvs, err := s.under(ctx, s.key("members")+"/", killswitch.MaxMembers)
	if err != nil {
		return nil, err
	}
	var out []killswitch.Member
	for _, kv := range kvs {
		var m member
		if err := decode(kv.Key, kv.Value, &m); err != nil {
			return nil, err
		}
		out = append(out, m.Member)
	}
	slices.SortFunc(out, func(a, b killswitch.Member) int { return strings.Compare(a.Proxy, b.Proxy) })
	return out, nil
}

// under reads all values under a prefix, at most limit.
func (s *Store) under(ctx context.Context, prefix string, limit int) (kvs []*mvccpb.KeyValue, err error) {
	if err := ctx.Err(); err != nil {
		return nil, unavailable(ctx, err)
	}
	err = s.try(ctx, func(ctx context.Context, c *clientv3.Client) error {
		r, err := c.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithLimit(int64(limit)))
		if err == nil {
			kvs = r.Kvs
		}
		return err
	})
	return kvs, err
}

// Acknowledge implements killswitch.ControlStore.
func (s *Store) Acknowledge(ctx context.Context, a killswitch.Ack) error {
	if err := check(ctx, a.Pod); err != nil {
		return err
	}
	if err := backends.CheckID("proxy", a.Proxy); err != nil {
		return err
	}
	body, err := encode(a)
	if err != nil {
		return err
	}
	s.mu.Lock()
	r := s.leases[a.Proxy]
	s.mu.Unlock()
	opts := []clientv3.OpOption{clientv3.WithPrevKV()}
	if r != nil {
		id, err := r.holds()
		if err != nil {
			return err
		}
		opts = append(opts, clientv3.WithLease(id))
	}
	isNew := false
	err = s.try(ctx, func(ctx context.Context, c *clientv3.Client) error {
		p, err := c.Put(ctx, s.key("acks", string(a.Pod), a.Proxy), body, opts...)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return fmt.Errorf("%w: etcd: the registration of %s has run out and is not back yet", killswitch.ErrControlUnavailable, a.Proxy)
		}
		isNew = err == nil && p.PrevKv == nil
		return err
	})
	if err != nil || !isNew {
		return err
	}
	return s.forgetOldest(ctx, a.Pod)
}

// forgetOldest removes the acknowledgements beyond MaxAcks. Those of proxies that have registered go by themselves.
func (s *Store) forgetOldest(ctx context.Context, pod backends.Pod) error {
	acks, err := s.acks(ctx, pod)
	if err != nil {
		return err
	}
	for _, a := range acks[:max(0, len(acks)-killswitch.MaxAcks)] {
		key := s.key("acks", string(pod), a.Proxy)
		err := s.try(ctx, func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", a.rev)).Then(clientv3.OpDelete(key)).Commit()
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

type ackAt struct {
	killswitch.Ack
	rev int64
}

// acks reads them, the oldest first.
func (s *Store) acks(ctx context.Context, pod backends.Pod) ([]ackAt, error) {
	kvs, err := s.under(ctx, s.key("acks", string(pod))+"/", 2*killswitch.MaxAcks)
	if err != nil {
		return nil, err
	}
	out := make([]ackAt, 0, len(kvs))
	for _, kv := range kvs {
		a := ackAt{rev: kv.ModRevision}
		if err := decode(kv.Key, kv.Value, &a.Ack); err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	slices.SortStableFunc(out, func(a, b ackAt) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.rev, b.rev)) })
	return out, nil
}

// Acks implements killswitch.ControlStore.
func (s *Store) Acks(ctx context.Context, pod backends.Pod) ([]killswitch.Ack, error) {
	if err := check(ctx, pod); err != nil {
		return nil, err
	}
	acks, err := s.acks(ctx, pod)
	if err != nil {
		return nil, err
	}
	var out []killswitch.Ack
	for _, a := range acks[max(0, len(acks)-killswitch.MaxAcks):] {
		out = append(out, a.Ack)
	}
	slices.SortFunc(out, func(a, b killswitch.Ack) int { return strings.Compare(a.Proxy, b.Proxy) })
	return out, nil
}
