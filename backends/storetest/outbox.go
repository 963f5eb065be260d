package storetest

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
)

var outboxParts = []part{
	{"everything is written while mirrored", outboxDual},
	{"what is written without a shadow", outboxAlone},
	{"an entry is the whole state", outboxEntries},
	{"pending pages in order", outboxPages},
	{"pending waits for age", outboxAge},
	{"done takes out, once", outboxDone},
	{"done is told to one caller only", outboxDoneOnce},
	{"the bound drops, but never the ledger", outboxBound},
	{"the bound refuses counts where answers wait for Redis", fullForCounts},
	{"the bound is reached by a crowd of counts", fullForCrowd},
	{"backfill clears the lost flag", outboxLostCleared},
}

// opsOf names the operations of entries.
func opsOf(es []backends.Entry) []string {
	var out []string
	for _, e := range es {
		out = append(out, e.Op.String())
	}
	return out
}

// everyOperation does each kind of write once and collects what was said to be written.
func (r *rig) everyOperation() []backends.Entry {
	r.t.Helper()
	var said []backends.Entry
	add := func(e *backends.Entry) {
		if e != nil {
			said = append(said, *e)
		}
	}
	add(r.restock(&backends.RestockRequest{OpID: r.op(), Key: key(mug, east), Amount: 20}).Entry)
	add(r.grant("a", line(mug, 2)).Entry)
	add(r.grant("b", line(mug, 1)).Entry)
	due := r.grantFor("c", shortTTL, line(mug, 1))
	add(due.Entry)
	add(r.extend(backends.OutcomeExtended, "a", longTTL).Entry)
	add(r.claim(backends.OutcomeClaimed, "a").Entry)
	add(r.release(backends.OutcomeReleased, "b").Entry)
	r.pass(due.Hold.ExpiresAt)
	for _, d := range r.expire() {
		add(d.Entry)
	}
	add(r.claim(backends.OutcomeClaimed, "c").Entry)
	add(r.claim(backends.OutcomeClaimed, "lost", line(mug, 3)).Entry)
	add(r.count(mug, east, -4).Entry)
	add(r.count(mug, east, +1).Entry)
	add(r.count(mug, east, +5).Entry) // three given back, two restocked
	return said
}

// afterEveryOperation is the level of mugs then, but for Owed.
var afterEveryOperation = units{OnHand: 20 - 2 - 1 - 3 + 2, Sellable: 16}

// saidIsThere wants the outbox to be what the answers said, and that each is stored whole.
func (r *rig) saidIsThere(said []backends.Entry, ops ...string) {
	r.t.Helper()
	r.same("the operations said to be written", ops, opsOf(said))
	there := r.pending()
	r.same("the outbox", said, there)
	seqs := map[string]bool{}
	for _, e := range there {
		if e.Seq == "" || seqs[e.Seq] {
			r.t.Fatalf("entry %+v has no Seq of its own", e)
		}
		seqs[e.Seq] = true
	}
	if st := r.stats(); st.Entries != int64(len(there)) || st.Lost || st.Dropped != 0 {
		r.t.Fatalf("the stats are %+v, with %d entries", st, len(there))
	}
}

func outboxDual(t *testing.T, e *env) {
	r := e.truth(t)
	said := r.everyOperation()
	r.saidIsThere(said, "restock", "reserve", "reserve", "reserve", "extend", "claim", "release", "expire",
		"claim", "claim", "count", "count", "count")
	r.levelIs(mug, east, afterEveryOperation)
	for _, id := range []backends.HoldID{"a", "c", "lost"} {
		if r.state(id, backends.Claimed).LedgerOwed {
			t.Fatalf("hold %q owes the ledger although it was mirrored", id)
		}
	}
	r.conserved()
}

func outboxAlone(t *testing.T, e *env) {
	r := e.open(t, e.alone(), Options{})
	said := r.everyOperation()
	want := afterEveryOperation
	switch e.alone() {
	case backends.MySQLOnly:
		r.saidIsThere(said)
		want.Owed = want.OnHand
	default: // the ledger is MySQL's: what moves it is written
		r.saidIsThere(said, "restock", "claim", "claim", "claim", "count")
	}
	r.levelIs(mug, east, want)
	for _, id := range []backends.HoldID{"a", "c", "lost"} {
		if got, want := r.state(id, backends.Claimed).LedgerOwed, e.alone() == backends.MySQLOnly; got != want {
			t.Fatalf("hold %q has LedgerOwed %v in %s", id, got, e.alone())
		}
	}
	r.conserved()
}

func outboxEntries(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 10)
	r.stock(mug, west, 10)
	r.count(mug, west, -3)
	r.drain()
	before := r.now()
	q := request("a", splitLine(mug, 12, west, east))
	for _, d := range []*backends.Decision{
		r.reserve(backends.OutcomeGranted, q),
		r.extend(backends.OutcomeExtended, "a", longTTL),
		r.release(backends.OutcomeReleased, "a"),
		r.claim(backends.OutcomeClaimed, "a"),
	} {
		r.same("the entry of a "+d.Op.String(), &backends.Entry{Seq: d.Entry.Seq, Op: d.Op, At: d.Entry.At, Hold: d.Hold}, d.Entry)
	}
	op := r.op()
	got := r.restock(&backends.RestockRequest{OpID: op, Key: key(mug, west), Kind: backends.RestockSetOnHand, Amount: 50}).Entry
	l := r.level(key(mug, west))
	r.same("the change of a restock", &backends.LevelChange{
		Key: key(mug, west), OpID: op, OnHandDelta: 50 - (10 - 7),
	}, got.Level)
	got = r.count(mug, west, -2).Entry
	newer := r.level(key(mug, west)).TakenVersion
	r.same("the sum of a take", &backends.LevelChange{Key: key(mug, west), Taken: 5, Version: newer, OpID: got.Level.OpID, Answer: 45}, got.Level)
	if !newer.After(l.TakenVersion) {
		t.Fatalf("a take left the version of the sum at %s, from %s", newer, l.TakenVersion)
	}
	op = r.op()
	got = r.countAs(op, mug, west, 9).Entry
	r.same("the sum and rest of a give-back", &backends.LevelChange{
		Key: key(mug, west), Version: r.level(key(mug, west)).TakenVersion, OpID: op, OnHandDelta: 4, Answer: 54,
	}, got.Level)
	op = r.op()
	got = r.countAs(op, mug, west, 2).Entry
	r.same("the rest alone", &backends.LevelChange{Key: key(mug, west), OpID: op, OnHandDelta: 2, Answer: 56}, got.Level)
	after := r.now()
	for _, e := range r.pending() {
		if e.At < before || e.At > after {
			t.Fatalf("an entry says that it was decided at %d, which is not between %d and %d", e.At, before, after)
		}
	}
}

func outboxPages(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 100)
	r.drain()
	const n = 25
	var want []string
	for i := range n {
		want = append(want, r.grant(backends.HoldID(fmt.Sprintf("h%d", i)), line(mug, 1)).Entry.Seq)
	}
	for _, limit := range []int{1, 7, n, n + 1} {
		var got []string
		after := ""
		for {
			es, err := r.s.Pending(r.ctx, after, 0, limit)
			r.ok(err, "Pending")
			if len(es) > limit {
				t.Fatalf("Pending of at most %d gave %d entries", limit, len(es))
			}
			for _, e := range es {
				got = append(got, e.Seq)
			}
			if len(es) == 0 {
				break
			}
			after = es[len(es)-1].Seq
		}
		r.same(fmt.Sprintf("pages of %d", limit), want, got)
	}
	// After an entry that is gone, the place remains.
	_, err := r.s.Done(r.ctx, []string{want[4], want[7], want[8]})
	r.ok(err, "Done")
	es, err := r.s.Pending(r.ctx, want[7], 0, 3)
	r.ok(err, "Pending after a removed entry")
	var got []string
	for _, e := range es {
		got = append(got, e.Seq)
	}
	r.same("after a removed entry", want[9:12], got)
	es, err = r.s.Pending(r.ctx, want[n-1], 0, 10)
	r.ok(err, "Pending after the last")
	if len(es) != 0 {
		t.Fatalf("after the last entry there are %d", len(es))
	}
}

func outboxAge(t *testing.T, e *env) {
	r := e.truth(t)
	if st := r.stats(); st != (backends.OutboxStats{}) {
		t.Fatalf("a new outbox has stats %+v", st)
	}
	r.stock(mug, east, 10)
	es, err := r.s.Pending(r.ctx, "", longTTL.Milliseconds(), 10)
	r.ok(err, "Pending of old age")
	if len(es) != 0 {
		t.Fatalf("a fresh entry is an hour old: %+v", es)
	}
	const age = 30
	r.until("the entry to be old", func() bool {
		es, err := r.s.Pending(r.ctx, "", age, 10)
		r.ok(err, "Pending")
		return len(es) == 1
	})
	r.until("the stats to say so", func() bool { return r.stats().OldestMillis >= age })
	r.drain()
	if st := r.stats(); st != (backends.OutboxStats{}) {
		t.Fatalf("an empty outbox has stats %+v", st)
	}
}

func outboxDone(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 10)
	for i := range 5 {
		r.grant(backends.HoldID(fmt.Sprintf("h%d", i)), line(mug, 1))
	}
	var seqs []string
	for _, e := range r.pending() {
		seqs = append(seqs, e.Seq)
	}
	done := func(seqs ...string) []string {
		t.Helper()
		got, err := r.s.Done(r.ctx, seqs)
		r.ok(err, "Done(%q)", seqs)
		slices.Sort(got)
		return got
	}
	r.same("none", []string(nil), done())
	r.same("one", []string{seqs[2]}, done(seqs[2]))
	r.same("one again", []string(nil), done(seqs[2]))
	mixed := []string{seqs[0], seqs[4]}
	slices.Sort(mixed)
	r.same("some there and some not", mixed, done(seqs[4], seqs[2], seqs[0]))
	r.same("the same twice in one call", []string{seqs[1]}, done(seqs[1], seqs[1]))
	var left []string
	for _, e := range r.pending() {
		left = append(left, e.Seq)
	}
	r.same("what is left", []string{seqs[3], seqs[5]}, left)
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 5, Held: 5})
}

func outboxDoneOnce(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 100)
	const entries, callers = 60, 8
	for i := range entries - 1 {
		r.grant(backends.HoldID(fmt.Sprintf("h%d", i)), line(mug, 1))
	}
	var seqs []string
	for _, e := range r.pending() {
		seqs = append(seqs, e.Seq)
	}
	handles := []*rig{r, r.second()}
	var mu sync.Mutex
	told := map[string]int{}
	crowd(t, callers, func(i int) error {
		mine := slices.Clone(seqs)
		if i%2 == 1 {
			slices.Reverse(mine) // so that callers meet
		}
		for part := range slices.Chunk(mine, 1+i) {
			removed, err := handles[i%2].s.Done(r.ctx, part)
			if err != nil {
				return err
			}
			mu.Lock()
			for _, seq := range removed {
				told[seq]++
			}
			mu.Unlock()
		}
		return nil
	})
	for _, seq := range seqs {
		if told[seq] != 1 {
			t.Fatalf("%d callers were told that they removed entry %s, want 1", told[seq], seq)
		}
	}
	if len(told) != entries || len(r.pending()) != 0 {
		t.Fatalf("%d entries were removed and %d are left, of %d", len(told), len(r.pending()), entries)
	}
}

func outboxBound(t *testing.T, e *env) {
	const bound = 4
	r := e.bare(t, Options{OutboxMax: bound})
	// Where answers wait for Redis counts are refused: see fullForCounts.
	r.raise(backends.Fence{Epoch: firstEpoch, Stage: e.dual(), Open: true})
	r.stock(mug, east, 100)
	for _, id := range []backends.HoldID{"a", "b", "c"} {
		if d := r.grant(id, line(mug, 1)); d.Dropped || d.Entry == nil {
			t.Fatalf("an entry was dropped below the bound: %+v", d)
		}
	}
	due := r.grantFor("d", shortTTL, line(mug, 1))
	r.dropped(1, due)
	r.dropped(2, r.extend(backends.OutcomeExtended, "a", longTTL))
	r.dropped(3, r.release(backends.OutcomeReleased, "b"))
	r.pass(due.Hold.ExpiresAt)
	ds := r.expire()
	if len(ds) != 1 {
		t.Fatalf("the sweeper ended %d holds, want 1", len(ds))
	}
	r.dropped(4, ds[0])
	if res := r.count(mug, east, -2); res.Entry != nil {
		t.Fatalf("a take was written beyond the bound: %+v", res)
	}
	if res := r.count(mug, east, +1); res.Entry != nil {
		t.Fatalf("a give-back was written beyond the bound: %+v", res)
	}
	r.dropped(6, nil)
	// The ledger is never dropped.
	kept := []*backends.Entry{
		r.claim(backends.OutcomeClaimed, "c").Entry,
		r.claim(backends.OutcomeClaimed, "lost", line(mug, 1)).Entry,
		r.restock(&backends.RestockRequest{OpID: r.op(), Key: key(mug, east), Amount: 3}).Entry,
		r.count(mug, east, +2).Entry,
	}
	for i, e := range kept {
		if e == nil {
			t.Fatalf("kept entry %d was not written", i)
		}
	}
	r.dropped(6, nil)
	r.same("the outbox", []string{"restock", "reserve", "reserve", "reserve", "claim", "claim", "restock", "count"}, opsOf(r.pending()))
	// The truth went on as if nothing were.
	r.levelIs(mug, east, units{OnHand: 100 - 2 + 3 + 1, Sellable: 101, Held: 1})
	r.conserved()
	// With room again it writes again, and remembers that it had none.
	r.drain()
	r.until("room in the outbox to be noticed", func() bool { return r.extend(backends.OutcomeExtended, "a", longTTL).Entry != nil })
	if st := r.stats(); st.Entries != 1 || !st.Lost || st.Dropped < 6 {
		t.Fatalf("the stats are %+v, want 1 entry, lost, at least 6 dropped", st)
	}
}

// dropped wants a decision to say that its entry was dropped, and the stats to have n drops.
func (r *rig) dropped(n int64, d *backends.Decision) {
	r.t.Helper()
	if d != nil && (!d.Dropped || d.Entry != nil) {
		r.t.Fatalf("beyond the bound %s answered %+v, want it dropped", d.Op, d)
	}
	if st := r.stats(); !st.Lost || st.Dropped != n {
		r.t.Fatalf("the stats are %+v, want lost and %d dropped", st, n)
	}
}

func outboxLostCleared(t *testing.T, e *env) {
	r := e.open(t, e.dual(), Options{OutboxMax: 1})
	r.ok(r.s.EndBackfill(r.ctx, r.tok, 0), "EndBackfill of a complete outbox")
	r.stock(mug, east, 100)
	r.dropped(1, r.grant("a", line(mug, 1)))
	began := r.stats().Dropped
	r.dropped(2, r.grant("b", line(mug, 1)))
	r.ok(r.s.EndBackfill(r.ctx, r.tok, began), "EndBackfill")
	r.dropped(2, nil) // it was outrun, so what was dropped meanwhile is lost still
	r.ok(r.s.EndBackfill(r.ctx, r.tok, r.stats().Dropped), "EndBackfill")
	if st := r.stats(); st.Lost || st.Entries != 1 || st.Dropped != 2 {
		t.Fatalf("after EndBackfill the stats are %+v, want not lost, entries and counts untouched", st)
	}
	// Whoever drops afterwards says so again.
	r.dropped(3, r.grant("c", line(mug, 1)))
}
