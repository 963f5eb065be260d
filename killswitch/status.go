package killswitch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// AckSilent is how old an acknowledgement may be before its proxy is shown as silent. Proxies repeat
// theirs every few seconds.
const AckSilent = 15 * time.Second

// Status is what an operator is shown of a pod: what is wanted, what is, and what is going on.
type Status struct {
	Pod backends.Pod `json:"pod"`
	// Desired is what the record says.
	Desired backends.Fence `json:"desired"`
	Phase   Phase          `json:"phase"`
	// Actual is what the fences say; Serving tells whether decisions under it can be acknowledged.
	Actual  backends.Fence `json:"actual"`
	Serving bool           `json:"serving"`
	Redis   View           `json:"redis"`
	MySQL   View           `json:"mysql"`
	Proxies []ProxyStatus  `json:"proxies"`
	Switch  *Switch        `json:"switch,omitempty"`
	Work    []Work         `json:"work,omitempty"`
	Who     string         `json:"who"`
	Why     string         `json:"why"`
	Since   time.Time      `json:"since"`
	Last    *Change        `json:"last,omitempty"`
	// Behind is the mark of a pod whose proxies answer without Redis, or have.
	Behind *RedisBehind `json:"redis_behind,omitempty"`
	// Waiting is how many entries Redis has not been given yet; nil where it was not counted.
	Waiting *int64 `json:"redis_behind_entries,omitempty"`
	// Notes say in words what is out of the ordinary; none means that all is well.
	Notes []string `json:"notes,omitempty"`
}

// ProxyStatus is one proxy's word. One that has registered and not acknowledged any epoch yet has epoch 0.
type ProxyStatus struct {
	Ack
	// Registered: its lease has not run out. Addr is where its admin service is, if it has said so.
	Registered bool   `json:"registered"`
	Addr       string `json:"addr,omitempty"`
	// AgeMillis is how long ago it was given, by the clock of whoever asks, at least 0.
	AgeMillis int64 `json:"age_ms"`
	// Current: it is of the epoch that the pod serves. Silent: it has not been repeated in time.
	Current bool `json:"current"`
	Silent  bool `json:"silent"`
}

// Fleet is what the control store knows of the proxies of a pod.
type Fleet struct {
	Acks    []Ack
	Members []Member // of all pods
}

// ReadFleet reads it.
func ReadFleet(ctx context.Context, c ControlStore, pod backends.Pod) (f Fleet, err error) {
	if f.Acks, err = c.Acks(ctx, pod); err != nil {
		return Fleet{}, err
	}
	f.Members, err = c.Members(ctx)
	return f, err
}

// proxies are those that have acknowledged the pod or have registered for it, in their order.
func (f Fleet) proxies(pod backends.Pod, epoch uint64, now time.Time) []ProxyStatus {
	out := []ProxyStatus{}
	for _, k := range f.Acks {
		age := max(0, now.Sub(k.At))
		out = append(out, ProxyStatus{Ack: k, AgeMillis: age.Milliseconds(), Current: k.Epoch == epoch, Silent: age > AckSilent})
	}
	for _, m := range f.Members {
		if !slices.Contains(m.Pods, pod) {
			continue
		}
		i := slices.IndexFunc(out, func(p ProxyStatus) bool { return p.Proxy == m.Proxy })
		if i < 0 {
			i = len(out)
			out = append(out, ProxyStatus{Ack: Ack{Proxy: m.Proxy, Pod: pod}})
		}
		out[i].Registered, out[i].Addr = true, m.Addr
	}
	slices.SortFunc(out, func(a, b ProxyStatus) int { return strings.Compare(a.Proxy, b.Proxy) })
	return out
}

// BuildStatus makes a status of what was read. controlErr is why the record could not be, or nil.
func BuildStatus(pod backends.Pod, seen Seen, controlErr error, fleet Fleet, now time.Time) Status {
	st := seen.State
	a := Reconcile(seen, now)
	s := Status{
		Pod: pod, Desired: st.Fence(), Phase: st.Phase, Actual: a.Fence, Serving: a.Serving, Redis: seen.Redis, MySQL: seen.MySQL,
		Switch: st.Switch, Who: st.Who, Why: st.Why, Since: st.Since,
	}
	if st.Epoch == 0 {
		s.Desired = backends.Fence{}
	}
	if n := len(st.History); n > 0 {
		last := st.History[n-1]
		s.Last = &last
	}
	seen.State = a.Next
	s.Work = WorkFor(seen)
	if s.Behind = st.Behind(a.Next.Epoch); s.Behind != nil && s.Behind.Mark == Marked {
		// MySQL's answers need not wait for Redis.
		s.Serving = s.Serving || seen.MySQL.Known && seen.MySQL.Fence == st.Fence()
	}
	s.Proxies = fleet.proxies(pod, a.Next.Epoch, now)
	s.Notes = s.notes(a, controlErr)
	return s
}

func (s *Status) notes(a Actual, controlErr error) []string {
	var n []string
	add := func(format string, args ...any) { n = append(n, Clip(fmt.Sprintf(format, args...))) }
	if controlErr != nil {
		add("the control store does not answer, so nothing can be switched; a kill can be made: %v", controlErr)
	} else if s.Desired.Epoch == 0 && s.Switch == nil {
		add("the pod has no record: it was never set up")
	}
	for _, v := range []struct {
		name string
		View
	}{{"Redis", s.Redis}, {"MySQL", s.MySQL}} {
		if !v.Known {
			add("%s does not answer: %s", v.name, v.Why)
		}
	}
	if reissue := slices.Contains(s.Work, WorkReissue); reissue && s.Serving {
		add("Redis has lost its fence, and perhaps its data; MySQL answers without it; look at it, then have the fence re-issued")
	} else if reissue {
		add("no decision can be acknowledged: Redis has lost its fence, and perhaps its data; look at it, then have the fence re-issued")
	} else if !s.Serving && s.Actual.Epoch > 0 && s.Redis.Known && s.MySQL.Known {
		add("no decision can be acknowledged at present: the fences are between two stages")
	}
	if a.Stale && controlErr == nil && s.Desired.Epoch > 0 {
		add("the fences are ahead of the record (a kill?): the pod is in %s, epoch %d", a.Next.Stage, a.Next.Epoch)
	}
	if s.Behind != nil {
		add("%s", s.Behind.note())
	}
	if l := s.Last; l != nil && l.Outcome != Done && s.Switch == nil {
		add("the last switch, to %s, was %s: %s", l.To, l.Outcome, l.Cause)
	}
	behind, silent := 0, 0
	for _, p := range s.Proxies {
		switch {
		case p.Silent:
			silent++
		case !p.Current:
			behind++
		}
	}
	if behind > 0 {
		add("%d of %d proxies have not acknowledged epoch %d", behind, len(s.Proxies), a.Next.Epoch)
	}
	if silent > 0 {
		add("%d of %d proxies have been silent for more than %s", silent, len(s.Proxies), AckSilent)
	}
	return n
}

// Status reads a pod's record, fences and acknowledgements. It changes nothing, and answers what can be
// read when something cannot; the error is for a pod that this process does not know.
func (d *Driver) Status(ctx context.Context, pod backends.Pod) (Status, error) {
	stores, err := d.o.Stores(pod)
	if err != nil {
		return Status{}, err
	}
	read, cancel := context.WithTimeout(ctx, d.o.Limits.Record)
	st, _, controlErr := d.o.Control.Get(read, pod)
	var fleet Fleet
	if controlErr == nil {
		fleet, controlErr = ReadFleet(read, d.o.Control, pod)
	}
	cancel()
	st.Pod = pod
	seen := Seen{State: st}
	d.fences(ctx, stores, &seen)
	s := BuildStatus(pod, seen, controlErr, fleet, d.o.Clock.Now())
	if s.Behind != nil && seen.MySQL.Known {
		look, cancel := d.bounded(ctx)
		defer cancel()
		if stats, err := stores.MySQL.OutboxStats(look); err == nil {
			s.Waiting = &stats.Entries
		}
	}
	return s, nil
}

// Serves tells whether the pod serves a stage: decisions under it can be acknowledged, no switch is open, and every proxy that
// is heard of has acknowledged its epoch. missing says in words what is not so yet. What a change has left to be done, a
// backfill say, is not waited for.
func (s Status) Serves(stage backends.Stage) (missing string, ok bool) {
	behind, heard := 0, 0
	for _, p := range s.Proxies {
		if p.Silent {
			continue
		}
		heard++
		if !p.Current || p.Stage != stage {
			behind++
		}
	}
	switch {
	case s.Switch != nil:
		return fmt.Sprintf("a switch to %s is at %q", s.Switch.To, s.Switch.Name), false
	case s.Actual.Stage != stage:
		return fmt.Sprintf("it is in %s, epoch %d", s.Actual.Stage, s.Actual.Epoch), false
	case !s.Serving:
		return "no decision can be acknowledged", false
	case heard == 0:
		return "no proxy has acknowledged it", false
	case behind > 0:
		return fmt.Sprintf("%d of %d proxies have not acknowledged epoch %d", behind, heard, s.Actual.Epoch), false
	default:
		return "", true
	}
}
