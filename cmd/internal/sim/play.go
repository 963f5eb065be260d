package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// setUp loads stock into both stores and raises the fences of the first stage.
func (w *world) setUp() {
	ctx := context.Background()
	rng := w.s.rng
	w.faultPct = []int{0, 2, 8, 20}[rng.IntN(4)]
	for _, f := range []backends.Fence{{Epoch: 1, Stage: backends.RedisOnly, Open: true}, {Epoch: 2, Stage: backends.Shadow, Open: true}} {
		_, _ = w.mysql.Raise(ctx, f, 0)
		_, _ = w.redis.Raise(ctx, f, 0)
	}
	for i, k := range keys {
		w.initial[i] = int64(rng.IntN(4))
		d, err := w.redis.Restock(ctx, backends.Token{Epoch: 2}, &backends.RestockRequest{OpID: backends.OpID(fmt.Sprintf("init%d", i)), Key: k, Kind: backends.RestockSetOnHand, Amount: w.initial[i]})
		if err != nil {
			w.fail("set-up: %v", err)
			return
		}
		if d.Entry != nil {
			now, _ := w.mysql.Now(ctx)
			if _, err := w.mysql.Apply(ctx, backends.Token{Epoch: 2}, now, []backends.Entry{*d.Entry}); err != nil {
				w.fail("set-up: %v", err)
			}
			_, _ = w.redis.Done(ctx, []string{d.Entry.Seq})
		}
	}
	first := backends.Fence{Epoch: 3, Stage: backends.Stage(1 + rng.IntN(4)), Open: true}
	if w.roundTrip = rng.IntN(16) == 0; w.roundTrip {
		first.Stage = backends.Live
	}
	if w.alone {
		first.Stage = backends.Live
	}
	first.Filled = first.Stage == backends.Live
	first.Alone = first.Filled && w.alone
	_, _ = w.redis.Raise(ctx, first, 0)
	_, _ = w.mysql.Raise(ctx, first, 0)
	w.control.state = killswitch.PodState{Pod: podName, Stage: first.Stage, Epoch: first.Epoch, Filled: first.Filled, Alone: first.Alone, Phase: killswitch.Serving, MaxEpoch: first.Epoch, Who: "sim", Why: "sim", Since: w.s.now}
	w.control.rev = 1
	w.mutated()
	for i := range w.fleet() {
		p := &proxy{w: w, n: i, disk: &disk{}}
		w.proxies = append(w.proxies, p)
		p.start()
	}
}

// play spawns clients and disturbers.
func (w *world) play() {
	rng := w.s.rng
	w.faults = true
	for c := range 3 {
		w.client(c, 2+rng.IntN(4))
	}
	if rng.IntN(2) == 0 {
		w.s.spawn(nil, "crasher", func() {
			for range 1 + rng.IntN(2) {
				w.sleep(rng.IntN(150))
				p := w.proxies[rng.IntN(len(w.proxies))]
				w.crashes++
				w.s.kill(p.g)
				if w.alone && rng.IntN(2) == 0 {
					p.disk = &disk{} // the machine is lost as well
				}
				w.sleep(rng.IntN(60))
				p.start()
			}
		})
	}
	if rng.IntN(3) == 0 {
		w.s.spawn(nil, "cutter", func() {
			w.sleep(rng.IntN(100))
			p := w.proxies[rng.IntN(len(w.proxies))]
			p.cut[1+rng.IntN(2)] = w.s.now.Add(time.Duration(rng.IntN(200)) * time.Millisecond)
		})
	}
	if w.tight {
		w.s.spawn(nil, "redis away", func() {
			w.sleep(rng.IntN(60))
			back := w.s.now.Add(time.Duration(20+rng.IntN(100)) * time.Millisecond)
			for _, p := range w.proxies {
				p.cut[backends.SideRedis] = back
			}
		})
	}
	if w.alone {
		w.redisAway()
	}
	if w.failover {
		w.failingOver()
	}
	if w.seed%awayEvery == 4 {
		w.controlAway()
	}
	if w.seed%murderEvery == 2 {
		w.murders = 1 + rng.IntN(60)
	}
	w.switching()
}

func (w *world) sleep(ms int) {
	w.s.cur.until = w.s.now.Add(time.Duration(ms) * time.Millisecond)
	w.s.pause()
}

// client plays n operations, one after the other, each through a proxy of its choice.
func (w *world) client(c, n int) {
	rng := w.s.rng
	w.s.spawn(nil, fmt.Sprintf("client %d", c), func() {
		for range n {
			if w.roundTrip {
				w.sleep(rng.IntN(100)) // something is asked for on each leg
			}
			o := w.pick()
			p := w.proxies[rng.IntN(len(w.proxies))]
			if p.g.dead {
				w.sleep(10)
				continue
			}
			w.ops = append(w.ops, o)
			o.start = len(w.hist) - 1
			g := p.g
			proc := w.s.spawn(g, fmt.Sprintf("client %d %s %s", c, o.kind, o.hold), func() {
				w.tell(func() string { return fmt.Sprintf("begins key=%d delta=%d want=%v", o.key, o.delta, o.want) })
				w.do(p, o)
				w.tell(func() string { return fmt.Sprintf("ends %s %v", o.outcome, o.err) })
				o.end, o.ended = len(w.hist), true
				if id := cmp.Or(string(o.hold), string(o.opID)); o.err == nil {
					w.tellers[id] = append(w.tellers[id], g)
				}
			})
			proc.caller = true
			for !o.ended && !proc.dead {
				w.sleep(2)
			}
		}
	})
}

// pick draws an operation.
func (w *world) pick() *op {
	rng := w.s.rng
	o := &op{key: rng.IntN(len(keys))}
	fresh := func() backends.HoldID {
		w.nextID++
		id := backends.HoldID(fmt.Sprintf("h%d", w.nextID))
		w.holds = append(w.holds, id)
		return id
	}
	known := func() backends.HoldID {
		if len(w.holds) == 0 {
			return fresh()
		}
		return w.holds[rng.IntN(len(w.holds))]
	}
	// What is paid under a single truth has to reach the other store before that decides again.
	if id, ok := w.givenUp(); ok && w.control.state.Stage == backends.MySQLOnly && rng.IntN(3) == 0 {
		o.kind, o.hold = backends.OpClaim, id
		return o
	}
	draw := 12
	if w.tight {
		draw = 18 // counts
	}
	switch rng.IntN(draw) {
	case 0, 1, 2, 3, 4:
		o.kind, o.hold = backends.OpReserve, fresh()
		if rng.IntN(6) == 0 {
			// a retry of the same cart under its id
			for _, q := range w.ops {
				if q.kind == backends.OpReserve && rng.IntN(2) == 0 {
					o.hold, o.want = q.hold, q.want
					return o
				}
			}
		}
		o.want = make([]int64, len(keys))
		o.want[o.key] = 1 + int64(rng.IntN(2))
		if rng.IntN(3) == 0 {
			o.want[1-o.key] = 1
		}
	case 5, 6, 7:
		o.kind, o.hold = backends.OpClaim, known()
		if id, ok := w.givenUp(); ok && rng.IntN(2) == 0 {
			o.hold = id
		}
		if rng.IntN(6) == 0 {
			o.hold = fresh()
			o.want = make([]int64, len(keys))
			o.want[o.key] = 1
		}
	case 8, 9:
		o.kind, o.hold = backends.OpRelease, known()
	case 10:
		w.nextID++
		o.opID = backends.OpID(fmt.Sprintf("op%d", w.nextID))
		o.kind, o.delta = backends.OpRestock, int64(rng.IntN(4))-1
	default:
		w.nextID++
		o.opID = backends.OpID(fmt.Sprintf("op%d", w.nextID))
		o.kind, o.delta = backends.OpCount, int64(rng.IntN(4))-2
	}
	return o
}

// givenUp is the latest hold that somebody asked to release: a payment for it may still come.
func (w *world) givenUp() (backends.HoldID, bool) {
	for _, q := range slices.Backward(w.ops) {
		if q.kind == backends.OpRelease {
			return q.hold, true
		}
	}
	return "", false
}

func lines(want []int64) []backends.Line {
	var ls []backends.Line
	for i, q := range want {
		if q > 0 {
			ls = append(ls, backends.Line{Item: keys[i].Item, Quantity: q, Locations: []backends.Location{keys[i].Location}})
		}
	}
	return ls
}

func (w *world) do(p *proxy, o *op) {
	ctx := context.Background()
	var d *backends.Decision
	switch o.kind {
	case backends.OpReserve:
		d, o.err = p.pod.Reserve(ctx, &backends.ReserveRequest{ID: o.hold, Shop: "s", Lines: lines(o.want), TTL: holdTTL})
	case backends.OpClaim:
		r := &backends.ClaimRequest{ID: o.hold}
		if o.want != nil {
			r.Shop, r.Lines = "s", lines(o.want)
		}
		d, o.err = p.pod.Claim(ctx, r, 0)
	case backends.OpRelease:
		d, o.err = p.pod.Release(ctx, &backends.ReleaseRequest{ID: o.hold})
	case backends.OpRestock:
		d, o.err = p.pod.Restock(ctx, &backends.RestockRequest{OpID: o.opID, Key: keys[o.key], Amount: o.delta})
	case backends.OpCount:
		r := &backends.CountRequest{OpID: o.opID, Key: keys[o.key], Delta: o.delta}
		c, err := p.pod.Count(ctx, r)
		for errors.Is(err, backends.ErrVoid) { // as the door does
			r.OpID += "'"
			c, err = p.pod.Count(ctx, r)
		}
		if o.err = err; c != nil {
			o.outcome, o.value, o.replayed = backends.OutcomeRestocked, c.Value, c.Replayed
		}
	default:
	}
	if d != nil && o.err == nil {
		o.outcome = d.Outcome
	}
}
