package mysqlstore

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// lostSlots spread what a full outbox drops over rows, so that writers do not queue for one.
	lostSlots = 64
	// countShare: counting a large outbox may take no more than one part in so many of the time.
	countShare = 20
	// doneBatch bounds the entries that one call removes in one transaction, doneRoom those that several calls
	// do together: about 5 kB of text.
	doneBatch = 128
	doneRoom  = 2 * doneBatch
)

var (
	statementOutboxInsert = named("outbox_insert")
	textOutboxLost        = named("outbox_lost").one()
	textOutboxFound       = named("outbox_found").one()
	textOutboxPage        = named("outbox_page").one()
	statementOutboxTake   = named("outbox_take")
	statementOutboxDelete = named("outbox_delete")
	statementOutboxLeft   = named("outbox_left")
	textOutboxCount       = named("outbox_count").one()
	textOutboxOldest      = named("outbox_oldest").one()
	textOutboxLosses      = named("outbox_losses").one()
)

// body is an entry as its row has it; number and instant are columns.
type body struct {
	Op    backends.Op           `json:"op"`
	Hold  *backends.Hold        `json:"hold,omitempty"`
	Level *backends.LevelChange `json:"level,omitempty"`
}

// due tells whether the stage wants this entry in MySQL's outbox (the table in package backends).
func due(stage backends.Stage, e *backends.Entry) bool {
	return e.Op == backends.OpReemit || stage.Dual() || stage == backends.RedisOnly && mustKeep(e)
}

// mustKeep tells whether the entry moves the ledger, or says what became of an operation, which no backfill
// would bring: such a one is never dropped.
func mustKeep(e *backends.Entry) bool {
	l := e.Level
	return e.Op == backends.OpClaim || l != nil && (l.OnHandDelta != 0 || e.Op == backends.OpReemit && l.OpID != "")
}

// waitedFor tells whether nothing but the entry can tell Redis of what an answer waits for. Such a one is not
// dropped either, when the room that Count found is gone in the meantime.
func waitedFor(f backends.Fence, e *backends.Entry) bool {
	return e.Op == backends.OpCount && f.Arbitrates()
}

// emit leaves an entry to be written with COMMIT, where the stage wants it and there is room. It answers the
// entry as it was written, or that it was dropped.
func (x *txn) emit(e backends.Entry) (written *backends.Entry, dropped bool) {
	if !due(x.fence.Stage, &e) {
		return nil, false
	}
	if x.s.room.full() && !mustKeep(&e) && !waitedFor(x.fence, &e) {
		x.dropped++
		return nil, true
	}
	seq := x.s.ids.one()
	e.Seq, e.At = strconv.FormatUint(seq, 10), x.now
	x.outbox = append(x.outbox, x.s.cfg.Pod, seq, e.At, encode(body{Op: e.Op, Hold: e.Hold, Level: e.Level}))
	return &e, false
}

// outboxColumns is how many arguments a row of the outbox has.
const outboxColumns = 4

// writeOutbox adds the rows that were emitted, and the number of those that were dropped: last in the
// order of locks.
func (x *txn) writeOutbox(b *batch) {
	if x.dropped > 0 {
		b.do(textOutboxLost, x.s.cfg.Pod, rand.N(lostSlots), x.dropped)
	}
	if len(x.outbox) == 0 {
		return
	}
	n := len(x.outbox) / outboxColumns
	for part := range slices.Chunk(x.outbox, maxBranches*outboxColumns) {
		b.do(statementOutboxInsert.times(len(part)/outboxColumns), part...)
	}
	x.after = append(x.after, func() { x.s.room.wrote(n) })
}

// tell leaves the outbox entry of a decision about a hold.
func (x *txn) tell(d *backends.Decision) {
	d.Entry, d.Dropped = x.emit(backends.Entry{Op: d.Op, Hold: d.Hold})
}

// room is what a store believes of the free places in its outbox. Counting costs, so a count is used
// until half of the room that it showed is used up.
type room struct {
	now func() time.Time
	max int64

	mu      sync.Mutex
	known   bool
	count   int64
	written int64
	at      time.Time
	took    time.Duration
}

// stale tells whether to count again.
func (r *room) stale() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.known {
		return true
	}
	half := (r.max - r.count) / 2
	return r.written > 0 && r.written >= half && r.now().Sub(r.at) >= countShare*r.took || r.count >= r.max && r.now().Sub(r.at) >= countShare*r.took
}

func (r *room) counted(n int64, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known, r.count, r.written, r.at, r.took = true, n, 0, r.now(), took
}

func (r *room) full() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count+r.written >= r.max
}

func (r *room) wrote(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.written += int64(n)
}

// freed notes that n places came free. A full outbox is counted again: others fill it and free it as well.
func (r *room) freed(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count+r.written >= r.max {
		r.known = false
	}
	r.count = max(0, r.count-int64(n))
}

// measure counts the outbox if what is believed of it is stale.
func (s *Store) measure(ctx context.Context) error {
	if !s.room.stale() {
		return nil
	}
	from, seq := s.cfg.Now(), s.outboxFloor.begin()
	var n int64
	err := s.read(ctx, "outbox", "", func(b *batch) {
		b.ask(func(r *sql.Rows) error { return r.Scan(&n) }, textOutboxCount, s.cfg.Pod, seq, s.cfg.OutboxMax)
	})
	if err == nil {
		s.room.counted(n, s.cfg.Now().Sub(from))
	}
	return err
}

// Pending lists entries in the order of their numbers.
func (s *Store) Pending(ctx context.Context, after string, minAgeMillis int64, limit int) ([]backends.Entry, error) {
	from, err := parseSeq(after)
	if err != nil {
		return nil, err
	}
	whole := from == 0
	if whole {
		from = s.outboxFloor.begin()
	}
	var out []backends.Entry
	err = s.read(ctx, "outbox", "", func(b *batch) {
		out = nil
		b.ask(func(r *sql.Rows) error {
			e, err := scanEntry(r)
			out = append(out, e)
			return err
		}, textOutboxPage, s.cfg.Pod, from, minAgeMillis, page(limit))
	})
	if err != nil {
		return nil, err
	}
	if whole && minAgeMillis <= latest.Milliseconds()/2 {
		s.sawOutbox(out)
	}
	return out, nil
}

// sawOutbox notes where the oldest entry is; none may come in below what is latest.
func (s *Store) sawOutbox(page []backends.Entry) {
	at := before(s.cfg.Now().Add(-latest))
	if len(page) > 0 {
		if first, err := parseSeq(page[0].Seq); err == nil {
			at = min(at, first-1)
		}
	}
	s.outboxFloor.saw(at)
}

func scanEntry(r *sql.Rows) (backends.Entry, error) {
	var e backends.Entry
	var text []byte
	if err := r.Scan(&e.Seq, &e.At, &text); err != nil {
		return e, err
	}
	var v body
	err := decode(text, &v, "outbox entry "+e.Seq)
	e.Op, e.Hold, e.Level = v.Op, v.Hold, v.Level
	return e, err
}

func parseSeq(seq string) (uint64, error) {
	if seq == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(seq, 10, 64)
	if err != nil {
		return 0, &backends.FieldError{Field: "outbox position", Value: strconv.Quote(seq), Bound: "the Seq of an entry", Next: "start from the beginning"}
	}
	return n, nil
}

// Done removes entries; of several callers one is told. It needs no fence: what was mirrored was
// mirrored.
func (s *Store) Done(ctx context.Context, seqs []string) (removed []string, err error) {
	numbers := make([]uint64, 0, len(seqs))
	for _, seq := range seqs {
		if n, err := parseSeq(seq); err == nil && n != 0 {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	for part := range slices.Chunk(slices.Compact(numbers), doneBatch) {
		r := &removal{numbers: part}
		if err := s.removers.do(ctx, r); err != nil {
			return removed, err
		}
		if r.err != nil {
			return removed, r.err
		}
		removed = append(removed, r.removed...)
	}
	return removed, nil
}

// removal is entries that leave the outbox. The lanes of a mirror each have some at about the same time: they go
// together, since each would wait for a COMMIT of its own, and take the disk from checkout's.
type removal struct {
	numbers []uint64 // growing
	removed []string
	err     error
}

func (r *removal) fail(err error) { r.removed, r.err = nil, err }

func (s *Store) newRemovers() *combiner[*removal] {
	return (&combiner[*removal]{
		lanes: 1, most: s.cfg.Combine, room: doneRoom,
		alike:  func(*removal, *removal) bool { return true },
		name:   func(r *removal) backends.HoldID { return backends.HoldID(strconv.FormatUint(r.numbers[0], 10)) },
		weight: func(r *removal) int { return len(r.numbers) },
		run:    func(ctx context.Context, rs []*removal) { together(ctx, s, rs, s.remove) },
		left:   leftWriting,
	}).init()
}

// remove removes the entries of rs in one transaction. Of two that name the same one the first is told.
func (s *Store) remove(ctx context.Context, rs []*removal) error {
	owner := map[uint64]*removal{}
	var numbers []uint64
	for _, r := range rs {
		r.removed, r.err = nil, nil
		for _, n := range r.numbers {
			if owner[n] == nil {
				owner[n] = r
				numbers = append(numbers, n)
			}
		}
	}
	slices.Sort(numbers)
	var found []uint64
	j := job{op: "done", role: unfenced, first: func(_ *txn, b *batch) {
		found = nil
		args := make([]any, 0, len(numbers)+1)
		for _, n := range numbers {
			args = append(args, n)
		}
		b.ask(func(rows *sql.Rows) error {
			var n uint64
			err := rows.Scan(&n)
			found = append(found, n)
			return err
		}, statementOutboxTake.times(len(numbers)), append(args, s.cfg.Pod)...)
	}}
	err := s.write(ctx, j, func(x *txn) error {
		if len(found) == 0 {
			return errNothing
		}
		args := make([]any, 0, len(found)+1)
		for _, n := range found {
			args = append(args, n)
		}
		b := x.batch()
		b.must(int64(len(found)), again(errVanished), statementOutboxDelete.times(len(found)), append(args, s.cfg.Pod)...)
		left := append([]any{s.cfg.Pod}, args...)
		x.proof = &proof{query: statementOutboxLeft.times(len(found)), args: left, committed: none}
		x.after = append(x.after, func() { s.room.freed(len(found)) })
		return x.finish(ctx, b)
	})
	switch {
	case errors.Is(err, errNothing):
		return nil
	case err != nil:
		return err
	}
	for _, n := range found {
		owner[n].removed = append(owner[n].removed, strconv.FormatUint(n, 10))
	}
	return nil
}

// Rewind has the next reading of the outbox begin at its head.
func (s *Store) Rewind() { s.outboxFloor.forget() }

var _ backends.Rewinder = (*Store)(nil)

// OutboxStats counts. That there is nothing is said only after a look from the head.
func (s *Store) OutboxStats(ctx context.Context) (st backends.OutboxStats, err error) {
	from := s.outboxFloor.begin()
	st, err = s.outboxStats(ctx, from)
	if err != nil || st.Entries > 0 || from == 0 {
		return st, err
	}
	if st, err = s.outboxStats(ctx, 0); st.Entries > 0 {
		s.outboxFloor.forget() // so that the next page has them
	}
	return st, err
}

func (s *Store) outboxStats(ctx context.Context, from uint64) (st backends.OutboxStats, err error) {
	err = s.read(ctx, "outbox", "", func(b *batch) {
		b.ask(func(r *sql.Rows) error { return r.Scan(&st.Entries) }, textOutboxCount, s.cfg.Pod, from, int64(everything))
		b.ask(func(r *sql.Rows) error {
			err := r.Scan(&st.OldestMillis)
			st.OldestMillis = max(0, st.OldestMillis)
			return err
		}, textOutboxOldest, s.cfg.Pod, from)
		b.ask(func(r *sql.Rows) error { return r.Scan(&st.Lost, &st.Dropped) }, textOutboxLosses, s.cfg.Pod)
	})
	return st, err
}

// EndBackfill clears the Lost flag, unless more was dropped than that. The slots are locked before they are counted; one that comes
// in meanwhile brings a flag of its own.
func (s *Store) EndBackfill(ctx context.Context, t backends.Token, dropped int64) error {
	return s.again(ctx, func() error {
		err := s.write(ctx, job{op: "backfill", tok: t, role: asTruth}, func(x *txn) error {
			b := x.batch()
			for slot := range lostSlots {
				b.do(textOutboxFound, s.cfg.Pod, slot)
			}
			var by int64
			b.ask(func(r *sql.Rows) error { return r.Scan(new(bool), &by) }, textOutboxLosses, s.cfg.Pod)
			if err := x.send(ctx, b); err != nil {
				return err
			}
			if by > dropped {
				return errNothing
			}
			x.proof = &proof{query: "SELECT 0", committed: none} // done again, it changes nothing
			return x.finish(ctx, x.batch())
		})
		if errors.Is(err, errNothing) {
			return nil
		}
		return err
	})
}

// page keeps a page between one and MaxPage elements.
func page(limit int) int { return min(max(1, limit), backends.MaxPage) }
