package comparator_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/comparator/memfindings"
)

// act is one thing that happens to a pod in shadow.
type act struct {
	what  int // 0–4 reserve, 5 release, 6 claim, 7 mirror some, 8 restock
	item  int
	qty   int64
	some  int
	pause time.Duration
}

func drawAct(t *rapid.T) act {
	return act{
		what: rapid.IntRange(0, 8).Draw(t, "what"), item: rapid.IntRange(0, 1).Draw(t, "item"),
		qty: rapid.Int64Range(1, 3).Draw(t, "qty"), some: rapid.IntRange(0, 30).Draw(t, "some"),
		pause: time.Duration(rapid.IntRange(0, 400).Draw(t, "pause")) * time.Millisecond,
	}
}

// world plays acts on two stores of the memory model, with a comparator over them.
type world struct {
	*pod
	c     *comparator.Comparator
	n     int
	loses int // number of the reserve whose entry never reaches the shadow; 0: none
	gone  backends.HoldID
	lies  int // number of the reserve about which the shadow says that all is sold; 0: none
	lied  backends.HoldID
	seen  map[backends.HoldID][]backends.Units
	// decided is when the truth granted each, by the local clock.
	decided map[backends.HoldID]time.Time
}

func playActs(t *testing.T, acts []act, loses, lies int) (comparator.Coverage, []comparator.Finding, *world) {
	store := memfindings.New()
	w := &world{pod: newPod(t, backends.Shadow), loses: loses, lies: lies, seen: map[backends.HoldID][]backends.Units{}, decided: map[backends.HoldID]time.Time{}}
	w.now = time.Now()
	w.stock("a", 4)
	w.stock("b", 4)
	w.mirror(nil)
	c, err := comparator.New(comparator.Config{Pod: "one", Proxy: "p", Store: store, SettleWindow: time.Minute,
		Rechecker: comparator.NewStoreRechecker(w.pair, time.Now), Sheets: store})
	w.must(nil, err)
	w.c = c
	w.must(nil, c.Start(ctx))
	for _, a := range acts {
		w.tick()
		w.act(a)
		pass(a.pause)
	}
	w.deliver(1000)
	pass(2 * time.Minute)
	c.Stop()
	fs, err := store.ListFindings(ctx, comparator.FindingQuery{Pod: "one", Lives: []comparator.Life{comparator.LifeOpen}})
	w.must(nil, err)
	return c.Snapshot(), fs, w
}

// tick moves the stores' clock on: every event has an instant of its own.
func (w *world) tick() comparator.Span {
	now := backends.Instant(w.now.UnixMilli() + w.skew.Add(2))
	return comparator.Span{From: now, To: now}
}

func (w *world) act(a act) {
	item := string(rune('a' + a.item))
	switch a.what {
	case 5, 6:
		if w.n == 0 {
			return
		}
		id := fmt.Sprint("h", 1+a.some%w.n)
		h, err := w.truth.Get(ctx, backends.HoldID(id))
		w.must(nil, err)
		if h == nil || !h.State.Open() {
			return
		}
		if a.what == 5 {
			w.release(id)
		} else {
			w.claim(id)
		}
	case 7:
		w.deliver(a.some)
	case 8:
		w.n++
		w.must(w.truth.Restock(ctx, w.token, &backends.RestockRequest{OpID: backends.OpID(fmt.Sprint("r", w.n)), Key: key(item, "A"), Amount: a.qty}))
	default:
		w.buy(item, a.qty)
	}
}

func (w *world) buy(item string, qty int64) {
	w.n++
	r := &backends.ReserveRequest{ID: backends.HoldID(fmt.Sprint("h", w.n)), Shop: "s", TTL: time.Hour, Lines: []backends.Line{line(qty, item, "A")}}
	d, err := w.truth.Reserve(ctx, w.token, r)
	w.must(nil, err)
	w.c.Begin(1)
	w.seen[r.ID], w.decided[r.ID] = d.Seen, time.Now()
	if d.Outcome == soldOut {
		own, err := w.shadow.Probe(ctx, r)
		w.must(nil, err)
		o := comparator.FromRefusal("one", w.stage, 1, r, d, own)
		now, err := w.truth.Now(ctx)
		w.must(nil, err)
		o.TruthSpan, o.ShadowSpan, o.RecordSince, o.Decided = comparator.Span{From: now, To: now}, comparator.Span{From: now, To: now}, now, time.Now()
		w.c.Observe(o)
	} else if w.n == w.loses {
		w.gone = r.ID
	}
}

// deliver mirrors the first n entries, as a lane or a sweep does.
func (w *world) deliver(n int) {
	w.tick()
	es, err := w.truth.Pending(ctx, "", 0, max(n, 1))
	w.must(nil, err)
	now, err := w.shadow.Now(ctx)
	w.must(nil, err)
	for i := range es {
		e := es[i]
		if e.Hold != nil && e.Hold.ID == w.gone {
			w.must(w.truth.Done(ctx, []string{e.Seq}))
			if e.Op == backends.OpReserve {
				w.c.Lost(1, 1)
			}
			continue
		}
		span := w.tick()
		decided := comparator.Span{From: e.At, To: e.At}
		applied, err := w.shadow.Apply(ctx, w.token, now, []backends.Entry{e})
		w.must(nil, err)
		w.c.Followed(comparator.Followed{Epoch: 1, Stage: w.stage, Shadow: span, Items: []comparator.FollowedItem{{Entry: e, Truth: decided, Confirmed: true, Changed: applied[0].Changed}}})
		w.must(w.truth.Done(ctx, []string{e.Seq}))
		if e.Op == backends.OpReserve {
			o := comparator.FromEntry("one", w.stage, &e, applied[0].Own)
			o.Truth.Seen = w.seen[e.Hold.ID]
			w.lie(&o)
			o.TruthSpan, o.ShadowSpan, o.RecordSince, o.Decided = decided, span, e.At, w.decided[e.Hold.ID]
			w.c.Observe(o)
		}
	}
}

// lie turns what the shadow decided into a refusal that fits the stock it says it saw.
func (w *world) lie(o *comparator.Observation) {
	if string(o.Hold) != fmt.Sprint("h", w.lies) || o.Shadow == nil || o.Shadow.Outcome != granted {
		return
	}
	l := o.Lines[0]
	w.lied = o.Hold
	o.Shadow = &own{Outcome: soldOut, Short: []backends.Shortage{short(0, string(l.Item), l.Quantity, 0)}, Seen: []backends.Units{units(0, string(l.Item), "A")}}
}

// Stores that follow each other honestly, however late, have no finding; and every decision that
// differed is explained.
func TestHonestStoresHaveNoFindings(t *testing.T) {
	differed := int64(0)
	rapid.Check(t, func(rt *rapid.T) {
		acts := rapid.SliceOfN(rapid.Custom(drawAct), 20, 60).Draw(rt, "acts")
		var got comparator.Coverage
		var fs []comparator.Finding
		synctest.Test(t, func(t *testing.T) { got, fs, _ = playActs(t, acts, 0, 0) })
		if len(fs) > 0 || got.Confirmed > 0 || got.Undetermined > 0 || got.Settling > 0 || got.Pending > 0 {
			rt.Fatalf("%+v\n%+v", got, fs)
		}
		differed += got.Explained
	})
	if differed == 0 {
		t.Error("no decision differed in any run: the test shows nothing")
	}
}

// A write that the shadow lost is found whenever it changed a later decision, and the audit finds it
// in any case, with exactly its units.
func TestALostWriteIsNeverExplainedAway(t *testing.T) {
	confirmed := int64(0)
	rapid.Check(t, func(rt *rapid.T) {
		acts := rapid.SliceOfN(rapid.Custom(drawAct), 30, 60).Draw(rt, "acts")
		loses := rapid.IntRange(1, 5).Draw(rt, "loses")
		for i := range loses { // at least so many reserves
			acts[i].what = 0
		}
		var got comparator.Coverage
		var audit *comparator.AuditResult
		var w *world
		var err error
		synctest.Test(t, func(t *testing.T) {
			got, _, w = playActs(t, acts, loses, 0)
			w.now = time.Now()
			audit, err = comparator.Audit(context.Background(), comparator.AuditInput{Pod: "one", Epoch: 1, Pair: w.pair})
		})
		if err != nil {
			rt.Fatal(err)
		}
		confirmed += got.Confirmed
		if w.gone == "" {
			return // the truth refused it: nothing was lost
		}
		h, err := w.truth.Get(ctx, w.gone)
		if err != nil {
			rt.Fatal(err)
		}
		want := int64(0)
		for _, u := range h.Footprint() {
			want += u.Quantity
		}
		if audit.UnitsTotal != want || audit.UndeterminedTotal != 0 || want > 0 && audit.Findings[0].Hold != w.gone {
			rt.Fatalf("lost %d units of a hold that is %s; the audit says %+v", want, h.State, audit)
		}
		if got.Undetermined > 0 {
			rt.Fatalf("%+v", got)
		}
	})
	if confirmed == 0 {
		t.Error("no lost write changed a decision in any run: the test shows nothing")
	}
}

// A decision that was wrong is confirmed, although the shadow followed the truth and both stores agree
// ever after, and nothing else is: with every instant known no order explains it.
func TestAWrongDecisionIsConfirmedThoughTheStoresAgree(t *testing.T) {
	wrong := 0
	rapid.Check(t, func(rt *rapid.T) {
		acts := rapid.SliceOfN(rapid.Custom(drawAct), 20, 60).Draw(rt, "acts")
		lies := rapid.IntRange(1, 5).Draw(rt, "lies")
		for i := range lies {
			acts[i].what = 0
		}
		var got comparator.Coverage
		var fs []comparator.Finding
		var w *world
		synctest.Test(t, func(t *testing.T) { got, fs, w = playActs(t, acts, 0, lies) })
		want := 0
		if w.lied != "" {
			want, wrong = 1, wrong+1
		}
		if len(fs) != want || got.Confirmed != int64(want) || got.Undetermined > 0 || want == 1 && (fs[0].Hold != w.lied || fs[0].Class != comparator.FalseSoldOut) {
			rt.Fatalf("lied about %q: %+v\n%+v", w.lied, got, fs)
		}
	})
	if wrong == 0 {
		t.Error("no wrong decision in any run: the test shows nothing")
	}
}
