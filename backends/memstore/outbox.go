package memstore

import (
	"context"
	"slices"
	"strconv"

	"github.com/crossfade-proxy/crossfade/backends"
)

// outbox is a list in the order of its numbers. Removed entries stay as gaps until the list is
// mostly gaps.
type outbox struct {
	entries []slot
	gaps    int
	last    uint64 // number of the last entry written
	lost    bool
	dropped int64
}

type slot struct {
	seq   uint64
	gone  bool
	entry backends.Entry // its Hold and Level are never changed in place
}

// minGaps is from when on the list is compacted; below it, copying costs more than it frees.
const minGaps = 32

// find gives the index of the first slot with a number above seq.
func (o *outbox) find(seq uint64) int {
	i, _ := slices.BinarySearchFunc(o.entries, seq+1, func(s slot, q uint64) int {
		switch {
		case s.seq < q:
			return -1
		case s.seq > q:
			return 1
		default:
			return 0
		}
	})
	return i
}

func (o *outbox) add(e backends.Entry) backends.Entry {
	o.last++
	e.Seq = strconv.FormatUint(o.last, 10)
	o.entries = append(o.entries, slot{seq: o.last, entry: e})
	return e
}

func (o *outbox) remove(seq string) bool {
	n, err := strconv.ParseUint(seq, 10, 64)
	if err != nil || n == 0 {
		return false
	}
	i := o.find(n - 1)
	if i == len(o.entries) || o.entries[i].seq != n || o.entries[i].gone {
		return false
	}
	o.entries[i] = slot{seq: n, gone: true}
	o.gaps++
	if o.gaps >= minGaps && o.gaps*2 > len(o.entries) {
		o.entries = slices.DeleteFunc(o.entries, func(s slot) bool { return s.gone })
		o.gaps = 0
	}
	return true
}

func (o *outbox) len() int { return len(o.entries) - o.gaps }

// due tells whether the stage wants this entry in the outbox (the table in package backends).
func due(stage backends.Stage, e *backends.Entry) bool {
	switch {
	case e.Op == backends.OpReemit || stage.Dual():
		return true
	case stage == backends.RedisOnly:
		return mustKeep(e)
	default:
		return false
	}
}

// mustKeep tells whether the entry moves the ledger, or says what became of an operation, which no backfill
// would bring: such a one is never dropped.
func mustKeep(e *backends.Entry) bool {
	l := e.Level
	return e.Op == backends.OpClaim || l != nil && (l.OnHandDelta != 0 || e.Op == backends.OpReemit && l.OpID != "")
}

// full tells whether the outbox has reached its bound.
func (d *data) full() bool { return d.outbox.len() >= d.opt.OutboxMax }

// waitedFor tells whether nothing but the entry can tell Redis of what an answer waits for: such a one
// is not dropped either.
func (d *data) waitedFor(e *backends.Entry) bool {
	return e.Op == backends.OpCount && d.fence.Arbitrates()
}

// write adds an entry where the stage wants it; nil when nothing was written, and dropped when it
// was due but the outbox was full.
func (d *data) write(e backends.Entry) (written *backends.Entry, dropped bool) {
	if !due(d.fence.Stage, &e) {
		return nil, false
	}
	if d.full() && !mustKeep(&e) && !d.waitedFor(&e) {
		d.outbox.lost = true
		d.outbox.dropped++
		return nil, true
	}
	e.At = d.opt.Clock()
	e = d.outbox.add(e)
	return &e, false
}

// copyEntry copies what the entry points to.
func copyEntry(e backends.Entry) backends.Entry {
	e.Hold = copyHold(e.Hold)
	if e.Level != nil {
		l := *e.Level
		e.Level = &l
	}
	return e
}

// Pending lists entries in their order.
func (s *Store) Pending(ctx context.Context, after string, minAgeMillis int64, limit int) ([]backends.Entry, error) {
	d, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer d.mu.Unlock()
	var from uint64
	if after != "" {
		if from, err = strconv.ParseUint(after, 10, 64); err != nil {
			return nil, &backends.FieldError{Field: "outbox position", Value: strconv.Quote(after), Bound: "the Seq of an entry", Next: "start from the beginning"}
		}
	}
	limit = min(limit, backends.MaxPage)
	youngest := d.opt.Clock() - backends.Instant(minAgeMillis)
	var out []backends.Entry
	for i := d.outbox.find(from); i < len(d.outbox.entries) && len(out) < limit; i++ {
		if sl := &d.outbox.entries[i]; !sl.gone && sl.entry.At <= youngest {
			out = append(out, copyEntry(sl.entry))
		}
	}
	return out, nil
}

// Done removes entries and answers which were still there.
func (s *Store) Done(ctx context.Context, seqs []string) ([]string, error) {
	d, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer d.mu.Unlock()
	var removed []string
	for _, seq := range seqs {
		if d.outbox.remove(seq) {
			removed = append(removed, seq)
		}
	}
	return removed, nil
}

// OutboxStats counts.
func (s *Store) OutboxStats(ctx context.Context) (backends.OutboxStats, error) {
	d, err := s.lock(ctx)
	if err != nil {
		return backends.OutboxStats{}, err
	}
	defer d.mu.Unlock()
	o := &d.outbox
	st := backends.OutboxStats{Entries: int64(o.len()), Lost: o.lost, Dropped: o.dropped}
	for i := range o.entries {
		if !o.entries[i].gone {
			st.OldestMillis = max(0, int64(d.opt.Clock()-o.entries[i].entry.At))
			break
		}
	}
	return st, nil
}

// EndBackfill clears the Lost flag, unless more was dropped than that.
func (s *Store) EndBackfill(ctx context.Context, t backends.Token, dropped int64) error {
	d, err := s.lockTruth(ctx, t)
	if err != nil {
		return err
	}
	defer d.mu.Unlock()
	d.outbox.lost = d.outbox.lost && d.outbox.dropped > dropped
	return nil
}

// Reemit writes the present state of each hold, or a tombstone, to the outbox.
func (s *Store) Reemit(ctx context.Context, t backends.Token, ids []backends.HoldID) (int, error) {
	d, err := s.lockTruth(ctx, t)
	if err != nil {
		return 0, err
	}
	defer d.mu.Unlock()
	written := 0
	for _, id := range ids {
		h := &backends.Hold{ID: id, State: backends.Released, Version: backends.Version{Epoch: t.Epoch}, EndedAt: d.opt.Clock()}
		if rec := d.holds[id]; rec != nil {
			n := *rec.hold
			n.Version.Epoch = max(n.Version.Epoch, t.Epoch)
			rec.hold, h = &n, &n
		}
		if e, _ := d.write(backends.Entry{Op: backends.OpReemit, Hold: h}); e != nil {
			written++
		}
	}
	return written, nil
}

// ReemitLevels writes taken sums and what is owed to the outbox. Keys without a level have
// nothing to say.
func (s *Store) ReemitLevels(ctx context.Context, t backends.Token, keys []backends.Key) (int, error) {
	d, err := s.lockTruth(ctx, t)
	if err != nil {
		return 0, err
	}
	defer d.mu.Unlock()
	written := 0
	for _, k := range keys {
		l := d.levels[k]
		if l == nil {
			continue
		}
		l.version.Epoch = max(l.version.Epoch, t.Epoch)
		ch := &backends.LevelChange{Key: k, Taken: l.taken, Version: l.version}
		if l.owed != 0 {
			d.fresh++
			ch.OpID = backends.OpID("owed:" + d.opt.Side.String() + ":" + strconv.FormatUint(d.fresh, 10))
			ch.OnHandDelta, l.owed = l.owed, 0
		}
		if e, _ := d.write(backends.Entry{Op: backends.OpReemit, Level: ch}); e != nil {
			written++
		}
	}
	return written, nil
}

// SettleOp writes what became of an operation here; one that is not known becomes void.
func (s *Store) SettleOp(ctx context.Context, t backends.Token, k backends.Key, id backends.OpID) (bool, error) {
	d, err := s.lockTruth(ctx, t)
	if err != nil {
		return false, err
	}
	defer d.mu.Unlock()
	op, known := d.ops[id]
	if !known {
		op = opRecord{void: true}
		d.remember(id, op)
	}
	l := d.level(k)
	l.version.Epoch = max(l.version.Epoch, t.Epoch)
	d.changed(backends.OpReemit, l, true, backends.LevelChange{OpID: id, OnHandDelta: op.delta, Answer: op.value, Void: op.void})
	return op.void, nil
}
