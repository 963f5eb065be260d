package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/behind"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/dualwrite"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

const (
	// keepEvery is how often a pod's keeper looks for switches to resume and work to do.
	keepEvery = 500 * time.Millisecond
	// ackEvery renews the acknowledgement of an unchanged epoch, so that a silent proxy shows.
	ackEvery = 5 * time.Second
	// setupEvery is the pause between tries to make the schema of a store that is away.
	setupEvery  = time.Second
	setupPoll   = 20 * time.Millisecond
	callTimeout = 5 * time.Second
	// pruneEvery is how often findings and coverage older than keepFindings are removed, prunePage
	// at a time.
	pruneEvery   = time.Hour
	keepFindings = 90 * 24 * time.Hour
	prunePage    = 1000
)

// podRuntime is one pod of a running proxy.
type podRuntime struct {
	name       backends.Pod
	labels     map[string]string
	template   *backends.KeyTemplate
	stores     dualwrite.Stores
	pod        *dualwrite.Pod
	service    *dualwrite.Service
	comparator *comparator.Comparator
	findings   comparator.Store
	book       comparator.ApologyBook
	sorry      *apologies
	retain     time.Duration
	settle     time.Duration
	goals      comparator.Goals
	gates      killswitch.Bounds
	control    killswitch.ControlStore
	driver     *killswitch.Driver
	proxyID    string
	log        *slog.Logger
	watcher    *mysqlstore.Watcher // of the pod's MySQL, all sessions
	pools      func() mysqlstore.Pools
	excuses    *excuses
	audits     *comparator.Audits
	schedule   comparator.AuditSchedule
	alone      *behind.Keeper

	mu       sync.Mutex
	setup    map[backends.Side]error // last result of Setup; errSetupPending before the first
	progress killswitch.Progress
	troubles map[string]string // task → last error
	debt     map[backends.Side]int64
	kill     killswitch.Change // the last that was made through this proxy
	unkept   []unkept          // kills of this proxy that the control store does not know yet
	told     told
}

// told is what the control store last said about the pod's shadow.
type told struct {
	epoch  uint64
	unsure string    // why the stores need not agree yet
	since  time.Time // since when it says the same of them
}

// toldBy reads a record: while what a change of stage has left is not done, the shadow is not complete.
func toldBy(st killswitch.PodState) told {
	t := told{epoch: st.Epoch}
	due := slices.DeleteFunc(slices.Clone(st.Due), func(w killswitch.Work) bool { return w == killswitch.WorkFill })
	switch {
	case st.Switch != nil:
		t.unsure = "a change of stage is under way"
	case len(due) > 0:
		t.unsure = fmt.Sprintf("what the last change of stage has left is not done: %v", due)
	}
	return t
}

// next keeps since when nothing has changed.
func (t told) next(n told, now time.Time) told {
	n.since = now
	if n.epoch == t.epoch && n.unsure == t.unsure && !t.since.IsZero() {
		n.since = t.since
	}
	return n
}

// unsureUnder tells why nothing can be concluded from a comparison of the stores under an epoch.
func (t told) unsureUnder(epoch uint64) string {
	if t.epoch != epoch {
		return fmt.Sprintf("the control store has not told yet how complete the shadow is under epoch %d", epoch)
	}
	return t.unsure
}

// unkept is a kill that is not recorded.
type unkept struct {
	q   killswitch.KillRequest
	res killswitch.KillResult
}

// maxUnkept bounds them: from live, two kills lead as far as any can.
const maxUnkept = 8

// keepKills writes down what could not be recorded when it was made, so that the history knows who and why.
func (p *podRuntime) keepKills(ctx context.Context) {
	p.mu.Lock()
	left := slices.Clone(p.unkept)
	p.mu.Unlock()
	for _, k := range left {
		err := killswitch.RecordKill(ctx, p.control, killswitch.SystemClock{}, k.q, k.res)
		if p.report("record a kill", err); err != nil {
			return
		}
		p.mu.Lock()
		p.unkept = p.unkept[1:]
		p.mu.Unlock()
	}
}

// killed remembers a kill, so that the same one is known again while the control store is away.
func (p *podRuntime) killed(q killswitch.KillRequest, res killswitch.KillResult) {
	if res.Verdict != killswitch.KillGo {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !res.Recorded && len(p.unkept) < maxUnkept {
		p.unkept = append(p.unkept, unkept{q, res})
	}
	p.kill = killswitch.Change{
		At: time.Now(), Kind: killswitch.KindKill, Outcome: killswitch.Done, Who: q.Who, Why: q.Why,
		From: res.From.Stage, FromEpoch: res.From.Epoch, To: res.To.Stage, Epoch: res.To.Epoch,
	}
}

func (p *podRuntime) lastKill() killswitch.Change {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kill
}

var errSetupPending = errors.New("not checked yet")

func (p *podRuntime) report(task string, err error) {
	p.mu.Lock()
	had := p.troubles[task]
	if err == nil {
		delete(p.troubles, task)
	} else {
		p.troubles[task] = err.Error()
	}
	p.mu.Unlock()
	switch {
	case err != nil && had == "":
		p.log.Warn("a background task fails", "task", task, "error", err)
	case err == nil && had != "":
		p.log.Info("a background task works again", "task", task)
	}
}

// setUp makes schema and checks servers, until both are fit. A pod serves meanwhile if it can.
func (p *podRuntime) setUp(ctx context.Context) {
	for ctx.Err() == nil {
		ok := true
		for _, side := range []backends.Side{backends.SideRedis, backends.SideMySQL} {
			if p.setupError(side) == nil {
				continue
			}
			cctx, cancel := context.WithTimeout(ctx, 30*time.Second)
			err := p.stores.Of(side).Setup(cctx)
			cancel()
			p.mu.Lock()
			p.setup[side] = err
			p.mu.Unlock()
			p.report("set-up of "+side.String(), err)
			ok = ok && err == nil
		}
		if ok && p.apart(ctx) {
			return
		}
		_ = dualwrite.SystemClock{}.Wait(ctx, nil, setupEvery)
	}
}

// apart tells whether the two stores are two. If not, the shadow counts as not set up: no pod starts with it, and no gate lets one move.
func (p *podRuntime) apart(ctx context.Context) bool {
	cctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := backends.Apart(cctx, p.stores.Redis, p.stores.MySQL)
	p.report("telling the stores apart", err)
	if err != nil {
		p.mu.Lock()
		p.setup[backends.SideMySQL] = err
		p.mu.Unlock()
	}
	return err == nil
}

func (p *podRuntime) setupError(side backends.Side) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.setup[side]
}

// begin gives a pod that has neither record nor fence its first stage, and otherwise learns where it is.
func (p *podRuntime) begin(ctx context.Context) {
	for ctx.Err() == nil {
		err := p.tryBegin(ctx)
		if !errors.Is(err, errSetupPending) {
			p.report("start", err)
		}
		if err == nil {
			return
		}
		wait := setupEvery
		if errors.Is(err, errSetupPending) {
			wait = setupPoll
		}
		_ = dualwrite.SystemClock{}.Wait(ctx, nil, wait)
	}
}

func (p *podRuntime) tryBegin(ctx context.Context) error {
	cctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := p.setupError(backends.SideRedis); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	st, _, err := p.control.Get(cctx, p.name)
	if err != nil {
		// A pod that was set up is served by its fences; whether one has to be set up, nobody can tell.
		rctx, done := context.WithTimeout(ctx, callTimeout)
		defer done()
		return errors.Join(err, p.pod.Refresh(rctx))
	}
	if st.Epoch == 0 && st.Switch == nil {
		if err := p.setupError(backends.SideMySQL); err != nil {
			return fmt.Errorf("a pod's first start needs both stores; mysql: %w", err)
		}
		if _, err := p.driver.Init(cctx, p.name, backends.RedisOnly, p.proxyID, "first start of the pod"); err != nil {
			return err
		}
	}
	return p.pod.Refresh(cctx)
}

// keep follows the control store: it holds the gate while a switch is announced, acknowledges what is
// served, resumes what was left half-way, and does the work that is due.
func (p *podRuntime) keep(ctx context.Context, changed <-chan struct{}) {
	var acked uint64
	var ackedAt time.Time
	for ctx.Err() == nil {
		p.follow(ctx)
		if f := p.pod.Gate().Serving(); f.Epoch != acked || time.Since(ackedAt) > ackEvery {
			if err := p.acknowledge(ctx); err == nil {
				acked, ackedAt = f.Epoch, time.Now()
			}
		}
		_ = dualwrite.SystemClock{}.Wait(ctx, changed, keepEvery)
		select {
		case <-changed:
		default:
		}
	}
}

// acknowledge tells the other proxies which epoch this one serves; nothing where it serves none.
func (p *podRuntime) acknowledge(ctx context.Context) error {
	f := p.pod.Gate().Serving()
	if f.Epoch == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := p.control.Acknowledge(ctx, killswitch.Ack{Proxy: p.proxyID, Pod: p.name, Epoch: f.Epoch, Stage: f.Stage, At: time.Now()})
	p.report("acknowledge", err)
	return err
}

// follow takes over what the control store says of announcements and fences.
func (p *podRuntime) follow(ctx context.Context) {
	cctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	st, _, err := p.control.Get(cctx, p.name)
	p.report("read the control store", err)
	if err != nil {
		p.pod.Gate().Withdraw() // without it nobody can tell when to open again; fences are what counts
		return
	}
	p.keepKills(cctx)
	p.mu.Lock()
	p.told = p.told.next(toldBy(st), time.Now())
	p.mu.Unlock()
	p.alone.Saw(st)
	if epoch, holds := st.Hold(); holds {
		p.pod.Gate().Announce(epoch)
		return
	}
	p.pod.Gate().Withdraw()
	if st.Epoch > p.pod.Gate().Serving().Epoch {
		_ = p.pod.Refresh(cctx)
	}
}

// work resumes switches and does what is due, one pod at a time, for as long as it takes.
func (p *podRuntime) work(ctx context.Context) {
	for ctx.Err() == nil {
		_, err := p.driver.Resume(ctx, p.name)
		p.report("resume a switch", calm(err))
		ws, err := p.driver.Work(ctx, p.name, func(g killswitch.Progress) {
			p.mu.Lock()
			p.progress = g
			p.mu.Unlock()
		})
		p.report("work after a switch or kill", calm(err))
		if len(ws) > 0 && err == nil {
			p.log.Info("work done", "work", fmt.Sprint(ws))
			continue
		}
		_ = dualwrite.SystemClock{}.Wait(ctx, nil, keepEvery)
	}
}

// prune removes findings and coverage that are past their time.
func (p *podRuntime) prune(ctx context.Context) {
	for ctx.Err() == nil {
		cctx, cancel := context.WithTimeout(ctx, callTimeout)
		n, err := p.findings.Prune(cctx, p.name, time.Now().Add(-keepFindings), prunePage)
		cancel()
		p.report("prune findings", err)
		if n == 0 || err != nil {
			_ = dualwrite.SystemClock{}.Wait(ctx, nil, pruneEvery)
		}
	}
}

// calm takes away what is not trouble: somebody else is at it.
func calm(err error) error {
	var open *killswitch.OpenSwitchError
	if errors.Is(err, killswitch.ErrDriverAlive) || errors.Is(err, killswitch.ErrBusy) || errors.As(err, &open) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// pair is the roles that the present stage gives the stores, for comparator and audit.
func (p *podRuntime) pair() (comparator.Pair, error) {
	f := p.pod.Gate().Serving()
	truth := p.stores.Of(f.Stage.Truth())
	shadow := p.stores.Of(f.Stage.Truth().Other())
	if truth == nil || shadow == nil {
		return comparator.Pair{}, comparator.ErrNoPair
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return comparator.Pair{Stage: f.Stage, Epoch: f.Epoch, Truth: truth, Shadow: shadow, Unsure: p.told.unsureUnder(f.Epoch), SureSince: p.told.since}, nil
}

// carrier brings states from one store to the other, for package killswitch.
type carrier struct {
	pod func(backends.Pod) (*podRuntime, error)
}

// Drain implements killswitch.Carrier.
func (c carrier) Drain(ctx context.Context, pod backends.Pod, under backends.Fence) error {
	p, err := c.pod(pod)
	if err != nil {
		return err
	}
	return p.pod.Drain(ctx, under)
}

// Settle implements killswitch.Carrier.
func (c carrier) Settle(ctx context.Context, pod backends.Pod, under backends.Fence) error {
	p, err := c.pod(pod)
	if err != nil {
		return err
	}
	p.pod.Gate().Adopt(under)
	_, err = p.pod.Settle(ctx)
	return err
}

// Backfill implements killswitch.Carrier.
func (c carrier) Backfill(ctx context.Context, pod backends.Pod, under backends.Fence, progress func(killswitch.Progress)) error {
	p, err := c.pod(pod)
	if err != nil {
		return err
	}
	p.pod.Gate().Adopt(under)
	return p.pod.Backfill(ctx, func(b dualwrite.BackfillProgress) {
		progress(killswitch.Progress{Phase: b.Phase, Levels: b.Levels, Holds: b.Holds, Voided: b.Voided, Waiting: b.Waiting})
	})
}

// Restore implements killswitch.Restorer.
func (c carrier) Restore(ctx context.Context, pod backends.Pod, under backends.Fence, complete bool) (killswitch.Restored, error) {
	p, err := c.pod(pod)
	if err != nil {
		return killswitch.Restored{}, err
	}
	p.pod.Gate().Adopt(under)
	r, err := p.pod.Restore(ctx, under, complete)
	if err == nil {
		p.log.Info("Redis was given back what it had lost", "epoch", under.Epoch, "restored", killswitch.Restored(r).String())
	}
	return killswitch.Restored(r), err
}
