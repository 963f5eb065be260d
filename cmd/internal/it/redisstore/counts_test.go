package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/backends/redisstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

func fresh(id string, i backends.Item, n int64) *backends.CountRequest {
	return &backends.CountRequest{OpID: backends.OpID(id), Key: item(i), Delta: n, Fresh: true}
}

// Counts of one caller in one call, fresh or not, are what the memory model makes of them one after the
// other: in their values, their entries and the levels.
func TestCountsAsOneByOne(t *testing.T) {
	for _, stage := range []backends.Stage{backends.RedisOnly, backends.Shadow} {
		t.Run(stage.String(), func(t *testing.T) {
			onEach(t, func(t *testing.T, srv *lab.Server) {
				runs := 0
				rapid.Check(t, func(rt *rapid.T) {
					runs++
					r := newRig(t, srv, stage)
					model := memstore.New(memstore.Options{Side: backends.SideRedis})
					if _, err := model.Raise(r.ctx, backends.Fence{Epoch: 1, Stage: stage, Open: true, Filled: true}, 0); err != nil {
						rt.Fatal(err)
					}
					for step := range rapid.IntRange(1, 4).Draw(rt, "steps") {
						var rs []*backends.CountRequest
						for n := range rapid.IntRange(1, 12).Draw(rt, "counts") {
							q := fresh(fmt.Sprintf("op-%d-%d", step, n), rapid.SampledFrom([]backends.Item{"a", "b", "c"}).Draw(rt, "item"),
								rapid.SampledFrom([]int64{-1, 1, -5, 7, 0, backends.MaxOnHand, -backends.MaxOnHand}).Draw(rt, "delta"))
							q.Fresh = rapid.IntRange(0, 9).Draw(rt, "fresh") > 0
							rs = append(rs, q)
						}
						for i, got := range r.s.Counts(r.ctx, r.tok, rs) {
							q := *rs[i]
							want, err := model.Count(r.ctx, r.tok, &q)
							if (err == nil) != (got.Err == nil) || backends.IsRejection(err) != backends.IsRejection(got.Err) {
								rt.Fatalf("count %d of %+v: %v, want %v", i, q, got.Err, err)
							}
							if err != nil {
								continue
							}
							sameCount(rt, &q, got.Result, want)
						}
						sameLevels(rt, r, model)
					}
				})
			})
		})
	}
}

func sameCount(t *rapid.T, q *backends.CountRequest, got, want *backends.CountResult) {
	t.Helper()
	if got.Value != want.Value || got.Replayed != want.Replayed || (got.Entry == nil) != (want.Entry == nil) {
		t.Fatalf("%+v: %+v, want %+v", q, got, want)
	}
	if got.Entry != nil && *got.Entry.Level != *want.Entry.Level {
		t.Fatalf("entry of %+v: %+v, want %+v", q, got.Entry.Level, want.Entry.Level)
	}
}

func sameLevels(t *rapid.T, r *rig, model backends.Store) {
	t.Helper()
	keys := []backends.Key{item("a"), item("b"), item("c")}
	got, err := r.s.Levels(r.ctx, keys)
	r.ok(err)
	want, err := model.Levels(r.ctx, keys)
	r.ok(err)
	if len(got) != len(want) {
		t.Fatalf("levels %+v, want %+v", got, want)
	}
	for i := range got {
		g, w := got[i], want[i]
		if g.Key != w.Key || g.OnHand != w.OnHand || g.Taken != w.Taken || g.Sellable() != w.Sellable() || g.TakenVersion != w.TakenVersion {
			t.Fatalf("level %+v, want %+v", g, w)
		}
	}
}

// A count whose reply is lost is found by whoever tries again, also when it shared its call; one that was
// never sent is done.
func TestFreshCountIsFound(t *testing.T) {
	for _, stage := range []backends.Stage{backends.RedisOnly, backends.Shadow} {
		t.Run(stage.String(), func(t *testing.T) {
			srv := lab.Private(t, lab.Redis)
			r := newRig(t, srv, stage)
			s, w := r.narrow(srv)
			r.restock("mug", 100)
			r.restock("lamp", 100)
			rs := []*backends.CountRequest{fresh("op-1", "mug", -3), fresh("op-2", "lamp", -5), fresh("op-3", "mug", 10), fresh("op-4", "mug", -1)}
			w.loseReply("op-1")
			for i, a := range s.Counts(r.ctx, r.tok, rs) {
				if !backends.IsAmbiguous(a.Err) || rs[i].Tried == "" || rs[i].Fresh {
					t.Fatalf("count %d whose reply is lost: %+v, %+v", i, a, rs[i])
				}
			}
			before := r.dump()
			for round := range 2 { // a second try is an operation like any other
				for i, want := range []int64{97, 95, 107, 106} {
					q := *rs[i]
					got, err := s.Count(r.ctx, r.tok, &q)
					if err != nil || got.Value != want || !got.Replayed {
						t.Fatalf("round %d, count %d again: %+v, %v, want %d replayed", round, i, got, err, want)
					}
				}
			}
			if after := r.dump(); len(after) != len(before) || after[r.counter("mug")] != before[r.counter("mug")] {
				t.Fatalf("trying again has changed %v into %v", before, after)
			}
			// The note of a call that never came.
			q := &backends.CountRequest{OpID: "op-5", Key: item("mug"), Delta: -6, Tried: "nowhere"}
			for round := range 2 {
				got, err := s.Count(r.ctx, r.tok, q)
				if err != nil || got.Value != 100 || got.Replayed != (round == 1) {
					t.Fatalf("round %d: %+v, %v", round, got, err)
				}
			}
			ttl, err := r.raw.PTTL(r.ctx, r.own("call:"+rs[0].Tried)).Result()
			if err != nil || ttl <= 0 || ttl > 15*time.Minute {
				t.Fatalf("the record of the call lives %s, %v", ttl, err)
			}
			r.conserved()
		})
	}
}

// A caller who leaves early either knows in which call his counts are, or they are not sent.
func TestFreshCountLeft(t *testing.T) {
	srv := lab.Private(t, lab.Redis)
	r := newRig(t, srv, backends.RedisOnly)
	s, w := r.narrow(srv)
	r.restock("mug", 1_000_000)
	var want int64
	for n := range 60 {
		q := fresh(fmt.Sprint("op-", n), "mug", -1)
		ctx, cancel := context.WithCancel(r.ctx)
		w.stop.Lock()
		time.AfterFunc(time.Duration(n)*50*time.Microsecond, cancel)
		time.AfterFunc(time.Duration(n%7)*200*time.Microsecond, w.stop.Unlock)
		_, err := s.Count(ctx, r.tok, q)
		cancel()
		switch {
		case err == nil:
			want++
			continue
		case backends.IsAmbiguous(err) == (q.Tried == ""):
			t.Fatalf("count %d: %v, but the note is %q", n, err, q.Tried)
		case !backends.IsAmbiguous(err) && !errors.Is(err, backends.ErrUnavailable):
			t.Fatal(err)
		}
		q.Fresh = false
		if _, err := s.Count(r.ctx, r.tok, q); err != nil {
			t.Fatalf("count %d again: %v", n, err)
		}
		want++
	}
	if got := r.level("mug"); got.Taken != want {
		t.Fatalf("%d are taken after %d counts", got.Taken, want)
	}
}

// What is wrong with one level of a call is told to the counts on it alone.
func TestFreshCountsKeepVerdictsApart(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		r := newRig(t, srv, backends.Shadow)
		for _, i := range []backends.Item{"mug", "listed", "text", "field"} {
			r.restock(i, 10)
		}
		r.spoil(r.counter("listed"), "list")
		r.spoil(r.counter("text"), "text")
		r.ok(r.raw.HSet(r.ctx, r.own("levels"), "s\tfield\tl", "10 x").Err())
		rs := []*backends.CountRequest{
			fresh("a", "mug", -1), fresh("b", "listed", -1), fresh("c", "text", 2), fresh("d", "mug", -1), fresh("e", "field", -1),
			fresh("f", "mug", backends.MaxOnHand), fresh("g", "new", -1), {OpID: "h", Key: item("mug"), Delta: 2 * backends.MaxOnHand, Fresh: true},
		}
		out := r.s.Counts(r.ctx, r.tok, rs)
		for i, want := range []int64{9, 0, 0, 8, 0, 0, -1, 0} {
			switch err := out[i].Err; {
			case want != 0:
				if err != nil || out[i].Result.Value != want || out[i].Result.Entry == nil {
					t.Errorf("count %s: %+v, %v, want %d", rs[i].OpID, out[i].Result, err, want)
				}
			case i == 5 || i == 7:
				if !backends.IsRejection(err) {
					t.Errorf("count %s: %v, want a rejection", rs[i].OpID, err)
				}
			case !errors.Is(err, backends.ErrDamaged):
				t.Errorf("count %s: %v, want ErrDamaged", rs[i].OpID, err)
			}
		}
		if l := r.level("mug"); l.Sellable() != 8 || l.Taken != 2 {
			t.Fatalf("%+v", l)
		}
	})
}

// A call that arrives after its counts were tried again does nothing, and tells those that were in it with
// them; and one that arrives twice is done once.
func TestFreshCallLate(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		r := newRig(t, srv, backends.Shadow)
		s, w := r.narrow(srv)
		r.restock("mug", 1000)
		late, neighbour := r.leftOnTheWire(s, w)
		w.loseReplyAndRepeat("op-twice")
		q := fresh("op-twice", "mug", -7)
		_, err := s.Count(r.ctx, r.tok, q)
		if !backends.IsAmbiguous(err) {
			t.Fatal(err)
		}
		got, err := s.Count(r.ctx, r.tok, q)
		if err != nil || !got.Replayed {
			t.Fatalf("%+v, %v", got, err)
		}
		if l := r.level("mug"); l.Taken != late+neighbour+7 {
			t.Fatalf("%d and %d and 7 were taken: %+v", late, neighbour, l)
		}
		es, err := r.s.Pending(r.ctx, "", 0, backends.MaxPage)
		if n := int64(len(es)); err != nil || n != late+neighbour+2 {
			t.Fatalf("%v, %d entries for %d and %d takes of one, one of 7 and a restock", err, n, late, neighbour)
		}
		r.conserved()
	})
}

// leftOnTheWire has counts of one stand on the wire, with a neighbour in their call, while they are tried
// again past it; then they arrive. It answers how many units both were told that they took.
func (r *rig) leftOnTheWire(s *redisstore.Store, w *wire) (late, neighbour int64) {
	r.Helper()
	for n := 0; neighbour == late; n++ {
		if n == 50 {
			r.Fatal("no call was given up while a neighbour waited for it")
		}
		ctx, cancel := context.WithCancel(r.ctx)
		w.stop.Lock()
		q := fresh(fmt.Sprint("op-late-", n), "mug", -1)
		left, told := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := s.Count(ctx, r.tok, q)
			left <- err
		}()
		go func() {
			_, err := s.Count(r.ctx, r.tok, fresh(fmt.Sprint("op-near-", n), "mug", -1))
			told <- err
		}()
		// Until then one of them stands on the wire, or both in one call.
		time.AfterFunc(20*time.Millisecond, cancel)
		if err := <-left; !backends.IsAmbiguous(err) && !errors.Is(err, backends.ErrUnavailable) {
			r.Fatal(err)
		}
		q.Fresh = false
		if _, err := r.s.Count(r.ctx, r.tok, q); err != nil {
			r.Fatal(err)
		}
		late++
		w.stop.Unlock()
		switch err := <-told; {
		case err == nil:
			neighbour++
		case !errors.Is(err, backends.ErrUnavailable):
			r.Fatalf("the neighbour: %v", err)
		}
	}
	return late, neighbour
}
