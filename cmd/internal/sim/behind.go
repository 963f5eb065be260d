package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/behind"
	"github.com/crossfade-proxy/crossfade/dualwrite/journal"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// Answers without Redis are played in one of aloneEvery schedules, and in one of tightAloneEvery with tight outboxes.
const (
	aloneEvery      = 4
	tightAloneEvery = 2 * tightEvery
	aloneRounds     = 24
	simLease        = 40 * time.Millisecond
	simCalm         = 5 * time.Millisecond
)

// disk is a proxy's journal. A crash keeps it.
type disk struct{ kept []journal.Kept }

// desk is a journal as one start of a proxy has it.
type desk struct {
	*disk
	w   *world
	run string
}

// Append implements behind.Journal, as do the methods below. It takes its time, as a disk does.
func (d desk) Append(epoch uint64, es []backends.Entry) error {
	if rng := d.w.s.rng; rng.IntN(4) == 0 {
		d.w.sleep(rng.IntN(100))
	} else {
		d.w.s.pause()
	}
	for _, e := range es {
		d.kept = append(d.kept, journal.Kept{Run: d.run, Epoch: epoch, Entry: e})
	}
	return nil
}

func (d desk) Each(from int64, do func(journal.Kept) error) (int64, error) {
	for n := len(d.kept); from < int64(n); from++ {
		if err := do(d.kept[from]); err != nil {
			return from, err
		}
	}
	return from, nil
}

func (d desk) Damaged() int64 { return 0 }

func (d desk) Size() int64 { return int64(len(d.kept)) }

func (d desk) Empty(size int64) error {
	if int64(len(d.kept)) == size {
		d.kept = nil
	}
	return nil
}

// newKeeper makes what lets a start of a proxy answer without Redis.
func (p *proxy) newKeeper() *behind.Keeper {
	run := fmt.Sprintf("%d.%d", p.n, p.w.s.steps)
	k, err := behind.New(behind.Options{
		Pod: podName, Control: p.w.control, Clock: driverClock{p.w}, Proxy: fmt.Sprintf("proxy-%d", p.n), Run: run,
		Lease: simLease, Calm: simCalm, Answers: p.w.alone, Journal: desk{p.disk, p.w, run}, Voided: p.w.voided,
	})
	if err != nil {
		p.w.fail("journal: %v", err)
	}
	p.w.keepers = append(p.w.keepers, k)
	return k
}

// aloneAnswers counts answers without Redis.
func (w *world) aloneAnswers() (n int) {
	for _, k := range w.keepers {
		n += int(k.Answered())
	}
	return n
}

// witness sees that nothing is answered without Redis when Redis has gone on, and so may decide (P1).
type witness struct {
	*behind.Keeper
	w *world
}

// Answer implements dualwrite.Lone.
func (l witness) Answer(ctx context.Context, f backends.Fence, es []backends.Entry) error {
	err := l.Keeper.Answer(ctx, f, es)
	if err != nil {
		return err
	}
	if at, _ := l.w.redis.Fence(ctx); at.Epoch > f.Epoch && at.Stage.Truth() == backends.SideRedis {
		l.w.fail("P1: an answer of epoch %d was given without Redis when Redis was at %s", f.Epoch, at)
	}
	return nil
}

// permitted tells whether any process may answer without Redis at this instant.
func (w *world) permitted(epoch uint64) bool {
	return slices.ContainsFunc(w.proxies, func(p *proxy) bool { return !p.g.dead && p.keeper.Permitted(epoch) })
}

// redisAway takes Redis from one proxy or from all, once or twice, so that some answer without it.
func (w *world) redisAway() {
	rng := w.s.rng
	w.s.spawn(nil, "redis away", func() {
		for range 1 + rng.IntN(2) {
			w.sleep(rng.IntN(60))
			back := w.s.now.Add(time.Duration(20+rng.IntN(120)) * time.Millisecond)
			only := rng.IntN(2 * len(w.proxies))
			for i, p := range w.proxies {
				if only >= len(w.proxies) || only == i {
					p.cut[backends.SideRedis] = back
				}
			}
			w.sleep(rng.IntN(100))
			if rng.IntN(3) == 0 { // MySQL as well, so that kills have to go without it
				for _, p := range w.proxies {
					p.cut[backends.SideMySQL] = w.s.now.Add(time.Duration(rng.IntN(80)) * time.Millisecond)
				}
			}
		}
	})
}

// behindSeen is what became of answers without Redis.
type behindSeen struct {
	// excused are holds of which a kill has said that Redis may not have them as they were acknowledged.
	excused map[backends.HoldID]bool
	// voided are those that settling has made known.
	voided map[backends.HoldID]bool
	// marked and incomplete count kills of marked pods, and those that could not bring everything to Redis.
	marked, incomplete int
}

func newBehindSeen() behindSeen {
	return behindSeen{excused: map[backends.HoldID]bool{}, voided: map[backends.HoldID]bool{}}
}

func (w *world) voided(_ context.Context, _ backends.Fence, e *backends.Entry) error {
	if e.Hold != nil {
		w.behind.voided[e.Hold.ID] = true
	}
	return nil
}

// aftermath is who settles at the end.
type aftermath struct{ w *world }

// Away implements dualwrite.Lone, as do the methods below.
func (aftermath) Away() bool { return false }

func (aftermath) Answer(context.Context, backends.Fence, []backends.Entry) error {
	return backends.ErrUnavailable
}

func (a aftermath) Voided(ctx context.Context, f backends.Fence, e *backends.Entry) error {
	return a.w.voided(ctx, f, e)
}

// killed notes what a kill has said, at the instant at which it has: of what was acknowledged before, Redis has
// everything, or the kill says what it does not have, or of whom that is not known.
func (w *world) killed(res killswitch.KillResult) {
	b := res.Behind
	if b == nil {
		return
	}
	if b.Marked {
		w.behind.marked++
	}
	if b.Complete {
		return // nothing is excused: the checks at the end find what is missing
	}
	w.behind.incomplete++
	unknown := len(b.NotAsked) > 0 || b.Why != "" && len(b.Missing.States) == 0
	listed := map[backends.HoldID]bool{}
	for _, s := range b.Missing.States {
		listed[s.Hold] = true
	}
	ctx := context.Background()
	for _, id := range w.holds {
		m, _ := w.mysql.Get(ctx, id)
		r, _ := w.redis.Get(ctx, id)
		if m == nil || m.Version.Epoch != res.From.Epoch || r != nil && r.Version == m.Version {
			continue
		}
		if listed[id] || unknown {
			w.behind.excused[id] = true
		}
	}
	for _, o := range w.ops {
		if o.opID != "" && o.ended {
			o.listed = true
		}
	}
}

// checkBehind: what a kill could not bring to Redis is void, and whoever was told of it hears of that.
func (w *world) checkBehind(ctx context.Context, truth backends.Store) {
	for _, o := range w.ops {
		if o.kind != backends.OpReserve || !o.ended || o.err != nil || o.outcome != backends.OutcomeGranted || !w.behind.excused[o.hold] {
			continue
		}
		h, _ := truth.Get(ctx, o.hold)
		if h == nil && !w.behind.voided[o.hold] {
			if m, _ := w.store(truth.Side().Other()).Get(ctx, o.hold); m == nil || !m.State.Ended() || m.Version.N == 0 {
				w.fail("P4: hold %s was acknowledged without Redis, is void, and nobody hears of it (%+v)", o.hold, m)
			}
		}
	}
}
