package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// A write whose reply is lost is done once: the driver does not send it again, and the caller
// who does, under the same id, is answered as the first time.
func TestLostReplies(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		r := newRig(t, srv, backends.Shadow)
		w := newWire(t, srv.Addr())
		far := open(t, w.addr(), r.prefix)
		r.restock("mug", 10)
		count := &backends.CountRequest{OpID: "count-lost", Key: item("mug"), Delta: -2}
		restock := &backends.RestockRequest{OpID: "restock-lost", Key: item("mug"), Amount: 5}
		for _, c := range []struct {
			name, mark string
			do         func() (replayed bool, err error)
			sellable   int64
		}{
			{"reserve", "hold-lost", func() (bool, error) {
				d, err := far.Reserve(r.ctx, r.tok, cart("hold-lost", "mug", 3))
				return d != nil && d.Replayed && d.Outcome == backends.OutcomeGranted, err
			}, 7},
			{"count", "count-lost", func() (bool, error) {
				d, err := far.Count(r.ctx, r.tok, count)
				return d != nil && d.Replayed && d.Value == 5, err
			}, 5},
			{"restock", "restock-lost", func() (bool, error) {
				d, err := far.Restock(r.ctx, r.tok, restock)
				return d != nil && d.Replayed, err
			}, 10},
			{"claim", "hold-lost", func() (bool, error) {
				d, err := far.Claim(r.ctx, r.tok, &backends.ClaimRequest{ID: "hold-lost"})
				return d != nil && d.Replayed, err
			}, 10},
		} {
			before := w.losses()
			w.loseReply(c.mark)
			if _, err := c.do(); !backends.IsAmbiguous(err) {
				t.Fatalf("%s whose reply is lost: %v, want ErrAmbiguous", c.name, err)
			}
			if got := w.losses() - before; got != 1 {
				t.Fatalf("%s: %d replies were lost, want 1", c.name, got)
			}
			if got := r.level("mug").Sellable(); got != c.sellable {
				t.Fatalf("%s whose reply is lost: %d for sale, want %d", c.name, got, c.sellable)
			}
			if replayed, err := c.do(); err != nil || !replayed {
				t.Fatalf("%s sent again: replayed %v, %v", c.name, replayed, err)
			}
			if got := r.level("mug").Sellable(); got != c.sellable {
				t.Fatalf("%s sent again: %d for sale, want %d", c.name, got, c.sellable)
			}
		}
		r.conserved()
	})
}

// Every key that a write uses is made to be of a wrong type, or to hold what is no number; the
// write names it, and changes nothing.
func TestDamage(t *testing.T) {
	writes := map[string]func(r *rig) error{
		"reserve": func(r *rig) error {
			_, err := r.s.Reserve(r.ctx, r.tok, cart("new", "mug", 1))
			return err
		},
		"claim": func(r *rig) error {
			_, err := r.s.Claim(r.ctx, r.tok, &backends.ClaimRequest{ID: "open"})
			return err
		},
		"late claim": func(r *rig) error {
			_, err := r.s.Claim(r.ctx, r.tok, &backends.ClaimRequest{ID: "lost", Shop: "s", Lines: cart("", "mug", 100).Lines})
			return err
		},
		"release": func(r *rig) error {
			_, err := r.s.Release(r.ctx, r.tok, &backends.ReleaseRequest{ID: "open"})
			return err
		},
		"extend": func(r *rig) error {
			_, err := r.s.Extend(r.ctx, r.tok, &backends.ExtendRequest{ID: "open", TTL: time.Hour})
			return err
		},
		"restock": func(r *rig) error {
			_, err := r.s.Restock(r.ctx, r.tok, &backends.RestockRequest{OpID: "op-x", Key: item("mug"), Amount: 1})
			return err
		},
		"count": func(r *rig) error {
			_, err := r.s.Count(r.ctx, r.tok, &backends.CountRequest{OpID: "op-x", Key: item("mug"), Delta: -1})
			return err
		},
		"reemit": func(r *rig) error {
			_, err := r.s.Reemit(r.ctx, r.tok, []backends.HoldID{"open"})
			return err
		},
		"reemit level": func(r *rig) error {
			_, err := r.s.ReemitLevels(r.ctx, r.tok, []backends.Key{item("mug")})
			return err
		},
		"expire": func(r *rig) error {
			_, err := r.s.Expire(r.ctx, r.tok, 10)
			return err
		},
	}
	type damage struct {
		key  string // "%" is the counter
		kind string // hash, list, string, text
		hits string // writes
	}
	const holds = "claim, release, extend, reemit, expire"
	const all = "reserve, late claim, restock, count, reemit level, " + holds
	cases := []damage{
		{"fence", "list", all},
		{"levels", "list", "reserve, claim, late claim, release, restock, count, reemit level, expire"},
		{"levels", "string", "reserve, claim, late claim, release, restock, count, reemit level, expire"},
		{"levels", "field", "reserve, claim, late claim, release, restock, count, reemit level, expire"},
		{"out", "list", all},
		{"exp", "hash", "reserve, late claim, " + holds},
		{"apologies", "list", "late claim"},
		{"h:open", "list", holds},
		{"h:open", "text", holds},
		{"h:new", "list", "reserve"},
		{"h:lost", "text", "late claim"},
		{"op:op-x", "list", "restock, count"},
		{"op:op-x", "text", "restock, count"},
		{"%", "list", "reserve, claim, late claim, release, restock, count, reemit level, expire"},
		{"%", "text", "reserve, claim, late claim, release, restock, count, reemit level, expire"},
		{"%", "float", "reserve, claim, late claim, release, restock, count, reemit level, expire"},
		{"%", "long", "reserve, claim, late claim, release, restock, count, reemit level, expire"},
		{"%", "zeros", "reserve, claim, late claim, release, restock, count, reemit level, expire"},
	}
	onEach(t, func(t *testing.T, srv *lab.Server) {
		for _, c := range cases {
			t.Run(c.key+" "+c.kind, func(t *testing.T) {
				r := newRig(t, srv, backends.Shadow)
				r.restock("mug", 10)
				q := cart("open", "mug", 2)
				q.TTL = backends.MinTTL
				d := r.reserve(q)
				r.until("the hold to be due", func() bool {
					now, err := r.s.Now(r.ctx)
					r.ok(err)
					return now > d.Hold.ExpiresAt
				})
				key := r.own(c.key)
				if c.key == "%" {
					key = r.counter("mug")
				}
				r.spoil(key, c.kind)
				before := r.dump()
				for _, name := range strings.Split(c.hits, ", ") {
					err := writes[name](r)
					if !errors.Is(err, backends.ErrDamaged) || !strings.Contains(err.Error(), key) {
						t.Errorf("%s answered %v, want ErrDamaged about %s", name, err, key)
					}
					if diff := cmp.Diff(before, r.dump()); diff != "" {
						t.Fatalf("%s changed something: %s", name, diff)
					}
				}
			})
		}
	})
}

// spoil makes a key into something that no store writes.
func (r *rig) spoil(key, kind string) {
	r.Helper()
	if kind == "field" {
		fields, err := r.raw.HKeys(r.ctx, key).Result()
		r.ok(err)
		for _, f := range fields {
			r.ok(r.raw.HSet(r.ctx, key, f, "10 x").Err())
		}
		return
	}
	r.ok(r.raw.Del(r.ctx, key).Err())
	switch kind {
	case "list":
		r.ok(r.raw.RPush(r.ctx, key, "x").Err())
	case "hash":
		r.ok(r.raw.HSet(r.ctx, key, "x", "y").Err())
	case "string", "text":
		r.ok(r.raw.Set(r.ctx, key, "some text", 0).Err())
	case "float":
		r.ok(r.raw.Set(r.ctx, key, "1.5", 0).Err())
	case "long":
		r.ok(r.raw.Set(r.ctx, key, "9007199254740993", 0).Err())
	case "zeros":
		r.ok(r.raw.Set(r.ctx, key, "007", 0).Err())
	default:
		r.Fatalf("no such damage: %s", kind)
	}
}

// One damaged hold keeps no other from its expiry, and is told of.
func TestDamagedHoldInTheSweep(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		r := newRig(t, srv, backends.Shadow)
		r.restock("mug", 100)
		var last backends.Instant
		for i := range 10 {
			q := cart(backends.HoldID(fmt.Sprintf("h%d", i)), "mug", 1)
			q.TTL = backends.MinTTL
			last = r.reserve(q).Hold.ExpiresAt
		}
		r.until("the holds to be due", func() bool {
			now, err := r.s.Now(r.ctx)
			r.ok(err)
			return now > last
		})
		r.spoil(r.own("h:h0"), "text")
		r.spoil(r.own("h:h4"), "list")
		ended := 0
		for range 8 {
			ds, err := r.s.Expire(r.ctx, r.tok, 1)
			r.ok(err)
			ended += len(ds)
		}
		if ended != 8 {
			t.Fatalf("%d holds were ended, want 8", ended)
		}
		ds, err := r.s.Expire(r.ctx, r.tok, 10)
		if len(ds) != 0 || !errors.Is(err, backends.ErrDamaged) || !strings.Contains(err.Error(), "h:h0") || !strings.Contains(err.Error(), "h:h4") {
			t.Fatalf("the rest: %d ended, %v", len(ds), err)
		}
	})
}

// The index of expiry is not believed: a hold that is not due stays, one that is gone is no hold,
// and both are put right, however many they are.
func TestWrongIndex(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		r := newRig(t, srv, backends.Shadow)
		r.restock("mug", 1000)
		const holds = 150 // more than the sweep takes at once
		var wrong []redis.Z
		for i := range holds {
			id := backends.HoldID(fmt.Sprint("h", i))
			r.reserve(cart(id, "mug", 1))
			wrong = append(wrong, redis.Z{Score: 1, Member: string(id)}, redis.Z{Score: 2, Member: "gone-" + string(id)})
		}
		r.ok(r.raw.ZAdd(r.ctx, r.own("exp"), wrong...).Err())
		ds, err := r.s.Expire(r.ctx, r.tok, 1000)
		if err != nil || len(ds) != 0 {
			t.Fatalf("%d holds were ended, %v", len(ds), err)
		}
		if l := r.level("mug"); l.Held != holds {
			t.Fatalf("%d are held, want %d", l.Held, holds)
		}
		zs, err := r.raw.ZRangeWithScores(r.ctx, r.own("exp"), 0, -1).Result()
		r.ok(err)
		if len(zs) != holds || zs[0].Score < 3 {
			t.Fatalf("the index has %d entries, the first is %+v", len(zs), zs[0])
		}
		r.conserved()
	})
}

// A server that is out of memory refuses each write as a whole.
func TestOutOfMemory(t *testing.T) {
	for _, k := range servers {
		t.Run(string(k), func(t *testing.T) {
			r := newRig(t, lab.Private(t, k), backends.Shadow)
			r.restock("mug", 100)
			for _, id := range []backends.HoldID{"a", "b", "c", "d"} {
				r.reserve(cart(id, "mug", 2))
			}
			writes := map[string]func() error{
				"reserve": func() error { _, err := r.s.Reserve(r.ctx, r.tok, cart("new", "mug", 1)); return err },
				"claim":   func() error { _, err := r.s.Claim(r.ctx, r.tok, &backends.ClaimRequest{ID: "a"}); return err },
				"release": func() error { _, err := r.s.Release(r.ctx, r.tok, &backends.ReleaseRequest{ID: "b"}); return err },
				"extend": func() error {
					_, err := r.s.Extend(r.ctx, r.tok, &backends.ExtendRequest{ID: "c", TTL: time.Hour})
					return err
				},
				"count": func() error {
					_, err := r.s.Count(r.ctx, r.tok, &backends.CountRequest{OpID: "take", Key: item("mug"), Delta: -1})
					return err
				},
				"restock": func() error {
					_, err := r.s.Restock(r.ctx, r.tok, &backends.RestockRequest{OpID: "more", Key: item("mug"), Amount: 1})
					return err
				},
			}
			r.ok(r.raw.ConfigSet(r.ctx, "maxmemory", "1").Err())
			before := r.dump()
			for name, write := range writes {
				if err := write(); !errors.Is(err, backends.ErrUnavailable) || !strings.Contains(err.Error(), "OOM") || backends.IsAmbiguous(err) {
					t.Errorf("%s: %v, want ErrUnavailable with the server's words", name, err)
				}
			}
			if diff := cmp.Diff(before, r.dump()); diff != "" {
				t.Fatalf("something was written: %s", diff)
			}
			if h, err := r.s.Get(r.ctx, "a"); err != nil || h == nil {
				t.Fatalf("reading: %+v, %v", h, err)
			}
			r.ok(r.raw.ConfigSet(r.ctx, "maxmemory", "0").Err())
			for name, write := range writes {
				if err := write(); err != nil {
					t.Errorf("%s with memory again: %v", name, err)
				}
			}
			r.conserved()
		})
	}
}

// The server may forget its scripts at any time.
func TestScriptsAreForgotten(t *testing.T) {
	for _, k := range servers {
		t.Run(string(k), func(t *testing.T) {
			r := newRig(t, lab.Private(t, k), backends.Live)
			entries := make([]backends.Entry, 200)
			for i := range entries {
				entries[i] = backends.Entry{Op: backends.OpCount, Level: &backends.LevelChange{
					Key: item("mug"), Taken: int64(i + 1), Version: backends.Version{Epoch: 1, N: uint64(i + 1)}, OpID: backends.OpID(fmt.Sprint("t", i)),
				}}
			}
			r.ok(r.raw.ScriptFlush(r.ctx).Err())
			now, err := r.s.Now(r.ctx)
			r.ok(err)
			// In order, or the store would answer ErrOutOfOrder.
			out, err := r.s.Apply(r.ctx, r.tok, now, entries)
			r.ok(err)
			for i, a := range out {
				if a.Err != nil || !a.Changed {
					t.Fatalf("entry %d: %+v", i, a)
				}
			}
			r.raise(backends.Fence{Epoch: 2, Stage: backends.Shadow, Open: true})
			r.restock("lamp", 300)
			stop, flushed := make(chan struct{}), make(chan error, 1)
			go func() {
				for {
					select {
					case <-stop:
						flushed <- nil
						return
					default:
						if err := r.raw.ScriptFlush(r.ctx).Err(); err != nil {
							flushed <- err
							return
						}
					}
				}
			}()
			granted := 0
			for i := range 300 {
				d, err := r.s.Reserve(r.ctx, r.tok, cart(backends.HoldID(fmt.Sprint("h", i)), "lamp", 1))
				switch {
				case err == nil && d.Outcome == backends.OutcomeGranted && !d.Replayed:
					granted++
				case !errors.Is(err, backends.ErrUnavailable):
					t.Errorf("reserve %d while scripts are flushed all the time: %+v, %v", i, d, err)
				}
			}
			close(stop)
			r.ok(<-flushed)
			if got := r.level("lamp").Held; got != int64(granted) || granted == 0 {
				t.Fatalf("%d are held, %d were granted", got, granted)
			}
			r.conserved()
		})
	}
}

// A server that does not answer, or is not there.
func TestDeadlines(t *testing.T) {
	for _, k := range servers {
		t.Run(string(k), func(t *testing.T) {
			srv := lab.Private(t, k)
			r := newRig(t, srv, backends.Shadow)
			r.restock("mug", 10)
			r.ok(srv.Pause())
			for i, c := range []struct {
				name string
				end  func(context.Context) (context.Context, context.CancelFunc)
			}{
				{"deadline", func(ctx context.Context) (context.Context, context.CancelFunc) {
					return context.WithTimeout(ctx, 50*time.Millisecond)
				}},
				{"cancellation", func(ctx context.Context) (context.Context, context.CancelFunc) {
					ctx, cancel := context.WithCancel(ctx)
					time.AfterFunc(50*time.Millisecond, cancel)
					return ctx, cancel
				}},
			} {
				ctx, cancel := c.end(r.ctx)
				start := time.Now()
				_, err := r.s.Reserve(ctx, r.tok, cart(backends.HoldID(fmt.Sprint("paused", i)), "mug", 1))
				if took := time.Since(start); took > 2*time.Second || !backends.IsAmbiguous(err) {
					t.Errorf("%s with a paused server: %v after %s, want ErrAmbiguous soon", c.name, err, took)
				}
				if _, err := r.s.Get(ctx, "x"); !errors.Is(err, backends.ErrUnavailable) {
					t.Errorf("%s, a read: %v, want ErrUnavailable", c.name, err)
				}
				cancel()
			}
			r.ok(srv.Resume())
			r.until("the server to answer", func() bool { return r.s.Ping(r.ctx) == nil })
			r.reserve(cart("after", "mug", 1))
			r.conserved()
			r.ok(srv.Kill())
			r.until("the end to be noticed", func() bool { return errors.Is(r.s.Ping(r.ctx), backends.ErrUnavailable) })
			_, err := r.s.Reserve(r.ctx, r.tok, cart("gone", "mug", 1))
			if !errors.Is(err, backends.ErrUnavailable) || backends.IsAmbiguous(err) {
				t.Fatalf("with no server: %v, want ErrUnavailable", err)
			}
		})
	}
}
