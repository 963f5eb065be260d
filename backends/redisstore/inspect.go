package redisstore

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/crossfade-proxy/crossfade/backends"
)

// readChunk bounds the records, levels or entries that one script or pipeline reads: some hundred
// kB, and a millisecond of the server's time.
const readChunk = 512

// Get answers nil when the hold is not known.
func (s *Store) Get(ctx context.Context, id backends.HoldID) (*backends.Hold, error) {
	v, err := s.one(ctx, s.fast, plain("GET", s.names.hold(id)))
	if err != nil || v == nil {
		return nil, err
	}
	return holdOf(id, v)
}

func holdOf(id backends.HoldID, v any) (*backends.Hold, error) {
	record, _ := v.(string)
	h, _, err := decodeHold(id, record)
	if err != nil {
		return nil, malformed("hold "+string(id), err)
	}
	return h, nil
}

// KnowsOp tells whether an operation id was decided, mirrored, corrected under or voided here.
func (s *Store) KnowsOp(ctx context.Context, id backends.OpID) (bool, error) {
	v, err := s.one(ctx, s.fast, plain("EXISTS", s.names.op(id)))
	n, _ := v.(int64)
	return n == 1, err
}

// GetMany answers the known ones among ids.
func (s *Store) GetMany(ctx context.Context, ids []backends.HoldID) (map[backends.HoldID]*backends.Hold, error) {
	out := make(map[backends.HoldID]*backends.Hold, len(ids))
	for part := range slices.Chunk(ids, readChunk) {
		hs, err := s.getSome(ctx, part)
		if err != nil {
			return nil, err
		}
		for _, h := range hs {
			out[h.ID] = h
		}
	}
	return out, nil
}

// getSome reads holds; those that are not there are left out.
func (s *Store) getSome(ctx context.Context, ids []backends.HoldID) ([]*backends.Hold, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	cmds := make([]*command, len(ids))
	for i, id := range ids {
		cmds[i] = plain("GET", s.names.hold(id))
	}
	if err := s.bulk.do(ctx, cmds...); err != nil {
		return nil, err
	}
	out := make([]*backends.Hold, 0, len(ids))
	for i, c := range cmds {
		v, err := c.result()
		if err != nil {
			return nil, err
		}
		if v == nil {
			continue
		}
		h, err := holdOf(ids[i], v)
		if err != nil {
			return nil, err
		}
		out = append(out, h)
	}
	return out, nil
}

// Levels answers one level per key that exists, in key order. A counter of an existing checkout
// that has not been adopted yet is answered as it will be.
func (s *Store) Levels(ctx context.Context, keys []backends.Key) ([]backends.Level, error) {
	keys = slices.Clone(keys)
	slices.SortFunc(keys, backends.Key.Compare)
	ls, err := s.readLevels(ctx, s.fast, slices.Compact(keys))
	if err != nil {
		return nil, err
	}
	return plainLevels(ls), nil
}

func plainLevels(ls []level) []backends.Level {
	out := make([]backends.Level, len(ls))
	for i, l := range ls {
		out[i] = l.Level
	}
	return out
}

// readLevels reads levels, each at one instant. A key that the template cannot name has none.
func (s *Store) readLevels(ctx context.Context, l *lane, keys []backends.Key) ([]level, error) {
	out := make([]level, 0, len(keys))
	for part := range slices.Chunk(keys, readChunk) {
		named := make([]backends.Key, 0, len(part))
		counters, fields := make([]string, 0, len(part)), make([]string, 0, len(part))
		for _, k := range part {
			if counter, err := s.names.stock(k); err == nil {
				named, counters, fields = append(named, k), append(counters, counter), append(fields, field(k))
			}
		}
		if len(named) == 0 {
			continue
		}
		v, err := s.one(ctx, l, s.script(levelsScript, backends.Token{}, counters, fields...))
		if err != nil {
			return nil, err
		}
		p := replyOf(v)
		for i, k := range named {
			lv, err := decodeLevel(k, p.text(i))
			if err != nil {
				return nil, malformed("level "+k.String(), err)
			}
			if lv != nil {
				out = append(out, *lv)
			}
		}
		if err := p.err(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Apologies lists the oldest first. Its cursor is the id of the last one in the stream.
func (s *Store) Apologies(ctx context.Context, cursor string, limit int) (as []backends.Apology, next string, err error) {
	limit = min(max(1, limit), backends.MaxPage)
	from := "-"
	if cursor != "" {
		if !streamID(cursor) {
			return nil, "", badCursor(cursor)
		}
		from = "(" + cursor
	}
	v, err := s.one(ctx, s.bulk, plain("XRANGE", s.names.prefix+apologyKey, from, "+", "COUNT", strconv.Itoa(limit)))
	if err != nil {
		return nil, "", err
	}
	page, _ := v.([]any)
	as = make([]backends.Apology, 0, len(page))
	for _, p := range page {
		a, err := apologyOf(p)
		if err != nil {
			return nil, "", malformed("apologies", err)
		}
		as = append(as, a)
	}
	if len(page) == limit {
		next = streamIDOf(page[limit-1])
	}
	return as, next, nil
}

// streamIDOf is the id of an element of a stream; "" for what is none.
func streamIDOf(v any) string {
	if pair, _ := v.([]any); len(pair) == 2 {
		id, _ := pair[0].(string)
		return id
	}
	return ""
}

// streamID tells whether s is one: two numbers with a hyphen between.
func streamID(s string) bool {
	ms, n, ok := strings.Cut(s, "-")
	_, err1 := strconv.ParseUint(ms, 10, 64)
	_, err2 := strconv.ParseUint(n, 10, 64)
	return ok && err1 == nil && err2 == nil
}

func apologyOf(v any) (backends.Apology, error) {
	pair, _ := v.([]any)
	if len(pair) != 2 {
		return backends.Apology{}, errReply
	}
	list, err := texts(pair[1])
	if err != nil || len(list)%2 != 0 {
		return backends.Apology{}, errReply
	}
	f := map[string]string{}
	for i := 0; i < len(list); i += 2 {
		f[list[i]] = list[i+1]
	}
	k, ok := parseField(f["k"])
	n, err1 := strconv.ParseInt(f["q"], 10, 64)
	at, err2 := strconv.ParseInt(f["t"], 10, 64)
	if !ok || err1 != nil || err2 != nil {
		return backends.Apology{}, errReply
	}
	return backends.Apology{Hold: backends.HoldID(f["i"]), Key: k, Quantity: n, Reason: f["r"], At: backends.Instant(at)}, nil
}

// badCursor is the answer to a cursor that no page gave.
func badCursor(cursor string) error {
	return &backends.FieldError{Field: "cursor", Value: abbreviate(cursor), Bound: "what the page before answered", Next: "start with an empty one"}
}

// scan is where a SCAN or HSCAN stands: the server's cursor, and what it gave beyond the page.
// Written as lines: the cursor, then the rest.
type scan struct {
	cursor string
	rest   []string
	last   bool // the server has no more
}

// scanEnd stands for the cursor when only the rest is left.
const scanEnd = "end"

func parseScan(s string) (*scan, error) {
	if s == "" {
		return &scan{cursor: "0"}, nil
	}
	lines := strings.Split(s, rowSeparator)
	sc := &scan{cursor: lines[0], rest: lines[1:], last: lines[0] == scanEnd}
	if _, err := strconv.ParseUint(sc.cursor, 10, 64); err != nil && !sc.last {
		return nil, badCursor(s)
	}
	return sc, nil
}

func (sc *scan) String() string {
	if sc.last {
		if len(sc.rest) == 0 {
			return ""
		}
		sc.cursor = scanEnd
	}
	return strings.Join(append([]string{sc.cursor}, sc.rest...), rowSeparator)
}

// scanRounds bounds the calls of one page: with many keys that are not ours, a page may come back
// short, or empty.
const scanRounds = 1000

// page takes up to limit elements; call asks the server, given a cursor and a count.
func (sc *scan) page(limit int, call func(cursor string, count int) (next string, elements []string, err error)) ([]string, error) {
	var out []string
	take := func(elements []string) {
		n := min(limit-len(out), len(elements))
		out, sc.rest = append(out, elements[:n]...), elements[n:]
	}
	take(sc.rest)
	for range scanRounds {
		if sc.last || len(out) == limit {
			break
		}
		next, elements, err := call(sc.cursor, max(64, min(limit-len(out), readChunk)))
		if err != nil {
			return nil, err
		}
		sc.cursor, sc.last = next, next == "0"
		take(elements)
	}
	return out, nil
}

// scanReply reads the answer of SCAN or HSCAN.
func scanReply(v any) (next string, elements []string, err error) {
	pair, _ := v.([]any)
	if len(pair) != 2 {
		return "", nil, malformed("answer of SCAN", errReply)
	}
	next, _ = pair[0].(string)
	elements, err = texts(pair[1])
	return next, elements, err
}

func page(limit int) int { return min(max(1, limit), backends.MaxPage) }

// ScanHolds pages through holds: all of them by SCAN, open ones by the index of their expiry.
func (s *Store) ScanHolds(ctx context.Context, cursor string, limit int, openOnly bool) ([]*backends.Hold, string, error) {
	if openOnly {
		return s.scanOpen(ctx, cursor, page(limit))
	}
	sc, err := parseScan(cursor)
	if err != nil {
		return nil, "", err
	}
	prefix := s.names.prefix + holdPart
	found, err := sc.page(page(limit), func(cursor string, count int) (string, []string, error) {
		v, err := s.one(ctx, s.bulk, plain("SCAN", cursor, "MATCH", escapeGlob(prefix)+"*", "COUNT", strconv.Itoa(count)))
		if err != nil {
			return "", nil, err
		}
		return scanReply(v)
	})
	if err != nil {
		return nil, "", err
	}
	ids := make([]backends.HoldID, len(found))
	for i, key := range found {
		ids[i] = backends.HoldID(strings.TrimPrefix(key, prefix))
	}
	var out []*backends.Hold
	for part := range slices.Chunk(ids, readChunk) {
		hs, err := s.getSome(ctx, part)
		if err != nil {
			return nil, "", err
		}
		out = append(out, hs...)
	}
	return out, sc.String(), nil
}

// scanOpen's cursor is score and member of the last one seen.
func (s *Store) scanOpen(ctx context.Context, cursor string, limit int) ([]*backends.Hold, string, error) {
	score, member := "", ""
	if cursor != "" {
		var ok bool
		score, member, ok = strings.Cut(cursor, " ")
		if _, err := strconv.ParseInt(score, 10, 64); err != nil || !ok {
			return nil, "", badCursor(cursor)
		}
	}
	var out []*backends.Hold
	for seen := 0; seen < limit; {
		want := min(limit-seen, readChunk)
		v, err := s.one(ctx, s.bulk, s.script(openScript, backends.Token{}, nil, score, member, strconv.Itoa(want)))
		if err != nil {
			return nil, "", err
		}
		pairs, err := texts(v)
		if err != nil {
			return nil, "", err
		}
		ids := make([]backends.HoldID, 0, want)
		for i := 0; i+1 < len(pairs); i += 2 {
			member, score = pairs[i], pairs[i+1]
			ids = append(ids, backends.HoldID(member))
		}
		hs, err := s.getSome(ctx, ids)
		if err != nil {
			return nil, "", err
		}
		for _, h := range hs {
			if h.State.Open() {
				out = append(out, h)
			}
		}
		if seen += len(ids); len(ids) < want {
			return out, "", nil
		}
	}
	return out, score + " " + member, nil
}

// ScanLevels pages through the levels that are known; counters of an existing checkout come in as
// they are adopted (see Adopt).
func (s *Store) ScanLevels(ctx context.Context, cursor string, limit int) ([]backends.Level, string, error) {
	ls, next, err := s.scanLevels(ctx, cursor, limit)
	if err != nil {
		return nil, "", err
	}
	return plainLevels(ls), next, nil
}

func (s *Store) scanLevels(ctx context.Context, cursor string, limit int) ([]level, string, error) {
	sc, err := parseScan(cursor)
	if err != nil {
		return nil, "", err
	}
	fields, err := sc.page(page(limit), func(cursor string, count int) (string, []string, error) {
		v, err := s.one(ctx, s.bulk, plain("HSCAN", s.names.prefix+levelsKey, cursor, "COUNT", strconv.Itoa(count)))
		if err != nil {
			return "", nil, err
		}
		next, pairs, err := scanReply(v)
		if err != nil {
			return "", nil, err
		}
		names := make([]string, 0, len(pairs)/2)
		for i := 0; i < len(pairs); i += 2 {
			names = append(names, pairs[i])
		}
		return next, names, nil
	})
	if err != nil {
		return nil, "", err
	}
	keys := make([]backends.Key, 0, len(fields))
	for _, f := range fields {
		k, ok := parseField(f)
		if !ok {
			return nil, "", malformed("level "+abbreviate(f), errReply)
		}
		keys = append(keys, k)
	}
	ls, err := s.readLevels(ctx, s.bulk, keys)
	if err != nil {
		return nil, "", err
	}
	return ls, sc.String(), nil
}
