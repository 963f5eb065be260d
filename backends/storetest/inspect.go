package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
)

var inspectParts = []part{
	{"identifiers are compared byte for byte", idsAreBytes},
	{"a store knows itself", knowsItself},
	{"an operation is known once it is there", knowsOps},
	{"levels of many keys", levelsMany},
	{"levels are scanned by pages", levelsPaged},
	{"holds are scanned by pages", holdsPaged},
	{"many holds at once", holdsMany},
	{"conservation finds nothing when all is well", conservationHolds},
	{"conservation finds what is broken", conservationBroken},
}

// oddIDs differ in what careless stores take for equal, or for syntax. They have no colon: a
// key template of Redis may be unable to name such an item, and says so.
var oddIDs = []string{
	"85123A", "85123a", "85123A ", " 85123A", "85123A  ", "85123 A",
	`quo"te`, `it's`, `it''s`, "100%", "a_b", "aXb", `back\slash`, `back\\slash`, `trailing\`,
	"{brace}", "{{brace}}", "*", "?", "[a-z]", "$1", "#", "-- ", "/*x*/", ";", "NULL", "null", "0", "00", "-1", "1e3",
	"~", "!", "a,b", "<&>", "`tick`", strings.Repeat("x", backends.MaxIDLen), strings.Repeat("x", backends.MaxIDLen-1) + "y",
	strings.Repeat(" ", backends.MaxIDLen), " ",
}

func idsAreBytes(t *testing.T, e *env) {
	r := e.truth(t)
	// Each identifier is used as shop, item, location and hold at once, with stock of its own size.
	parallel(t, len(oddIDs), func(i int) error {
		_, err := r.s.Restock(r.ctx, r.tok, &backends.RestockRequest{OpID: backends.OpID("op " + oddIDs[i][:min(40, len(oddIDs[i]))] + fmt.Sprint(i)), Key: oddKey(oddIDs[i]), Amount: int64(100 + i)})
		return err
	})
	for i, id := range oddIDs {
		d := r.reserve(backends.OutcomeGranted, &backends.ReserveRequest{
			ID: backends.HoldID(id), Shop: backends.Shop(id), TTL: longTTL,
			Lines: []backends.Line{{Item: backends.Item(id), Quantity: int64(i + 1), Locations: []backends.Location{backends.Location(id)}}},
		})
		if d.Replayed || d.Hold.ID != backends.HoldID(id) {
			t.Fatalf("reserving under id %q answered %+v", id, d.Hold)
		}
	}
	for i, id := range oddIDs {
		l := r.level(oddKey(id))
		if l.OnHand != int64(100+i) || l.Held != int64(i+1) {
			t.Fatalf("the level of %q has %d on hand and %d held, want %d and %d", id, l.OnHand, l.Held, 100+i, i+1)
		}
		h := r.state(backends.HoldID(id), backends.Held)
		if h.Shop != backends.Shop(id) || len(h.Allocs) != 1 || h.Allocs[0].Quantity != int64(i+1) || h.Allocs[0].Location != backends.Location(id) {
			t.Fatalf("the hold %q is %+v", id, h)
		}
		if i%2 == 0 {
			r.claim(backends.OutcomeClaimed, backends.HoldID(id))
		}
	}
	if got := len(r.allLevels(7)); got != len(oddIDs) {
		t.Fatalf("%d levels are scanned, want %d", got, len(oddIDs))
	}
	if got := len(r.allHolds(7, false)); got != len(oddIDs) {
		t.Fatalf("%d holds are scanned, want %d", got, len(oddIDs))
	}
	for _, en := range r.pending() {
		if en.Hold != nil && en.Hold.Shop != backends.Shop(en.Hold.ID) {
			t.Fatalf("the outbox has hold %q of shop %q", en.Hold.ID, en.Hold.Shop)
		}
	}
	// A colon in what no key template names.
	r.reserve(backends.OutcomeGranted, &backends.ReserveRequest{
		ID: "a:b:{c}", Shop: "0", TTL: longTTL, Lines: []backends.Line{{Item: "0", Quantity: 1, Locations: []backends.Location{"0"}}},
	})
	r.state("a:b:{c}", backends.Held)
	r.conserved()
}

func oddKey(id string) backends.Key {
	return backends.Key{Shop: backends.Shop(id), Item: backends.Item(id), Location: backends.Location(id)}
}

// stockMany stocks items "item-0" and on at east, n units each.
func (r *rig) stockMany(items int, n int64) []backends.Key {
	r.t.Helper()
	keys := make([]backends.Key, items)
	reqs := make([]*backends.RestockRequest, items)
	for i := range items {
		keys[i] = key(manyItem(i), east)
		reqs[i] = &backends.RestockRequest{OpID: r.op(), Key: keys[i], Amount: n}
	}
	parallel(r.t, items, func(i int) error {
		_, err := again(func() (*backends.Decision, error) { return r.s.Restock(r.ctx, r.tok, reqs[i]) })
		return err
	})
	return keys
}

func manyItem(i int) backends.Item { return backends.Item(fmt.Sprintf("item-%d", i)) }

func levelsMany(t *testing.T, e *env) {
	r := e.truth(t)
	ls, err := r.s.Levels(r.ctx, nil)
	r.ok(err, "Levels of none")
	if len(ls) != 0 {
		t.Fatalf("Levels of none answered %+v", ls)
	}
	keys := r.stockMany(50, 3)
	asked := slices.Clone(keys)
	for i := range 50 {
		asked = append(asked, key(backends.Item(fmt.Sprintf("ghost-%d", i)), east), key(manyItem(i), west))
	}
	slices.Reverse(asked)
	ls, err = r.s.Levels(r.ctx, asked)
	r.ok(err, "Levels")
	r.sameKeys("the levels of keys that exist", keys, ls)
	for _, l := range ls {
		if l.OnHand != 3 || l.Sellable() != 3 {
			t.Fatalf("level %+v, want 3 on hand and for sale", l)
		}
	}
}

// sameKeys wants each key once.
func (r *rig) sameKeys(what string, want []backends.Key, ls []backends.Level) {
	r.t.Helper()
	got := make([]backends.Key, len(ls))
	for i, l := range ls {
		got[i] = l.Key
	}
	want = slices.Clone(want)
	slices.SortFunc(want, backends.Key.Compare)
	slices.SortFunc(got, backends.Key.Compare)
	r.same(what, want, got)
}

func levelsPaged(t *testing.T, e *env) {
	r := e.truth(t)
	if ls := r.allLevels(10); len(ls) != 0 {
		t.Fatalf("a new store has levels %+v", ls)
	}
	keys := r.stockMany(25, 2)
	r.grant("cart", line(manyItem(0), 1))
	for _, n := range []int{1, 10, 25, 100} {
		ls := r.allLevels(n)
		r.sameKeys(fmt.Sprintf("levels by pages of %d", n), keys, ls)
		for _, l := range ls {
			r.same("the level as scanned", r.level(l.Key), l)
		}
	}
}

func holdsPaged(t *testing.T, e *env) {
	r := e.truth(t)
	if hs := r.allHolds(10, false); len(hs) != 0 {
		t.Fatalf("a new store has holds %+v", hs)
	}
	r.stock(mug, east, 100)
	want := map[bool][]*backends.Hold{}
	for i := range 25 {
		id := backends.HoldID(fmt.Sprintf("h%d", i))
		r.grant(id, line(mug, 1))
		switch i % 3 {
		case 1:
			r.claim(backends.OutcomeClaimed, id)
		case 2:
			r.release(backends.OutcomeReleased, id)
		}
		h := r.get(id)
		want[false] = append(want[false], h)
		if h.State.Open() {
			want[true] = append(want[true], h)
		}
	}
	for _, openOnly := range []bool{false, true} {
		for _, n := range []int{1, 10, 25, 100} {
			got := r.allHolds(n, openOnly)
			for _, hs := range [][]*backends.Hold{got, want[openOnly]} {
				slices.SortFunc(hs, func(a, b *backends.Hold) int { return cmp.Compare(a.ID, b.ID) })
			}
			r.same(fmt.Sprintf("holds by pages of %d, open only %v", n, openOnly), want[openOnly], got)
		}
	}
}

func holdsMany(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 100)
	ids := []backends.HoldID{"nobody"}
	want := map[backends.HoldID]*backends.Hold{}
	for i := range 20 {
		id := backends.HoldID(fmt.Sprintf("h%d", i))
		want[id] = r.grant(id, line(mug, 1), line(mug, 2, west, east)).Hold
		ids = append(ids, id)
	}
	got, err := r.s.GetMany(r.ctx, ids)
	r.ok(err, "GetMany")
	r.same("the holds", want, got)
	got, err = r.s.GetMany(r.ctx, nil)
	r.ok(err, "GetMany of none")
	if len(got) != 0 {
		t.Fatalf("GetMany of none answered %v", got)
	}
	if h := r.get("nobody"); h != nil {
		t.Fatalf("Get of an unknown hold answered %+v", h)
	}
}

func conservationHolds(t *testing.T, e *env) {
	r := e.truth(t)
	r.history()
	r.settle()
	broken, checked, err := r.s.Conservation(r.ctx)
	r.ok(err, "Conservation")
	if len(broken) != 0 || checked != len(r.allLevels(100)) {
		t.Fatalf("Conservation checked %d of %d keys and found %+v", checked, len(r.allLevels(100)), broken)
	}
}

func conservationBroken(t *testing.T, e *env) {
	if e.h.Corrupt == nil {
		t.Logf("not corrupted: %s", e.h.Differences.NoCorruption)
		return
	}
	r := e.truth(t)
	r.history()
	e.h.Corrupt(t, r.s, key(mug, east), 2)
	e.h.Corrupt(t, r.s, key(lamp, west), 1)
	broken, _, err := r.s.Conservation(r.ctx)
	r.ok(err, "Conservation")
	r.sameKeys("the broken levels", []backends.Key{key(mug, east), key(lamp, west)}, broken)
	for _, l := range broken {
		if l.Imbalance() == 0 {
			t.Fatalf("the broken level %+v is balanced", l)
		}
	}
}

// maxPages bounds a scan: a store whose cursor never ends fails and does not hang.
const maxPages = 10_000

// allLevels scans all levels by pages of n.
func (r *rig) allLevels(n int) []backends.Level {
	r.t.Helper()
	return scan(r, "ScanLevels", n, func(cursor string) ([]backends.Level, string, error) {
		return r.s.ScanLevels(r.ctx, cursor, n)
	})
}

// allHolds scans all holds by pages of n.
func (r *rig) allHolds(n int, openOnly bool) []*backends.Hold {
	r.t.Helper()
	return scan(r, "ScanHolds", n, func(cursor string) ([]*backends.Hold, string, error) {
		return r.s.ScanHolds(r.ctx, cursor, n, openOnly)
	})
}

func scan[T any](r *rig, what string, n int, page func(cursor string) ([]T, string, error)) []T {
	r.t.Helper()
	var all []T
	cursor := ""
	for range maxPages {
		some, next, err := page(cursor)
		r.ok(err, "%s", what)
		if len(some) > n {
			r.t.Fatalf("a page of %s of at most %d has %d", what, n, len(some))
		}
		all = append(all, some...)
		if next == "" {
			return all
		}
		cursor = next
	}
	r.t.Fatalf("%s has not ended after %d pages", what, maxPages)
	return nil
}

// knowsItself: two handles on one store are told from two stores.
func knowsOps(t *testing.T, e *env) {
	r := e.truth(t)
	know := func(want bool, ids ...backends.OpID) {
		t.Helper()
		for _, id := range ids {
			known, err := r.s.KnowsOp(r.ctx, id)
			r.ok(err, "KnowsOp(%s)", id)
			if known != want {
				t.Fatalf("of operation %q it says known=%v, want %v", id, known, want)
			}
		}
	}
	know(false, "restock", "count", "void")
	_, err := r.s.Restock(r.ctx, r.tok, &backends.RestockRequest{OpID: "restock", Key: key(mug, east), Amount: 3})
	r.ok(err, "Restock")
	_, err = r.s.Count(r.ctx, r.tok, &backends.CountRequest{OpID: "count", Key: key(mug, east), Delta: -1})
	r.ok(err, "Count")
	_, err = r.s.SettleOp(r.ctx, r.tok, key(mug, east), "void")
	r.ok(err, "SettleOp")
	know(true, "restock", "count", "void")
	know(false, "Restock", "restock ", "other")

	r = e.mirror(t)
	know(false, "mirrored")
	r.apply(levelEntry(backends.LevelChange{Key: key(mug, east), OpID: "mirrored", OnHandDelta: 3}))
	know(true, "mirrored")
}

func knowsItself(t *testing.T, e *env) {
	one, two := e.truth(t), e.truth(t)
	same := e.bare(t, Options{Same: one.s})
	one.ok(backends.Apart(one.ctx, one.s, two.s), "two stores")
	if err := backends.Apart(one.ctx, one.s, same.s); !errors.Is(err, backends.ErrSameStore) {
		t.Fatalf("two handles on one store: %v, want ErrSameStore", err)
	}
}
