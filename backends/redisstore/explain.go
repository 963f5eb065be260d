package redisstore

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/crossfade-proxy/crossfade/backends"
)

var _ backends.Explainer = (*Store)(nil)

// maxExplained bounds one command of an explanation, in bytes: a cart may have a thousand lines.
const maxExplained = 4096

// ExplainRestated implements [backends.Explainer].
func (s *Store) ExplainRestated(was, is *backends.Hold) []string {
	var out []string
	if was != nil || is.Version.N > 0 {
		out = append(out, s.explainHold(is)...)
	}
	return append(out, explained("XADD %s * o %d i %s h %s", s.names.prefix+outKey, backends.OpReemit, quoted(string(is.ID)), quoted(recordOf(is))))
}

// ExplainFollowed implements [backends.Explainer].
func (s *Store) ExplainFollowed(was, is *backends.Hold) []string {
	if was != nil && was.State == backends.Claimed && is.State != backends.Claimed {
		return nil
	}
	next := is
	if was != nil && is.State == backends.Released && len(is.Lines) == 0 { // a tombstone ends what is there
		next = was.Clone()
		next.State, next.EndedAt, next.Version = is.State, is.EndedAt, is.Version
	}
	moved := map[backends.Key]*backends.Correction{}
	var order []backends.Key
	add := func(h *backends.Hold, sign int64) {
		for _, u := range h.Footprint() {
			if h.State == backends.Claimed && h.LedgerOwed {
				return
			}
			c := moved[u.Key]
			if c == nil {
				c = &backends.Correction{Key: u.Key}
				moved[u.Key] = c
				order = append(order, u.Key)
			}
			c.Sellable -= sign * u.Quantity
			if h.State == backends.Claimed {
				c.OnHand -= sign * u.Quantity
			}
		}
	}
	add(was, -1)
	add(next, 1)
	var out []string
	for _, k := range order {
		out = append(out, s.explainMove(moved[k])...)
	}
	return append(out, s.explainHold(next)...)
}

func (s *Store) explainHold(h *backends.Hold) []string {
	key, id := s.names.hold(h.ID), quoted(string(h.ID))
	if h.State.Open() {
		return []string{explained("SET %s %s", quoted(key), quoted(recordOf(h))), explained("ZADD %s %d %s", s.names.prefix+expKey, h.ExpiresAt, id)}
	}
	return []string{explained("SET %s %s PX %s", quoted(key), quoted(recordOf(h)), s.retainMillis), explained("ZREM %s %s", s.names.prefix+expKey, id)}
}

// recordOf is the record but for what this store decided by itself, which stays as it is.
func recordOf(h *backends.Hold) string {
	r, err := encodeHold(h)
	if err != nil {
		return err.Error()
	}
	return r
}

// explainMove tells what moves at a key.
func (s *Store) explainMove(c *backends.Correction) []string {
	var out []string
	if c.Sellable != 0 {
		counter, err := s.names.stock(c.Key)
		if err != nil {
			counter = err.Error()
		}
		out = append(out, explained("INCRBY %s %d", quoted(counter), c.Sellable))
	}
	if held := c.OnHand - c.Sellable; c.OnHand != 0 || held != 0 {
		out = append(out, explained("HSET %s %s: on hand %+d, of that held %+d", s.names.prefix+levelsKey, quoted(field(c.Key)), c.OnHand, held))
	}
	return out
}

// ExplainTaken implements [backends.Explainer].
func (s *Store) ExplainTaken(was, is *backends.Level, asTruth bool) []string {
	out := []string{explained("HSET %s %s: taken %d at version %s", s.names.prefix+levelsKey, quoted(field(is.Key)), is.Taken, is.TakenVersion)}
	if asTruth {
		return append(out, explained("XADD %s * o %d k %s v \"%d %d %d 0 0\" p \"\"", s.names.prefix+outKey, backends.OpReemit, quoted(field(is.Key)), is.Taken, is.TakenVersion.Epoch, is.TakenVersion.N))
	}
	if n := was.Taken - is.Taken; n != 0 {
		counter, err := s.names.stock(is.Key)
		if err != nil {
			counter = err.Error()
		}
		out = append(out, explained("INCRBY %s %d", quoted(counter), n))
	}
	return out
}

// ExplainCorrect implements [backends.Explainer].
func (s *Store) ExplainCorrect(_ *backends.Level, c *backends.Correction) []string {
	var out []string
	if c.Sellable != 0 {
		out = s.explainMove(&backends.Correction{Key: c.Key, Sellable: c.Sellable, OnHand: c.Sellable})[:1]
	}
	if c.OnHand != 0 || c.Held != 0 {
		out = append(out, explained("HSET %s %s: on hand %+d, of that held %+d", s.names.prefix+levelsKey, quoted(field(c.Key)), c.OnHand, c.Held))
	}
	return append(out, explained("SET %s \"%d 0\" NX PX %s", quoted(s.names.op(c.OpID)), c.OnHand, s.retainMillis))
}

func explained(format string, args ...any) string {
	t := fmt.Sprintf(format, args...)
	if len(t) > maxExplained {
		t = strings.ToValidUTF8(t[:maxExplained], "") + "…"
	}
	return t
}

// quoted writes a text as redis-cli takes it: it knows \n, \t and \xHH, and no other control bytes.
func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < ' ' || c > '~':
			b.WriteString(`\x` + strconv.FormatUint(uint64(c)+256, 16)[1:])
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
