package mysqlstore

import (
	"fmt"
	"strings"

	"github.com/crossfade-proxy/crossfade/backends"
)

var _ backends.Explainer = (*Store)(nil)

// maxExplained bounds one row of an explanation, in bytes: a cart may have a thousand lines.
const maxExplained = 4096

// ExplainRestated implements [backends.Explainer].
func (s *Store) ExplainRestated(was, is *backends.Hold) []string {
	var out []string
	switch {
	case was != nil:
		out = append(out, explained("UPDATE crossfade_holds SET epoch = %d, n = %d WHERE pod = %s AND id = %s AND epoch = %d AND n = %d",
			is.Version.Epoch, is.Version.N, literal(s.cfg.Pod), literal(is.ID), was.Version.Epoch, was.Version.N))
	case is.Version.N > 0:
		out = append(out, s.explainHold(nil, is))
	}
	return append(out, s.explainEntry(backends.Entry{Op: backends.OpReemit, Hold: is}))
}

func (s *Store) explainEntry(e backends.Entry) string {
	return explained("INSERT INTO crossfade_outbox (pod, body) VALUES (%s, %s)", literal(s.cfg.Pod), literal(encode(body{Op: e.Op, Hold: e.Hold, Level: e.Level})))
}

// ExplainFollowed implements [backends.Explainer].
func (s *Store) ExplainFollowed(was, is *backends.Hold) []string {
	var rec *record
	if was != nil {
		rec = &record{hold: was}
	}
	next, _ := nextOf(rec, is)
	if next == nil {
		return nil
	}
	var out []string
	for _, m := range moves(was, next) {
		out = append(out, s.explainMove(m)...)
	}
	return append(out, s.explainHold(was, next))
}

func (s *Store) explainHold(was, is *backends.Hold) string {
	set := fmt.Sprintf("shop = %s, state = %d /* %s */, epoch = %d, n = %d, body = %s, allocs = %s, expires = %d, ended = %d, ledger_owed = %t",
		literal(is.Shop), is.State, is.State, is.Version.Epoch, is.Version.N, literal(encode(is.Lines)), literal(encode(is.Allocs)), is.ExpiresAt, is.EndedAt, is.LedgerOwed)
	if was == nil {
		return explained("INSERT INTO crossfade_holds SET pod = %s, id = %s, %s", literal(s.cfg.Pod), literal(is.ID), set)
	}
	return explained("UPDATE crossfade_holds SET %s WHERE pod = %s AND id = %s AND epoch = %d AND n = %d", set, literal(s.cfg.Pod), literal(is.ID), was.Version.Epoch, was.Version.N)
}

// explainMove tells what moves at a key: which of the units are rows of the pool is seen when they are locked.
func (s *Store) explainMove(m move) []string {
	var out []string
	if m.onHand != 0 {
		out = append(out, explained("UPDATE %s SET %s = %s %+d, the row of %s", s.cfg.Ledger.Table, s.cfg.Ledger.OnHand, s.cfg.Ledger.OnHand, m.onHand, m.key))
	}
	switch n := m.sellable; {
	case n < 0:
		out = append(out, explained("%s: %d units leave crossfade_units, or crossfade_levels.unmaterialised where the pool has too few", m.key, -n))
	case n > 0:
		out = append(out, explained("%s: %d units come to crossfade_levels.unmaterialised (a debt first), or crossfade_units", m.key, n))
	}
	return out
}

// ExplainTaken implements [backends.Explainer].
func (s *Store) ExplainTaken(was, is *backends.Level, asTruth bool) []string {
	k := is.Key
	out := []string{explained("UPDATE crossfade_levels SET taken = %d, taken_epoch = %d, taken_n = %d WHERE pod = %s AND shop = %s AND item = %s AND location = %s",
		is.Taken, is.TakenVersion.Epoch, is.TakenVersion.N, literal(s.cfg.Pod), literal(k.Shop), literal(k.Item), literal(k.Location))}
	if asTruth {
		return append(out, s.explainEntry(backends.Entry{Op: backends.OpReemit, Level: &backends.LevelChange{Key: k, Taken: is.Taken, Version: is.TakenVersion}}))
	}
	return append(out, s.explainMove(move{key: k, sellable: was.Taken - is.Taken})...)
}

// ExplainCorrect implements [backends.Explainer].
func (s *Store) ExplainCorrect(_ *backends.Level, c *backends.Correction) []string {
	out := s.explainMove(move{key: c.Key, onHand: c.OnHand, sellable: c.Sellable})
	return append(out, explained("INSERT INTO crossfade_ops (pod, op_id, value, delta, void) VALUES (%s, %s, 0, %d, 0)", literal(s.cfg.Pod), literal(c.OpID), c.OnHand))
}

func explained(format string, args ...any) string {
	t := fmt.Sprintf(format, args...)
	if len(t) > maxExplained {
		t = strings.ToValidUTF8(t[:maxExplained], "") + "…"
	}
	return t
}

// literal writes a text as SQL would take it.
func literal[T ~string | ~[]byte](v T) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`, "\n", `\n`).Replace(string(v)) + "'"
}
