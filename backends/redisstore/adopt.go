package redisstore

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Adopt gives levels to the counters of an existing checkout, page by page: it starts at cursor ""
// and ends when next is "". A counter is adopted at its first use anyway; one that is never used
// comes into ScanLevels only so. It answers how many counters of this page were new. It needs the
// token of an epoch at which Redis is truth or mirror. mine tells which keys belong to this pod, where
// several share a Redis and a template; nil means all that the template names.
func (s *Store) Adopt(ctx context.Context, t backends.Token, cursor string, limit int, mine func(backends.Key) bool) (adopted int, next string, err error) {
	sc, err := parseScan(cursor)
	if err != nil {
		return 0, "", err
	}
	found, err := sc.page(page(limit), func(cursor string, count int) (string, []string, error) {
		v, err := s.one(ctx, s.bulk, plain("SCAN", cursor, "MATCH", s.names.stockPattern(), "COUNT", strconv.Itoa(count), "TYPE", "string"))
		if err != nil {
			return "", nil, err
		}
		next, keys, err := scanReply(v)
		// A key with a line break in it is no counter, and would break the cursor.
		return next, slices.DeleteFunc(keys, func(k string) bool { return strings.Contains(k, rowSeparator) }), err
	})
	if err != nil {
		return 0, "", err
	}
	var counters, fields []string
	for _, key := range found {
		k, ok := s.names.template.Parse(key)
		if !ok || mine != nil && !mine(k) {
			continue
		}
		if counter, err := s.names.stock(k); err == nil && counter == key {
			counters, fields = append(counters, counter), append(fields, field(k))
		}
	}
	s.reconsider(ctx)
	for from := 0; from < len(counters); from += readChunk {
		to := min(from+readChunk, len(counters))
		v, err := s.one(ctx, s.bulk, s.script(adoptScript, t, counters[from:to], fields[from:to]...))
		if err != nil {
			return adopted, cursor, err
		}
		adopted += int(replyOf(v).num(0))
	}
	return adopted, sc.String(), nil
}
