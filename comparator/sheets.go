package comparator

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Sheet is what one run of a proxy tells the others of its pod: what it asks, and what it answers. Each
// run has one, and writes a new one over it.
type Sheet struct {
	Pod   backends.Pod `json:"pod"`
	Proxy string       `json:"proxy"`
	Run   string       `json:"run"`
	N     uint64       `json:"n"` // grows with each sheet of the run
	// Wants are the keys about which it asks what the others had the shadow follow there.
	Wants []Want `json:"wants,omitempty"`
	// Read says which sheet of each other run this one answers, by run.
	Read map[string]uint64 `json:"read,omitempty"`
	// Steps are the operations that the run has recorded at the keys that the others want; Intact is
	// the instant, by the shadow's clock, since which they lack nothing. At the keys in Lacks, in their order,
	// some were left out for want of room: there they lack nothing since the instant given.
	Steps  []Step           `json:"steps,omitempty"`
	Intact backends.Instant `json:"intact"`
	Lacks  []Want           `json:"lacks,omitempty"`
	// Open is when the earliest attempt that the run had under way had begun; zero when the run was asked
	// nothing, Never when there was none.
	Open backends.Instant `json:"open,omitempty"`
	// Epoch is the last under which the run had anything followed, Truth the store that decided it then.
	Epoch uint64        `json:"epoch,omitempty"`
	Truth backends.Side `json:"truth,omitempty"`
	// Ended: the run has stopped, and follows nothing any more.
	Ended bool `json:"ended,omitempty"`
	// Age is how long ago it was written, by the store's clock; whoever reads it gets it filled in.
	Age time.Duration `json:"-"`
}

// Want names one key, since an instant by the shadow's clock.
type Want struct {
	Key   backends.Key     `json:"key"`
	Since backends.Instant `json:"since"`
}

// Sheets is where the proxies of a pod leave their sheets for each other.
type Sheets interface {
	// PutSheet keeps a run's sheet, over an earlier one of it.
	PutSheet(ctx context.Context, s Sheet) error
	// Sheets answers the sheets of a pod that are not older than age, one for each run. Of a run whose sheet
	// has the number that known gives it, only Pod, Proxy, Run, N and Age are filled in.
	Sheets(ctx context.Context, pod backends.Pod, age time.Duration, known map[string]uint64) ([]Sheet, error)
	// PruneSheets removes at most limit sheets of a pod that are older than age, by the store's clock, and
	// answers how many it removed. It holds up nobody who writes a sheet.
	PruneSheets(ctx context.Context, pod backends.Pod, age time.Duration, limit int) (int, error)
}

// exchange holds this run's questions and the others' sheets.
type exchange struct {
	pod        backends.Pod
	proxy, run string
	now        func() time.Time
	// keep is how long a run that is silent is remembered: as long as a case may be open whose decision
	// it may have followed anything for.
	keep time.Duration

	mu     sync.Mutex
	n      uint64 // of the sheet that was written last
	wants  map[backends.Key]*wanted
	others map[string]*other
	fresh  time.Time // when the others' sheets were last read; zero: never
	put    time.Time // when ours was last written
	putN   uint64    // its number, at least
	heardN uint64    // that of ours that was written before the others' were last read
	asked  time.Time // when a question of anybody was last seen
}

// wanted is since when each open case wants a key, the earliest first.
type wanted struct{ since []backends.Instant }

// other is what is known of another run.
type other struct {
	Sheet
	seen time.Time              // when it was written, by the local clock
	at   map[backends.Key][]int // the steps that touch each key
}

// take puts a newer sheet in place of the one that is here.
func (o *other) take(s *Sheet) {
	o.Sheet, o.at = *s, make(map[backends.Key][]int, len(s.Steps))
	for i := range s.Steps {
		for j, u := range s.Steps[i].Takes {
			if j > 0 && s.Steps[i].Takes[j-1].Key == u.Key {
				continue
			}
			o.at[u.Key] = append(o.at[u.Key], i)
		}
	}
}

// stepsAt appends the steps that touch any of keys.
func (o *other) stepsAt(out []Step, keys []backends.Key) []Step {
	var places []int
	for _, k := range keys {
		places = append(places, o.at[k]...)
	}
	if len(keys) > 1 {
		slices.Sort(places)
		places = slices.Compact(places)
	}
	for _, i := range places {
		out = append(out, o.Steps[i])
	}
	return out
}

func newExchange(pod backends.Pod, proxy, run string, window time.Duration, now func() time.Time) *exchange {
	return &exchange{keep: 2*sheetGone + recordFor + window, pod: pod, proxy: proxy, run: run, now: now, wants: map[backends.Key]*wanted{}, others: map[string]*other{}}
}

// ask asks about keys from the next sheet on, and answers its number; 0 when too much is asked already.
func (x *exchange) ask(keys []backends.Key, since backends.Instant) uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	more := 0
	for _, k := range keys {
		if x.wants[k] == nil {
			more++
		}
	}
	if len(x.wants)+more > maxWants {
		return 0
	}
	for _, k := range keys {
		w := x.wants[k]
		if w == nil {
			w = &wanted{}
			x.wants[k] = w
		}
		i, _ := slices.BinarySearch(w.since, since)
		w.since = slices.Insert(w.since, i, since)
	}
	x.asked = x.now()
	return x.n + 1
}

// drop ends a question: what is still asked may begin later now.
func (x *exchange) drop(keys []backends.Key, since backends.Instant) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, k := range keys {
		w := x.wants[k]
		if w == nil {
			continue
		}
		if i, there := slices.BinarySearch(w.since, since); there {
			w.since = slices.Delete(w.since, i, i+1)
		}
		if len(w.since) == 0 {
			delete(x.wants, k)
		}
	}
}

// told ends a case's question, once: nobody has to answer it any more.
func (c *Comparator) told(oc *openCase) {
	if oc.asked > 0 && !oc.told {
		oc.told = true
		c.exchange.drop(oc.Judgement.Keys, oc.Observation.RecordSince)
	}
}

// heard is what the others have told about some keys.
type heard struct {
	steps  []Step
	intact backends.Instant
	// silent names a proxy that has not answered; "" when all have. lost: one has forgotten already.
	silent string
	lost   bool
}

// about gathers what the others told about a decision's keys in answer to sheet n. A run that was gone
// long before the decision has nothing to tell.
func (x *exchange) about(ob *Observation, keys []backends.Key, n uint64) heard {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out heard
	if x.heardN < n {
		out.silent = x.proxy // it has not asked yet, or not looked who there is to answer
		return out
	}
	for _, run := range slices.Sorted(maps.Keys(x.others)) {
		o := x.others[run]
		if o.seen.Before(ob.Decided.Add(-sheetGone)) {
			continue // gone before the truth decided
		}
		if !o.Ended && o.Read[x.run] < n || o.Open <= ob.ShadowSpan.To {
			out.silent = o.Proxy
		}
		if o.Truth != ob.Stage.Truth() { // its record is of another time: nothing since, or too much
			out.lost = out.lost || o.Epoch > ob.Epoch
			continue
		}
		out.intact = max(out.intact, o.intactAt(keys))
		out.steps = o.stepsAt(out.steps, keys)
	}
	return out
}

// intactAt is the instant since which a sheet lacks nothing at keys.
func (s *Sheet) intactAt(keys []backends.Key) backends.Instant {
	out := s.Intact
	for _, k := range keys {
		if i, there := slices.BinarySearchFunc(s.Lacks, k, func(w Want, k backends.Key) int { return w.Key.Compare(k) }); there {
			out = max(out, s.Lacks[i].Since)
		}
	}
	return out
}

// due tells whether the sheets are to be exchanged now, busy whether this run follows anything.
func (x *exchange) due(busy bool) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := x.now()
	since := now.Sub(x.fresh)
	switch {
	case x.fresh.IsZero(), len(x.wants) > 0, now.Sub(x.asked) < sheetIdle:
		return true
	case busy:
		return since >= sheetIdle
	default:
		return since >= sheetGone/3
	}
}

// known are the numbers of the sheets that are here.
func (x *exchange) known() map[string]uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := make(map[string]uint64, len(x.others))
	for run, o := range x.others {
		out[run] = o.N
	}
	return out
}

// learn takes the others' sheets in.
func (x *exchange) learn(sheets []Sheet, asOf time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fresh, x.heardN = asOf, x.putN
	for i := range sheets {
		s := &sheets[i]
		if s.Run == x.run {
			continue
		}
		o := x.others[s.Run]
		if o == nil {
			o = &other{}
			x.others[s.Run] = o
		}
		if s.N != o.N {
			o.take(s)
		}
		if o.seen = asOf.Add(-s.Age); len(o.Wants) > 0 && s.Age < sheetIdle {
			x.asked = asOf
		}
	}
	maps.DeleteFunc(x.others, func(_ string, o *other) bool { return asOf.Sub(o.seen) > x.keep })
}

// next makes this run's next sheet; ok is false when it would say nothing new.
func (x *exchange) next(r *recorder) (Sheet, bool) {
	x.mu.Lock()
	s := Sheet{Pod: x.pod, Proxy: x.proxy, Run: x.run, N: x.n + 1, Read: map[string]uint64{}}
	for k, w := range x.wants {
		s.Wants = append(s.Wants, Want{k, w.since[0]})
	}
	theirs := map[backends.Key]backends.Instant{}
	for run, o := range x.others {
		if o.Ended || x.now().Sub(o.seen) > sheetGone {
			continue
		}
		s.Read[run] = o.N
		for _, w := range o.Wants {
			if at, there := theirs[w.Key]; !there || w.Since < at {
				theirs[w.Key] = w.Since
			}
		}
	}
	say := len(s.Wants) > 0 || len(theirs) > 0 || x.now().Sub(x.put) >= sheetGone/3
	if say {
		x.n = s.N // used up, whether it arrives or not: what is asked from now on is in the next one
	}
	x.mu.Unlock()
	slices.SortFunc(s.Wants, func(a, b Want) int { return a.Key.Compare(b.Key) })
	if say && len(theirs) > 0 {
		s.tell(r.wanted(theirs))
	}
	return s, say
}

func (s *Sheet) tell(t told) {
	s.Steps, s.Intact, s.Lacks, s.Open, s.Epoch, s.Truth = t.Steps, t.Intact, t.Lacks, t.Open, t.Epoch, t.Truth
}

// bare makes the sheet to write where a whole one could not be written: the run is there, and tells nothing.
func (x *exchange) bare(s Sheet) Sheet {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.n++
	s.N, s.Steps, s.Lacks, s.Intact = x.n, nil, nil, Never
	return s
}

// written notes that a sheet of ours has arrived.
func (x *exchange) written(n uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.put, x.putN = x.now(), n
}

// sheetLoop exchanges sheets until the context ends, and leaves one that says so.
func (c *Comparator) sheetLoop(ctx context.Context) {
	if c.cfg.Sheets == nil {
		return
	}
	t := time.NewTicker(sheetEvery)
	defer t.Stop()
	pruned := time.Time{}
	for {
		if c.exchange.due(c.record.busy(sheetGone)) {
			c.sheetsFailed(ctx, c.exchangeOnce(ctx))
		}
		if now := c.cfg.Now(); now.Sub(pruned) >= pruneSheets {
			pruned = now
			c.sheetsFailed(ctx, c.pruneSheets(ctx))
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (c *Comparator) sheetsFailed(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		c.stats.sheetsFailed.Add(1)
		c.failed(err)
	}
}

// exchangeOnce reads the others' sheets, and then writes ours. That is written though theirs could not be
// read: it says which of theirs it answers, and that this run is there.
func (c *Comparator) exchangeOnce(ctx context.Context) (err error) {
	defer c.recovered("sheets")
	err = c.readSheets(ctx)
	if s, say := c.exchange.next(c.record); say {
		err = errors.Join(err, c.putSheet(ctx, s))
	}
	return err
}

func (c *Comparator) readSheets(ctx context.Context) (err error) {
	err = errPanicked
	defer c.recovered("sheets")
	rctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	x := c.exchange
	asOf := c.cfg.Now()
	sheets, rerr := c.cfg.Sheets.Sheets(rctx, c.cfg.Pod, x.keep, x.known())
	if err = rerr; err == nil {
		x.learn(sheets, asOf)
	}
	return err
}

// putSheet writes a sheet. One that cannot be written, such as for its size, is followed by one without
// operations: else the others would soon take this run for gone, and do without what it knows.
func (c *Comparator) putSheet(ctx context.Context, s Sheet) error {
	err := c.putOnce(ctx, s)
	if err != nil && len(s.Steps) > 0 {
		return errors.Join(err, c.putOnce(ctx, c.exchange.bare(s)))
	}
	return err
}

func (c *Comparator) putOnce(ctx context.Context, s Sheet) (err error) {
	err = errPanicked
	defer c.recovered("sheets")
	pctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	if err = c.cfg.Sheets.PutSheet(pctx, s); err == nil {
		c.exchange.written(s.N)
	}
	return err
}

// pruneSheets removes sheets that nobody reads any more. What is left over waits for the next time.
func (c *Comparator) pruneSheets(ctx context.Context) (err error) {
	err = errPanicked
	defer c.recovered("sheets")
	pctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	_, err = c.cfg.Sheets.PruneSheets(pctx, c.cfg.Pod, max(keepSheets, 2*c.exchange.keep), maxPruned)
	return err
}

// leave writes the last sheet. All that was followed last is in it, as far as there is room, for those who will
// ask: it answers nobody any more.
func (c *Comparator) leave(ctx context.Context) {
	if c.cfg.Sheets == nil {
		return
	}
	defer c.recovered("sheets")
	s, _ := c.exchange.next(c.record)
	s.Ended, s.Wants = true, nil
	s.tell(c.record.all())
	_ = c.putSheet(ctx, s) // a run that did not say so counts as gone after sheetGone
}
