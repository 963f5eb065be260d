package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/template"
	"time"

	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/backends/redisstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
	"github.com/crossfade-proxy/crossfade/cmd/internal/orders"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// long tells whether the long forms are played.
func long() bool { return os.Getenv("CROSSFADE_LONG") != "" }

func pick[T any](short, other T) T {
	if long() {
		return other
	}
	return short
}

var binary string

type built struct{ m *testing.M }

// Run builds the command once, then runs the tests.
func (b built) Run() int {
	dir, err := os.MkdirTemp("", "crossfade-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "crossfade")
	out, err := exec.Command("go", "build", "-o", binary, "github.com/crossfade-proxy/crossfade/cmd/crossfade").CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "building the command: %v\n%s", err, out)
		return 1
	}
	return b.m.Run()
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(lab.Wrap(built{m})) }

const (
	podName = "pod-1"
	shop    = "shop-one"
)

// rig is two stores and some proxies.
type rig struct {
	t       *testing.T
	dir     string
	sql, kv *lab.Server
	dsn     string
	prefix  string
	proxies []*proxyProc
	more    string // further pods, for the configuration
}

// proxyProc is one proxy process. It may be killed and started again.
type proxyProc struct {
	r      *rig
	n      int
	resp   string
	admin  string
	config string
	mu     sync.Mutex
	proc   *lab.Process
}

var configText = template.Must(template.New("").Parse(`proxy_id: proxy-{{.N}}
data_dir: {{.Dir}}/data
excuses: {{.Dir}}/excuses.yaml
resp: {listen: "{{.RESP}}"}
admin: {listen: "{{.Admin}}", tokens: {test: 0123456789abcdef}}
control: {{.Control}}
kill: {dir: {{.Dir}}/kill}
pods:
  - name: pod-1
    shops: [shop-one]
    redis: {addr: "{{.Redis}}", prefix: "{{.Prefix}}"}
    mysql: {dsn: "{{.DSN}}"}
    sweep_age: 1s
    settle_window: 60s
    gates: {{.Gates}}
{{.Pod}}{{.More}}`))

// newRig starts private servers and n proxies, and waits until the pod serves. A few seconds of traffic are not what gates
// ask for as evidence, and those of the machine that plays the shop as well are no latency.
func newRig(t *testing.T, n int) *rig {
	t.Helper()
	return newRigWith(t, n, rigOptions{})
}

// newRigOn is newRig with another control store, as the configuration has it.
func newRigOn(t *testing.T, n int, control string) *rig {
	t.Helper()
	return newRigWith(t, n, rigOptions{control: control})
}

// newGatedRig is newRig with gates of its own.
func newGatedRig(t *testing.T, n int, gates string) *rig {
	t.Helper()
	return newRigWith(t, n, rigOptions{gates: gates})
}

// rigOptions are parts of the configuration; what is empty has its default.
type rigOptions struct {
	control string
	gates   string
	pod     string            // further lines of the pod
	more    func(*rig) string // further pods
}

// newRigWith is newRig with options.
func newRigWith(t *testing.T, n int, o rigOptions) *rig {
	t.Helper()
	if o.control == "" {
		o.control = "{dir: control}" // beside the configurations
	}
	if o.gates == "" {
		o.gates = "{off: [readiness, shadow-p99]}"
	}
	r := &rig{t: t, dir: t.TempDir(), sql: lab.Private(t, lab.MySQL), kv: lab.Private(t, lab.Redis)}
	r.dsn = r.sql.NewDatabase(t)
	r.excuse("excuses: []\n")
	r.prefix = "xf:"
	if o.more != nil {
		r.more = o.more(r)
	}
	for i := range n {
		p := &proxyProc{r: r, n: i + 1, resp: lab.FreeAddr(t), admin: lab.FreeAddr(t), config: filepath.Join(r.dir, fmt.Sprintf("proxy-%d.yaml", i+1))}
		var b bytes.Buffer
		if err := configText.Execute(&b, map[string]any{"N": p.n, "Dir": r.dir, "RESP": p.resp, "Admin": p.admin, "Redis": r.kv.Addr(), "Prefix": r.prefix, "DSN": r.dsn, "Control": o.control, "Gates": o.gates, "Pod": o.pod, "More": r.more}); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p.config, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		r.proxies = append(r.proxies, p)
		p.start()
		t.Cleanup(p.kill)
	}
	for _, p := range r.proxies {
		p.awaitServing()
	}
	r.settled()
	return r
}

// excuse writes the file of excuses of all proxies.
func (r *rig) excuse(text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, "excuses.yaml"), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (p *proxyProc) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(filepath.Join(p.r.dir, fmt.Sprintf("proxy-%d.log", p.n)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.r.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(binary, "serve", "-c", p.config)
	cmd.Stdout, cmd.Stderr = log, log
	// Attached: a test that runs out of time ends without its clean-up, and must not leave proxies behind.
	if p.proc, err = lab.Attach(cmd); err != nil {
		p.r.t.Fatal(err)
	}
}

// signal sends one to the process; kill is what ends it.
func (p *proxyProc) signal(sig syscall.Signal) {
	p.r.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := syscall.Kill(p.proc.PID(), sig); err != nil {
		p.r.t.Fatal(err)
	}
}

// kill ends the process by SIGKILL and waits until it is gone.
func (p *proxyProc) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proc == nil {
		return
	}
	if err := p.proc.Kill(); err != nil {
		p.r.t.Error(err)
	}
}

func (p *proxyProc) awaitServing() {
	p.r.eventually(30*time.Second, "proxy serves", func() error {
		st, err := p.status()
		if err != nil {
			return err
		}
		if !st.Serving {
			return fmt.Errorf("not serving: %+v", st.Actual)
		}
		return nil
	})
}

// eventually waits for a condition with a deadline.
func (r *rig) eventually(within time.Duration, what string, ok func() error) {
	r.t.Helper()
	deadline := time.Now().Add(within)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: not within %s: %v\n%s", what, within, err, r.logs())
		}
		<-tick.C
	}
}

// logs is the tail of every proxy's log.
func (r *rig) logs() string {
	var b strings.Builder
	for _, p := range r.proxies {
		text, _ := os.ReadFile(filepath.Join(r.dir, fmt.Sprintf("proxy-%d.log", p.n)))
		const tail = 3000
		if len(text) > tail {
			text = text[len(text)-tail:]
		}
		fmt.Fprintf(&b, "proxy %d:\n%s\n", p.n, text)
	}
	return b.String()
}

// run runs the command line and answers its standard output; the error carries its error output.
func (p *proxyProc) run(args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append([]string{"-c", p.config}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("crossfade %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return out.Bytes(), nil
}

func jsonOf[T any](p *proxyProc, args ...string) (v T, err error) {
	out, runErr := p.run(append(args, "--json")...)
	if err := json.Unmarshal(out, &v); err != nil {
		return v, errors.Join(runErr, err)
	}
	// A check that found something exits with 3, and one that could not read all with 5; both print all the same.
	var ee *exec.ExitError
	if errors.As(runErr, &ee) && (ee.ExitCode() == 3 || ee.ExitCode() == 5) {
		runErr = nil
	}
	return v, runErr
}

func (p *proxyProc) status() (killswitch.Status, error) {
	return jsonOf[killswitch.Status](p, "status", podName)
}

func (p *proxyProc) report() comparator.Report {
	p.r.t.Helper()
	rep, err := jsonOf[comparator.Report](p, "report", podName)
	if err != nil {
		p.r.t.Fatal(err)
	}
	return rep
}

// stage moves the pod through stages one by one, and waits until what each leaves is done.
func (r *rig) stage(stages ...string) {
	r.t.Helper()
	for _, s := range stages {
		if _, err := r.proxies[0].run("stage", podName, s, "--why", "test"); err != nil {
			r.t.Fatalf("%v\n%s", err, r.logs())
		}
		r.settled()
	}
}

// settled waits until a pod serves with nothing left to do, on every proxy.
func (r *rig) settled() {
	r.t.Helper()
	r.eventually(pick(60*time.Second, 120*time.Second), "pod is settled", func() error {
		st, err := r.proxies[0].status()
		if err != nil {
			return err
		}
		if !st.Serving || st.Switch != nil || len(st.Work) > 0 {
			return fmt.Errorf("serving %v, work %v", st.Serving, st.Work)
		}
		for _, p := range st.Proxies {
			if !p.Current {
				return fmt.Errorf("proxy %s has not acknowledged epoch %d", p.Proxy, st.Actual.Epoch)
			}
		}
		return nil
	})
}

// drained waits until everything is delivered and looked into.
func (r *rig) drained(within time.Duration) comparator.Report { return r.drainedOf(within, 0) }

// drainedOf is drained, and waits until the account has so many decisions: each proxy adds its own
// about once a second.
func (r *rig) drainedOf(within time.Duration, decisions int64) comparator.Report {
	r.t.Helper()
	var rep comparator.Report
	r.eventually(within, "outbox is empty and differences are settled", func() error {
		rep = r.proxies[0].report()
		switch {
		case rep.Outbox == nil || rep.Outbox.Entries > 0:
			return fmt.Errorf("outbox %+v", rep.Outbox)
		case rep.Coverage.Settling > 0 || rep.Coverage.Pending > 0:
			return fmt.Errorf("%d settling, %d pending", rep.Coverage.Settling, rep.Coverage.Pending)
		case rep.Coverage.Decisions < decisions:
			return fmt.Errorf("%d of %d decisions in the account", rep.Coverage.Decisions, decisions)
		}
		return nil
	})
	return rep
}

// clean demands that audit and conservation find nothing.
func (r *rig) clean() {
	r.t.Helper()
	a, err := jsonOf[comparator.AuditResult](r.proxies[0], "audit", podName)
	if err != nil {
		r.t.Fatal(err)
	}
	if !a.Clean() || a.HoldsTruth == 0 || a.LevelsTruth == 0 {
		r.t.Fatalf("audit: %d findings, %d undetermined, %d holds, %d levels: %+v", a.FindingsTotal, a.UndeterminedTotal, a.HoldsTruth, a.LevelsTruth, a)
	}
	c, err := jsonOf[comparator.Conservation](r.proxies[0], "conservation", podName)
	if err != nil {
		r.t.Fatal(err)
	}
	if !c.Clean() {
		r.t.Fatalf("conservation: %+v", c)
	}
	r.t.Logf("audit: %d holds and %d levels of the truth, %d and %d of the shadow, 0 differences", a.HoldsTruth, a.LevelsTruth, a.HoldsShadow, a.LevelsShadow)
}

// stores opens both stores directly, beside the proxies, to look at them.
func (r *rig) stores() (redis, mysql backends.Store) {
	r.t.Helper()
	tpl, err := backends.ParseKeyTemplate(backends.DefaultKeyTemplate, "", backends.DefaultLocation)
	if err != nil {
		r.t.Fatal(err)
	}
	rs, err := redisstore.Open(r.t.Context(), redisstore.Config{Pod: podName, Addr: r.kv.Addr(), Prefix: r.prefix, Template: tpl})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = rs.Close() })
	ms, err := mysqlstore.Open(r.t.Context(), mysqlstore.Config{Pod: podName, DSN: r.dsn})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = ms.Close() })
	return rs, ms
}

// book is the orders to play: the file named by CROSSFADE_ORDERS (the whole of it, in the long form),
// else generated ones of the same shape.
func book(t *testing.T, short int) *orders.Book {
	t.Helper()
	if f := os.Getenv("CROSSFADE_ORDERS"); f != "" && long() {
		b, err := orders.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b, err := orders.Generate(1, pick(short, max(short, 600)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
