package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"text/template"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/backends/redisstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/admin"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

const (
	podName  = "pod-1"
	database = "chaos"
	fleet    = 3                        // proxies
	token    = "chaos-on-loopback-only" //nolint:gosec // it protects nothing

	startWithin  = 60 * time.Second
	settleWithin = 2 * time.Minute
	stopWithin   = 30 * time.Second
)

// rig is three proxies, their servers, and the relays between them.
type rig struct {
	*play
	dir     string
	sql, kv *lab.Server
	control control
	alone   bool // MySQL may answer without Redis
	proxies [fleet]*proxy
	// redis and mysql look at the stores directly, past all relays.
	redis, mysql backends.Store
	closers      []func() error
}

// proxy is one proxy process. It may be ended and started again.
type proxy struct {
	n            int
	binary       string
	config, log  string
	resp         string
	adminAddr    string
	admin        *admin.Client
	redis, mysql *relay

	mu   sync.Mutex
	proc *lab.Process
}

var proxyConfig = template.Must(template.New("").Parse(`proxy_id: proxy-{{.N}}
data_dir: {{.Dir}}/data
resp: {listen: "{{.RESP}}"}
admin: {listen: "{{.Admin}}", tokens: {chaos: {{.Token}}}}
control: {{.Control}}
pods:
  - name: pod-1
    shops: [chaos]
    redis: {addr: "{{.Redis}}", prefix: "xf:"}
    mysql: {dsn: "{{.DSN}}"}
    sweep_age: 1s
    settle_window: 60s
    slow_shadow: 1m # rows that a stopped proxy has locked are what is played, and no finding that bars a switch
    audit: {every: 0s}
    redis_away: {{if .Alone}}answer{{else}}refuse{{end}}
    gates: {off: [readiness, shadow-p99]}
`))

// open starts everything. close has to be called whatever it answers.
func (r *rig) open(ctx context.Context) (err error) {
	if r.dir, err = os.MkdirTemp("", "crossfade-chaos-"); err != nil {
		return err
	}
	r.closers = append(r.closers, func() error { return os.RemoveAll(r.dir) })
	if r.sql, err = r.server(ctx, lab.MySQL); err != nil {
		return err
	}
	if r.kv, err = r.server(ctx, lab.Redis); err != nil {
		return err
	}
	if err := r.sql.CreateDatabase(ctx, database); err != nil {
		return err
	}
	if err := r.openControl(ctx); err != nil {
		return err
	}
	for n := range r.proxies {
		if err := r.addProxy(ctx, n); err != nil {
			return err
		}
	}
	for _, p := range r.proxies {
		if err := r.serving(ctx, p); err != nil {
			return err
		}
	}
	return r.look(ctx, r.kv.Addr())
}

func (r *rig) openControl(ctx context.Context) (err error) {
	if r.o.Control == ControlFile {
		if r.control, err = newFileControl(r.dir); err == nil {
			r.closers = append(r.closers, r.control.close)
		}
		return err
	}
	c, err := newEtcdControl(ctx, lab.Options{Fast: r.o.Fast, Progress: r.o.Progress})
	r.control = c
	r.closers = append(r.closers, c.close)
	return err
}

func (r *rig) server(ctx context.Context, k lab.Kind, args ...string) (*lab.Server, error) {
	s, err := lab.Start(ctx, k, lab.Options{Fast: r.o.Fast, Own: true, Args: args, Progress: r.o.Progress})
	if err != nil {
		return nil, err
	}
	r.closers = append(r.closers, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
		defer cancel()
		return s.Stop(ctx)
	})
	return s, nil
}

// look opens the stores for the checks.
func (r *rig) look(ctx context.Context, redisAddr string) error {
	tpl, err := backends.ParseKeyTemplate(backends.DefaultKeyTemplate, "", backends.DefaultLocation)
	if err != nil {
		return err
	}
	rs, err := redisstore.Open(ctx, redisstore.Config{Pod: podName, Addr: redisAddr, Prefix: "xf:", Template: tpl})
	if err != nil {
		return err
	}
	r.redis = rs
	r.closers = append(r.closers, rs.Close)
	if r.mysql != nil {
		return nil
	}
	ms, err := mysqlstore.Open(ctx, mysqlstore.Config{Pod: podName, DSN: r.sql.DSN(database)})
	if err != nil {
		return err
	}
	r.mysql = ms
	r.closers = append(r.closers, ms.Close)
	return nil
}

func (r *rig) addProxy(ctx context.Context, n int) (err error) {
	p := &proxy{n: n, binary: r.o.Binary, config: filepath.Join(r.dir, fmt.Sprintf("proxy-%d.yaml", n)), log: filepath.Join(r.dir, fmt.Sprintf("proxy-%d.log", n))}
	r.proxies[n] = p
	for _, at := range []*string{&p.resp, &p.adminAddr} {
		addr, free, err := lab.HoldAddr()
		if err != nil {
			return err
		}
		r.closers = append(r.closers, func() error { free(); return nil })
		*at = addr
	}
	if p.redis, err = r.relay(ctx, r.kv.Addr()); err != nil {
		return err
	}
	if p.mysql, err = r.relay(ctx, r.sql.Addr()); err != nil {
		return err
	}
	dsn, err := mysql.ParseDSN(r.sql.DSN(database))
	if err != nil {
		return err
	}
	dsn.Addr = p.mysql.addr()
	var text bytes.Buffer
	if err := proxyConfig.Execute(&text, map[string]any{
		"N": n, "Dir": r.dir, "RESP": p.resp, "Admin": p.adminAddr, "Token": token, "Control": r.control.stanza(n),
		"Redis": p.redis.addr(), "Alone": r.alone, "DSN": dsn.FormatDSN(),
	}); err != nil {
		return err
	}
	if err := os.WriteFile(p.config, text.Bytes(), 0o600); err != nil {
		return err
	}
	p.admin = admin.NewClient(p.adminAddr, token)
	r.closers = append(r.closers, p.kill)
	return p.start(ctx)
}

func (r *rig) relay(ctx context.Context, to string) (*relay, error) {
	x, err := newRelay(ctx, to)
	if err == nil {
		r.closers = append(r.closers, func() error { x.close(); return nil })
	}
	return x, err
}

// close ends all that open has begun, the last first.
func (r *rig) close() (err error) {
	for i := len(r.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, r.closers[i]())
	}
	r.closers = nil
	return err
}

func (p *proxy) start(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), p.binary, "serve", "-c", p.config)
	cmd.Stdout, cmd.Stderr = log, log
	p.proc, err = lab.Attach(cmd)
	return err
}

// kill ends the process by SIGKILL and waits until it is gone. Twice is once.
func (p *proxy) kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proc == nil {
		return nil
	}
	return p.proc.Kill()
}

// signal sends one to the process, if that is still the one that was started.
func (p *proxy) signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proc == nil {
		return os.ErrProcessDone
	}
	return p.proc.Signal(sig)
}

func (p *proxy) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.proc != nil && p.proc.Alive()
}

func (r *rig) serving(ctx context.Context, p *proxy) error {
	return eventually(ctx, startWithin, fmt.Sprintf("proxy %d serves", p.n), func() error {
		if !p.alive() {
			return errors.New("it has ended: " + tail(p.log))
		}
		st, err := p.status(ctx)
		if err == nil && !st.Serving {
			err = fmt.Errorf("not serving: %v", st.Notes)
		}
		return err
	})
}

func (p *proxy) status(ctx context.Context) (killswitch.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, tryWithin)
	defer cancel()
	return p.admin.Status(ctx, podName)
}

// settled waits until the pod serves with nothing left to do, on every proxy, and all outboxes are empty.
func (r *rig) settled(ctx context.Context) (st killswitch.Status, err error) {
	err = eventuallyTold(ctx, settleWithin, "the pod is settled", r.tell, func() (err error) {
		if st, err = r.proxies[0].status(ctx); err != nil {
			return err
		}
		if !st.Serving || st.Switch != nil || len(st.Work) > 0 || st.Actual != st.Desired {
			return fmt.Errorf("serving %v, %s, to be done: %v, switch: %v, %v, outboxes: %s", st.Serving, st.Actual, st.Work, st.Switch != nil, st.Notes, r.outboxes(ctx))
		}
		if len(st.Proxies) != fleet {
			return fmt.Errorf("%d proxies", len(st.Proxies))
		}
		for _, p := range st.Proxies {
			if !p.Current {
				return fmt.Errorf("proxy %s has not acknowledged epoch %d", p.Proxy, st.Actual.Epoch)
			}
		}
		return nil
	})
	return st, err
}

// outboxes is what waits in them, for people.
func (r *rig) outboxes(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	a, aerr := r.redis.OutboxStats(ctx)
	b, berr := r.mysql.OutboxStats(ctx)
	return fmt.Sprintf("redis %d, oldest %d ms, %v; mysql %d, oldest %d ms, %v", a.Entries, a.OldestMillis, aerr, b.Entries, b.OldestMillis, berr)
}

// lag is how old the oldest entry is that the other store does not have yet, of the store that is within reach.
func (r *rig) lag(ctx context.Context) (age time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	a, aerr := r.redis.OutboxStats(ctx)
	b, berr := r.mysql.OutboxStats(ctx)
	if aerr != nil && berr != nil {
		return 0, errors.Join(aerr, berr)
	}
	return time.Duration(max(a.OldestMillis, b.OldestMillis)) * time.Millisecond, nil
}

// drained waits until both outboxes are empty.
func (r *rig) drained(ctx context.Context) error {
	return eventuallyTold(ctx, settleWithin, "the outboxes are empty", r.tell, func() error {
		for name, s := range r.stores() {
			stats, err := s.OutboxStats(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if stats.Entries > 0 || stats.Lost {
				return fmt.Errorf("%s: %+v", name, stats)
			}
		}
		return nil
	})
}

func (r *rig) stores() map[string]backends.Store {
	return map[string]backends.Store{"redis": r.redis, "mysql": r.mysql}
}

// stage moves the pod by one stage through one proxy.
func (r *rig) stage(ctx context.Context, by int, to backends.Stage) (killswitch.Result, error) {
	const within = 30 * time.Second
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var force []string
	if to == backends.Live {
		force = []string{"proxies"} // a proxy that is stopped or cut off is what is played
	}
	return r.proxies[by].admin.SetStage(ctx, podName, to.String(), "chaos", force, false, func(string, time.Duration) {})
}

// begin brings the pod to a stage, step by step, with everything well.
func (r *rig) begin(ctx context.Context, want backends.Stage) error {
	for {
		st, err := r.settled(ctx)
		if err != nil {
			return err
		}
		at := st.Actual.Stage
		if at == want {
			return nil
		}
		to := at + 1
		if at > want {
			to = at - 1
		}
		if err := eventually(ctx, settleWithin, "the pod can go to "+to.String(), func() error {
			if err := r.acknowledge(ctx); err != nil {
				return err
			}
			_, err := r.stage(ctx, 0, to)
			return err
		}); err != nil {
			return err
		}
	}
}

// acknowledge does what an operator does after the kill of a marked pod: settling has voided what MySQL had decided and Redis never
// had, and says of each that it may have been acknowledged. Whether it was, the buyers know, and that was checked.
func (r *rig) acknowledge(ctx context.Context) error {
	if !r.alone {
		return nil
	}
	c := r.proxies[0].admin
	fs, _, err := c.Findings(ctx, podName, admin.FindingsAsked{})
	if err != nil {
		return err
	}
	var ids []string
	for i := range fs {
		if fs[i].Source == "kill" && fs[i].Life == comparator.LifeOpen {
			ids = append(ids, fs[i].ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	_, err = c.AcknowledgeFindings(ctx, podName, ids, "chaos: no buyer was told otherwise")
	return err
}

// heal takes every fault away.
func (r *rig) heal(ctx context.Context) error {
	var errs []error
	for n, p := range r.proxies {
		for _, x := range []*relay{p.redis, p.mysql} {
			x.lay(nil)
			x.set(pass, 0)
		}
		errs = append(errs, r.control.heal(n))
		if p.alive() {
			errs = append(errs, p.signal(syscall.SIGCONT))
			continue
		}
		errs = append(errs, p.start(ctx))
	}
	errs = append(errs, r.control.regain(ctx))
	if r.sql.PID() == 0 {
		errs = append(errs, r.sql.Restart(ctx))
	} else {
		errs = append(errs, r.sql.Resume())
	}
	for _, p := range r.proxies {
		errs = append(errs, r.serving(ctx, p))
	}
	return errors.Join(errs...)
}

// tail is the end of a log.
func tail(path string) string {
	const most = 1500
	b, err := os.ReadFile(path) //nolint:gosec // the harness's own
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-most):])
}
