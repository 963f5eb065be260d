package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/redisstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/admin"
	"github.com/crossfade-proxy/crossfade/cmd/internal/config"
	"github.com/crossfade-proxy/crossfade/cmd/internal/telemetry"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/comparator/mysqlfindings"
	"github.com/crossfade-proxy/crossfade/comparator/spool"
	"github.com/crossfade-proxy/crossfade/dualwrite"
	"github.com/crossfade-proxy/crossfade/dualwrite/respdoor"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// stopWithin bounds an orderly stop; what is in memory only is in the outboxes as well.
const stopWithin = 10 * time.Second

// Proxy is a running proxy.
type Proxy struct {
	cfg     *config.Config
	log     *slog.Logger
	control controlStore
	driver  *killswitch.Driver
	metrics *telemetry.Metrics
	pods    []*podRuntime
	byName  map[backends.Pod]*podRuntime
	router  *router
	excuses *excuses
	door    *respdoor.Server
	// auditTurns are taken by audits that run by schedule.
	auditTurns chan struct{}
	// runID tells this start of the proxy from every other.
	runID string

	doorLn, adminLn, metricsLn net.Listener
	servers                    []*http.Server
	closers                    []func() error

	cancel   context.CancelFunc
	wg       sync.WaitGroup
	stopOnce sync.Once
	stopErr  error
}

// Start assembles and starts a proxy. It returns when the doors listen; pods begin to serve as soon as
// their stores answer.
func Start(ctx context.Context, cfg *config.Config, log *slog.Logger) (*Proxy, error) {
	p := &Proxy{cfg: cfg, log: log, byName: map[backends.Pod]*podRuntime{}, auditTurns: make(chan struct{}, auditsAtOnce), runID: killswitch.NewDriverID(cfg.ProxyID)}
	if err := p.start(ctx); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

func (p *Proxy) start(ctx context.Context) (err error) {
	cfg := p.cfg
	if err := Check(ctx, cfg); err != nil {
		return err
	}
	if p.excuses, err = loadExcuses(cfg, p.log); err != nil {
		return err
	}
	if p.metrics, err = telemetry.New(); err != nil {
		return err
	}
	if p.control, err = openControl(cfg); err != nil {
		return err
	}
	p.closers = append(p.closers, p.control.Close)
	p.driver = killswitch.NewDriver(killswitch.DriverOptions{
		ID: killswitch.NewDriverID(cfg.ProxyID), Control: p.control, Clock: killswitch.SystemClock{},
		Stores: func(name backends.Pod) (killswitch.Stores, error) {
			r, err := p.find(name)
			if err != nil {
				return killswitch.Stores{}, err
			}
			return killswitch.Stores{Redis: r.stores.Redis, MySQL: r.stores.MySQL}, nil
		},
		Carrier: carrier{p.find}, Alone: p.answersAlone,
	})
	for i := range cfg.Pods {
		r, err := p.openPod(ctx, &cfg.Pods[i])
		if err != nil {
			return fmt.Errorf("pod %s: %w", cfg.Pods[i].Name, err)
		}
		p.pods = append(p.pods, r)
		p.byName[r.name] = r
	}
	p.router = newRouter(cfg, p.pods)
	if err := p.listen(ctx); err != nil {
		return err
	}
	return p.run(ctx)
}

func (p *Proxy) find(name backends.Pod) (*podRuntime, error) {
	if r := p.byName[name]; r != nil {
		return r, nil
	}
	return nil, &backends.FieldError{Field: "pod", Value: fmt.Sprintf("%q", name), Bound: "one of this proxy's pods", Next: "see 'crossfade pods'"}
}

// openPod makes a pod's parts. It connects to nothing yet.
func (p *Proxy) openPod(ctx context.Context, c *config.Pod) (*podRuntime, error) {
	name := backends.Pod(c.Name)
	tpl, err := c.Template()
	if err != nil {
		return nil, err
	}
	goals, err := c.Goals()
	if err != nil {
		return nil, err
	}
	rs, err := openRedis(ctx, c, tpl)
	if err != nil {
		return nil, err
	}
	p.closers = append(p.closers, rs.Close)
	ms, err := openMySQL(ctx, c, func(tag, op string, held time.Duration) { p.metrics.Connection(name, tag, op, held) })
	if err != nil {
		return nil, err
	}
	p.closers = append(p.closers, ms.Close)
	data := filepath.Join(p.cfg.Path(p.cfg.DataDir), p.cfg.ProxyID)
	if err := os.MkdirAll(data, 0o750); err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	sp, err := spool.Open(filepath.Join(data, c.Name+".spool"), 0)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	p.closers = append(p.closers, sp.Close)
	kept := mysqlfindings.New(ms.DB())
	r := &podRuntime{
		name: name, labels: c.Labels, template: tpl, retain: time.Duration(c.Retain), proxyID: p.cfg.ProxyID,
		stores: dualwrite.Stores{Redis: rs, MySQL: ms}, findings: kept, book: kept, sorry: newApologies(),
		control: p.control, driver: p.driver, log: p.log.With("pod", c.Name), watcher: ms.Watcher(), pools: ms.Pools,
		setup:    map[backends.Side]error{backends.SideRedis: errSetupPending, backends.SideMySQL: errSetupPending},
		excuses:  p.excuses,
		goals:    goals,
		gates:    c.GateBounds(),
		troubles: map[string]string{}, debt: map[backends.Side]int64{},
	}
	r.comparator, err = comparator.New(comparator.Config{
		Pod: name, Proxy: p.cfg.ProxyID, Store: r.findings, Sheets: kept, Spool: sp, SettleWindow: time.Duration(c.SettleWindow),
		Rechecker: comparator.NewStoreRechecker(r.pair, time.Now), Excuses: p.excuses.current,
		SlowShadow: cmp.Or(time.Duration(c.SlowShadow), dualwrite.DefaultOpTimeout),
	})
	if err != nil {
		return nil, err
	}
	r.settle = r.comparator.SettleWindow()
	if r.audits, r.schedule, err = r.openAudits(c, kept, p.auditTurns); err != nil {
		return nil, err
	}
	if err := p.openBehind(c, data, r); err != nil {
		return nil, err
	}
	r.pod = dualwrite.NewPod(name, r.stores, dualwrite.Options{
		ProbeShare: c.ProbeShare, Observer: p.metrics, Comparer: r.comparator, Guard: newBreaker("shadow of " + c.Name),
		SweepAge: time.Duration(c.SweepAge), Retain: time.Duration(c.Retain), Filer: kept, Lone: r.alone,
	})
	r.alone.Bind(r.pod)
	r.service = dualwrite.NewService(r.pod, r.report)
	return r, nil
}

// listen opens all listeners, so that a port that is taken is known before anything runs.
func (p *Proxy) listen(ctx context.Context) (err error) {
	var lc net.ListenConfig
	open := func(what, addr string) net.Listener {
		if err != nil || addr == "" {
			return nil
		}
		ln, e := lc.Listen(ctx, "tcp", addr)
		if e != nil {
			err = fmt.Errorf("%s cannot listen on %s: %w; is another proxy running? change %s in the configuration", what, addr, e, what)
			return nil
		}
		p.closers = append(p.closers, func() error { _ = ln.Close(); return nil })
		return ln
	}
	p.doorLn = open("resp.listen", p.cfg.RESP.Listen)
	p.adminLn = open("admin.listen", p.cfg.Admin.Listen)
	p.metricsLn = open("metrics.listen", p.cfg.Metrics.Listen)
	return err
}

func (p *Proxy) run(ctx context.Context) error {
	ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	watch, err := p.control.Watch(ctx)
	if err != nil {
		return fmt.Errorf("control store: %w", err)
	}
	wake := map[backends.Pod]chan struct{}{}
	for _, r := range p.pods {
		ch := make(chan struct{}, 1)
		wake[r.name] = ch
		if err := r.comparator.Start(context.WithoutCancel(ctx)); err != nil { // Stop ends it, after all that it records
			return err
		}
		r.service.Start(ctx)
		p.spawn(func() { r.setUp(ctx); r.prune(ctx) })
		p.spawn(func() { r.begin(ctx); r.work(ctx) })
		p.spawn(func() { r.watchDebt(ctx) })
		p.spawn(func() { r.keepAlone(ctx) })
		p.spawn(func() { r.keep(ctx, ch) })
		p.spawn(func() { r.audits.Run(ctx) })
	}
	p.spawn(func() { p.excuses.watch(ctx) })
	p.spawn(func() { p.enrol(ctx) })
	p.spawn(func() { p.rollouts().Run(ctx) })
	if err := p.watchKills(ctx); err != nil {
		return err
	}
	p.spawn(func() {
		for name := range watch {
			select {
			case wake[name] <- struct{}{}:
			default:
			}
		}
	})
	if err := p.metrics.Watch(p.figures, func() int64 { return p.door.Stats().Connections }); err != nil {
		return err
	}
	if err := p.openDoor(); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", p.metrics.Handler())
	if p.metricsLn != nil {
		p.serveHTTP(p.metricsLn, mux)
	}
	h, err := admin.Handler(p, p.cfg.Admin.Tokens, mux)
	if err != nil {
		return err
	}
	p.serveHTTP(p.adminLn, h)
	return nil
}

func (p *Proxy) openDoor() error {
	dc, err := doorConfig(p.cfg)
	if err != nil {
		return err
	}
	dc.Info, dc.Log = p, p.log
	if pt := p.cfg.RESP.Passthrough; pt != "" {
		rs, ok := p.byName[backends.Pod(pt)].stores.Redis.(*redisstore.Store)
		if !ok {
			return fmt.Errorf("pod %s has no Redis to pass commands through to", pt)
		}
		dc.Passthrough = passthrough{rs}
	}
	p.door, err = respdoor.New(dc, p.router, p.router)
	if err != nil {
		return err
	}
	return p.door.Start(p.doorLn)
}

// passthrough names redisstore's method as the door calls it.
type passthrough struct{ s *redisstore.Store }

// Do implements respdoor.Passthrough.
func (p passthrough) Do(ctx context.Context, args [][]byte) ([]byte, error) {
	return p.s.PassThrough(ctx, args)
}

func (p *Proxy) spawn(f func()) {
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		f()
	}()
}

func (p *Proxy) serveHTTP(ln net.Listener, h http.Handler) {
	// The admin service speaks gRPC too, which needs HTTP/2 without TLS on loopback.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, Protocols: &protocols, ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelWarn)}
	p.servers = append(p.servers, s)
	p.spawn(func() {
		if err := s.Serve(ln); err != nil && !errors.Is(err, http.ErrServerClosed) {
			p.log.Error("a listener has failed", "address", ln.Addr().String(), "error", err)
		}
	})
}

// RESPAddr is where the front door listens.
func (p *Proxy) RESPAddr() string { return p.doorLn.Addr().String() }

// AdminAddr is where the admin service listens.
func (p *Proxy) AdminAddr() string { return p.adminLn.Addr().String() }

// Stop stops the proxy in order; twice is once.
func (p *Proxy) Stop() error {
	p.stopOnce.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
		defer cancel()
		if p.door != nil {
			p.stopErr = p.door.Stop(ctx)
		}
		for _, s := range p.servers {
			if err := s.Shutdown(ctx); err != nil {
				_ = s.Close()
			}
		}
		if p.cancel != nil {
			p.cancel()
		}
		for _, r := range p.pods {
			r.service.Stop()
		}
		p.wg.Wait()
		stopComparing(p.pods) // last: nothing is mirrored any more, and they tell the others so
		p.stopErr = errors.Join(p.stopErr, p.close())
	})
	return p.stopErr
}

// stopComparing stops the comparators of all pods at the same time: each may need its ten seconds.
func stopComparing(pods []*podRuntime) {
	var wg sync.WaitGroup
	for _, r := range pods {
		wg.Go(r.comparator.Stop)
	}
	wg.Wait()
}

func (p *Proxy) close() error {
	var errs error
	for i := len(p.closers) - 1; i >= 0; i-- {
		errs = errors.Join(errs, p.closers[i]())
	}
	p.closers = nil
	if p.metrics != nil {
		errs = errors.Join(errs, p.metrics.Close(context.Background()))
	}
	return errs
}

// CrossfadeInfo implements respdoor.InfoProvider.
func (p *Proxy) CrossfadeInfo() []respdoor.InfoField {
	out := []respdoor.InfoField{{Name: "proxy_id", Value: p.cfg.ProxyID}}
	for _, r := range p.pods {
		f := r.pod.Gate().Serving()
		out = append(out, respdoor.InfoField{Name: "pod_" + string(r.name), Value: fmt.Sprintf("stage=%s,epoch=%d", f.Stage, f.Epoch)})
	}
	return out
}
