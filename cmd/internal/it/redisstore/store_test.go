package redisstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/redisstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// A counter that an existing checkout has is adopted at its first use, with what it holds.
func TestAdoption(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		r := newRig(t, srv, backends.Shadow)
		for i, n := range map[backends.Item]int{"reserved": 10, "counted": 7, "overdrawn": -3, "empty": 0, "sold out": 1, "never used": 4} {
			r.ok(r.raw.Set(r.ctx, r.counter(i), n, 0).Err())
		}
		r.ok(r.raw.RPush(r.ctx, r.counter("a list"), "x").Err())
		want := func(i backends.Item, l backends.Level) {
			t.Helper()
			l.Key = item(i)
			got := r.level(i)
			got.TakenVersion = backends.Version{}
			if d := cmp.Diff(l, got); d != "" {
				t.Fatalf("%s: %s", i, d)
			}
		}
		want("reserved", backends.Level{OnHand: 10, Available: 10}) // looked at, and not adopted yet
		r.reserve(cart("h1", "reserved", 4))
		want("reserved", backends.Level{OnHand: 10, Available: 6, Held: 4})
		res, err := r.s.Count(r.ctx, r.tok, &backends.CountRequest{OpID: r.op(), Key: item("counted"), Delta: -2})
		r.ok(err)
		if res.Value != 5 {
			t.Fatalf("DECRBY 2 of 7 answered %d", res.Value)
		}
		want("counted", backends.Level{OnHand: 7, Available: 5, Taken: 2})
		res, err = r.s.Count(r.ctx, r.tok, &backends.CountRequest{OpID: r.op(), Key: item("overdrawn"), Delta: 1})
		r.ok(err)
		if res.Value != -2 {
			t.Fatalf("INCR of -3 answered %d", res.Value)
		}
		want("overdrawn", backends.Level{Unmaterialised: -2, Taken: 2})
		d, err := r.s.Reserve(r.ctx, r.tok, cart("h2", "sold out", 2))
		r.ok(err)
		if d.Outcome != backends.OutcomeSoldOut || d.Short[0].Available != 1 {
			t.Fatalf("2 of 1: %+v", d)
		}
		_, err = r.s.Claim(r.ctx, r.tok, &backends.ClaimRequest{ID: "h3", Shop: "s", Lines: cart("", "empty", 1).Lines})
		r.ok(err)
		want("empty", backends.Level{OnHand: -1, Unmaterialised: -1})

		if got := r.items(); !slices.Equal(got, []backends.Item{"counted", "empty", "overdrawn", "reserved"}) {
			t.Fatalf("adopted by use: %q", got)
		}
		total := 0
		for cursor := ""; ; {
			n, next, err := r.s.Adopt(r.ctx, r.tok, cursor, 2, nil)
			r.ok(err)
			total += n
			if cursor = next; cursor == "" {
				break
			}
		}
		if got := r.items(); total != 2 || !slices.Equal(got, []backends.Item{"counted", "empty", "never used", "overdrawn", "reserved", "sold out"}) {
			t.Fatalf("Adopt found %d, and there are %q", total, got)
		}
		want("never used", backends.Level{OnHand: 4, Available: 4})
		r.conserved()
		if _, _, err := r.s.Adopt(r.ctx, backends.Token{Epoch: 9}, "", 100, nil); err == nil {
			t.Fatal("Adopt worked under a wrong epoch")
		}
	})
}

// items lists what ScanLevels knows.
func (r *rig) items() []backends.Item {
	r.Helper()
	var out []backends.Item
	for cursor := ""; ; {
		ls, next, err := r.s.ScanLevels(r.ctx, cursor, 3)
		r.ok(err)
		for _, l := range ls {
			out = append(out, l.Key.Item)
		}
		if cursor = next; cursor == "" {
			slices.Sort(out)
			return out
		}
	}
}

// A counter keeps what an existing checkout did to it: its key, and that it can be read by GET.
func TestCountersAreTheCheckouts(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		r := newRig(t, srv, backends.Shadow)
		r.restock("mug", 5)
		r.reserve(cart("h", "mug", 2))
		if got, err := r.raw.Get(r.ctx, r.counter("mug")).Result(); err != nil || got != "3" {
			t.Fatalf("GET answers %q, %v", got, err)
		}
		// Somebody takes one behind our back: no unit is sold twice, and the check tells.
		r.ok(r.raw.Decr(r.ctx, r.counter("mug")).Err())
		d, err := r.s.Reserve(r.ctx, r.tok, cart("h2", "mug", 3))
		if err != nil || d.Outcome != backends.OutcomeSoldOut {
			t.Fatalf("3 of 2: %+v, %v", d, err)
		}
		broken, _, err := r.s.Conservation(r.ctx)
		r.ok(err)
		if len(broken) != 1 || broken[0].Imbalance() != 1 {
			t.Fatalf("a bypass write: %+v", broken)
		}
		// And somebody deletes it.
		r.ok(r.raw.Del(r.ctx, r.counter("mug")).Err())
		d, err = r.s.Reserve(r.ctx, r.tok, cart("h3", "mug", 1))
		if err != nil || d.Outcome != backends.OutcomeSoldOut {
			t.Fatalf("1 of a deleted counter: %+v, %v", d, err)
		}
		_, err = r.s.Release(r.ctx, r.tok, &backends.ReleaseRequest{ID: "h"})
		r.ok(err)
		if got, err := r.raw.Get(r.ctx, r.counter("mug")).Result(); err != nil || got != "2" {
			t.Fatalf("after the release GET answers %q, %v", got, err)
		}
	})
}

// Conservation raises no alarm for traffic, and finds what is wrong under it.
func TestConservationUnderTraffic(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		r := newRig(t, srv, backends.RedisOnly)
		const rooms = 8
		for i := range rooms {
			r.restock(backends.Item(fmt.Sprint("i", i)), 1000)
		}
		r.restock("lost", 10)
		r.restock("unlisted", 10)
		r.reserve(cart("lost-1", "lost", 2))
		r.reserve(cart("unlisted-1", "unlisted", 3))
		stop := make(chan struct{})
		var wg sync.WaitGroup
		defer wg.Wait()
		defer close(stop)
		for w := range rooms {
			wg.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					id := backends.HoldID(fmt.Sprint("w", w, "-", n))
					if _, err := r.s.Reserve(r.ctx, r.tok, cart(id, backends.Item(fmt.Sprint("i", (w+n)%rooms)), 1)); err != nil {
						t.Error(err)
						return
					}
					if _, err := r.s.Release(r.ctx, r.tok, &backends.ReleaseRequest{ID: id}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for range 5 {
			broken, checked, err := r.s.Conservation(r.ctx)
			r.ok(err)
			if len(broken) > 0 || checked != rooms+2 {
				t.Fatalf("under traffic: %d checked, %+v", checked, broken)
			}
		}
		// A hold that is gone leaves its units in the running sum; one that is not in the index is
		// a hold all the same.
		r.ok(r.raw.Del(r.ctx, r.own("h:lost-1")).Err())
		r.ok(r.raw.ZRem(r.ctx, r.own("exp"), "lost-1", "unlisted-1").Err())
		broken, checked, err := r.s.Conservation(r.ctx)
		r.ok(err)
		if len(broken) != 1 || broken[0].Key != item("lost") || broken[0].Imbalance() != 2 || checked != rooms+2 {
			t.Fatalf("with a hold lost: %d checked, %+v", checked, broken)
		}
	})
}

// Pages of open holds go on at the right place among holds that expire at one instant, and when
// the last one seen is gone.
func TestOpenHoldsOfOneInstant(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		r := newRig(t, srv, backends.Live)
		now, err := r.s.Now(r.ctx)
		r.ok(err)
		const holds = 700 // more than one reading of the index
		var es []backends.Entry
		for i := range holds {
			es = append(es, backends.Entry{Op: backends.OpReserve, Hold: &backends.Hold{
				ID: backends.HoldID(fmt.Sprintf("h%04d", i)), Shop: "s", Lines: cart("", "mug", 1).Lines, State: backends.Held,
				Allocs: []backends.Allocation{{Line: 0, Location: "l", Quantity: 1}}, Version: backends.Version{Epoch: 1, N: 1},
				CreatedAt: now, ExpiresAt: now.Add(time.Hour) + backends.Instant(i/650),
			}})
		}
		_, err = r.s.Apply(r.ctx, r.tok, now, es)
		r.ok(err)
		for _, limit := range []int{7, 100, 650, 10_000} {
			var got []string
			for cursor := ""; ; {
				hs, next, err := r.s.ScanHolds(r.ctx, cursor, limit, true)
				r.ok(err)
				for _, h := range hs {
					got = append(got, string(h.ID))
				}
				if cursor = next; cursor == "" {
					break
				}
			}
			if !slices.IsSorted(got) || len(slices.Compact(got)) != holds {
				t.Fatalf("by pages of %d: %d holds, in order %v", limit, len(slices.Compact(got)), slices.IsSorted(got))
			}
		}
		_, cursor, err := r.s.ScanHolds(r.ctx, "", 300, true)
		r.ok(err)
		r.raise(backends.Fence{Epoch: 2, Stage: backends.Shadow, Open: true})
		_, err = r.s.Release(r.ctx, r.tok, &backends.ReleaseRequest{ID: "h0299"})
		r.ok(err)
		hs, _, err := r.s.ScanHolds(r.ctx, cursor, 1, true)
		r.ok(err)
		if len(hs) != 1 || hs[0].ID != "h0300" {
			t.Fatalf("after the last one seen was released: %+v", hs)
		}
		for _, bad := range []string{"x", "1", "x y"} {
			if _, _, err := r.s.ScanHolds(r.ctx, bad, 1, true); !backends.IsRejection(err) {
				t.Errorf("cursor %q: %v", bad, err)
			}
		}
	})
}

// Many callers share pipelines, and each has the answer to his own question.
func TestCallersDoNotMeet(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		r := newRig(t, srv, backends.Shadow)
		const callers, each, stock = 64, 20, 600
		r.restock("mug", stock)
		var wg sync.WaitGroup
		var mu sync.Mutex
		granted := map[backends.HoldID]bool{}
		for w := range callers {
			wg.Go(func() {
				for n := range each {
					id := backends.HoldID(fmt.Sprintf("w%d-%d", w, n))
					d, err := r.s.Reserve(r.ctx, r.tok, cart(id, "mug", 1))
					if err != nil {
						t.Error(err)
						return
					}
					h, err := r.s.Get(r.ctx, id)
					if err != nil || (h != nil) != (d.Outcome == backends.OutcomeGranted) || h != nil && h.ID != id {
						t.Errorf("hold %s: %s, and Get answers %+v, %v", id, d.Outcome, h, err)
						return
					}
					if h != nil {
						mu.Lock()
						granted[id] = true
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
		if l := r.level("mug"); len(granted) != stock || l.Held != stock || l.Sellable() != 0 {
			t.Fatalf("%d were granted of %d: %+v", len(granted), stock, l)
		}
		r.conserved()
	})
}

// The kill's compare-and-set comes through while the writers of decisions are held up: those that were
// sent before it, and have not had their turn, find the fence moved.
func TestRaisePassesTheQueue(t *testing.T) {
	srv := lab.Private(t, lab.Redis)
	r := newRig(t, srv, backends.Live)
	queue := open(t, srv.Addr(), r.prefix, func(c *redisstore.Config) { c.PoolSize = 1 })
	now, err := queue.Now(r.ctx)
	r.ok(err)
	const writers = 8
	done := make(chan error, writers)
	for w := range writers {
		// Scripts of some hundred milliseconds together are in the one writer's way.
		big := largeEntries(fmt.Sprint("w", w, "-"))
		go func() {
			out, err := queue.Apply(r.ctx, r.tok, now, big)
			for i := range out {
				err = errors.Join(err, out[i].Err)
			}
			done <- err
		}()
	}
	r.ok(<-done) // the first is through, so the others stand in the queue
	_, err = queue.Raise(r.ctx, backends.Fence{Epoch: 2, Stage: backends.Shadow, Open: true}, 1)
	r.ok(err)
	passed := 0
	for range writers - 1 {
		var fenced *backends.FencedError
		switch err := <-done; {
		case errors.As(err, &fenced):
			passed++
		case err != nil:
			t.Fatal(err)
		}
	}
	if passed == 0 {
		t.Fatal("the raise came after everything that was in the queue")
	}
}

// largeEntries are mirrors of carts with many lines.
func largeEntries(prefix string) []backends.Entry {
	const carts, lines = 64, 500
	out := make([]backends.Entry, carts)
	for i := range out {
		h := &backends.Hold{ID: backends.HoldID(fmt.Sprint(prefix, i)), Shop: "s", State: backends.Held, Version: backends.Version{Epoch: 1, N: 1}}
		for j := range lines {
			h.Lines = append(h.Lines, backends.Line{Item: backends.Item(fmt.Sprint("i", j)), Quantity: 1, Locations: []backends.Location{"l"}})
			h.Allocs = append(h.Allocs, backends.Allocation{Line: j, Location: "l", Quantity: 1})
		}
		out[i] = backends.Entry{Op: backends.OpReserve, Hold: h}
	}
	return out
}

// The outbox shows a damaged entry to the operator, after what stands before it.
func TestDamagedEntry(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		r := newRig(t, srv, backends.Shadow)
		r.restock("mug", 10)
		r.ok(r.raw.Do(r.ctx, "XADD", r.own("out"), "*", "o", "1", "i", "h", "h", "nonsense").Err())
		r.reserve(cart("h", "mug", 1))
		es, err := r.s.Pending(r.ctx, "", 0, 10)
		if err != nil || len(es) != 1 {
			t.Fatalf("before the damage: %d entries, %v", len(es), err)
		}
		if _, err := r.s.Pending(r.ctx, es[0].Seq, 0, 10); !errors.Is(err, backends.ErrDamaged) || !strings.Contains(err.Error(), "XDEL") {
			t.Fatalf("at the damage: %v", err)
		}
	})
}

func TestPassThrough(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		r := newRig(t, srv, backends.Shadow)
		key := r.prefix + "session"
		do := func(args ...string) (string, error) {
			var bs [][]byte
			for _, a := range args {
				bs = append(bs, []byte(a))
			}
			reply, err := r.s.PassThrough(r.ctx, bs)
			return string(reply), err
		}
		for _, c := range []struct{ command, want string }{
			{"SET % hello", "+OK\r\n"},
			{"GET %", "$5\r\nhello\r\n"},
			{"INCR %", "-ERR value is not an integer or out of range\r\n"},
			{"HGET % f", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"},
			{"MGET % none", "*2\r\n$5\r\nhello\r\n$-1\r\n"},
			{"DEL %", ":1\r\n"},
			{"HSET % a 1", ":1\r\n"},
			{"HGETALL %", "*2\r\n$1\r\na\r\n$1\r\n1\r\n"},
			{"PING", "+PONG\r\n"},
			{"NONSENSE", ""},
		} {
			got, err := do(strings.Fields(strings.ReplaceAll(c.command, "%", key))...)
			if err != nil || c.want != "" && got != c.want || c.want == "" && !strings.HasPrefix(got, "-ERR unknown command") {
				t.Errorf("%s answers %q, %v, want %q", c.command, got, err, c.want)
			}
		}
		for _, c := range []string{"", "select 1", "MULTI", "SUBSCRIBE x", "BLPOP x 0", "CLIENT REPLY OFF", "GET " + r.own("fence"), "DEL a " + r.own("levels")} {
			if got, err := do(strings.Fields(c)...); !backends.IsRejection(err) {
				t.Errorf("%q answers %q, %v, want it refused", c, got, err)
			}
		}
		// A reply that is too large ends with an error, and what comes after is not mixed up with it.
		r.ok(r.raw.Set(r.ctx, key, bytes.Repeat([]byte("x"), redisstore.MaxPassReply), 0).Err())
		if _, err := do("GET", key); err == nil {
			t.Error("a reply beyond the bound was answered")
		}
		r.ok(r.raw.Del(r.ctx, key).Err())
		if got, err := do("PING"); err != nil || got != "+PONG\r\n" {
			t.Errorf("after it PING answers %q, %v", got, err)
		}
	})
}

// A command that is passed through is sent once.
func TestPassThroughOnce(t *testing.T) {
	srv := lab.ForTest(t, lab.Redis)
	r := newRig(t, srv, backends.Shadow)
	w := newWire(t, srv.Addr())
	far := open(t, w.addr(), r.prefix)
	key := r.prefix + "visits"
	w.loseReply("visits")
	if _, err := far.PassThrough(r.ctx, [][]byte{[]byte("INCR"), []byte(key)}); !backends.IsAmbiguous(err) {
		t.Fatalf("INCR whose reply is lost: %v, want ErrAmbiguous", err)
	}
	if got, err := r.raw.Get(r.ctx, key).Result(); err != nil || got != "1" {
		t.Fatalf("the key is %q, %v, want 1", got, err)
	}
}

// What is kept for a while is not kept for ever, and what is open is.
func TestRetention(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		r := newRig(t, srv, backends.Shadow)
		r.restock("mug", 10)
		r.reserve(cart("open", "mug", 1))
		r.reserve(cart("ended", "mug", 1))
		_, err := r.s.Release(r.ctx, r.tok, &backends.ReleaseRequest{ID: "ended"})
		r.ok(err)
		_, err = r.s.Count(r.ctx, r.tok, &backends.CountRequest{OpID: "take", Key: item("mug"), Delta: -1})
		r.ok(err)
		_, err = r.s.Count(r.ctx, r.tok, &backends.CountRequest{OpID: "back", Key: item("mug"), Delta: 2})
		r.ok(err)
		_, err = r.s.Reemit(r.ctx, r.tok, []backends.HoldID{"open", "ended"})
		r.ok(err)
		for key, want := range map[string]time.Duration{
			"h:open": -1, "h:ended": backends.DefaultRetain, "op:take": redisstore.TakeRetain, "op:back": backends.DefaultRetain,
			"levels": -1, "fence": -1, "out": -1, "exp": -1,
		} {
			got, err := r.raw.PTTL(r.ctx, r.own(key)).Result()
			r.ok(err)
			if want < 0 && got != -1 || want > 0 && (got > want || got < want-time.Minute) {
				t.Errorf("%s lives for %s, want %s", key, got, want)
			}
		}
	})
}
