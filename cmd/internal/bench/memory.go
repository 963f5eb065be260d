package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	manyHolds = 1_000_000
	// sqlHolds are made in MySQL to see what one takes there.
	sqlHolds = 100_000
	// quickShare of both in the short form.
	quickShare = 20
	// holdsWithin bounds the making of the holds.
	holdsWithin = 10 * time.Minute
	mebibyte    = 1 << 20
)

func metricMemoryHolds() *metric {
	const pod = "memory"
	return &metric{
		name: "memory.holds", what: "resident memory of the proxy with 1,000,000 open holds; what a hold takes in Redis and in InnoDB",
		a: "VmRSS of a proxy process (/proc) after 1,000,000 XF.RESERVE through it in redis-only over 64 connections at pipeline 16, all still open; " +
			"used_memory of Redis by them; the files of InnoDB's tables after 100,000 holds of mysqlstore",
		rows: []row{
			{figure: "rss_mib", unit: "MiB", goal: target{atMost, 100}},
			{suffix: ".redis", figure: "redis_bytes", unit: "B/hold"},
			{suffix: ".innodb", figure: "innodb_bytes", unit: "B/hold"},
		},
		run: func(ctx context.Context, e *env, m *metric) error {
			d, err := e.newDoor(ctx, pod)
			if err != nil {
				return err
			}
			defer func() { _ = d.close() }() // it is ended by force
			if err := d.restock(ctx, pod, plenty); err != nil {
				return err
			}
			open, inSQL := manyHolds, sqlHolds
			if e.o.Quick {
				open, inSQL = open/quickShare, inSQL/quickShare
			}
			if err := e.holdsInRedis(ctx, m, d, pod, int64(open)); err != nil {
				return err
			}
			return e.holdsInSQL(ctx, m, inSQL)
		},
	}
}

func (e *env) holdsInRedis(ctx context.Context, m *metric, d *door, pod string, n int64) error {
	kv := e.servers["redis"].Addr()
	before, err := redisMemory(ctx, kv)
	if err != nil {
		return err
	}
	empty, err := residentMiB(d.proc.PID(), "VmRSS")
	if err != nil {
		return err
	}
	next, supply := e.numbers(), atomic.Int64{}
	mk := overRESP(ctx, d.addr, deepPipeline, "granted", next, reserveArgs(pod, d.tag)...)
	s, err := closed(ctx, respConns, holdsWithin, func(w int) (op, func(), error) {
		f, end, err := mk(w)
		return func(ctx context.Context) (int, error) {
			if supply.Add(deepPipeline) > n {
				return 0, errSpent
			}
			return f(ctx)
		}, end, err
	})
	if err != nil {
		return err
	}
	after, err := redisMemory(ctx, kv)
	if err != nil {
		return err
	}
	rss, err := residentMiB(d.proc.PID(), "VmRSS")
	if err != nil {
		return err
	}
	peak, err := residentMiB(d.proc.PID(), "VmHWM")
	if err != nil {
		return err
	}
	e.rep.add(m.plain(m.rows[0], []float64{rss}, Side{What: fmt.Sprintf("%d open holds", s.done), Figures: figures{"rate": s.rate(), "rss_mib": rss, "peak_mib": peak, "rss_before_mib": empty}}))
	e.rep.add(m.plain(m.rows[1], []float64{float64(after-before) / float64(s.done)}, Side{What: fmt.Sprintf("%d open holds", s.done), Figures: figures{"used_mib": float64(after-before) / mebibyte}}))
	return nil
}

func (e *env) holdsInSQL(ctx context.Context, m *metric, n int) error {
	srv := e.servers["mysql"]
	p, err := e.newPool(ctx, srv, nil)
	if err != nil {
		return err
	}
	defer p.close()
	a := newAssortment(1, false)
	if err := p.stock(ctx, a, plenty); err != nil {
		return err
	}
	before, err := p.bytes(ctx)
	if err != nil {
		return err
	}
	locations := []backends.Location{benchPlace}
	err = togetherBy(ctx, inFlight, n, func(ctx context.Context, _ int) error {
		return granted(p.s.Reserve(ctx, benchToken, &backends.ReserveRequest{
			ID: p.holdID(), Shop: benchShop, TTL: holdTTL, Caller: "checkout", Lines: []backends.Line{{Item: a.items[0], Quantity: 1, Locations: locations}},
		}))
	})
	if err != nil {
		return err
	}
	after, err := p.bytes(ctx)
	if err != nil {
		return err
	}
	e.rep.add(m.plain(m.rows[2], []float64{float64(after-before) / float64(n)}, Side{What: fmt.Sprintf("%d open holds", n), Figures: figures{"files_mib": float64(after-before) / mebibyte}}))
	return nil
}

// bytes are the files of the holds' table, indexes included. The outbox is left out: it is empty when the
// mirror keeps up.
func (p *pool) bytes(ctx context.Context) (n int64, err error) {
	err = p.db.QueryRowContext(ctx, "SELECT FILE_SIZE FROM information_schema.INNODB_TABLESPACES WHERE NAME = CONCAT(DATABASE(), '/crossfade_holds')").Scan(&n)
	return n, err
}

// redisMemory is used_memory of INFO.
func redisMemory(ctx context.Context, addr string) (int64, error) {
	c, err := dialRESP(ctx, addr)
	if err != nil {
		return 0, err
	}
	defer c.close()
	v, err := c.ask("INFO", "memory")
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(fieldOf(v.text, "used_memory"), 10, 64)
}

// residentMiB reads a size from /proc/PID/status, where it is in kB.
func residentMiB(pid int, field string) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if errors.Is(err, os.ErrNotExist) {
		return 0, &unmeasuredError{"there is no /proc with the memory of processes", "run the benchmark on Linux"}
	}
	if err != nil {
		return 0, err
	}
	kb, err := strconv.ParseFloat(strings.TrimSuffix(fieldOf(string(b), field), " kB"), 64)
	const perMiB = 1024
	return kb / perMiB, err
}
