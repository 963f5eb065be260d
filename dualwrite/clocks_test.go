package dualwrite_test

import (
	"errors"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/dualwrite"
)

func within(s comparator.Span, from, to backends.Instant) bool { return s.From <= from && to <= s.To }

// What is followed is told before it leaves the outbox: else a search could take a record for complete that
// lacks it. When it was decided, and when it was followed, is within the spans that are told.
func TestWhatIsFollowedIsToldBeforeItLeavesTheOutbox(t *testing.T) {
	for _, stage := range []backends.Stage{backends.Shadow, backends.Live} {
		t.Run(stage.String(), func(t *testing.T) {
			r := newRig(t, stage)
			truth := map[backends.Stage]*link{backends.Shadow: r.redis, backends.Live: r.mysql}[stage]
			r.book.told = func(f comparator.Followed) {
				es, err := truth.Pending(r.ctx, "", 0, 10)
				if err != nil || len(es) != 1 || len(f.Items) != 1 || es[0].Seq != f.Items[0].Entry.Seq {
					t.Errorf("%v: in the outbox %+v, told %+v", err, es, f.Items)
				}
			}
			decided := r.clock.instant()
			shadow := map[backends.Stage]*link{backends.Shadow: r.mysql, backends.Live: r.redis}[stage]
			var applied backends.Instant
			shadow.before = func(call string) error {
				if call == "apply" {
					r.clock.pass(7 * time.Millisecond)
					applied = r.clock.instant()
					r.clock.pass(7 * time.Millisecond)
				}
				return nil
			}
			r.reserve("h1", "lamp", 1)
			r.clock.pass(300 * time.Millisecond)
			r.LaneStep(r.ctx, 0)
			if len(r.book.followed) != 1 || len(r.book.seen) != 1 {
				t.Fatalf("told %+v, %s", r.book.followed, r.book.counts())
			}
			f, o := r.book.followed[0], r.book.seen[0]
			if it := f.Items[0]; !it.Confirmed || !it.Changed || !within(it.Truth, decided, decided) || !within(f.Shadow, applied, applied) {
				t.Errorf("decided at %d, followed at %d: %+v", decided, applied, f)
			}
			if !within(o.TruthSpan, decided, decided) || !within(o.ShadowSpan, applied, applied) || o.RecordSince > decided || o.RecordSince < decided-10 {
				t.Errorf("decided at %d, followed at %d: %+v", decided, applied, o)
			}
		})
	}
}

// An attempt that fails may have taken effect, and one that finds it done says nothing of when.
func TestAnAttemptThatFailsIsToldAsOpen(t *testing.T) {
	r := newRig(t, backends.Shadow)
	r.mysql.before = func(call string) error {
		if call == "apply" {
			return errors.New("the line is cut")
		}
		return nil
	}
	r.reserve("h1", "lamp", 1)
	r.LaneStep(r.ctx, 0)
	r.mysql.before = nil
	if len(r.book.followed) != 1 || r.book.followed[0].Items[0].Confirmed {
		t.Fatalf("%+v", r.book.followed)
	}
	// Another proxy brings it there, and dies before it is out of the outbox.
	es, err := r.redis.Pending(r.ctx, "", 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.mysql.Apply(r.ctx, r.tok(), r.clock.instant(), es); err != nil {
		t.Fatal(err)
	}
	decided := r.clock.instant()
	r.clock.pass(5 * time.Second)
	if n, _, err := r.SweepNow(r.ctx, time.Second); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if it := r.book.followed[1].Items[0]; !it.Confirmed || it.Changed {
		t.Errorf("%+v", it)
	}
	if o := r.book.seen[0]; o.ShadowSpan.From > decided || o.RecordSince > decided || !within(o.TruthSpan, decided, decided) {
		t.Errorf("decided at %d: %+v", decided, o)
	}
}

// A refusal is probed with both spans known.
func TestAProbeTellsWhenBothDecided(t *testing.T) {
	r := newRig(t, backends.Shadow)
	r.reserve("h1", "lamp", 1)
	r.LaneStep(r.ctx, 0)
	decided := r.clock.instant()
	r.reserve("h2", "lamp", 1)
	r.clock.pass(400 * time.Millisecond)
	probed := r.clock.instant()
	r.LaneStep(r.ctx, 0)
	o := r.book.seen[len(r.book.seen)-1]
	if o.How != comparator.HowProbe || !within(o.TruthSpan, decided, decided) || !within(o.ShadowSpan, probed, probed) || o.RecordSince > decided {
		t.Errorf("decided at %d, probed at %d: %+v", decided, probed, o)
	}
}

// busy is an observer that takes its time after each call of the truth, as a machine does that has others to
// serve: what is read of the clock afterwards is late.
type busy struct {
	dualwrite.NoObserver
	clock *clock
}

func (b busy) StoreCall(_ backends.Pod, _ backends.Side, role string, _ backends.Op, _ error, _ time.Duration) {
	if role == "truth" {
		b.clock.pass(80 * time.Millisecond)
	}
}

// When the truth decided is within its call, and nothing that comes after the call moves that.
func TestADecisionLiesWithinItsCall(t *testing.T) {
	for _, stage := range []backends.Stage{backends.Shadow, backends.Live} {
		t.Run(stage.String(), func(t *testing.T) {
			var c *clock
			r := newRig(t, stage, func(o *dualwrite.Options) { c, _ = o.Clock.(*clock); o.Observer = busy{clock: c} })
			granted := r.clock.instant()
			r.grant("h1", "lamp", 1)
			r.lane()
			refused := r.clock.instant()
			r.reserve("h2", "lamp", 1)
			r.lane()
			if len(r.book.seen) != 2 {
				t.Fatal(r.book.counts())
			}
			for i, decided := range []backends.Instant{granted, refused} {
				if o := r.book.seen[i]; !within(o.TruthSpan, decided, decided) || o.RecordSince > decided || o.Decided.UnixMilli() > int64(decided) {
					t.Errorf("decided at %d: %+v", decided, o)
				}
			}
		})
	}
}

// MySQL plans a cart by what it sees early in its call, and takes the units later, when it reads its clock.
func TestMySQLMayHaveDecidedEarlyInItsCall(t *testing.T) {
	r := newRig(t, backends.Live)
	planned := r.clock.instant()
	r.mysql.before = func(call string) error {
		if call == "reserve" {
			r.clock.pass(40 * time.Millisecond)
		}
		return nil
	}
	r.grant("h1", "lamp", 1)
	r.mysql.before = nil
	r.lane()
	if o := r.book.seen[0]; !within(o.TruthSpan, planned, planned+40) || o.RecordSince > planned {
		t.Errorf("planned at %d: %+v", planned, o)
	}
	if it := r.book.followed[0].Items[0]; it.Truth.From < planned+39 { // the hold was made when it took them
		t.Errorf("taken at %d: %+v", planned+40, it.Truth)
	}
}

// A refusal about stock that the shadow does not know yet can be asked about once more.
func TestStockThatTheShadowDoesNotKnowYet(t *testing.T) {
	r := newRig(t, backends.Shadow)
	if _, err := r.redis.Store.Restock(r.ctx, r.tok(), &backends.RestockRequest{OpID: "load cup", Key: key("cup"), Amount: 1}); err != nil {
		t.Fatal(err)
	}
	decided := r.clock.instant()
	if d := r.reserve("h1", "cup", 2); d.Outcome != backends.OutcomeSoldOut {
		t.Fatalf("%+v", d)
	}
	r.lane()
	o := r.book.seen[0]
	if o.Shadow != nil || o.Missing != comparator.ReasonUnknownStock || o.Again == nil {
		t.Fatalf("%+v", o)
	}
	if o = o.Again(r.ctx); o.Shadow != nil || o.Missing != comparator.ReasonUnknownStock || o.Again == nil {
		t.Fatalf("asked again: %+v", o)
	}
	r.clock.pass(4 * time.Second)
	r.sweep(time.Second)
	asked := r.clock.instant()
	o = o.Again(r.ctx)
	if o.Shadow == nil || o.Shadow.Outcome != backends.OutcomeSoldOut || o.Missing != comparator.ReasonNone || o.Hold != "h1" {
		t.Fatalf("asked when it knew: %+v", o)
	}
	if !within(o.TruthSpan, decided, decided) || !within(o.ShadowSpan, asked, asked) || o.RecordSince > decided {
		t.Errorf("decided at %d, asked at %d: %+v", decided, asked, o)
	}
	r.fences(backends.Live)
	if err := r.Refresh(r.ctx); err != nil {
		t.Fatal(err)
	}
	first := r.book.seen[0]
	if o = first.Again(r.ctx); o.Shadow != nil {
		t.Errorf("asked after a change of truth: %+v", o)
	}
}

// A truth that does not tell the time is asked for it once in a while, not once for each item of a lane.
func TestATruthThatHangsIsAskedForItsTimeOnce(t *testing.T) {
	r := newRig(t, backends.Shadow)
	r.grant("h", "lamp", 1)
	r.lane()
	r.clock.pass(2 * time.Second)
	asked := 0
	r.redis.before = func(call string) error {
		if call == "now" {
			asked++
			r.clock.pass(time.Second) // as long as a lane waits
			return errors.New("no answer")
		}
		return nil
	}
	for i := range 8 {
		r.reserve(backends.HoldID("no "+string(rune('a'+i))), "lamp", int64(i)+2) // other carts, each with a look of its own
	}
	r.LaneStep(r.ctx, 0)
	if seen := len(r.book.seen); asked != 1 || seen != 9 {
		t.Errorf("it was asked %d times for %d observations", asked, seen)
	}
	r.clock.pass(2 * time.Second)
	r.redis.before = nil
	decided := r.clock.instant()
	r.reserve("again", "lamp", 1)
	r.lane()
	if o := r.book.seen[len(r.book.seen)-1]; !within(o.TruthSpan, decided, decided) {
		t.Errorf("it is not asked any more: %+v", o)
	}
}

// A shadow that panics leaves no attempt under way: the records of all later decisions would wait for it.
func TestAnAttemptThatPanicsIsTold(t *testing.T) {
	r := newRig(t, backends.Shadow)
	r.mysql.before = func(call string) error {
		if call == "apply" {
			panic("the driver is broken")
		}
		return nil
	}
	r.reserve("h1", "lamp", 1)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("it did not panic")
			}
		}()
		r.LaneStep(r.ctx, 0)
	}()
	if fs := r.book.followed; len(fs) != 1 || fs[0].Ticket != r.book.tickets || len(fs[0].Items) != 1 || fs[0].Items[0].Confirmed {
		t.Errorf("told %+v", fs)
	}
}
