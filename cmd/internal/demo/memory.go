package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/comparator/memfindings"
	"github.com/crossfade-proxy/crossfade/dualwrite"
	"github.com/crossfade-proxy/crossfade/dualwrite/respdoor"
	"github.com/crossfade-proxy/crossfade/killswitch"
	"github.com/crossfade-proxy/crossfade/killswitch/filestore"
)

const (
	// workEvery is how often a pod looks whether a switch or a kill has left anything to do.
	workEvery = 50 * time.Millisecond
	// sweepAge is short: nothing is slow here, so what a lane has left behind is mirrored soon.
	sweepAge = 100 * time.Millisecond
	// stopWithin bounds the door's farewell.
	stopWithin = 5 * time.Second
	// reportFindings bounds what a report lists.
	reportFindings = 100
	// auditPause is between two looks of an audit, which has to wait for no slow server here.
	auditPause = 200 * time.Millisecond
)

// memory is a System without servers: the stores are the memory model, all else is what a proxy
// is made of. Nothing outlives it.
type memory struct {
	pods   map[backends.Pod]*memoryPod
	shops  map[backends.Shop]*memoryPod
	driver *killswitch.Driver
	kept   killswitch.ControlStore
	dir    string // of the control store
	door   *respdoor.Server
	addr   string
	cancel context.CancelFunc
	wg     sync.WaitGroup
	stop   sync.Once
	err    error // of the stop
}

// memoryPod is one pod of it.
type memoryPod struct {
	*dualwrite.Pod
	redis, mysql *memstore.Store
	service      *dualwrite.Service
	comparator   *comparator.Comparator
	findings     comparator.Store
}

// OpenMemory opens a System on the memory model.
func OpenMemory(ctx context.Context) (System, error) {
	m := &memory{pods: map[backends.Pod]*memoryPod{}, shops: map[backends.Shop]*memoryPod{}}
	if err := m.open(ctx); err != nil {
		return nil, errors.Join(err, m.Stop(ctx))
	}
	return m, nil
}

func (m *memory) open(ctx context.Context) (err error) {
	if m.dir, err = os.MkdirTemp("", "crossfade-demo-"); err != nil {
		return err
	}
	if m.kept, err = filestore.Open(m.dir, filestore.Options{}); err != nil {
		return err
	}
	m.driver = killswitch.NewDriver(killswitch.DriverOptions{
		ID: killswitch.NewDriverID("demo"), Control: m.kept, Carrier: memoryCarrier{m},
		Stores: func(pod backends.Pod) (killswitch.Stores, error) {
			p, err := m.pod(pod)
			if err != nil {
				return killswitch.Stores{}, err
			}
			return killswitch.Stores{Redis: p.redis, MySQL: p.mysql}, nil
		},
	})
	var run context.Context
	run, m.cancel = context.WithCancel(context.WithoutCancel(ctx))
	for pod, shop := range map[backends.Pod]backends.Shop{PodOne: ShopOne, PodTwo: ShopTwo} {
		p, err := newMemoryPod(pod)
		if err != nil {
			return err
		}
		m.pods[pod], m.shops[shop] = p, p
		if err := p.comparator.Start(context.WithoutCancel(run)); err != nil {
			return err
		}
		p.service.Start(run)
		if _, err := m.driver.Init(ctx, pod, backends.RedisOnly, "demo", "the demo begins"); err != nil {
			return err
		}
		if err := p.Refresh(ctx); err != nil {
			return err
		}
	}
	for pod := range m.pods {
		m.wg.Go(func() { m.work(run, pod) })
	}
	return m.listen()
}

func newMemoryPod(name backends.Pod) (p *memoryPod, err error) {
	p = &memoryPod{
		redis:    memstore.New(memstore.Options{Side: backends.SideRedis}),
		mysql:    memstore.New(memstore.Options{Side: backends.SideMySQL}),
		findings: memfindings.New(),
	}
	p.comparator, err = comparator.New(comparator.Config{
		Pod: name, Proxy: "demo", Store: p.findings, Rechecker: comparator.NewStoreRechecker(p.pair, time.Now),
	})
	if err != nil {
		return nil, err
	}
	p.Pod = dualwrite.NewPod(name, dualwrite.Stores{Redis: p.redis, MySQL: p.mysql}, dualwrite.Options{Comparer: p.comparator, SweepAge: sweepAge})
	p.service = dualwrite.NewService(p.Pod, nil)
	return p, nil
}

func (m *memory) listen() (err error) {
	router := memoryRouter{m}
	if m.door, err = respdoor.New(respdoor.Config{}, router, router); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	m.addr = ln.Addr().String()
	return m.door.Start(ln)
}

// work does what a switch or a kill leaves to be done.
func (m *memory) work(ctx context.Context, pod backends.Pod) {
	for ctx.Err() == nil {
		// Both are tried again at the next round, and what is left to do is in the status.
		_, _ = m.driver.Resume(ctx, pod)
		ws, err := m.driver.Work(ctx, pod, nil)
		if len(ws) > 0 && err == nil {
			continue
		}
		_ = dualwrite.SystemClock{}.Wait(ctx, nil, workEvery)
	}
}

func (m *memory) pod(name backends.Pod) (*memoryPod, error) {
	if p := m.pods[name]; p != nil {
		return p, nil
	}
	return nil, &backends.FieldError{Field: "pod", Value: fmt.Sprintf("%q", name), Bound: "one or two", Next: "name a pod of the demo"}
}

// About implements System.
func (m *memory) About() []string {
	return []string{
		"memory model in place of Redis, one store a pod",
		"memory model in place of MySQL, one store a pod",
		"one Crossfade proxy in this process, RESP on " + m.addr,
	}
}

// Doors implements System.
func (m *memory) Doors() []string { return []string{m.addr} }

// LoseUnits implements System.
func (m *memory) LoseUnits(_ context.Context, pod backends.Pod, key backends.Key, n int64) (string, error) {
	p, err := m.pod(pod)
	if err != nil {
		return "", err
	}
	p.mysql.Bypass(key, -n)
	return fmt.Sprintf("took %d off the counter of %s in the store that stands for MySQL", n, key), nil
}

// Stop implements System.
func (m *memory) Stop(ctx context.Context) error {
	m.stop.Do(func() {
		if m.door != nil {
			dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
			m.err = m.door.Stop(dctx)
			cancel()
		}
		if m.cancel != nil {
			m.cancel()
		}
		for _, p := range m.pods {
			p.service.Stop()
		}
		m.wg.Wait()
		for _, p := range m.pods {
			p.comparator.Stop()
		}
		if m.dir != "" {
			m.err = errors.Join(m.err, os.RemoveAll(m.dir))
		}
	})
	return m.err
}

// SetStage implements Operator.
func (m *memory) SetStage(ctx context.Context, r killswitch.SwitchRequest, steps func(killswitch.StepDone)) (killswitch.Result, error) {
	p, err := m.pod(r.Pod)
	if err != nil {
		return killswitch.Result{}, err
	}
	r.Bounds = memoryBounds
	r.Evidence = func(ctx context.Context, _ killswitch.Need) killswitch.Evidence { return m.evidence(ctx, p) }
	res, err := m.driver.Switch(ctx, r)
	for _, s := range res.Change.Steps {
		steps(s)
	}
	return res, errors.Join(err, p.Refresh(ctx))
}

// Kill implements Operator.
func (m *memory) Kill(ctx context.Context, r killswitch.KillRequest) (killswitch.KillResult, error) {
	p, err := m.pod(r.Pod)
	if err != nil {
		return killswitch.KillResult{}, err
	}
	res, err := killswitch.Kill(ctx, p.redis, m.kept, killswitch.SystemClock{}, r)
	if err != nil {
		return res, err
	}
	return res, p.Refresh(ctx)
}

// Status implements Operator.
func (m *memory) Status(ctx context.Context, pod backends.Pod) (killswitch.Status, error) {
	seen, _, err := m.driver.Look(ctx, pod)
	return killswitch.BuildStatus(pod, seen, err, killswitch.Fleet{}, time.Now()), err
}

// Audit implements Operator.
func (m *memory) Audit(ctx context.Context, pod backends.Pod, progress func(comparator.AuditProgress)) (*comparator.AuditResult, error) {
	p, err := m.pod(pod)
	if err != nil {
		return nil, err
	}
	res, err := comparator.Audit(ctx, comparator.AuditInput{
		Pod: pod, Epoch: p.Gate().Serving().Epoch, Pair: p.pair, Pause: auditPause, Progress: progress, Found: p.comparator.Record,
	})
	return res, errors.Join(err, p.comparator.Flush(ctx))
}

// Conservation implements Operator.
func (m *memory) Conservation(ctx context.Context, pod backends.Pod) (*comparator.Conservation, error) {
	p, err := m.pod(pod)
	if err != nil {
		return nil, err
	}
	return comparator.CheckConservation(ctx, pod, []comparator.NamedStore{{Name: "redis", Store: p.redis}, {Name: "mysql", Store: p.mysql}}, time.Now), nil
}
