package comparator

import (
	"context"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// maxFollowUps bounds the expiries and late claims that wait to be looked into; of more than that only
	// some are. It is a minute of looks.
	maxFollowUps = 2000
	// followEvery is how often a look is taken for them, of at most followPerLook holds: a look reads the
	// outbox twice, and nobody waits for this one. It is some 40 holds a second.
	followEvery   = 5 * time.Second
	followPerLook = 200
	// followLooks bounds the looks for one hold: a minute. What does not rest by then counts nowhere.
	followLooks = 12
)

// followUps are expiries and late claims that the shadow has followed. The shadow decides nothing about
// them, so there is no decision to compare; that both stores' holds agree afterwards is looked at
// instead, by the rules of the audit. They are counted in their strata, and in no column.
type followUps struct {
	mu      sync.Mutex
	waiting []*transition // oldest first
}

// transition is one of them, with the difference that its last quiescent look has shown.
type transition struct {
	o       Observation
	looks   int
	moments int
	last    time.Time
	diff    Difference
}

func newFollowUps() *followUps { return &followUps{} }

// add answers false when there is no room.
func (q *followUps) add(t *transition) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) >= maxFollowUps {
		return false
	}
	q.waiting = append(q.waiting, t)
	return true
}

// take removes the oldest, for one look.
func (q *followUps) take() []*transition {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.waiting), followPerLook)
	out := q.waiting[:n:n]
	q.waiting = append([]*transition(nil), q.waiting[n:]...)
	return out
}

// followUp queues an expiry or a late claim; other operations are of no interest.
func (c *Comparator) followUp(o *Observation) {
	if len(StrataOf(o)) == 0 || o.Hold == "" || c.cfg.Rechecker == nil {
		c.stats.ignored.Add(1)
		return
	}
	if o.Pod == "" {
		o.Pod = c.cfg.Pod
	}
	if !c.follow.add(&transition{o: *o}) {
		c.stats.notFollowed.Add(1)
	}
}

func (c *Comparator) followLoop(ctx context.Context) {
	t := time.NewTicker(followEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			c.followRound(ctx)
		}
	}
}

// followRound takes one look for the oldest transitions. Those that are not settled go to the end.
func (c *Comparator) followRound(ctx context.Context) {
	ts := c.follow.take()
	if len(ts) == 0 {
		return
	}
	ev, err := c.lookAt(ctx, nil, holdsOf(ts))
	now := c.cfg.Now()
	if err == nil && ev.At.IsZero() {
		ev.At = now
	}
	for _, t := range ts {
		t.looks++
		if err == nil && c.followed(t, &ev, now) {
			continue
		}
		if t.looks >= followLooks || !c.follow.add(t) {
			c.stats.notFollowed.Add(1)
		}
	}
}

func holdsOf(ts []*transition) []backends.HoldID {
	ids := make([]backends.HoldID, 0, len(ts))
	seen := make(map[backends.HoldID]bool, len(ts))
	for _, t := range ts {
		if !seen[t.o.Hold] {
			seen[t.o.Hold] = true
			ids = append(ids, t.o.Hold)
		}
	}
	return ids
}

// followed takes one look into account; it answers true when the transition is settled.
func (c *Comparator) followed(t *transition, ev *Evidence, now time.Time) bool {
	defer c.recovered("follow")
	e := ev.Holds[t.o.Hold]
	if ev.Unsure != "" || ev.Stage != t.o.Stage || !e.Quiescent() {
		return false
	}
	d, differs := CompareHold(e.TruthAfter, e.Shadow, HoldRules{})
	switch {
	case !differs:
		c.compared(&t.o, false)
		return true
	case t.moments == 0 || !d.same(&t.diff):
		t.moments, t.last = 1, ev.At
	case ev.At.Sub(t.last) >= momentsApart:
		t.moments++
	}
	if t.diff = d; t.moments < 2 {
		return false
	}
	f := Finding{
		ID: FindingID(t.o.Pod, d.Class, t.o.Hold, backends.Key{}), Pod: t.o.Pod, Epoch: t.o.Epoch, Stage: t.o.Stage, Class: d.Class,
		Source: "follow", Hold: t.o.Hold, Units: d.Units, Proof: d.Why + "; the same at two quiescent moments after its " + t.o.Op.String(),
		FirstSeen: stamp(now), LastSeen: stamp(now), Count: 1, Life: LifeOpen,
	}
	f.ofHold(&e)
	f.Diff = Diff(f.Shop, nil, f.Truth, f.Shadow)
	f.Truth.Hold, f.Shadow.Hold = boundHold(f.Truth.Hold), boundHold(f.Shadow.Hold)
	f.limit()
	if c.excuse(&f); f.Life != LifeExcused {
		c.compared(&t.o, true)
	}
	c.put(f)
	return true
}
