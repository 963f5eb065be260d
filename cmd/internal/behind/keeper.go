package behind

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/dualwrite"
	"github.com/crossfade-proxy/crossfade/dualwrite/journal"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

const (
	// obtainWithin bounds the asking for a permission, for which callers wait.
	obtainWithin = time.Second
	// pingWithin bounds a look whether Redis is there.
	pingWithin = 300 * time.Millisecond
	// DefaultCalm is how long Redis has to be back before a holder leaves: one that comes and goes would be marked each time.
	DefaultCalm = time.Second
)

// Control is what a keeper needs of a control store.
type Control interface {
	killswitch.ControlStore
	killswitch.Documents
}

// Journal is where answers are kept; journal.Journal is one.
type Journal interface {
	Append(epoch uint64, es []backends.Entry) error
	Each(from int64, do func(journal.Kept) error) (next int64, err error)
	Size() int64
	Empty(size int64) error
	// Damaged is how often a state could not be read since it was emptied: more than 0, and nobody knows what that was.
	Damaged() int64
}

// Options of a keeper.
type Options struct {
	Pod     backends.Pod
	Control Control
	Clock   killswitch.Clock
	// Proxy is its name; Run is unique to this start, and the journal's.
	Proxy, Run string
	Lease      time.Duration
	// Calm is how long Redis has to be back before this process leaves the holders; 0 means DefaultCalm.
	Calm time.Duration
	// Answers is the pod's policy: without it nothing is answered without Redis.
	Answers bool
	// Journal is nil without the policy.
	Journal Journal
	// Voided makes a hold or count known that may have been acknowledged and is void.
	Voided func(ctx context.Context, f backends.Fence, e *backends.Entry) error
}

// Keeper is one pod's. It fills dualwrite.Lone.
type Keeper struct {
	o      Options
	permit *killswitch.Permit
	pod    *dualwrite.Pod
	wake   chan struct{}

	away     atomic.Bool
	answered atomic.Int64

	mu   sync.Mutex
	seen killswitch.PodState // the record as last read, by anybody
	back time.Time           // since when Redis answers again
	// carried is how far the journal has been brought to Redis, in the epoch of the same name.
	carried      int64
	carriedEpoch uint64
	sight        sighting
	dead         map[string]bool // earlier runs in the journal
}

// sighting is a mark's turn, and since when this process has seen it ending; over is since when no permission is valid.
type sighting struct {
	turn     killswitch.Revision
	at, over time.Time
}

var _ dualwrite.Lone = (*Keeper)(nil)

// New makes a keeper. Bind has to come before anything else.
func New(o Options) (*Keeper, error) {
	if o.Calm == 0 {
		o.Calm = DefaultCalm
	}
	k := &Keeper{
		o: o, wake: make(chan struct{}, 1), dead: map[string]bool{},
		permit: killswitch.NewPermit(killswitch.PermitOptions{Pod: o.Pod, Control: o.Control, Clock: o.Clock, Proxy: o.Proxy, Run: o.Run, Lease: o.Lease}),
	}
	if o.Journal == nil {
		k.o.Answers = false
		return k, nil
	}
	_, err := o.Journal.Each(0, func(l journal.Kept) error {
		if l.Run != o.Run {
			k.dead[l.Run] = true
		}
		return nil
	})
	return k, err
}

// Bind tells the writer that it keeps for.
func (k *Keeper) Bind(p *dualwrite.Pod) { k.pod = p }

// Woken is ready when Step has something to do before its time.
func (k *Keeper) Woken() <-chan struct{} { return k.wake }

func (k *Keeper) rouse() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Away implements dualwrite.Lone.
func (k *Keeper) Away() bool { return k.o.Answers && k.away.Load() }

// Answered counts answers that were given without Redis.
func (k *Keeper) Answered() int64 { return k.answered.Load() }

// Permitted tells whether this process may answer without Redis at present, in an epoch.
func (k *Keeper) Permitted(epoch uint64) bool { return k.permit.Valid(epoch) }

// Answer implements dualwrite.Lone.
func (k *Keeper) Answer(ctx context.Context, f backends.Fence, es []backends.Entry) error {
	if !k.o.Answers {
		return fmt.Errorf("%w: Redis is away, and this proxy's configuration has redis_away: refuse", backends.ErrUnavailable)
	}
	if !k.away.Load() {
		if k.ping(ctx, f) {
			return fmt.Errorf("%w: Redis has not answered once, and is there: try again", backends.ErrUnavailable)
		}
		k.away.Store(true)
		k.rouse()
	}
	if !k.permit.Valid(f.Epoch) {
		octx, cancel := context.WithTimeout(ctx, obtainWithin)
		err := k.permit.Obtain(octx, f.Epoch)
		cancel()
		if err != nil {
			return err
		}
		k.rouse()
	}
	if err := k.o.Journal.Append(f.Epoch, es); err != nil {
		return err
	}
	if !k.permit.Valid(f.Epoch) {
		return &killswitch.MarkError{Pod: k.o.Pod, Epoch: f.Epoch, Why: "this proxy's permission ran out before it could answer"}
	}
	k.answered.Add(1)
	return nil
}

// Voided implements dualwrite.Lone.
func (k *Keeper) Voided(ctx context.Context, f backends.Fence, e *backends.Entry) error {
	if k.o.Voided == nil {
		return nil
	}
	return k.o.Voided(ctx, f, e)
}

// ping tells whether Redis is there: it confirms an epoch, or refuses it.
func (k *Keeper) ping(ctx context.Context, f backends.Fence) bool {
	ctx, cancel := context.WithTimeout(ctx, pingWithin)
	defer cancel()
	err := k.pod.Stores().Redis.Admitted(ctx, backends.Token{Epoch: f.Epoch}, true)
	var fe *backends.FencedError
	return err == nil || errors.As(err, &fe)
}

// Saw takes over a record that somebody has read. It extends no permission.
func (k *Keeper) Saw(st killswitch.PodState) {
	k.mu.Lock()
	k.seen = st
	k.mu.Unlock()
	if st.RedisBehind != nil {
		k.rouse()
	}
}

// Seen is the record as it was last read.
func (k *Keeper) Seen() killswitch.PodState {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.seen
}

// Busy tells whether Step should come often: several times in a lease.
func (k *Keeper) Busy() bool {
	return k.away.Load() || k.permit.Entered() != 0 || k.Seen().RedisBehind != nil
}

// Every is how often Step has to come while it is busy, so that a permission does not run out between renewals.
func (k *Keeper) Every() time.Duration { return min(k.o.Lease/killswitch.RenewShare, k.o.Calm/2) }

// Step does what there is to do now. It has to be called again and again; one call at a time.
func (k *Keeper) Step(ctx context.Context) error {
	if !k.Busy() {
		return k.tidy(ctx)
	}
	st, err := k.permit.Renew(ctx)
	if err != nil {
		return err
	}
	k.mu.Lock()
	k.seen = st
	k.mu.Unlock()
	f := k.pod.Gate().Serving()
	there := k.watch(ctx, f)
	b := st.RedisBehind
	if b == nil || st.Epoch > b.Epoch {
		return k.over(ctx)
	}
	for _, h := range b.Holders {
		if h.Proxy == k.o.Proxy && k.dead[h.Run] && b.Holds(h.Run) { // it had this journal, and does not have it any more
			if err := k.leave(ctx, b, h.Run, b.Mark == killswitch.MarkBarred); err != nil {
				return err
			}
		}
	}
	switch own := b.Holds(k.o.Run); {
	case own && b.Mark == killswitch.MarkBarred:
		return k.leave(ctx, b, k.o.Run, true)
	case own && there:
		return k.leave(ctx, b, k.o.Run, false)
	case own || !there:
		return nil
	case b.Mark == killswitch.Marked:
		return k.end(ctx, b)
	case b.Mark == killswitch.MarkEnding:
		return k.unmark(ctx, b)
	default:
		return nil
	}
}

// watch looks whether Redis is there, and tells whether it has been for a while.
func (k *Keeper) watch(ctx context.Context, f backends.Fence) bool {
	if !k.ping(ctx, f) {
		k.away.Store(k.o.Answers && f.MayAnswerAlone())
		k.mu.Lock()
		k.back = time.Time{}
		k.mu.Unlock()
		return false
	}
	k.away.Store(false)
	now := k.o.Clock.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.back.IsZero() {
		k.back = now
	}
	return now.Sub(k.back) >= k.o.Calm
}

// over is for a record without a mark of this epoch, or of a later one.
func (k *Keeper) over(ctx context.Context) error {
	epoch := k.permit.Entered()
	if epoch == 0 {
		return nil
	}
	return k.permit.Leave(ctx, epoch, k.o.Run, func(context.Context) error { return nil })
}

// end ends a mark that no holder needs who is alive.
func (k *Keeper) end(ctx context.Context, b *killswitch.RedisBehind) error {
	ms, err := k.o.Control.Members(ctx)
	if err != nil {
		return err
	}
	alive := map[string]bool{}
	for _, m := range ms {
		// Not a later run of a holder's proxy: it may not know of what that one has left behind, and waits for others to do so.
		alive[m.Process] = slices.Contains(m.Pods, k.o.Pod) && m.Proxy != k.o.Proxy
	}
	_, err = killswitch.EndMark(ctx, k.o.Control, k.o.Pod, b.Epoch, b.Turn, func(h killswitch.Holder) bool { return alive[h.Run] })
	k.rouse()
	return err
}

// unmark takes a mark away that has been ending, once no permission is left and Redis has what MySQL had decided by then.
func (k *Keeper) unmark(ctx context.Context, b *killswitch.RedisBehind) error {
	now := k.o.Clock.Now()
	k.mu.Lock()
	if k.sight.turn != b.Turn {
		k.sight = sighting{turn: b.Turn, at: now}
	}
	if k.sight.over.IsZero() && now.Sub(k.sight.at) >= b.Wait() {
		k.sight.over = now
	}
	over := k.sight.over
	k.mu.Unlock()
	if over.IsZero() {
		return nil
	}
	mysql := k.pod.Stores().MySQL
	k.pod.Rewind()
	stats, err := mysql.OutboxStats(ctx)
	if err != nil {
		return err
	}
	if stats.Lost {
		return fmt.Errorf("MySQL's outbox has dropped %d entries, so Redis does not have all that was answered without it: run 'crossfade backfill %s'", stats.Dropped, k.o.Pod)
	}
	// Less than the time that has passed since: two clocks, and whole milliseconds.
	passed := k.o.Clock.Now().Sub(over)
	age := (passed - passed/20).Milliseconds() - 1
	k.pod.Rewind()
	old, err := mysql.Pending(ctx, "", max(age, 0), 1)
	if err != nil || len(old) > 0 {
		return err
	}
	st, err := killswitch.Unmark(ctx, k.o.Control, k.o.Pod, b.Epoch, b.Turn)
	if err == nil {
		k.Saw(st)
	}
	return err
}

// tidy empties a journal that nobody needs any more.
func (k *Keeper) tidy(ctx context.Context) error {
	if k.o.Journal == nil {
		return nil
	}
	size := k.o.Journal.Size() // before the record is read: what comes later stays
	if size == 0 {
		return nil
	}
	st, _, err := k.o.Control.Get(ctx, k.o.Pod)
	if err != nil || st.RedisBehind != nil || st.Switch != nil || len(st.Due) > 0 || st.Epoch == 0 {
		return err
	}
	if f := k.pod.Gate().Serving(); f.Epoch != st.Epoch {
		return nil // a kill that the record does not know yet
	}
	if err := k.o.Journal.Empty(size); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.carried, k.dead = 0, map[string]bool{}
	return nil
}
