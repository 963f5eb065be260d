package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

const (
	// appendAtOnce bounds the lines of one transaction; etcd takes 128 operations by default.
	appendAtOnce = 64
	// historyPage is how many lines are read at once.
	historyPage = 200
)

// errMeanwhile: somebody has appended since the end was looked up.
var errMeanwhile = errors.New("somebody has appended to the history meanwhile")

func (s *Store) line(pod backends.Pod, seq uint64) string {
	return s.key("history", string(pod)) + fmt.Sprintf("/%020d", seq)
}

// AppendHistory implements killswitch.ControlStore.
func (s *Store) AppendHistory(ctx context.Context, pod backends.Pod, changes ...killswitch.Change) error {
	if err := check(ctx, pod); err != nil || len(changes) == 0 {
		return err
	}
	for {
		err := s.try(ctx, func(ctx context.Context, c *clientv3.Client) error { return s.appendNewer(ctx, c, pod, changes) })
		if !errors.Is(err, errMeanwhile) {
			return err
		}
		if ctx.Err() != nil {
			return unavailable(ctx, err)
		}
	}
}

// appendNewer writes what is above the newest line. Twice is once: then it is no longer above.
func (s *Store) appendNewer(ctx context.Context, c *clientv3.Client, pod backends.Pod, changes []killswitch.Change) error {
	lines := s.key("history", string(pod)) + "/"
	r, err := c.Get(ctx, lines, clientv3.WithLastKey()...)
	if err != nil {
		return err
	}
	var newest uint64
	if len(r.Kvs) > 0 {
		k := string(r.Kvs[0].Key)
		if newest, err = strconv.ParseUint(k[strings.LastIndexByte(k, '/')+1:], 10, 64); err != nil {
			return damaged(r.Kvs[0].Key, "its name does not end with a number")
		}
	}
	at := r.Header.Revision
	var puts []clientv3.Op
	flush := func() error {
		if len(puts) == 0 {
			return nil
		}
		none := clientv3.Compare(clientv3.CreateRevision(lines).WithPrefix(), "<", at+1)
		t, err := c.Txn(ctx).If(none).Then(puts...).Commit()
		if err != nil {
			return err
		}
		if !t.Succeeded {
			return errMeanwhile
		}
		at, puts = t.Header.Revision, nil
		return nil
	}
	for _, ch := range changes {
		if ch.Seq <= newest {
			continue
		}
		newest = ch.Seq
		body, err := encode(ch)
		if err != nil {
			return err
		}
		if puts = append(puts, clientv3.OpPut(s.line(pod, ch.Seq), body)); len(puts) == appendAtOnce {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// History implements killswitch.ControlStore.
func (s *Store) History(ctx context.Context, pod backends.Pod, before uint64, limit int) ([]killswitch.Change, error) {
	if err := check(ctx, pod); err != nil || limit <= 0 {
		return nil, err
	}
	limit = min(limit, killswitch.MaxHistoryPage)
	from := s.key("history", string(pod)) + "/"
	end := clientv3.GetPrefixRangeEnd(from)
	if before > 0 {
		end = s.line(pod, before)
	}
	var out []killswitch.Change
	for len(out) < limit {
		var r *clientv3.GetResponse
		err := s.try(ctx, func(ctx context.Context, c *clientv3.Client) (err error) {
			r, err = c.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(int64(min(historyPage, limit-len(out)))),
				clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, kv := range r.Kvs {
			var ch killswitch.Change
			if err := decode(kv.Key, kv.Value, &ch); err != nil {
				return nil, err
			}
			out = append(out, ch)
		}
		if len(r.Kvs) == 0 || !r.More {
			break
		}
		end = string(r.Kvs[len(r.Kvs)-1].Key)
	}
	slices.Reverse(out)
	return out, nil
}
