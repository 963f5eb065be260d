package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/orders"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// The fault: one of a few pieces of an item that nobody else buys.
const (
	faultItem backends.Item = "demo-candle"

	faultPieces = 10
	faultLost   = 1
)

// step is one thing shown; do notes what it finds.
type step struct {
	name, title string
	do          func(context.Context) error
}

func (s *show) steps() []step {
	return []step{
		{"sell", "Both shops are stocked and begin to sell. Their pods are in redis-only: Redis decides, alone.", s.begin},
		{"shadow", "Both pods go to shadow: Redis decides, MySQL follows and says what it would have decided.", s.toShadow},
		{"compare", "The shops go on selling, and every decision is compared.", s.compare},
		{"live", "Pod one goes live: MySQL decides, Redis follows and keeps the power to take over.", s.toLive},
		{"fault", "In pod two a unit is lost in MySQL, behind Crossfade's back. Then a buyer wants all that is left.", s.fault},
		{"gate", "Somebody tries to take pod two live all the same.", s.gate},
		{"kill", "Pod one is killed back to Redis, under load.", s.kill},
		{"audit", "The shops close. Every hold and every level of both stores is compared, and what buyers were told is checked.", s.audit},
	}
}

// begin opens both shops and waits for their first buyers.
func (s *show) begin(ctx context.Context) error {
	const seedOne, seedTwo = 1, 2
	if err := s.sell(ctx, PodOne, ShopOne, seedOne); err != nil {
		return err
	}
	if err := s.sell(ctx, PodTwo, ShopTwo, seedTwo); err != nil {
		return err
	}
	err := s.waitFor(ctx, "both shops sell", func(context.Context) (bool, string, error) {
		n := 0
		for _, c := range s.shops {
			if err := c.failed(); err != nil {
				return false, "", err
			}
			if strings.Contains(c.line.String(), " orders") {
				n++
			}
		}
		return n == len(s.shops), s.shops[0].line.String(), nil
	})
	if err != nil {
		return err
	}
	for _, c := range s.shops {
		s.note("pod %s: %d items in stock, %.0f %% of what %d orders will want; %d buyers at a time", c.pod, len(c.opts.Orders.Demand()), 100*s.pace.stock, len(c.opts.Orders.Orders), s.pace.clients)
	}
	return nil
}

// tell writes where the checkouts are.
func (s *show) tell() {
	for _, c := range s.shops {
		if l := c.line.String(); l != "" {
			s.say("    pod %s: %s", c.pod, l)
		}
	}
}

// play lets the checkouts go on for a while.
func (s *show) play(ctx context.Context, d time.Duration) error {
	for end := time.Now().Add(d); ; {
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		if err := pause(ctx, min(left, progressEvery)); err != nil {
			return err
		}
		for _, c := range s.shops {
			if err := c.failed(); err != nil {
				return err
			}
		}
		if left > progressEvery {
			s.tell()
		}
	}
}

// move moves a pod by one stage, by gates that are forced; gates that only want time are given some.
func (s *show) move(ctx context.Context, pod backends.Pod, to backends.Stage, why string, force ...string) (res killswitch.Result, err error) {
	err = s.waitFor(ctx, fmt.Sprintf("pod %s is in %s", pod, to), func(ctx context.Context) (bool, string, error) {
		res, err = s.sys.SetStage(ctx, killswitch.SwitchRequest{Pod: pod, To: to, Who: who, Why: why, Force: force}, func(killswitch.StepDone) {})
		if wantsTime(err) {
			return again(err)
		}
		return err == nil, "", err
	})
	return res, err
}

// enough is the gate that asks for evidence.
const enough = "readiness"

// wantsTime tells whether a move that was refused may be made a little later: the shadow is being
// filled, or not up to date yet.
func wantsTime(err error) bool {
	var ge *killswitch.GateError
	if errors.As(err, &ge) {
		return !slices.ContainsFunc(ge.Failing(), func(g killswitch.GateResult) bool {
			return !slices.Contains([]string{"backfill", "outbox-lag", "outbox-entries", "debt", "breaker", "proxies"}, g.Name)
		})
	}
	var open *killswitch.OpenSwitchError
	return errors.As(err, &open) || errors.Is(err, killswitch.ErrBusy) || errors.Is(err, killswitch.ErrDriverAlive)
}

// settled waits until nothing is left to do for a pod after a move or a kill.
func (s *show) settled(ctx context.Context, pod backends.Pod) error {
	return s.waitFor(ctx, fmt.Sprintf("pod %s has worked off what a move has left", pod), func(ctx context.Context) (bool, string, error) {
		st, err := s.sys.Status(ctx, pod)
		if err != nil {
			return again(err)
		}
		return st.Serving && st.Switch == nil && len(st.Work) == 0, fmt.Sprintf("left: %v", st.Work), nil
	})
}

func (s *show) toShadow(ctx context.Context) error {
	for _, pod := range []backends.Pod{PodOne, PodTwo} {
		start := time.Now()
		res, err := s.move(ctx, pod, backends.Shadow, "compare MySQL with Redis before it decides")
		if err != nil {
			return err
		}
		if err := s.settled(ctx, pod); err != nil {
			return err
		}
		s.note("pod %s is in shadow, epoch %d; MySQL had all stock and open holds after %s, while the shop went on selling", pod, res.Epoch, round(time.Since(start)))
	}
	return nil
}

func (s *show) compare(ctx context.Context) error {
	if err := s.play(ctx, s.pace.shadow); err != nil {
		return err
	}
	for _, pod := range []backends.Pod{PodOne, PodTwo} {
		r, err := s.sys.Report(ctx, pod, time.Time{})
		if err != nil {
			return err
		}
		s.note("pod %s: %s", pod, parityOf(&r))
		if r.Parity.Compared == 0 {
			s.wrong("no decision of pod %s was compared", pod)
		}
		if r.Open > 0 {
			s.wrong("pod %s has %d findings before anything was done to it", pod, r.Open)
		}
	}
	return nil
}

func parityOf(r *comparator.Report) string {
	c := r.Coverage
	text := fmt.Sprintf("%d decisions, %d compared, %d alike", r.Parity.Decisions, r.Parity.Compared, r.Parity.Agreed)
	if c.Explained > 0 {
		text += fmt.Sprintf(", %d explained by what was on its way", c.Explained)
	}
	if c.Pending+c.Settling > 0 {
		text += fmt.Sprintf(", %d still being looked at", c.Pending+c.Settling)
	}
	if c.Undetermined > 0 {
		text += fmt.Sprintf(", %d undetermined", c.Undetermined)
	}
	if c.Lost > 0 {
		text += fmt.Sprintf(", %d never compared", c.Lost)
	}
	return text + fmt.Sprintf("; %s", count(r.Open, "open finding"))
}

func (s *show) toLive(ctx context.Context) error {
	// A shop would wait for enough decisions of each kind; a demo has no week.
	res, err := s.move(ctx, PodOne, backends.Live, "the stores agree, and a demo cannot wait for evidence", enough)
	if err != nil {
		return err
	}
	passed := 0
	for _, g := range res.Change.Gates {
		if g.Pass {
			passed++
		}
		if g.Forced {
			s.note("gate %s is forced, and the history says so; it found: %s", g.Name, g.Figure)
		}
	}
	s.sum.LiveHeldMS = res.HeldMillis
	s.note("%d of %d gates passed; buyers waited at most %s while the truth moved, and none was turned away", passed, len(res.Change.Gates), round(time.Duration(res.HeldMillis*float64(time.Millisecond))))
	if err := s.settled(ctx, PodOne); err != nil {
		return err
	}
	if err := s.play(ctx, s.pace.live); err != nil {
		return err
	}
	r, err := s.sys.Report(ctx, PodOne, time.Time{})
	if err != nil {
		return err
	}
	if r.Stage != backends.Live {
		s.wrong("pod one reports stage %s", r.Stage)
	}
	s.note("pod one: %s", parityOf(&r))
	return nil
}

// fault loses a unit in pod two's shadow, and has it found by a buyer who wants all pieces.
func (s *show) fault(ctx context.Context) error {
	key := backends.Key{Shop: ShopTwo, Item: faultItem, Location: Home}
	all := []orders.Line{{Item: faultItem, Quantity: faultPieces}}
	if sum, err := s.single(ctx, ShopTwo, "stock", orders.Order{Invoice: "1", Kind: orders.Restock, Lines: all}); err != nil || !sum.Clean() {
		return errors.Join(err, fmt.Errorf("stocking %s: %q", faultItem, sum.Problems))
	}
	how := ""
	err := s.waitFor(ctx, "MySQL has the stock and one unit of it is lost", func(ctx context.Context) (bool, string, error) {
		var err error
		if how, err = s.sys.LoseUnits(ctx, PodTwo, key, faultLost); err != nil {
			return again(err)
		}
		return true, "", nil
	})
	if err != nil {
		return err
	}
	lost := time.Now()
	s.note("%s", how)
	buyer, err := s.single(ctx, ShopTwo, "buyer", orders.Order{Invoice: "1", Kind: orders.Cart, Lines: all})
	if err != nil {
		return err
	}
	if buyer.Claimed != 1 {
		s.wrong("the buyer of pod two was not served: %q", buyer.Problems)
	}
	s.note("Redis decides: the buyer gets all %d", faultPieces)
	var f *comparator.Finding
	err = s.waitFor(ctx, "the report has found it", func(ctx context.Context) (bool, string, error) {
		r, err := s.sys.Report(ctx, PodTwo, time.Time{})
		if err != nil {
			return false, "", err
		}
		for i := range r.Findings {
			if about(&r.Findings[i]) && (f == nil || r.Findings[i].Class == comparator.FalseSoldOut) {
				f = &r.Findings[i]
			}
		}
		return f != nil, parityOf(&r), nil
	})
	if err != nil {
		return err
	}
	s.sum.Fault = FaultSummary{Lost: faultLost, FoundMS: time.Since(lost).Milliseconds(), Class: f.Class.String(), Units: f.TotalUnits, Proof: f.Proof}
	s.note("after %s 'crossfade report two' has it: %s (%s)", round(time.Since(lost)), f.Class, f.Class.Meaning())
	return nil
}

// about tells whether a finding is of the fault and nothing else.
func about(f *comparator.Finding) bool {
	for _, u := range f.Units {
		if u.Key.Item != faultItem {
			return false
		}
	}
	return len(f.Units) > 0
}

// gate shows that a pod with an open finding does not go live.
func (s *show) gate(ctx context.Context) error {
	var ge *killswitch.GateError
	err := s.waitFor(ctx, "the gates have judged pod two", func(ctx context.Context) (bool, string, error) {
		_, err := s.sys.SetStage(ctx, killswitch.SwitchRequest{Pod: PodTwo, To: backends.Live, Who: who, Why: "impatience", Force: []string{enough}}, func(killswitch.StepDone) {})
		switch {
		case errors.As(err, &ge):
			return true, "", nil
		case wantsTime(err):
			return again(err)
		case err == nil:
			s.wrong("pod two went live with an open finding")
			return true, "", nil
		}
		return false, "", err
	})
	if err != nil || ge == nil {
		return err
	}
	for _, g := range ge.Failing() {
		s.note("refused by gate %s", g)
		s.sum.Gates = append(s.sum.Gates, g.Name)
	}
	if !slices.Contains(s.sum.Gates, "findings") {
		s.wrong("pod two was refused, but not for its findings: %v", s.sum.Gates)
	}
	return nil
}

// kill takes pod one back, and has a buyer there at once.
func (s *show) kill(ctx context.Context) error {
	start := time.Now()
	res, err := s.sys.Kill(ctx, killswitch.KillRequest{Pod: PodOne, Who: who, Why: "to show it", Expect: backends.Live})
	took := time.Since(start)
	if err != nil {
		return err
	}
	// An order of the book's kind would do; this one is sure to be granted, so the time says something.
	back := orders.Order{Invoice: "1", Kind: orders.Restock, Lines: []orders.Line{{Item: faultItem, Quantity: 1}}}
	if sum, err := s.single(ctx, ShopOne, "stock", back); err != nil || !sum.Clean() {
		return errors.Join(err, fmt.Errorf("after the kill: %q", sum.Problems))
	}
	back.Kind = orders.Cart
	buyer, err := s.single(ctx, ShopOne, "buyer", back)
	if err != nil {
		return err
	}
	served := time.Since(start)
	if buyer.Claimed != 1 {
		s.wrong("the first buyer after the kill was not served: %q", buyer.Problems)
	}
	if res.To.Stage != backends.Shadow {
		s.wrong("the kill from live led to %s", res.To.Stage)
	}
	s.sum.Kill = KillSummary{TookMS: millis(took), ServedMS: millis(served), From: res.From.Stage.String(), To: res.To.Stage.String()}
	s.note("killed in %s, from %s to %s; %s after the command the next buyer had stock and a paid cart, decided by Redis", round(took), res.From.Stage, res.To.Stage, round(served))
	start = time.Now()
	if err := s.settled(ctx, PodOne); err != nil {
		return err
	}
	s.note("MySQL followed again %s later, with Redis's state of every hold", round(time.Since(start)))
	return s.play(ctx, s.pace.after)
}
