package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"text/template"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/admin"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

const (
	// serveWithin bounds the start of a proxy, and each of its moves.
	serveWithin = 60 * time.Second
	servePoll   = 20 * time.Millisecond
	// proxyToken is for a proxy on loopback that lives for a minute.
	proxyToken = "bench-on-loopback-only" //nolint:gosec // it protects nothing
)

var proxyConfig = template.Must(template.New("").Parse(`proxy_id: bench
data_dir: {{.Dir}}/data
resp: {listen: "{{.RESP}}"}
admin: {listen: "{{.Admin}}", tokens: {bench: {{.Token}}}}
control: {dir: {{.Dir}}/control}
pods:
{{- range .Pods}}
  - name: {{.}}
    shops: [{{.}}]
    redis: {addr: "{{$.Redis}}", prefix: "xf:{{$.Tag}}:{{.}}:"}
    mysql: {dsn: "{{$.MySQL}}"}
    key_template: "{{$.Tag}}:{shop}:{item}"
    audit: {every: 0s}
    gates: {off: [readiness, shadow-p99]}
{{- end}}
`))

// door is a real proxy process, with pods whose only shop has the pod's name.
type door struct {
	proc  *lab.Process
	addr  string
	tag   string // of its keys in Redis
	admin *admin.Client
	log   string
	drop  func()
	dsn   string
}

// newDoor starts a proxy with pods of these names, in redis-only, on the run's servers and a database of
// its own.
func (e *env) newDoor(ctx context.Context, pods ...string) (*door, error) {
	if e.o.Binary == "" {
		return nil, &unmeasuredError{"there is no crossfade program to start as a proxy", "run it as 'crossfade bench'"}
	}
	srv, err := e.mysql(ctx, "mysql")
	if err != nil {
		return nil, err
	}
	kv, err := e.redis(ctx)
	if err != nil {
		return nil, err
	}
	ports, err := freeAddrs(2)
	if err != nil {
		return nil, err
	}
	n := e.next()
	d := &door{addr: ports[0], tag: fmt.Sprintf("door%d", n), admin: admin.NewClient(ports[1], proxyToken)}
	dir := filepath.Join(e.dir, d.tag)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	db := fmt.Sprintf("bench_%d", n)
	if err := srv.CreateDatabase(ctx, db); err != nil {
		return nil, err
	}
	d.dsn, d.drop = srv.DSN(db), func() { _ = srv.DropDatabase(context.WithoutCancel(ctx), db) } // the server goes as a whole
	var text bytes.Buffer
	if err := proxyConfig.Execute(&text, map[string]any{
		"Dir": dir, "RESP": ports[0], "Admin": ports[1], "Token": proxyToken, "Pods": pods, "Redis": kv.Addr(), "MySQL": d.dsn, "Tag": d.tag,
	}); err != nil {
		return nil, err
	}
	d.log = filepath.Join(dir, "log")
	if err := d.start(ctx, e.o.Binary, filepath.Join(dir, "crossfade.yaml"), text.Bytes()); err != nil {
		return nil, errors.Join(err, d.close())
	}
	for _, p := range pods {
		if err := d.settled(ctx, p); err != nil {
			return nil, errors.Join(err, d.close())
		}
	}
	return d, nil
}

func (d *door) start(ctx context.Context, binary, config string, text []byte) error {
	if err := os.WriteFile(config, text, 0o600); err != nil {
		return err
	}
	log, err := os.Create(d.log)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), binary, "serve", "-c", config)
	cmd.Stdout, cmd.Stderr = log, log
	d.proc, err = lab.Attach(cmd)
	return err
}

// settled waits until a pod serves and has nothing left to do.
func (d *door) settled(ctx context.Context, pod string) error {
	ctx, cancel := context.WithTimeout(ctx, serveWithin)
	defer cancel()
	for {
		st, err := d.admin.Status(ctx, pod)
		if err == nil && st.Serving && st.Switch == nil && len(st.Work) == 0 {
			return nil
		}
		if !d.proc.Alive() {
			return fmt.Errorf("the proxy has ended: %s", tailOf(d.log))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the proxy does not serve pod %s: %w %+v: %s", pod, ctx.Err(), st.Notes, tailOf(d.log))
		case <-time.After(servePoll):
		}
	}
}

// move takes a pod through stages, and waits after each.
func (d *door) move(ctx context.Context, pod string, stages ...backends.Stage) error {
	for _, s := range stages {
		if _, err := d.admin.SetStage(ctx, pod, s.String(), "bench", nil, false, func(string, time.Duration) {}); err != nil {
			return fmt.Errorf("moving pod %s to %s: %w", pod, s, err)
		}
		if err := d.settled(ctx, pod); err != nil {
			return err
		}
	}
	return nil
}

// restock puts units at the hot item of a pod's shop.
func (d *door) restock(ctx context.Context, pod string, units int64) error {
	c, err := dialRESP(ctx, d.addr)
	if err != nil {
		return err
	}
	defer c.close()
	_, err = c.ask("XF.RESTOCK", pod, string(hotItem), fmt.Sprint(units), "OPID", "stock-"+pod)
	return err
}

// key is the counter of the hot item as the door knows it.
func (d *door) key(pod string) string { return d.tag + ":" + pod + ":" + string(hotItem) }

func (d *door) close() error {
	var err error
	if d.proc != nil {
		err = d.proc.Kill()
	}
	d.drop()
	return err
}

// freeAddrs asks the system for n different free ports on loopback.
func freeAddrs(n int) (out []string, err error) {
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close()
		out = append(out, ln.Addr().String())
	}
	return out, nil
}

// tailOf is the end of a log.
func tailOf(path string) string {
	const most = 1500
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	b = b[max(0, len(b)-most):]
	out, err := json.Marshal(string(b)) // one line, whatever is in it
	if err != nil {
		return err.Error()
	}
	return string(out)
}
