package proxy

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/behind"
	"github.com/crossfade-proxy/crossfade/cmd/internal/config"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/dualwrite"
	"github.com/crossfade-proxy/crossfade/dualwrite/journal"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// openBehind makes what lets a pod's answers go without Redis. The journal is there with the policy only.
func (p *Proxy) openBehind(c *config.Pod, data string, r *podRuntime) (err error) {
	o := behind.Options{
		Pod: r.name, Control: p.control, Clock: killswitch.SystemClock{}, Proxy: p.cfg.ProxyID, Run: p.runID,
		Lease: time.Duration(p.cfg.Control.Lease), Answers: c.AnswersAlone(), Voided: r.voided,
	}
	if o.Answers {
		j, err := journal.Open(filepath.Join(data, c.Name+".alone"), o.Run, 0)
		if err != nil {
			return err
		}
		p.closers = append(p.closers, j.Close)
		o.Journal = j
	}
	r.alone, err = behind.New(o)
	return err
}

// answersAlone is the policy by the name of a pod.
func (p *Proxy) answersAlone(pod backends.Pod) bool {
	for i := range p.cfg.Pods {
		if backends.Pod(p.cfg.Pods[i].Name) == pod {
			return p.cfg.Pods[i].AnswersAlone()
		}
	}
	return false
}

// keepAlone renews permissions and ends marks.
func (p *podRuntime) keepAlone(ctx context.Context) {
	for ctx.Err() == nil {
		cctx, cancel := context.WithTimeout(ctx, callTimeout)
		err := p.alone.Step(cctx)
		cancel()
		p.report("answers without Redis", err)
		wait := keepEvery
		if p.alone.Busy() {
			wait = p.alone.Every()
		}
		wake := make(chan struct{})
		wctx, done := context.WithCancel(ctx)
		go func() {
			defer close(wake)
			select {
			case <-p.alone.Woken():
			case <-wctx.Done():
			}
		}()
		_ = dualwrite.SystemClock{}.Wait(wctx, wake, wait)
		done()
		<-wake
	}
}

// voided files a finding for a hold or a count that may have been acknowledged without Redis before a kill, and that Redis
// never had. It is kept before the hold is voided.
func (p *podRuntime) voided(ctx context.Context, f backends.Fence, e *backends.Entry) error {
	found := comparator.Finding{Class: comparator.MissingHold, Source: "kill", Epoch: f.Epoch, Stage: f.Stage}
	if h := e.Hold; h != nil {
		found.Hold, found.Shop, found.Caller, found.Units = h.ID, h.Shop, h.Caller, h.Takes()
		found.Diff = fmt.Sprintf("MySQL granted hold %s in epoch %d; Redis never had it", h.ID, h.Version.Epoch)
	} else if l := e.Level; l != nil {
		found.Shop, found.Units = l.Key.Shop, []backends.Units{{Key: l.Key, Quantity: max(1, l.OnHandDelta)}}
		found.ID = comparator.FindingID(p.name, comparator.MissingHold, backends.HoldID(l.OpID), l.Key)
		found.Diff = fmt.Sprintf("MySQL answered the count %s at %s; Redis never had it", l.OpID, l.Key)
	}
	found.Proof = "the pod was killed while it was marked as redis behind: this may have been acknowledged without Redis, could not be brought there, and is void; " +
		"tell the customer, or reserve for him anew"
	p.comparator.Record(found)
	return p.comparator.Flush(ctx)
}
