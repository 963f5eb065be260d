package etcdstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// Get implements killswitch.ControlStore.
func (s *Store) Get(ctx context.Context, pod backends.Pod) (st killswitch.PodState, rev killswitch.Revision, err error) {
	if err := check(ctx, pod); err != nil {
		return st, 0, err
	}
	err = s.try(ctx, func(ctx context.Context, c *clientv3.Client) error {
		r, err := c.Get(ctx, s.key("pods", string(pod)))
		if err != nil || len(r.Kvs) == 0 {
			return err
		}
		rec, err := record(r.Kvs[0])
		st, rev = rec.State, rec.Revision
		return err
	})
	return st, rev, err
}

func record(kv *mvccpb.KeyValue) (killswitch.Record, error) {
	var st killswitch.PodState
	if err := decode(kv.Key, kv.Value, &st); err != nil {
		return killswitch.Record{}, err
	}
	if string(st.Pod) != named(kv.Key) {
		return killswitch.Record{}, damaged(kv.Key, fmt.Sprintf("it is the record of pod %q", st.Pod))
	}
	return killswitch.Record{State: st, Revision: killswitch.Revision(kv.ModRevision)}, nil
}

// CompareAndSet implements killswitch.ControlStore.
func (s *Store) CompareAndSet(ctx context.Context, pod backends.Pod, rev killswitch.Revision, next killswitch.PodState) (at killswitch.Revision, err error) {
	if err := check(ctx, pod); err != nil {
		return 0, err
	}
	if rev < 0 {
		return 0, fmt.Errorf("pod %s has no revision %d: %w", pod, rev, killswitch.ErrConflict)
	}
	next.Pod = pod
	body, err := encode(next)
	if err != nil {
		return 0, err
	}
	if rev == 0 {
		if err := s.room(ctx); err != nil {
			return 0, err
		}
	}
	return s.set(ctx, "pod "+string(pod), s.key("pods", string(pod)), rev, body)
}

// set replaces a value that is at rev.
func (s *Store) set(ctx context.Context, what, key string, rev killswitch.Revision, body string) (at killswitch.Revision, err error) {
	sent := false // an earlier attempt has, and nobody knows what became of it
	err = s.try(ctx, func(ctx context.Context, c *clientv3.Client) error {
		before := sent
		sent = true
		r, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", int64(rev))).
			Then(clientv3.OpPut(key, body)).Else(clientv3.OpGet(key)).Commit()
		if err != nil {
			return err
		}
		if r.Succeeded {
			at = killswitch.Revision(r.Header.Revision)
			return nil
		}
		at, err = failed(what, rev, body, before, r.Responses[0].GetResponseRange().GetKvs())
		return err
	})
	if err != nil {
		at = 0
	}
	return at, err
}

// failed decides what became of a writing whose comparison failed: it may have been made by an earlier attempt.
func failed(what string, rev killswitch.Revision, body string, before bool, there []*mvccpb.KeyValue) (killswitch.Revision, error) {
	var have killswitch.Revision
	if len(there) > 0 {
		have = killswitch.Revision(there[0].ModRevision)
		if bytes.Equal(there[0].Value, []byte(body)) {
			return have, nil
		}
	}
	// What is still older than what was asked for cannot have been written over.
	if before && have > rev {
		return 0, fmt.Errorf("%w: etcd: the answer to a writing of %s was lost, and it was written again since: it cannot be told whether it took effect; read it", killswitch.ErrControlUnavailable, what)
	}
	return 0, fmt.Errorf("%s is at revision %d, not %d: %w", what, have, rev, killswitch.ErrConflict)
}

// Document implements killswitch.Documents.
func (s *Store) Document(ctx context.Context, name string) (body []byte, rev killswitch.Revision, err error) {
	if err := checkDocument(ctx, name, nil); err != nil {
		return nil, 0, err
	}
	err = s.try(ctx, func(ctx context.Context, c *clientv3.Client) error {
		r, err := c.Get(ctx, s.key("documents", name))
		if err != nil || len(r.Kvs) == 0 {
			return err
		}
		var raw json.RawMessage
		err = decode(r.Kvs[0].Key, r.Kvs[0].Value, &raw)
		body, rev = raw, killswitch.Revision(r.Kvs[0].ModRevision)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	return body, rev, nil
}

// SetDocument implements killswitch.Documents.
func (s *Store) SetDocument(ctx context.Context, name string, rev killswitch.Revision, body []byte) (killswitch.Revision, error) {
	if err := checkDocument(ctx, name, body); err != nil {
		return 0, err
	}
	if rev < 0 {
		return 0, fmt.Errorf("document %s has no revision %d: %w", name, rev, killswitch.ErrConflict)
	}
	v, err := encode(json.RawMessage(body))
	if err != nil {
		return 0, err
	}
	return s.set(ctx, "document "+name, s.key("documents", name), rev, v)
}

func checkDocument(ctx context.Context, name string, body []byte) error {
	if err := ctx.Err(); err != nil {
		return unavailable(ctx, err)
	}
	return killswitch.CheckDocument(name, body)
}

func (s *Store) room(ctx context.Context) error {
	return s.try(ctx, func(ctx context.Context, c *clientv3.Client) error {
		r, err := c.Get(ctx, s.key("pods")+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err == nil && r.Count >= killswitch.MaxPods {
			err = fmt.Errorf("control store: it has %d pods, and cannot have more", r.Count)
		}
		return err
	})
}

// List implements killswitch.ControlStore.
func (s *Store) List(ctx context.Context) (out []killswitch.Record, err error) {
	if err := ctx.Err(); err != nil {
		return nil, unavailable(ctx, err)
	}
	for range listTries {
		if out, err = s.list(ctx); !errors.Is(err, rpctypes.ErrCompacted) {
			break
		}
	}
	slices.SortFunc(out, func(a, b killswitch.Record) int { return strings.Compare(string(a.State.Pod), string(b.State.Pod)) })
	return out, err
}

// list reads pages of one revision of the whole.
func (s *Store) list(ctx context.Context) ([]killswitch.Record, error) {
	var out []killswitch.Record
	from, end := s.key("pods")+"/", clientv3.GetPrefixRangeEnd(s.key("pods")+"/")
	var at int64
	for {
		var r *clientv3.GetResponse
		err := s.try(ctx, func(ctx context.Context, c *clientv3.Client) (err error) {
			r, err = c.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(listPage), clientv3.WithRev(at))
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, kv := range r.Kvs {
			rec, err := record(kv)
			if err != nil {
				return nil, err
			}
			out = append(out, rec)
		}
		if !r.More || len(r.Kvs) == 0 || len(out) >= killswitch.MaxPods {
			return out, nil
		}
		at, from = r.Header.Revision, string(r.Kvs[len(r.Kvs)-1].Key)+"\x00"
	}
}
