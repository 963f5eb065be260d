package mysqlstore

import (
	"context"
	"database/sql"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// snapshotPatience bounds the snapshot of one Conservation: while it lasts InnoDB purges
	// nothing that it may still see, and scans from the head of an index slow down for everybody.
	snapshotPatience = time.Minute
	// snapshotPage is how many levels are read at a time.
	snapshotPage = 500
)

var textHoldsOpenAll = named("holds_open_all").one()

// Conservation sums the open holds and reads every level in one snapshot. A broken level is
// answered with Held as its holds have it. It takes memory for each key that has an open hold, and
// answers an error when the snapshot would last longer than a minute.
func (s *Store) Conservation(ctx context.Context) (broken []backends.Level, checked int, err error) {
	err = s.again(ctx, func() error {
		broken, checked, err = s.conserve(ctx)
		return s.failed(err)
	})
	return broken, checked, err
}

func (s *Store) conserve(ctx context.Context) (broken []backends.Level, checked int, err error) {
	ctx, cancel := context.WithTimeout(ctx, snapshotPatience)
	defer cancel()
	c, err := s.open(ctx, s.db, "conservation")
	if err != nil {
		return nil, 0, err
	}
	defer c.free()
	defer c.rollback(ctx)
	held := map[backends.Key]int64{}
	b := c.batch()
	b.do("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
	b.do("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
	b.ask(func(r *sql.Rows) error {
		h := backends.Hold{State: backends.Held}
		var lines, allocs []byte
		if err := r.Scan(&h.Shop, &lines, &allocs); err != nil {
			return err
		}
		if err := decode(lines, &h.Lines, "lines of an open hold"); err != nil {
			return err
		}
		if err := decode(allocs, &h.Allocs, "allocations of an open hold"); err != nil {
			return err
		}
		for _, u := range h.Takes() {
			held[u.Key] += u.Quantity
		}
		return nil
	}, textHoldsOpenAll, s.cfg.Pod)
	if err := b.sendTo(ctx, c.conn); err != nil {
		return nil, 0, err
	}
	var last backends.Key
	for {
		page, err := s.levelsAfter(ctx, c, last, snapshotPage)
		if err != nil {
			return nil, 0, err
		}
		for _, l := range page {
			checked++
			l.Held = held[l.Key]
			delete(held, l.Key)
			if l.Imbalance() != 0 {
				broken = append(broken, l)
			}
		}
		if len(page) == 0 {
			break
		}
		last = page[len(page)-1].Key
	}
	for _, k := range sortedKeys(held) { // held at a key that has no level
		broken = append(broken, backends.Level{Key: k, Held: held[k]})
	}
	return broken, checked, nil
}

// levelsAfter reads the next levels in key order, within c's transaction.
func (s *Store) levelsAfter(ctx context.Context, c *session, after backends.Key, limit int) (out []backends.Level, err error) {
	for _, kr := range rangesAfter(after) {
		b := c.batch()
		s.askLevelPage(b, kr, limit-len(out), &out)
		if err := b.sendTo(ctx, c.conn); err != nil || len(out) == limit {
			return out, err
		}
	}
	return out, nil
}
