package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/redisstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/admin"
)

const (
	// adoptPage is how many keys are taken over at a time, maxDiffer how many differences are listed.
	adoptPage = 256
	maxDiffer = 50
	// adoptRounds bounds how often a page is looked at again while its changes are on their way.
	adoptRounds = 50
)

// AdoptStock takes over the stock keys of an existing checkout: levels in Redis, and their quantities in
// the ledger. Running it again changes nothing that it has done: each key has one operation id.
func (p *Proxy) AdoptStock(ctx context.Context, pod backends.Pod) (admin.AdoptResult, error) {
	res := admin.AdoptResult{Pod: pod, Differ: []admin.AdoptDiffer{}}
	r, err := p.find(pod)
	if err != nil {
		return res, err
	}
	f := r.pod.Gate().Serving()
	rs, ok := r.stores.Redis.(*redisstore.Store)
	if f.Stage != backends.RedisOnly || !ok {
		return res, &backends.FieldError{Field: "stage", Value: f.Stage.String(), Bound: "redis-only, where Redis alone has the stock", Next: "keys that appear later are adopted at their first use; load their stock with 'crossfade stock load'"}
	}
	t := backends.Token{Epoch: f.Epoch}
	mine := func(k backends.Key) bool { return p.router.find(k.Shop) == r }
	for cursor := ""; ; {
		n, next, err := rs.Adopt(ctx, t, cursor, adoptPage, mine)
		res.Adopted += n
		if err != nil {
			return res, err
		}
		if next == "" {
			break
		}
		cursor = next
	}
	for cursor := ""; ; {
		ls, next, err := rs.ScanLevels(ctx, cursor, adoptPage)
		if err != nil {
			return res, err
		}
		if err := r.tellLedger(ctx, t, ls, &res); err != nil {
			return res, err
		}
		if next == "" {
			return res, nil
		}
		cursor = next
	}
}

// tellLedger gives the ledger the quantities of levels that it does not have. Each is made first, without
// units, so that a row of the shop's own ledger shows what it has. A key of which something is still in the
// outbox is looked at again when that has been delivered: its change is in Redis's quantity already, and
// the ledger would have it twice.
func (p *podRuntime) tellLedger(ctx context.Context, t backends.Token, ls []backends.Level, res *admin.AdoptResult) error {
	if err := p.follower(ctx, t, ls, func(backends.Level) (backends.OpID, int64) { return "", 0 }); err != nil {
		return err
	}
	for round := 0; len(ls) > 0; round++ {
		moving, err := p.tellSettled(ctx, t, ls, res)
		if err != nil || len(moving) == 0 {
			return err
		}
		if round == adoptRounds {
			return fmt.Errorf("%w: changes of %s and %d other keys are on their way to the ledger all the time; run it again at a calmer hour", backends.ErrBusy, moving[0], len(moving)-1)
		}
		if _, _, err := p.pod.SweepNow(ctx, 0); err != nil {
			return err
		}
		if ls, err = p.stores.Redis.Levels(ctx, moving); err != nil {
			return err
		}
	}
	return nil
}

// tellSettled does so for the levels of which nothing is in the outbox, and answers the keys of the others.
// The order of the three looks is what makes it right: what was decided before Redis was read is in the
// outbox or has reached the ledger, and what was decided later is not in the quantity that was read.
func (p *podRuntime) tellSettled(ctx context.Context, t backends.Token, ls []backends.Level, res *admin.AdoptResult) (moving []backends.Key, err error) {
	pending, err := p.pendingKeys(ctx)
	if err != nil {
		return nil, err
	}
	have, err := p.stores.MySQL.Levels(ctx, keysOf(ls))
	if err != nil {
		return nil, err
	}
	ledger := map[backends.Key]int64{}
	for _, l := range have {
		ledger[l.Key] = l.OnHand
	}
	var missing []backends.Level
	for _, l := range ls {
		switch at := ledger[l.Key]; {
		case pending[l.Key]:
			moving = append(moving, l.Key)
		case at == l.OnHand:
			res.Same++
		case at == 0:
			missing = append(missing, l)
		default:
			res.DifferTotal++
			if len(res.Differ) < maxDiffer {
				res.Differ = append(res.Differ, admin.AdoptDiffer{Key: l.Key, Redis: l.OnHand, Ledger: at})
			}
		}
	}
	res.Ledger += len(missing)
	return moving, p.follower(ctx, t, missing, func(l backends.Level) (backends.OpID, int64) {
		// Once in an epoch: a pod that comes back to redis-only later may have to tell the same key anew.
		sum := sha256.Sum256(fmt.Appendf(nil, "%d %q %q %q", t.Epoch, l.Key.Shop, l.Key.Item, l.Key.Location))
		return backends.OpID("adopt:" + hex.EncodeToString(sum[:16])), l.OnHand
	})
}

// pendingKeys are the keys of everything that Redis's outbox has at present.
func (p *podRuntime) pendingKeys(ctx context.Context) (map[backends.Key]bool, error) {
	out := map[backends.Key]bool{}
	for after := ""; ; {
		es, err := p.stores.Redis.Pending(ctx, after, 0, adoptPage)
		if err != nil || len(es) == 0 {
			return out, err
		}
		for i := range es {
			for _, k := range es[i].Keys() {
				out[k] = true
			}
		}
		after = es[len(es)-1].Seq
	}
}

func keysOf(ls []backends.Level) []backends.Key {
	keys := make([]backends.Key, len(ls))
	for i := range ls {
		keys[i] = ls[i].Key
	}
	return keys
}

// follower has MySQL apply one level change for each level.
func (p *podRuntime) follower(ctx context.Context, t backends.Token, ls []backends.Level, change func(backends.Level) (backends.OpID, int64)) error {
	if len(ls) == 0 {
		return nil
	}
	entries := make([]backends.Entry, len(ls))
	for i, l := range ls {
		id, delta := change(l)
		entries[i] = backends.Entry{Op: backends.OpReemit, Level: &backends.LevelChange{Key: l.Key, OpID: id, OnHandDelta: delta}}
	}
	now, err := p.stores.MySQL.Now(ctx)
	if err != nil {
		return err
	}
	done, err := p.stores.MySQL.Apply(ctx, t, now, entries)
	if err != nil {
		return err
	}
	for _, a := range done {
		if a.Err != nil {
			return a.Err
		}
	}
	return nil
}
