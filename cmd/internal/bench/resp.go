package bench

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

const (
	// respConns and deepPipeline are those of the reference figures.
	respConns    = 64
	deepPipeline = 16
	hotItem      = backends.Item("hot")
	// manyUnits are never used up, and a legal number of units.
	manyUnits = 500_000_000_000
)

func throughDoor(pipeline int) string {
	return fmt.Sprintf("DECRBY on a stock key through a proxy process in redis-only (parsed, routed, fenced, with an operation id), 64 connections, pipeline %d", pipeline)
}

func metricRespRelay() *metric {
	return &metric{
		name: "resp.relay", what: "DECRBY through the proxy over through a bare byte relay in Go, 64 connections, pipeline 1",
		a: throughDoor(1), b: "DECRBY on a plain key of the same Redis through 'crossfade bench relay', a process that passes bytes on and nothing else; beside it, straight to Redis",
		rows: []row{{figure: "rate", unit: "x", goal: target{atLeast, 0.9}}},
		run:  runRespRelay,
	}
}

// counting is a proxy in redis-only with one hot counter, and the key that its opponents count on.
func (e *env) counting(ctx context.Context) (d *door, plain string, err error) {
	const pod = "count"
	if d, err = e.newDoor(ctx, pod); err != nil {
		return nil, "", err
	}
	plain = d.tag + "x:" + pod + ":" + string(hotItem)
	c, err := dialRESP(ctx, e.servers["redis"].Addr())
	if err == nil {
		defer c.close()
		_, err = c.ask("SET", plain, fmt.Sprint(int64(manyUnits)))
	}
	if err == nil {
		err = d.restock(ctx, pod, manyUnits)
	}
	if err != nil {
		_ = d.close() // the first error counts
		return nil, "", err
	}
	return d, plain, nil
}

func (d *door) counts(ctx context.Context, pipeline int) maker {
	return overRESP(ctx, d.addr, pipeline, "", nil, "DECRBY", d.key("count"), "1")
}

func runRespRelay(ctx context.Context, e *env, m *metric) error {
	d, plain, err := e.counting(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = d.close() }() // it is ended by force
	kv := e.servers["redis"].Addr()
	relay, addr, err := e.startRelay(ctx, kv)
	if err != nil {
		return err
	}
	defer func() { _ = relay.Kill() }() // it ends with this process anyway
	pairs, err := e.compare(ctx, m,
		overSockets("proxy", respConns, d.counts(ctx, 1)),
		overSockets("relay", respConns, overRESP(ctx, addr, 1, "", nil, "DECRBY", plain, "1")),
		overSockets("direct", respConns, overRESP(ctx, kv, 1, "", nil, "DECRBY", plain, "1")))
	if err == nil {
		e.sound(baseRelay, medians(pairs, 1)["rate"])
		e.sound(baseDirect, medians(pairs, 2)["rate"])
	}
	return err
}

// startRelay starts the bare relay as a process, and gives its address.
func (e *env) startRelay(ctx context.Context, to string) (*lab.Process, string, error) {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), e.o.Binary, "bench", "relay", to)
	r, w, err := os.Pipe()
	if err != nil {
		return nil, "", err
	}
	defer r.Close()
	cmd.Stdout = w
	p, err := lab.Attach(cmd)
	w.Close()
	if err != nil {
		return nil, "", err
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		_ = p.Kill() // the first error counts
		return nil, "", fmt.Errorf("the relay did not start: %w", err)
	}
	return p, strings.TrimSpace(line), nil
}

func metricRespPipelined() *metric {
	return &metric{
		name: "resp.pipelined", what: "DECRBY through the proxy over the fenced script straight to Redis, 64 connections, pipeline 16",
		a: throughDoor(deepPipeline), b: "the script by which the proxy counts, word for word and so with the same promises, sent straight to Redis by the same generator at pipeline 16; beside it the least script with a fence and an operation id (lua/count.lua), sent likewise",
		rows: []row{{figure: "rate", unit: "x", goal: target{atLeast, 0.9}}},
		run: func(ctx context.Context, e *env, m *metric) error {
			d, _, err := e.counting(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = d.close() }() // it is ended by force
			kv := e.servers["redis"].Addr()
			a := &assortment{items: []backends.Item{hotItem}, upTo: []float64{1}}
			s, err := e.newRedisStore(ctx, kv, backends.RedisOnly, a)
			if err != nil {
				return err
			}
			defer s.Close()
			call, err := countCall(ctx, kv, s, hotItem)
			if err != nil {
				return err
			}
			lean, err := e.leanCall(ctx, kv, leanCount, false)
			if err != nil {
				return err
			}
			_, err = e.compare(ctx, m,
				overSockets("proxy", respConns, d.counts(ctx, deepPipeline)),
				overSockets("its script", respConns, overRESP(ctx, kv, deepPipeline, "", e.numbers(), call...)),
				overSockets("the least script", respConns, overRESP(ctx, kv, deepPipeline, "", e.numbers(), lean...)))
			return err
		},
	}
}

func metricRespTwemproxy() *metric {
	return &metric{
		name: "resp.twemproxy", what: "DECRBY through the proxy over through twemproxy, 64 connections, pipeline 1",
		a: throughDoor(1), b: "DECRBY on a plain key of the same Redis through twemproxy (Debian's nutcracker, its own process), where it is at hand",
		rows: []row{{figure: "rate", unit: "x", goal: target{atLeast, 1}}},
		run: func(ctx context.Context, e *env, m *metric) error {
			program, err := lab.Find(ctx, lab.Twemproxy, lab.Options{CacheDir: e.o.CacheDir, Progress: e.o.Progress})
			if err != nil {
				return &unmeasuredError{firstLine(err), "install the package nutcracker, or let this machine reach its apt mirror"}
			}
			d, plain, err := e.counting(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = d.close() }() // it is ended by force
			p, addr, err := e.startTwemproxy(ctx, program, e.servers["redis"].Addr())
			if err != nil {
				return err
			}
			defer func() { _ = p.Kill() }() // it ends with this process anyway
			pairs, err := e.compare(ctx, m,
				overSockets("proxy", respConns, d.counts(ctx, 1)),
				overSockets("twemproxy", respConns, overRESP(ctx, addr, 1, "", nil, "DECRBY", plain, "1")))
			if err == nil {
				e.sound(baseTwemproxy, medians(pairs, 1)["rate"])
			}
			return err
		},
	}
}

// startTwemproxy runs nutcracker in front of a Redis, with the settings of its manual, and waits for it.
func (e *env) startTwemproxy(ctx context.Context, program *lab.Program, to string) (*lab.Process, string, error) {
	addrs, err := freeAddrs(2)
	if err != nil {
		return nil, "", err
	}
	_, stats, _ := strings.Cut(addrs[1], ":")
	config := filepath.Join(e.dir, fmt.Sprintf("nutcracker-%d.yml", e.next()))
	text := fmt.Sprintf("bench:\n  listen: %s\n  redis: true\n  hash: fnv1a_64\n  distribution: ketama\n  server_connections: 1\n  servers:\n   - %s:1\n", addrs[0], to)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, "", err
	}
	cmd := program.Command(context.WithoutCancel(ctx), "-c", config, "-s", stats, "-a", "127.0.0.1", "-m", "16384", "-o", config+".log")
	p, err := lab.Attach(cmd)
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, serveWithin)
	defer cancel()
	for {
		c, err := dialRESP(ctx, addrs[0])
		if err == nil {
			_, err = c.ask("GET", "bench")
			c.close()
		}
		if err == nil {
			return p, addrs[0], nil
		}
		if !p.Alive() || ctx.Err() != nil {
			_ = p.Kill() // the first error counts
			return nil, "", fmt.Errorf("twemproxy does not serve: %w: %s", err, tailOf(config+".log"))
		}
		select {
		case <-ctx.Done():
		case <-time.After(servePoll):
		}
	}
}

// firstLine of an error that has many.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
