package e2e_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/neighbours"
)

// neighbour is a session of another application on the pod's MySQL.
func (r *rig) neighbour(statements ...string) *sql.Conn {
	r.t.Helper()
	cfg, err := mysql.ParseDSN(r.dsn)
	if err != nil {
		r.t.Fatal(err)
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	r.t.Cleanup(func() { _ = db.Close() })
	c, err := db.Conn(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	for _, q := range statements {
		if _, err := c.ExecContext(r.t.Context(), q); err != nil {
			r.t.Fatalf("%s: %v", q, err)
		}
	}
	return c
}

// TestWhoHoldsMySQL is the SRE's view: a stocktake of another application has locked the ledger, checkout's
// claim waits behind it, and a report without a tag keeps an old snapshot. Both commands say so.
func TestWhoHoldsMySQL(t *testing.T) {
	r := newRig(t, 1)
	r.stage("shadow", "live")
	p := r.proxies[0]
	c := p.client()
	do(t, c, "XF.RESTOCK", shop, "mug", "5", "OPID", "s1", "MODE", "ONHAND")
	if got := do(t, c, "XF.RESERVE", shop, "h1", "TTL", "60000", "CALLER", "checkout", "LINE", "mug", "1"); got["status"] != "granted" {
		t.Fatalf("%v", got)
	}
	r.neighbour("START TRANSACTION WITH CONSISTENT SNAPSHOT")
	stocktake := r.neighbour("/* conn_tag:stocktake */ START TRANSACTION", "/* conn_tag:stocktake */ SELECT * FROM crossfade_ledger FOR UPDATE")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wait sync.WaitGroup
	defer wait.Wait()
	wait.Go(func() { // each attempt waits for lock_wait, and is busy
		for ctx.Err() == nil {
			_, _ = c.Do(ctx, "XF.CLAIM", shop, "h1", "CALLER", "payments").Result()
		}
	})
	var v neighbours.Locks
	r.eventually(20*time.Second, "payments waits behind the stocktake", func() (err error) {
		if v, err = jsonOf[neighbours.Locks](p, "locks", podName); err != nil {
			return err
		}
		if !slices.ContainsFunc(v.Waits, func(w mysqlstore.LockWait) bool { return w.Waiter.Who() == "payments" && w.Holder.Who() == "stocktake" }) {
			return fmt.Errorf("waits: %+v", v.Waits)
		}
		return nil
	})
	if v.Oldest == nil || !strings.HasPrefix(v.Oldest.Who(), "root@") || v.Server.Kind != "MySQL" || v.Pod != podName {
		t.Errorf("the oldest snapshot is %+v, of %+v", v.Oldest, v.Server)
	}
	out, err := p.run("locks", podName)
	if err != nil || !bytes.Contains(out, []byte("HOLDS UP OTHERS")) || !bytes.Contains(out, []byte("stocktake")) || !bytes.Contains(out, []byte("Oldest snapshot: root@")) {
		t.Errorf("%v\n%s", err, out)
	}
	conns, err := jsonOf[neighbours.Connections](p, "connections", podName, "--for", "2s", "--every", "20ms")
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]neighbours.Row{}
	for _, row := range conns.Rows {
		by[row.Who] = row
	}
	if row := by["stocktake"]; row.OpenIdle < 0.99 || row.Held < 0.99 || row.Held > 1.01 {
		t.Errorf("the stocktake holds one connection all the time: %+v", row)
	}
	if row := by["payments"]; row.Waiting == 0 || row.Held < 0.5 {
		t.Errorf("payments waits most of the time: %+v", row)
	}
	if conns.Samples < 20 || conns.Pool.MaxOpen == 0 || conns.Pool.InUse.Most < 1 || conns.Waiting.Most < 1 {
		t.Errorf("%+v", conns)
	}
	if !conns.CPU.Known || conns.CPU.Of < 1 || !strings.Contains(conns.CPU.What, fmt.Sprint(r.sql.PID())) {
		t.Errorf("the server is a process of this machine, pid %d: %+v", r.sql.PID(), conns.CPU)
	}
	if _, err := stocktake.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	r.eventually(20*time.Second, "nobody waits", func() error {
		v, err := jsonOf[neighbours.Locks](p, "locks", podName)
		if err == nil && len(v.Waits) > 0 {
			err = fmt.Errorf("%+v", v.Waits)
		}
		return err
	})
	cancel()
	wait.Wait()
	p.watchUntilInterrupted(t)
	p.refuses(t)
}

// watchUntilInterrupted: --watch shows page after page, and an interrupt is its regular end.
func (p *proxyProc) watchUntilInterrupted(t *testing.T) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, "-c", p.config, "locks", podName, "--watch")
	pages := &pageCount{want: 2, seen: make(chan struct{})}
	cmd.Stdout = pages
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-pages.seen:
	case <-time.After(20 * time.Second):
		t.Error("no second page")
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("interrupted, it ended with %v", err)
	}
	if pages.has("\x1b[") {
		t.Error("what is no terminal got a terminal's commands")
	}
}

// pageCount is a writer that tells when so many pages were written.
type pageCount struct {
	mu   sync.Mutex
	text bytes.Buffer
	want int
	seen chan struct{}
}

func (w *pageCount) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := bytes.Count(w.text.Bytes(), []byte("Locks of MySQL"))
	w.text.Write(b)
	if bytes.Count(w.text.Bytes(), []byte("Locks of MySQL")) >= w.want && before < w.want {
		close(w.seen)
	}
	return len(b), nil
}

func (w *pageCount) has(s string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Contains(w.text.String(), s)
}

// refuses: wrong input is exit code 2 and names field and bound; a MySQL that is away is 5.
func (p *proxyProc) refuses(t *testing.T) {
	t.Helper()
	away := func() {
		if err := p.r.sql.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		before func()
		args   []string
		code   int
		want   string
	}{
		{"a pod that is not there", nil, []string{"locks", "pod-9"}, 2, "crossfade pods"},
		{"also when it is watched", nil, []string{"locks", "pod-9", "--watch"}, 2, "crossfade pods"},
		{"too often", nil, []string{"connections", podName, "--every", "100us"}, 2, "10ms to 10s"},
		{"too long", nil, []string{"connections", podName, "--for", "24h"}, 2, "100ms to 5m"},
		{"MySQL is away", away, []string{"locks", podName}, 5, "unavailable"},
		{"for connections too", nil, []string{"connections", podName, "--for", "1s"}, 5, "unavailable"},
	} {
		if c.before != nil {
			c.before()
		}
		_, err := p.run(c.args...)
		var ee *exec.ExitError
		if !errors.As(err, &ee) || ee.ExitCode() != c.code || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want exit code %d and %q", c.name, err, c.code, c.want)
		}
	}
}
