package redisstore

import (
	"context"
	"strconv"

	"github.com/crossfade-proxy/crossfade/backends"
)

// RestateHolds writes present states under versions above the other store's.
func (s *Store) RestateHolds(ctx context.Context, t backends.Token, hs []backends.HoldAbove) (int, error) {
	cmds := make([]*command, len(hs))
	for i, h := range hs {
		if err := backends.CheckAbove("hold "+string(h.ID), h.Above); err != nil {
			return 0, err
		}
		cmds[i] = s.script(restateScript, t, []string{s.names.hold(h.ID)}, "hold", string(h.ID), strconv.FormatUint(h.Above.Epoch, 10), strconv.FormatUint(h.Above.N, 10))
	}
	return s.reemit(ctx, t, cmds)
}

// RestateTaken writes taken sums under versions above the other store's.
func (s *Store) RestateTaken(ctx context.Context, t backends.Token, ks []backends.LevelAbove) (int, error) {
	cmds := make([]*command, 0, len(ks))
	for _, k := range ks {
		if err := backends.CheckAbove("what is taken of "+k.Key.String(), k.Above); err != nil {
			return 0, err
		}
		counter, err := s.names.stock(k.Key)
		if err != nil {
			continue // no level can have that name
		}
		cmds = append(cmds, s.script(restateScript, t, []string{counter}, "taken", field(k.Key), strconv.FormatUint(k.Above.Epoch, 10), strconv.FormatUint(k.Above.N, 10)))
	}
	return s.reemit(ctx, t, cmds)
}

// Correct moves a level of a shadow, once for each operation id.
func (s *Store) Correct(ctx context.Context, t backends.Token, asOf backends.Instant, c *backends.Correction) (bool, error) {
	return s.correctAs(ctx, asMirrorRole, t, asOf, c)
}

// RestoreLevel moves a level of the truth, once for each operation id.
func (s *Store) RestoreLevel(ctx context.Context, t backends.Token, asOf backends.Instant, c *backends.Correction) (bool, error) {
	return s.correctAs(ctx, asRestored, t, asOf, c)
}

var _ backends.Restorer = (*Store)(nil)

func (s *Store) correctAs(ctx context.Context, role string, t backends.Token, asOf backends.Instant, c *backends.Correction) (bool, error) {
	if err := c.Check(); err != nil {
		return false, err
	}
	counter, err := s.names.stock(c.Key)
	if err != nil {
		return false, err
	}
	v, err := s.write(ctx, s.bulk, s.script(correctScript, t, []string{counter, s.names.op(c.OpID)},
		strconv.FormatInt(int64(asOf), 10), strconv.FormatInt((s.retain/2).Milliseconds(), 10), field(c.Key),
		strconv.FormatInt(c.Sellable, 10), strconv.FormatInt(c.OnHand, 10), strconv.FormatInt(c.Held, 10), role))
	if err != nil {
		return false, err
	}
	p := replyOf(v)
	return p.num(0) == 1, p.err()
}
