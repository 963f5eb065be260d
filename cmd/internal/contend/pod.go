package contend

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/backends/redisstore"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/comparator/mysqlfindings"
	"github.com/crossfade-proxy/crossfade/comparator/spool"
	"github.com/crossfade-proxy/crossfade/dualwrite"
)

const podName = backends.Pod("contend")

// Servers are where a run plays: a database of its own, and a prefix of its own.
type Servers struct {
	DSN    string
	Redis  string // address
	Prefix string
}

// pod is one pod with several proxies, each with stores, connections and a comparator of its own.
type pod struct {
	stage    backends.Stage
	epoch    uint64
	proxies  []*proxy
	findings *mysqlfindings.Store
	losses   *losses
	closers  []func() error
}

type proxy struct {
	*dualwrite.Pod
	stores     dualwrite.Stores
	service    *dualwrite.Service
	comparator *comparator.Comparator
}

// open sets the stores up and starts the proxies. close has to be called whatever it answers.
func (p *pod) open(ctx context.Context, s Servers, o *Options) error {
	cfg, err := mysql.ParseDSN(s.DSN)
	if err != nil {
		return err
	}
	conn, err := mysql.NewConnector(cfg)
	if err != nil {
		return err
	}
	db := sql.OpenDB(conn)
	p.closers = append(p.closers, db.Close)
	p.findings = mysqlfindings.New(db)
	spools, err := os.MkdirTemp("", "crossfade-contend-")
	if err != nil {
		return err
	}
	p.closers = append(p.closers, func() error { return os.RemoveAll(spools) })
	fence := backends.Fence{Epoch: 1, Stage: o.Stage, Open: true, Filled: true}
	p.stage, p.epoch = o.Stage, fence.Epoch
	for n := range o.Proxies {
		if err := p.add(ctx, s, o, fence, n, filepath.Join(spools, fmt.Sprint(n))); err != nil {
			return err
		}
	}
	return nil
}

func (p *pod) add(ctx context.Context, s Servers, o *Options, fence backends.Fence, n int, spools string) error {
	template, err := backends.ParseKeyTemplate(s.Prefix+"stock:{shop}:{item}:{location}", "", "")
	if err != nil {
		return err
	}
	rs, err := redisstore.Open(ctx, redisstore.Config{Pod: podName, Addr: s.Redis, Prefix: s.Prefix + "xf:", Template: template})
	if err != nil {
		return err
	}
	p.closers = append(p.closers, rs.Close)
	ms, err := mysqlstore.Open(ctx, mysqlstore.Config{Pod: podName, DSN: s.DSN})
	if err != nil {
		return err
	}
	p.closers = append(p.closers, ms.Close)
	if n == 0 {
		for _, st := range []backends.Store{rs, ms} {
			if err := st.Setup(ctx); err != nil {
				return err
			}
			if _, err := st.Raise(ctx, fence, 0); err != nil {
				return err
			}
		}
	}
	x := &proxy{stores: dualwrite.Stores{Redis: rs, MySQL: ms}}
	if o.Lose {
		if shadow := o.Stage.Truth().Other(); shadow == backends.SideMySQL {
			x.stores.MySQL = &forgetful{ms, p.losses}
		} else {
			x.stores.Redis = &forgetful{rs, p.losses}
		}
	}
	sp, err := spool.Open(spools, 0)
	if err != nil {
		return err
	}
	p.closers = append(p.closers, sp.Close)
	x.comparator, err = comparator.New(comparator.Config{
		Pod: podName, Proxy: fmt.Sprint("proxy-", n), Store: p.findings, Sheets: p.findings, Spool: sp,
		Rechecker: comparator.NewStoreRechecker(x.pair(p.stage), time.Now),
	})
	if err != nil {
		return err
	}
	if err := x.comparator.Start(ctx); err != nil {
		return err
	}
	p.closers = append(p.closers, func() error { x.comparator.Stop(); return nil })
	x.Pod = dualwrite.NewPod(podName, x.stores, dualwrite.Options{Comparer: x.comparator})
	x.Gate().Adopt(fence)
	x.service = dualwrite.NewService(x.Pod, nil)
	x.service.Start(ctx)
	p.closers = append(p.closers, func() error { x.service.Stop(); return nil })
	p.proxies = append(p.proxies, x)
	return nil
}

func (x *proxy) pair(stage backends.Stage) func() (comparator.Pair, error) {
	return func() (comparator.Pair, error) {
		return comparator.Pair{Stage: stage, Truth: x.stores.Of(stage.Truth()), Shadow: x.stores.Of(stage.Truth().Other())}, nil
	}
}

// close ends all that open has begun, the last first.
func (p *pod) close() (err error) {
	for i := len(p.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, p.closers[i]())
	}
	p.closers = nil
	return err
}

// behind is how many entries are on their way to the shadow.
func (p *pod) behind(ctx context.Context) (int64, error) {
	s, err := p.proxies[0].stores.Of(p.stage.Truth()).OutboxStats(ctx)
	if err == nil && s.Lost {
		err = errors.New("the outbox has dropped entries: the shadow is lost, and nothing that follows could be judged")
	}
	return s.Entries, err
}

// coverage is the account of all proxies together.
func (p *pod) coverage() (out comparator.Coverage) {
	row := comparator.CoverageRow{}
	for _, x := range p.proxies {
		c := x.comparator.Snapshot()
		row.Add(comparator.CoverageRow{Decisions: c.Decisions, Counts: c.Counts})
	}
	return comparator.Coverage{Pod: podName, Decisions: row.Decisions, Counts: row.Counts}
}
