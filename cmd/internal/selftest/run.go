package selftest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

const (
	database     = "crossfade_selftest"
	stopPatience = 30 * time.Second
	benchConns   = 4
)

// Target is a pair of running servers with an empty database.
type Target struct {
	Pair   Pair
	SQL    *lab.Server
	KV     *lab.Server
	DSN    string
	Prefix string // of all keys in the KV server
}

// Run plays on servers of its own from the lab, which it stops afterwards.
func Run(ctx context.Context, o Options) (r *Report, err error) {
	if o, err = o.complete(); err != nil {
		return nil, err
	}
	var targets []Target
	var servers []*lab.Server
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPatience)
		defer cancel()
		for _, s := range servers {
			err = errors.Join(err, s.Stop(ctx))
		}
	}()
	for _, pair := range o.Pairs {
		t := Target{Pair: pair, Prefix: "selftest:"}
		for _, k := range []lab.Kind{pair.SQL, pair.KV} {
			s, err := lab.Start(ctx, k, lab.Options{Fast: true, Own: true, Progress: o.Progress})
			if err != nil {
				return nil, err
			}
			servers = append(servers, s)
			if k.SQL() {
				t.SQL, t.DSN = s, s.DSN(database)
			} else {
				t.KV = s
			}
		}
		if err := t.SQL.CreateDatabase(ctx, database); err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	return Play(ctx, targets, o)
}

// job is one row to be played.
type job struct {
	bench *bench
	name  backends.Pod
	stage backends.Stage
	in    injection
	row   *Row
}

// Play plays on servers that run. The error is for what kept it from playing at all; rows say the rest.
func Play(ctx context.Context, targets []Target, o Options) (r *Report, err error) {
	if o, err = o.complete(); err != nil {
		return nil, err
	}
	began := time.Now()
	r = &Report{Seed: o.Seed, Rows: []Row{}}
	var jobs []job
	for _, t := range targets {
		b, err := newBench(ctx, t)
		if err != nil {
			return nil, err
		}
		defer b.close()
		r.Servers = append(r.Servers, Server{string(t.Pair.SQL), t.SQL.Version().String()}, Server{string(t.Pair.KV), t.KV.Version().String()})
		for _, in := range injections() {
			if len(o.Only) > 0 && !slices.Contains(o.Only, in.name) {
				continue
			}
			for _, stage := range o.Stages {
				r.Rows = append(r.Rows, Row{Injection: in.name, What: in.what, Stage: stage.String(), Servers: t.Pair.String(), Problems: []string{}})
				jobs = append(jobs, job{bench: b, name: backends.Pod(in.name + "-" + stage.String()), stage: stage, in: in})
			}
		}
	}
	for i := range jobs {
		jobs[i].row = &r.Rows[i]
	}
	playAll(ctx, jobs, o)
	for i := range r.Rows {
		if !r.Rows[i].Passed {
			r.Failed++
		}
	}
	r.TookMS = time.Since(began).Milliseconds()
	return r, ctx.Err()
}

// playAll plays so many rows at the same time.
func playAll(ctx context.Context, jobs []job, o Options) {
	next := make(chan *job)
	var wg sync.WaitGroup
	var tell sync.Mutex
	for range min(o.Parallel, len(jobs)) {
		wg.Go(func() {
			for j := range next {
				j.play(ctx, o.Seed)
				tell.Lock()
				_, _ = fmt.Fprintln(o.Progress, j.line())
				tell.Unlock()
			}
		})
	}
	for i := range jobs {
		next <- &jobs[i]
	}
	close(next)
	wg.Wait()
}

func (j *job) play(ctx context.Context, seed uint64) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, rowPatience)
	defer cancel()
	g := &play{row: j.row, seed: seed}
	if err := g.run(ctx, j.bench, j.name, j.stage, &j.in); err != nil {
		g.problem("it could not be played to its end: %v", err)
	}
	if j.row.Seen != j.row.Expected && len(j.row.Problems) == 0 {
		g.problem("seen: %s by %s; expected: %s by %s", j.row.Seen, j.row.Seen.Found, j.row.Expected, j.row.Expected.Found)
	}
	j.row.TookMS = time.Since(began).Milliseconds()
	j.row.Passed = len(j.row.Problems) == 0 && j.row.Repaired != ""
}

// line is what the progress says of a row.
func (j *job) line() string {
	verdict := "ok"
	if !j.row.Passed {
		verdict = "FAILED"
	}
	return fmt.Sprintf("  %-6s %s, %s, %s: %s (%s)", verdict, j.row.Injection, j.row.Stage, j.row.Servers, j.row.Seen, (time.Duration(j.row.TookMS) * time.Millisecond).Round(100*time.Millisecond))
}

// newBench makes the schema once, and the connections that go past Crossfade.
func newBench(ctx context.Context, t Target) (*bench, error) {
	s, err := mysqlstore.Open(ctx, mysqlstore.Config{Pod: "selftest", DSN: t.DSN})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(s.Setup(ctx), s.Close()); err != nil {
		return nil, err
	}
	cfg, err := mysql.ParseDSN(t.DSN)
	if err != nil {
		return nil, err
	}
	conn, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	b := &bench{pair: t.Pair, dsn: t.DSN, kv: t.KV.Addr(), prefix: t.Prefix, db: sql.OpenDB(conn)}
	b.db.SetMaxOpenConns(benchConns)
	b.raw = redis.NewClient(&redis.Options{Addr: t.KV.Addr(), MaxRetries: -1, PoolSize: 1})
	return b, nil
}

func (b *bench) close() {
	_ = b.db.Close()
	_ = b.raw.Close()
}
