package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/cmd/internal/config"
	"github.com/crossfade-proxy/crossfade/dualwrite"
	"github.com/crossfade-proxy/crossfade/killswitch"
	"github.com/crossfade-proxy/crossfade/killswitch/etcdstore"
	"github.com/crossfade-proxy/crossfade/killswitch/filestore"
)

// controlStore is what every control store offers.
type controlStore interface {
	killswitch.ControlStore
	killswitch.Documents
}

// leaveWithin bounds the leaving of a fleet: a control store that is away must not keep a proxy from stopping, and the
// registration runs out by itself.
const leaveWithin = time.Second

// openControl makes the control store that is configured. An etcd that is away is no error: the proxy serves by the stores'
// fences meanwhile.
func openControl(cfg *config.Config) (controlStore, error) {
	if !cfg.Control.Etcd.Used() {
		s, err := filestore.Open(cfg.Path(cfg.Control.Dir), filestore.Options{})
		if err != nil {
			return nil, fmt.Errorf("control store: %w", err)
		}
		return s, nil
	}
	o, err := cfg.Control.Etcd.Options(cfg)
	if err != nil {
		return nil, err
	}
	s, err := etcdstore.Open(o)
	if err != nil {
		return nil, fmt.Errorf("control store: %w", err)
	}
	return s, nil
}

// enrol registers this proxy, however long that takes, and takes the registration away when ctx is done.
func (p *Proxy) enrol(ctx context.Context) {
	m := killswitch.Member{Proxy: p.cfg.ProxyID, Addr: reachable(p.adminLn.Addr()), Since: time.Now(), Process: p.runID}
	for _, r := range p.pods {
		m.Pods = append(m.Pods, r.name)
	}
	slices.Sort(m.Pods)
	got := p.join(ctx, m)
	if got == nil {
		return
	}
	select {
	case <-got.Lost():
		p.log.Error("another process has registered under this proxy's name: this one serves on, by the fences, and neither registers nor acknowledges; give one of them another proxy_id, or stop it", "proxy_id", m.Proxy)
	case <-ctx.Done():
		lctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWithin)
		defer cancel()
		if err := got.Leave(lctx); err != nil {
			p.log.Warn("the registration could not be taken away; it runs out by itself", "error", err)
		}
	}
}

// join tries until it has succeeded; nil when ctx is done before.
func (p *Proxy) join(ctx context.Context, m killswitch.Member) killswitch.Membership {
	told := false
	for ctx.Err() == nil {
		cctx, cancel := context.WithTimeout(ctx, callTimeout)
		got, err := p.control.Join(cctx, m, time.Duration(p.cfg.Control.Lease))
		cancel()
		if err == nil {
			if told {
				p.log.Info("registered in the control store")
			}
			return got
		}
		if !told && !errors.Is(err, context.Canceled) {
			told = true
			p.log.Warn("this proxy cannot register in the control store, and tries again; it serves meanwhile", "error", err)
		}
		_ = dualwrite.SystemClock{}.Wait(ctx, nil, keepEvery)
	}
	return nil
}

// reachable is an address under which others find a listener: one that takes all of the machine's has the machine's name.
func reachable(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		if host, err = os.Hostname(); err != nil {
			return ""
		}
	}
	return net.JoinHostPort(host, port)
}
