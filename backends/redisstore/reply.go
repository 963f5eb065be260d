package redisstore

import (
	"errors"
	"strconv"
)

// errReply: a script answered something that this version does not know.
var errReply = errors.New("a script gave an unknown answer")

// reply reads a script's answer, an array of texts and numbers, by position. What is missing or
// of another kind is damage, told at the end by err.
type reply struct {
	parts []any
	bad   bool
}

func replyOf(v any) *reply {
	parts, ok := v.([]any)
	return &reply{parts: parts, bad: !ok}
}

func (r *reply) text(i int) string {
	if i >= len(r.parts) {
		r.bad = true
		return ""
	}
	s, ok := r.parts[i].(string)
	if !ok {
		r.bad = true
	}
	return s
}

func (r *reply) num(i int) int64 {
	if i < len(r.parts) {
		switch v := r.parts[i].(type) {
		case int64:
			return v
		case string:
			if n, err := strconv.ParseInt(v, 10, 64); err == nil {
				return n
			}
		}
	}
	r.bad = true
	return 0
}

func (r *reply) err() error {
	if r.bad {
		return malformed("answer of a script", errReply)
	}
	return nil
}
