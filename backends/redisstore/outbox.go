package redisstore

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/crossfade-proxy/crossfade/backends"
)

// doneChunk bounds the entries that are removed in one pipeline.
const doneChunk = 128

// place is what a stream calls an entry.
var place = regexp.MustCompile(`^[0-9]{1,19}-[0-9]{1,19}$`)

// Pending lists entries in their order. One that is damaged ends the page before it; when it is
// the first, it is the error: the operator has to look at it, since what was decided there is
// not mirrored.
func (s *Store) Pending(ctx context.Context, after string, minAgeMillis int64, limit int) ([]backends.Entry, error) {
	if after != "" && !place.MatchString(after) {
		return nil, &backends.FieldError{Field: "outbox position", Value: abbreviate(after), Bound: "the Seq of an entry", Next: "start from the beginning"}
	}
	limit = min(limit, backends.MaxPage)
	if limit <= 0 {
		return nil, nil
	}
	var out []backends.Entry
	for len(out) < limit {
		want := min(limit-len(out), readChunk)
		v, err := s.one(ctx, s.bulk, s.script(pendingScript, backends.Token{}, nil, after, strconv.FormatInt(max(0, minAgeMillis), 10), strconv.Itoa(want)))
		if err != nil {
			return nil, err
		}
		page, ok := v.([]any)
		if !ok {
			return nil, malformed("answer of a script", errReply)
		}
		for _, p := range page {
			e, err := entryOf(p)
			if err != nil && len(out) > 0 {
				return out, nil
			}
			if err != nil {
				return nil, err
			}
			out = append(out, *e)
			after = e.Seq
		}
		if len(page) < want {
			break
		}
	}
	return out, nil
}

// entryOf reads one entry of the stream: fields o (operation) and either i (hold id) and h
// (record), or k (field of the level), v ("taken epoch n delta answer", and "void" if so) and p (operation id).
func entryOf(v any) (*backends.Entry, error) {
	pair, _ := v.([]any)
	if len(pair) != 2 {
		return nil, malformed("outbox", errReply)
	}
	seq, _ := pair[0].(string)
	bad := func(err error) error {
		return malformed("entry "+abbreviate(seq)+" of the outbox (XRANGE shows it, XDEL removes it)", err)
	}
	list, err := texts(pair[1])
	if err != nil || len(list)%2 != 0 {
		return nil, bad(errReply)
	}
	f := map[string]string{}
	for i := 0; i < len(list); i += 2 {
		f[list[i]] = list[i+1]
	}
	op, err := strconv.ParseUint(f["o"], 10, 8)
	if err != nil || backends.Op(op) > backends.OpReemit {
		return nil, bad(errors.New("no operation"))
	}
	e, err := entryAt(seq, backends.Op(op))
	if err != nil {
		return nil, bad(err)
	}
	if record, ok := f["h"]; ok {
		e.Hold, _, err = decodeHold(backends.HoldID(f["i"]), record)
	} else {
		e.Level, err = changeOf(f)
	}
	if err != nil {
		return nil, bad(err)
	}
	return e, nil
}

func changeOf(f map[string]string) (*backends.LevelChange, error) {
	k, ok := parseField(f["k"])
	c := strings.Split(f["v"], " ")
	void := len(c) == 6 && c[5] == "void"
	if !ok || len(c) != 5 && !void {
		return nil, errReply
	}
	taken, err1 := strconv.ParseInt(c[0], 10, 64)
	epoch, err2 := strconv.ParseUint(c[1], 10, 64)
	n, err3 := strconv.ParseUint(c[2], 10, 64)
	delta, err4 := strconv.ParseInt(c[3], 10, 64)
	answer, err5 := strconv.ParseInt(c[4], 10, 64)
	return &backends.LevelChange{
		Key: k, Taken: taken, Version: backends.Version{Epoch: epoch, N: n}, OpID: backends.OpID(f["p"]), OnHandDelta: delta, Answer: answer, Void: void,
	}, errors.Join(err1, err2, err3, err4, err5)
}

// Done removes entries and answers which were still there.
func (s *Store) Done(ctx context.Context, seqs []string) ([]string, error) {
	var removed []string
	for from := 0; from < len(seqs); from += doneChunk {
		var part []string
		var cmds []*command
		for _, seq := range seqs[from:min(from+doneChunk, len(seqs))] {
			if place.MatchString(seq) { // what is no place is not there
				part = append(part, seq)
				cmds = append(cmds, plainWrite("XDEL", s.names.prefix+outKey, seq))
			}
		}
		if len(cmds) == 0 {
			continue
		}
		if err := s.bulk.do(ctx, cmds...); err != nil {
			return removed, err
		}
		for i, c := range cmds {
			v, err := c.result()
			if err != nil {
				return removed, err
			}
			if v == int64(1) {
				removed = append(removed, part[i])
			}
		}
	}
	return removed, nil
}

// OutboxStats counts.
func (s *Store) OutboxStats(ctx context.Context) (backends.OutboxStats, error) {
	v, err := s.one(ctx, s.bulk, s.script(statsScript, backends.Token{}, nil))
	if err != nil {
		return backends.OutboxStats{}, err
	}
	p := replyOf(v)
	st := backends.OutboxStats{Entries: p.num(0), OldestMillis: p.num(1), Lost: p.text(2) == "1", Dropped: p.num(3)}
	return st, p.err()
}

// EndBackfill clears the Lost flag, unless more was dropped than that.
func (s *Store) EndBackfill(ctx context.Context, t backends.Token, dropped int64) error {
	_, err := s.write(ctx, s.bulk, s.script(completeScript, t, nil, strconv.FormatInt(dropped, 10)))
	return err
}

// Reemit writes the present state of each hold, or a tombstone, to the outbox.
func (s *Store) Reemit(ctx context.Context, t backends.Token, ids []backends.HoldID) (int, error) {
	cmds := make([]*command, len(ids))
	for i, id := range ids {
		cmds[i] = s.script(reemitScript, t, []string{s.names.hold(id)}, "hold", string(id))
	}
	return s.reemit(ctx, t, cmds)
}

// ReemitLevels writes taken sums to the outbox. Keys without a level have nothing to say. With
// Redis as truth nothing is ever owed: each change of the units on hand has an entry of its own.
func (s *Store) ReemitLevels(ctx context.Context, t backends.Token, keys []backends.Key) (int, error) {
	cmds := make([]*command, 0, len(keys))
	for _, k := range keys {
		counter, err := s.names.stock(k)
		if err != nil {
			continue // no level can have that name
		}
		cmds = append(cmds, s.script(reemitScript, t, []string{counter}, "level", field(k)))
	}
	return s.reemit(ctx, t, cmds)
}

// SettleOp writes what became of an operation here; one that is not known becomes void.
func (s *Store) SettleOp(ctx context.Context, t backends.Token, k backends.Key, id backends.OpID) (bool, error) {
	counter, err := s.names.stock(k)
	if err != nil {
		return false, err
	}
	v, err := s.write(ctx, s.bulk, s.script(reemitScript, t, []string{counter, s.names.op(id)}, "level", field(k), string(id), s.takeRetainMillis))
	if err != nil {
		return false, err
	}
	p := replyOf(v)
	return p.num(1) == 1, p.err()
}

func (s *Store) reemit(ctx context.Context, t backends.Token, cmds []*command) (int, error) {
	if len(cmds) == 0 {
		return 0, s.Admitted(ctx, t, false)
	}
	s.reconsider(ctx)
	written := 0
	for from := 0; from < len(cmds); from += applyChunk {
		part := cmds[from:min(from+applyChunk, len(cmds))]
		if err := s.bulk.do(ctx, part...); err != nil {
			return written, err
		}
		for _, c := range part {
			v, err := c.result()
			if err != nil {
				return written, fmt.Errorf("after %d: %w", written, err)
			}
			written += int(replyOf(v).num(0))
		}
	}
	return written, nil
}
