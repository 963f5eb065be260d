package selftest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// injection is one fault.
type injection struct {
	name, what string
	build      build
	// inject breaks the pod while honest buyers go on, and says which findings that has to lead to.
	inject func(ctx context.Context, p *pod) ([]want, error)
	// play is set instead where the fault leads to no finding of a hold or level.
	play func(ctx context.Context, p *pod, g *play) error
	// mended says how the pod becomes whole again; the zero value: by a repair alone.
	mended func(stage backends.Stage) mending
}

// mending is what a person has to do besides the repair.
type mending struct {
	// ledger: the repair leaves the ledger alone until somebody says that it is wrong.
	ledger bool
	// hand is done once the repair has said that it is a person's to do; how says so in the row.
	hand func(ctx context.Context, p *pod) error
	how  string
	// acknowledge: there is nothing to write, and the findings are acknowledged.
	acknowledge bool
}

// want is a finding that has to be there.
type want struct {
	class comparator.Class
	hold  backends.HoldID
	key   backends.Key // where there is no hold
	units int64
	// found is the checks that have to see it, each once.
	found []string
	// sights, where decisions see it more than once.
	sights int64
}

// The checks.
const (
	byDecision     = "decision"
	byAudit        = "audit"
	byConservation = "conservation"
	byStartUp      = "start-up check"
	byStats        = "stats"
)

// victims are the holds, or counted items, that a fault strikes, with their units.
var victims = [...]int64{2, 3}

const moved = 4 // units that are moved past Crossfade

func victim(n int) backends.HoldID { return backends.HoldID(fmt.Sprintf("victim-%d", n+1)) }

func isVictim(h *backends.Hold) bool { return h != nil && strings.HasPrefix(string(h.ID), "victim-") }

// injections are all of them, in the order in which they are shown.
func injections() []injection {
	return []injection{
		{name: "nothing", what: "honest buyers alone, over a hot item that sells out again and again", inject: nothing},
		{name: "a-a", what: "the same, with two stores of one kind", build: build{sameKind: true}, inject: nothing},
		{name: "lost-write", what: "the shadow confirms two holds and loses them", inject: lostWrite},
		{name: "doubled-decrement", what: "the shadow takes two DECRBY twice", inject: doubledDecrement},
		{name: "lost-release", what: "the shadow confirms two releases and loses them", inject: lostRelease},
		{name: "orphan-hold", what: "two holds get into the shadow of which the truth knows nothing", inject: orphanHold},
		{name: "wrong-quantity", what: "two holds reach the shadow with one unit more, and with two", inject: wrongQuantity},
		{name: "expiry-skew", what: "two holds reach the shadow with another expiry", inject: expirySkew},
		{name: "level-drift", what: "the shadow has units on hand and for sale that the truth does not have", inject: levelDrift, mended: ledgerWhereItFollows},
		{name: "bypass-truth", what: "somebody takes units from the truth's server, past the proxy", inject: bypassTruth, mended: madeAgain},
		{name: "bypass-shadow", what: "somebody takes units from the shadow's server, past the proxy", inject: bypassShadow, mended: ledgerWhereItFollows},
		{name: "slow-shadow", what: "the shadow takes " + heldUp.String() + " to follow; the limit is " + slowLimit.String(), inject: slowShadow, mended: acknowledged},
		{name: "silent-shadow", what: "the shadow takes calls and answers none", build: build{impatient: true}, play: silentShadow},
		{name: "same-store", what: "what was given as the shadow is the truth's own server", build: build{sameStore: true}, play: sameStore},
		{name: "panic", what: "the comparator's judge panics at every decision", play: panics},
	}
}

func nothing(context.Context, *pod) ([]want, error) { return nil, nil }

// reserveVictims has the truth grant the victims.
func reserveVictims(ctx context.Context, p *pod) error {
	for i, q := range victims {
		got, err := p.reserve(ctx, victim(i), line(victimItem, q))
		if err == nil && got != backends.OutcomeGranted {
			err = fmt.Errorf("hold %s: %s", victim(i), got)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ofHolds are findings of the victims.
func ofHolds(c comparator.Class, units func(i int, q int64) int64, found ...string) []want {
	var ws []want
	for i, q := range victims {
		ws = append(ws, want{class: c, hold: victim(i), units: units(i, q), found: found})
	}
	return ws
}

func whole(_ int, q int64) int64 { return q }

// edited reserves the victims while what reaches the shadow of them is edited.
func edited(ctx context.Context, p *pod, edit func(h *backends.Hold) (keep bool)) error {
	p.fault.set(func(f *faulty) {
		f.edit = func(e backends.Entry) (backends.Entry, bool) {
			if !isVictim(e.Hold) || e.Op != backends.OpReserve {
				return e, true
			}
			e.Hold = e.Hold.Clone()
			return e, edit(e.Hold)
		}
	})
	return reserveVictims(ctx, p)
}

func lostWrite(ctx context.Context, p *pod) ([]want, error) {
	return ofHolds(comparator.MissingHold, whole, byAudit), edited(ctx, p, func(*backends.Hold) bool { return false })
}

func wrongQuantity(ctx context.Context, p *pod) ([]want, error) {
	more := func(i int, _ int64) int64 { return int64(i + 1) }
	return ofHolds(comparator.Quantity, more, byDecision, byAudit), edited(ctx, p, func(h *backends.Hold) bool {
		n := more(slices.IndexFunc(victims[:], func(q int64) bool { return q == h.Lines[0].Quantity }), 0)
		h.Lines[0].Quantity += n
		h.Allocs[0].Quantity += n
		return true
	})
}

func expirySkew(ctx context.Context, p *pod) ([]want, error) {
	return ofHolds(comparator.ExpirySkew, whole, byAudit), edited(ctx, p, func(h *backends.Hold) bool {
		h.ExpiresAt = h.ExpiresAt.Add(90 * time.Second)
		return true
	})
}

func lostRelease(ctx context.Context, p *pod) ([]want, error) {
	p.fault.set(func(f *faulty) {
		f.edit = func(e backends.Entry) (backends.Entry, bool) {
			return e, !isVictim(e.Hold) || e.Op != backends.OpRelease
		}
	})
	if err := reserveVictims(ctx, p); err != nil {
		return nil, err
	}
	for i := range victims {
		if _, err := p.writer.Release(ctx, &backends.ReleaseRequest{ID: victim(i), Caller: "selftest"}); err != nil {
			return nil, err
		}
	}
	return ofHolds(comparator.LostRelease, whole, byAudit), nil
}

func orphanHold(ctx context.Context, p *pod) ([]want, error) {
	now, err := p.shadow.Now(ctx)
	if err != nil {
		return nil, err
	}
	var es []backends.Entry
	for i, q := range victims {
		es = append(es, backends.Entry{Op: backends.OpReserve, At: now, Hold: &backends.Hold{
			ID: victim(i), Shop: shop, Caller: "nobody", Lines: []backends.Line{line(victimItem, q)}, Allocs: []backends.Allocation{{Location: location, Quantity: q}},
			State: backends.Held, Version: backends.Version{Epoch: epoch, N: 1}, CreatedAt: now, ExpiresAt: now.Add(ttl),
		}})
	}
	res, err := p.shadow.Apply(ctx, backends.Token{Epoch: epoch}, now, es)
	for i := range res {
		if res[i].Err != nil {
			return nil, res[i].Err
		}
	}
	return ofHolds(comparator.OrphanHold, whole, byAudit), err
}

// doubledDecrement strikes legacy counters: a take that the shadow counts twice leaves its books in balance, and less for sale.
func doubledDecrement(ctx context.Context, p *pod) ([]want, error) {
	p.fault.set(func(f *faulty) {
		f.edit = func(e backends.Entry) (backends.Entry, bool) {
			if e.Level == nil || e.Op != backends.OpCount {
				return e, true
			}
			if i := slices.Index(countedItems[:], e.Level.Key.Item); i >= 0 {
				l := *e.Level
				l.Taken += victims[i]
				e.Level = &l
			}
			return e, true
		}
	})
	var ws []want
	for i, q := range victims {
		k := key(countedItems[i])
		_, err := p.writer.Count(ctx, &backends.CountRequest{OpID: backends.OpID(fmt.Sprintf("take-%d", i)), Key: k, Delta: -q, Caller: "selftest"})
		if err != nil {
			return nil, err
		}
		ws = append(ws, want{class: comparator.LevelDrift, key: k, units: q, found: []string{byAudit}})
	}
	return ws, nil
}

func levelDrift(ctx context.Context, p *pod) ([]want, error) {
	return []want{{class: comparator.LevelDrift, key: key(victimItem), units: moved, found: []string{byAudit}}}, p.drift(ctx, key(victimItem), moved)
}

func bypassed() []want {
	return []want{{class: comparator.BypassWrite, key: key(victimItem), units: moved, found: []string{byAudit, byConservation}}}
}

func bypassTruth(ctx context.Context, p *pod) ([]want, error) {
	return bypassed(), p.bypass(ctx, p.stage.Truth(), key(victimItem), moved)
}

func bypassShadow(ctx context.Context, p *pod) ([]want, error) {
	return bypassed(), p.bypass(ctx, p.stage.Truth().Other(), key(victimItem), moved)
}

// slowShadow holds up the steps that bring the victims, each once. Grants that share such a step are as slow.
func slowShadow(ctx context.Context, p *pod) ([]want, error) {
	seen := map[backends.HoldID]bool{}
	p.fault.set(func(f *faulty) {
		f.delay = func(es []backends.Entry) (d time.Duration) {
			for _, e := range es {
				if isVictim(e.Hold) && !seen[e.Hold.ID] {
					seen[e.Hold.ID], d = true, heldUp
				}
			}
			return d
		}
	})
	if err := reserveVictims(ctx, p); err != nil {
		return nil, err
	}
	err := until(ctx, "the victims to be held up", func() (bool, error) {
		p.fault.mu.Lock()
		defer p.fault.mu.Unlock()
		return len(seen) == len(victims), nil
	})
	p.fault.mu.Lock()
	defer p.fault.mu.Unlock()
	return []want{{class: comparator.SlowShadow, units: p.fault.late, sights: p.fault.slow, found: []string{byDecision}}}, err
}

// ledgerWhereItFollows: in shadow the fault is in the ledger, which no repair writes by itself.
func ledgerWhereItFollows(stage backends.Stage) mending {
	return mending{ledger: stage == backends.Shadow}
}

// madeAgain: a truth that is out of balance is nothing to follow. Whoever wrote to it undoes that, and asks the proxy.
func madeAgain(stage backends.Stage) mending {
	return mending{how: "by hand, as it says", hand: func(ctx context.Context, p *pod) error {
		if err := p.bypass(ctx, stage.Truth(), key(victimItem), -moved); err != nil {
			return err
		}
		_, err := p.writer.Restock(ctx, &backends.RestockRequest{OpID: "made-again", Key: key(victimItem), Amount: -moved, Caller: "selftest"})
		if err != nil {
			return err
		}
		return p.rest(ctx)
	}}
}

func acknowledged(backends.Stage) mending { return mending{acknowledge: true} }
