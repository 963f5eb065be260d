package comparator

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Config of a pod's comparator. Pod, Proxy and Store are required.
type Config struct {
	Pod   backends.Pod
	Proxy string // names this proxy among those of the pod
	Store Store
	// Spool keeps what the store cannot take; without one it waits in memory, bounded.
	Spool Spool
	// Rechecker looks at the stores; without one a divergence that is not confirmed at once ends as
	// undetermined.
	Rechecker Rechecker
	// Sheets is where the proxies of the pod tell each other what they had the shadow follow; without
	// it this proxy has to be the only one, or what it records is not all there is.
	Sheets Sheets
	// Judge decides; nil means [Judge]. A panic of it is counted, and its decision is undetermined.
	Judge func(Observation) Judgement
	// Excuses gives those that are in the file at present; nil means none. What is confirmed and covered
	// by one is counted apart.
	Excuses func() Excuses
	// Now is the local clock; nil means time.Now.
	Now func() time.Time
	// Run names this start of the proxy; empty means a random one. Two runs with one name would
	// overwrite each other's account.
	Run string

	Queue        int           // 0 means DefaultQueue
	MaxSettling  int           // 0 means DefaultMaxSettling
	SettleWindow time.Duration // 0 means DefaultSettleWindow
	FlushEvery   time.Duration // 0 means DefaultFlushEvery
	// SlowShadow makes a slow_shadow finding of decisions that the shadow took longer for; 0: never.
	SlowShadow time.Duration
}

func (cfg Config) withDefaults() (Config, error) {
	if err := backends.CheckID("pod", string(cfg.Pod)); err != nil {
		return cfg, err
	}
	if err := backends.CheckID("proxy name", cfg.Proxy); err != nil {
		return cfg, err
	}
	if cfg.Store == nil {
		return cfg, errors.New("comparator: a Store is required")
	}
	if cfg.Judge == nil {
		cfg.Judge = Judge
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Run == "" {
		var b [8]byte
		_, _ = rand.Read(b[:]) // it never fails (crypto/rand)
		cfg.Run = hex.EncodeToString(b[:])
	}
	if cfg.Queue <= 0 {
		cfg.Queue = DefaultQueue
	}
	if cfg.MaxSettling <= 0 {
		cfg.MaxSettling = DefaultMaxSettling
	}
	if cfg.SettleWindow <= 0 {
		cfg.SettleWindow = DefaultSettleWindow
	}
	if cfg.FlushEvery <= 0 {
		cfg.FlushEvery = DefaultFlushEvery
	}
	return cfg, nil
}

// Comparator compares the decisions of one pod, off checkout's path. Start it once; Stop is safe
// never started, and twice.
type Comparator struct {
	cfg    Config
	acct   *account
	queue  *settleQueue
	in     chan Observation
	truth  latencies
	shadow latencies
	stats  counters
	keep   *keeper

	record    *recorder
	exchange  *exchange
	tally     *tallies
	follow    *followUps
	slowUnits int64     // of the slow carts so far; the judge's alone
	slowLast  time.Time // when the last of them was seen
	// slowest is the longest pause between looks for one decision, such that a long settle window
	// has no more than maxEvidence of them.
	slowest time.Duration

	gate   sync.RWMutex // held only to set closed: no Observe may follow the last drain
	closed bool

	life   sync.Mutex
	cancel context.CancelFunc
	done   chan struct{}

	flushing sync.Mutex // one flush at a time
	spooled  time.Time  // when the account was last spooled
	tallied  time.Time  // when the tallies were last saved
}

// New checks cfg and makes a comparator that is not started.
func New(cfg Config) (*Comparator, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Comparator{
		cfg:   cfg,
		acct:  newAccount(cfg.Pod, cfg.Proxy, cfg.Run),
		queue: newSettleQueue(cfg.MaxSettling),
		in:    make(chan Observation, cfg.Queue),
		keep:  newKeeper(),

		record:   newRecorder(cfg.Now),
		exchange: newExchange(cfg.Pod, cfg.Proxy, cfg.Run, cfg.SettleWindow, cfg.Now),
		tally:    newTallies(cfg.Pod, cfg.Proxy, cfg.Run),
		follow:   newFollowUps(),

		slowest: max(maxRecheck, 2*cfg.SettleWindow/maxEvidence),
	}, nil
}

// Begin enters a decision as pending: call it when the truth has decided a reserve (granted or sold
// out, not a replay), under that epoch. Observe, SampledOut or Lost ends it.
func (c *Comparator) Begin(epoch uint64) { c.acct.begin(epoch, Pending, 1, c.cfg.Now()) }

// SampledOut moves n pending refusals that will not be probed.
func (c *Comparator) SampledOut(epoch uint64, n int64) {
	c.acct.move(epoch, Pending, SampledOut, n, c.cfg.Now())
}

// Lost moves n pending decisions that will never be compared.
func (c *Comparator) Lost(epoch uint64, n int64) {
	c.acct.move(epoch, Pending, Lost, n, c.cfg.Now())
}

// Observe hands over one decision, once: of several who mirrored the same entry, the one whose
// Outbox.Done removed it. It never blocks and never panics. Of operations that only the truth decides,
// expiries and late claims are looked into afterwards, see followUps, and others are ignored; a Missing
// of ReasonPending changes nothing.
func (c *Comparator) Observe(o Observation) {
	defer c.recovered("observe")
	if o.Op != backends.OpReserve {
		c.followUp(&o)
		return
	}
	if o.Shadow == nil && o.Missing == ReasonPending {
		c.stats.ignored.Add(1)
		return
	}
	if o.At.IsZero() {
		o.At = c.cfg.Now()
	}
	if o.Pod == "" {
		o.Pod = c.cfg.Pod
	}
	if o.Shadow == nil && (o.Missing != ReasonUnknownStock || o.Again == nil) {
		c.noDecision(&o)
		return
	}
	c.gate.RLock()
	defer c.gate.RUnlock()
	if c.closed {
		c.undetermined(o.Epoch, Pending, causeStopped)
		return
	}
	select {
	case c.in <- o:
	default:
		c.undetermined(o.Epoch, Pending, causeQueueFull)
	}
}

// Following notes that an attempt to bring entries to the shadow begins, at from by the shadow's clock, and
// answers its ticket: until that is handed back with [Comparator.Followed], the record is not complete.
func (c *Comparator) Following(from backends.Instant) uint64 { return c.record.begin(from) }

// Followed records an attempt to bring entries to the shadow: the operations among which the search for
// a legal order looks. Call it before any of them leaves the outbox. It never blocks and never panics.
func (c *Comparator) Followed(f Followed) {
	defer c.recovered("record")
	c.record.take(f)
}

// noDecision accounts for an observation without a decision of the shadow.
func (c *Comparator) noDecision(o *Observation) {
	c.tookTruth(o)
	switch o.Missing {
	case ReasonSampledOut:
		c.SampledOut(o.Epoch, 1)
	case ReasonLost:
		c.Lost(o.Epoch, 1)
	case ReasonOvertaken:
		c.undetermined(o.Epoch, Pending, causeOvertaken)
	default:
		c.undetermined(o.Epoch, Pending, causeOfNone(o.Missing))
	}
}

func (c *Comparator) undetermined(epoch uint64, from Column, why cause) {
	c.acct.move(epoch, from, Undetermined, 1, c.cfg.Now())
	c.stats.undetermined[why].Add(1)
}

// giveUp ends a decision whose judging or settling has panicked, where it stands: once, since one that has its last
// column stands at ColumnUnknown.
func (c *Comparator) giveUp(epoch uint64, at Column) {
	defer c.recovered("account")
	if at != ColumnUnknown {
		c.undetermined(epoch, at, causePanic)
	}
}

// Record keeps a finding of another source (an audit, a detector of bypass writes). Its id, times,
// count and life are filled in when empty.
func (c *Comparator) Record(f Finding) {
	defer c.recovered("record")
	now := stamp(c.cfg.Now())
	if f.Pod == "" {
		f.Pod = c.cfg.Pod
	}
	if f.ID == "" {
		var k backends.Key
		if len(f.Units) > 0 {
			k = f.Units[0].Key
		}
		f.ID = FindingID(f.Pod, f.Class, f.Hold, k)
	}
	if f.LastSeen.IsZero() {
		f.LastSeen = now
	}
	if f.FirstSeen.IsZero() {
		f.FirstSeen = f.LastSeen
	}
	f.FirstSeen, f.LastSeen, f.Count = stamp(f.FirstSeen), stamp(f.LastSeen), max(f.Count, 1)
	if f.Life == LifeUnknown {
		f.Life = LifeOpen
	}
	total := f.TotalUnits
	f.limit()
	f.TotalUnits = max(f.TotalUnits, total)
	c.excuse(&f)
	f.weigh()
	c.put(f)
}

// Snapshot is the account of this run, whatever is saved.
func (c *Comparator) Snapshot() Coverage { return c.acct.snapshot() }

// Check gives an *UnbalancedError when an account does not add up exactly.
func (c *Comparator) Check() error { return c.acct.check() }

// SettleWindow is the longest that a decision may be settling.
func (c *Comparator) SettleWindow() time.Duration { return c.cfg.SettleWindow }

// Start starts judging. It ends with ctx, or with Stop. A second start is an error.
func (c *Comparator) Start(ctx context.Context) error {
	c.life.Lock()
	defer c.life.Unlock()
	if c.done != nil {
		return fmt.Errorf("comparator of pod %q was started already", c.cfg.Pod)
	}
	ctx, c.cancel = context.WithCancel(ctx)
	c.done = make(chan struct{})
	go c.run(ctx)
	return nil
}

// Stop ends the loops, accounts for what is left (undetermined), leaves the last sheet, saves, and waits for all of that:
// at most ten seconds, after a search that is under way (half a second).
func (c *Comparator) Stop() {
	c.life.Lock()
	cancel, done := c.cancel, c.done
	c.life.Unlock()
	if done == nil {
		return
	}
	cancel()
	<-done
}

func (c *Comparator) run(ctx context.Context) {
	defer close(c.done)
	var wg sync.WaitGroup
	wg.Go(func() { c.judgeLoop(ctx) })
	wg.Go(func() { c.settleLoop(ctx) })
	wg.Go(func() { c.flushLoop(ctx) })
	wg.Go(func() { c.sheetLoop(ctx) })
	wg.Go(func() { c.followLoop(ctx) })
	wg.Wait()
	c.gate.Lock()
	c.closed = true
	c.gate.Unlock()
	for len(c.in) > 0 {
		c.judge(<-c.in)
	}
	for _, oc := range c.queue.empty() {
		if oc.awaits {
			c.undetermined(oc.Observation.Epoch, Settling, causeStopped)
			continue
		}
		c.conclude(oc, Settlement{End: SettledUndetermined, Proof: "the proxy was stopped before it was settled"}, causeStopped)
	}
	last, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	sheet, done := context.WithTimeout(last, saveTimeout) // the rest is left for the last flush
	c.leave(sheet)
	done()
	_ = c.Flush(last) // what neither store nor spool took is in Stats.Unsaved
}

func (c *Comparator) judgeLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case o := <-c.in:
			c.judge(o)
		}
	}
}

// judge judges one observation and puts it into its column, whatever panics.
func (c *Comparator) judge(o Observation) {
	at := Pending
	if !c.protected("judge", func() { c.judged(&o, &at) }) {
		c.giveUp(o.Epoch, at)
	}
}

// judged keeps in at where the decision stands; ColumnUnknown: it has its last column, or the settle queue has it.
func (c *Comparator) judged(o *Observation, at *Column) {
	if o.Shadow == nil && o.Again != nil {
		c.tookTruth(o)
		c.await(o, at)
		return
	}
	c.took(o)
	c.slow(o)
	j, ok := c.judgement(*o)
	if ok && j.Verdict == VerdictDiverged {
		c.diverged(o, j, at)
		return
	}
	switch {
	case !ok:
		c.undetermined(o.Epoch, Pending, causePanic)
	case j.Verdict != VerdictMatch:
		c.undetermined(o.Epoch, Pending, causeNoVerdict)
	case o.Truth.Outcome == backends.OutcomeSoldOut:
		c.acct.move(o.Epoch, Pending, Probed, 1, c.cfg.Now())
	default:
		c.acct.move(o.Epoch, Pending, Matched, 1, c.cfg.Now())
	}
	*at = ColumnUnknown
	if ok && j.Verdict == VerdictMatch {
		c.compared(o, false)
	}
}

// judgement calls the judge, who may panic.
func (c *Comparator) judgement(o Observation) (j Judgement, ok bool) {
	defer c.recovered("judge")
	return c.cfg.Judge(o), true
}

// diverged confirms at once, or queues for settling.
func (c *Comparator) diverged(o *Observation, j Judgement, at *Column) {
	now := c.cfg.Now()
	c.acct.move(o.Epoch, Pending, Settling, 1, now)
	*at = Settling
	oc := &openCase{
		Case: Case{Observation: *o, Judgement: j, Since: now, Window: c.cfg.SettleWindow},
		due:  now.Add(firstRecheck), pause: firstRecheck,
	}
	if !c.atOnce(oc) && !c.queue.add(oc) {
		c.conclude(oc, Settlement{End: SettledUndetermined, Proof: "the settle queue was full"}, causeSettleFull)
	}
	*at = ColumnUnknown
}

// atOnce concludes a diverged decision that no look can say more about.
func (c *Comparator) atOnce(oc *openCase) bool {
	switch j := &oc.Judgement; {
	case j.AtOnce:
		c.conclude(oc, Settle(oc.Case, oc.Since), causeOther)
	case c.cfg.Rechecker == nil:
		c.conclude(oc, Settlement{End: SettledUndetermined, Proof: "there is nothing to look at the stores with"}, causeOther)
	case len(j.Keys) > maxKeysPerLook:
		c.conclude(oc, Settlement{End: SettledUndetermined, Proof: fmt.Sprintf("it concerns %d keys, more than one look reads", len(j.Keys))}, causeTooLarge)
	default:
		return false
	}
	return true
}

// slow files a slow_shadow finding; all slow decisions of a pod are sights of one, with the units of all that this run has seen. No two
// are seen at the same time, or a store would take them for one.
func (c *Comparator) slow(o *Observation) {
	if c.cfg.SlowShadow <= 0 || o.ShadowLatency <= c.cfg.SlowShadow {
		return
	}
	f := Finding{
		Class: SlowShadow, Epoch: o.Epoch, Stage: o.Stage, Source: o.How.String(), Shop: o.Shop, Caller: o.Caller, TraceID: o.TraceID,
		TruthLatencyUS: o.TruthLatency.Microseconds(), ShadowLatencyUS: o.ShadowLatency.Microseconds(),
		Proof: fmt.Sprintf("the shadow took %s for hold %q; the limit is %s", o.ShadowLatency, o.Hold, c.cfg.SlowShadow),
	}
	f.ID = FindingID(c.cfg.Pod, SlowShadow, "", backends.Key{})
	for _, l := range o.Lines {
		c.slowUnits += l.Quantity
	}
	f.TotalUnits, f.LastSeen = c.slowUnits, stamp(c.cfg.Now())
	if !f.LastSeen.After(c.slowLast) {
		f.LastSeen = c.slowLast.Add(time.Microsecond)
	}
	c.slowLast = f.LastSeen
	c.Record(f)
}
