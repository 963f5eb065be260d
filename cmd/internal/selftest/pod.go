package selftest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/backends/redisstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/proxy"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/comparator/mysqlfindings"
	"github.com/crossfade-proxy/crossfade/dualwrite"
)

const (
	shop     = backends.Shop("shop")
	location = backends.Location("main")
	epoch    = 1
	ttl      = time.Hour // nothing expires by itself here
	// mirrorTimeout and opTimeout are short: a silent shadow is waited for that long, again and again.
	mirrorTimeout = 2 * time.Second
	opTimeout     = 3 * time.Second
	// sweepAge is above heldUp, or a sweep would bring what is held up in an answer of live.
	sweepAge = 2 * time.Second
	// The breaker opens after some steps that had no answer.
	silentTimeout = 400 * time.Millisecond
	silentAge     = 500 * time.Millisecond
	// slowLimit is far above what an honest step takes on a busy machine, and heldUp above it but below what a mirror step, and in live
	// an answer, may take.
	slowLimit = 1200 * time.Millisecond
	heldUp    = 1500 * time.Millisecond
	// restPatience bounds the time for everything to come to rest.
	restPatience = 45 * time.Second
	poll         = 20 * time.Millisecond
)

// bench is a pair of running servers with a database, for many pods.
type bench struct {
	pair   Pair
	dsn    string
	kv     string        // address
	prefix string        // of all keys
	db     *sql.DB       // past Crossfade, and for findings
	raw    *redis.Client // past Crossfade
}

// pod is one pod with everything that a proxy has around it.
type pod struct {
	*bench
	name  backends.Pod
	stage backends.Stage

	redis, mysql  backends.Store // as they are
	truth, shadow backends.Store
	fault         *faulty // what the pod has for its shadow
	stores        dualwrite.Stores
	template      *backends.KeyTemplate

	writer     *dualwrite.Pod
	service    *dualwrite.Service
	comparator *comparator.Comparator
	findings   *mysqlfindings.Store
	guard      dualwrite.Guard
	panicking  atomic.Bool // the judge
	options    dualwrite.Options
	book       book
	closers    []func() error
}

// build says how a pod is put together.
type build struct {
	sameKind  bool // two stores of one kind
	sameStore bool // the shadow is the truth, under another name
	impatient bool // short time-outs, for a shadow that will not answer
}

// open makes a pod, on stores of its own. It is not started.
func (b *bench) open(ctx context.Context, name backends.Pod, stage backends.Stage, how build) (*pod, error) {
	p := &pod{bench: b, name: name, stage: stage}
	if err := p.openStores(ctx, how); err != nil {
		return nil, errors.Join(err, p.close())
	}
	p.truth = p.stores.Of(stage.Truth())
	p.shadow = p.stores.Of(stage.Truth().Other())
	fence := backends.Fence{Epoch: epoch, Stage: stage, Open: true, Filled: true}
	for _, s := range []backends.Store{p.stores.Redis, p.stores.MySQL} {
		err := s.Setup(ctx)
		if err == nil && !how.sameStore {
			_, err = s.Raise(ctx, fence, 0)
		}
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
	}
	p.fault = &faulty{Store: p.shadow}
	if stage.Truth() == backends.SideRedis {
		p.stores.MySQL = p.fault
	} else {
		p.stores.Redis = p.fault
	}
	p.findings = mysqlfindings.New(b.db)
	p.guard = proxy.NewBreaker("shadow of " + string(name))
	p.options = dualwrite.Options{Guard: p.guard, MirrorTimeout: mirrorTimeout, OpTimeout: opTimeout, SweepAge: sweepAge}
	if how.impatient {
		p.options.MirrorTimeout, p.options.SweepAge = silentTimeout, silentAge
	}
	if err := p.compare(ctx, "one"); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *pod) openStores(ctx context.Context, how build) (err error) {
	if p.redis, err = p.openRedis(ctx, ""); err != nil {
		return err
	}
	if p.mysql, err = p.openMySQL(ctx, p.name); err != nil {
		return err
	}
	p.stores = dualwrite.Stores{Redis: p.redis, MySQL: p.mysql}
	redisTruth := p.stage.Truth() == backends.SideRedis
	switch {
	case how.sameStore && redisTruth:
		p.stores.MySQL = otherSide{p.redis}
	case how.sameStore:
		p.stores.Redis = otherSide{p.mysql}
	case how.sameKind && redisTruth:
		other, err := p.openRedis(ctx, "b:")
		if err != nil {
			return err
		}
		p.stores.MySQL = otherSide{other}
	case how.sameKind:
		other, err := p.openMySQL(ctx, p.name+"-b")
		if err != nil {
			return err
		}
		p.stores.Redis = otherSide{other}
	}
	return nil
}

func (p *pod) openRedis(ctx context.Context, part string) (backends.Store, error) {
	prefix := p.prefix + string(p.name) + ":" + part
	t, err := backends.ParseKeyTemplate(prefix+"stock:{shop}:{item}:{location}", "", "")
	if err != nil {
		return nil, err
	}
	if part == "" {
		p.template = t
	}
	s, err := redisstore.Open(ctx, redisstore.Config{Pod: p.name, Addr: p.kv, Prefix: prefix + "xf:", Template: t})
	if err == nil {
		p.closers = append(p.closers, s.Close)
	}
	return s, err
}

func (p *pod) openMySQL(ctx context.Context, name backends.Pod) (backends.Store, error) {
	const conns = 4 // many pods share one server
	s, err := mysqlstore.Open(ctx, mysqlstore.Config{Pod: name, DSN: p.dsn, PoolCap: 100, MaxConns: conns})
	if err == nil {
		p.closers = append(p.closers, s.Close)
	}
	return s, err
}

// compare gives the pod a comparator and a writer, both new.
func (p *pod) compare(ctx context.Context, proxyName string) (err error) {
	p.comparator, err = comparator.New(comparator.Config{
		Pod: p.name, Proxy: proxyName, Store: p.findings, Sheets: p.findings, SlowShadow: slowLimit,
		Rechecker: comparator.NewStoreRechecker(p.pair, time.Now), Judge: p.judge,
	})
	if err != nil {
		return err
	}
	if err := p.comparator.Start(ctx); err != nil {
		return err
	}
	p.options.Comparer = p.comparator
	p.writer = dualwrite.NewPod(p.name, p.stores, p.options)
	p.writer.Gate().Adopt(backends.Fence{Epoch: epoch, Stage: p.stage, Open: true, Filled: true})
	p.service = dualwrite.NewService(p.writer, nil)
	return nil
}

func (p *pod) judge(o comparator.Observation) comparator.Judgement {
	if p.panicking.Load() {
		panic("the self-test's judge panics")
	}
	return comparator.Judge(o)
}

func (p *pod) pair() (comparator.Pair, error) {
	return comparator.Pair{Stage: p.stage, Truth: p.stores.Of(p.stage.Truth()), Shadow: p.stores.Of(p.stage.Truth().Other())}, nil
}

// close ends everything of the pod; stores last.
func (p *pod) close() error {
	if p.service != nil {
		p.service.Stop()
	}
	if p.comparator != nil {
		p.comparator.Stop()
	}
	var err error
	for i := len(p.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, p.closers[i]())
	}
	p.closers = nil
	return err
}

// until waits for ok, for at most restPatience.
func until(ctx context.Context, what string, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, restPatience, fmt.Errorf("not within %s: %s", restPatience, what))
	defer cancel()
	for {
		done, err := ok()
		if done || err != nil {
			return err
		}
		if wait(ctx, poll) != nil {
			return context.Cause(ctx)
		}
	}
}

// rest waits until the outbox is empty and every decision is in its last column.
func (p *pod) rest(ctx context.Context) error {
	return until(ctx, "everything at rest", func() (bool, error) {
		st, err := p.truth.OutboxStats(ctx)
		c := p.comparator.Snapshot()
		return st.Entries == 0 && c.Pending == 0 && c.Settling == 0, err
	})
}

func key(item backends.Item) backends.Key {
	return backends.Key{Shop: shop, Item: item, Location: location}
}
