package killswitch

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// AckGone is how long a proxy has to have been silent until it is taken for one that is gone for good, where nothing but
// its acknowledgements says that it was there. Whatever it does when it comes back, the fences refuse it.
const AckGone = time.Hour

// Standing is where one proxy of a pod stands.
type Standing struct {
	Proxy string
	// Epoch is the one that it acknowledged last; 0 for none.
	Epoch uint64
	// Silent is how long it has said nothing; 0 while that is not too long.
	Silent time.Duration
}

// Standings is where the proxies of a pod stand, by their names. registered are those that the control store says are there; one
// that has acknowledged nothing counts as well. Without registered they are known by their acknowledgements alone, and one
// that has been silent for AckGone is left out. It is pure; now is by the clock of whoever asks.
func Standings(registered []string, acks []Ack, now time.Time) []Standing {
	var out []Standing
	for _, a := range acks {
		s := Standing{Proxy: a.Proxy, Epoch: a.Epoch}
		if age := now.Sub(a.At); age > AckSilent {
			s.Silent = age
		}
		if registered == nil && s.Silent >= AckGone || registered != nil && !slices.Contains(registered, a.Proxy) {
			continue
		}
		out = append(out, s)
	}
	for _, name := range registered {
		if !slices.ContainsFunc(out, func(s Standing) bool { return s.Proxy == name }) {
			out = append(out, Standing{Proxy: name})
		}
	}
	slices.SortFunc(out, func(a, b Standing) int { return strings.Compare(a.Proxy, b.Proxy) })
	return out
}

// Standings is where the proxies of a pod stand.
func (f Fleet) Standings(pod backends.Pod, now time.Time) []Standing {
	var registered []string // nil where the control store says of none that it is there
	for _, m := range f.Members {
		if slices.Contains(m.Pods, pod) {
			registered = append(registered, m.Proxy)
		}
	}
	return Standings(registered, f.Acks, now)
}

// Proxies is the evidence of the gate of that name.
type Proxies struct {
	Epoch uint64 // that the pod serves
	Fleet []Standing
}

// trouble says in words what is wrong with one of them; empty when nothing is.
func (s Standing) trouble(epoch uint64) string {
	switch {
	case s.Epoch == 0:
		return s.Proxy + " has acknowledged nothing"
	case s.Silent > 0:
		return fmt.Sprintf("%s is silent (for %s)", s.Proxy, s.Silent.Round(time.Second))
	case s.Epoch != epoch:
		return fmt.Sprintf("%s is at epoch %d", s.Proxy, s.Epoch)
	default:
		return ""
	}
}

// Behind tells whether some have not acknowledged the epoch yet, and all are heard of: they will in a moment.
func (p Proxies) Behind() bool {
	behind := false
	for _, s := range p.Fleet {
		if s.Silent > 0 {
			return false
		}
		behind = behind || s.Epoch != p.Epoch
	}
	return behind
}

func (p Proxies) String() string {
	var wrong []string
	for _, s := range p.Fleet {
		if t := s.trouble(p.Epoch); t != "" {
			wrong = append(wrong, t)
		}
	}
	n := len(p.Fleet)
	text := fmt.Sprintf("%d of %d at epoch %d", n-len(wrong), n, p.Epoch)
	if len(wrong) > 0 {
		text += ": " + strings.Join(wrong, ", ")
	}
	return text
}

// current tells whether there are proxies, and all of them are at the epoch.
func (p Proxies) current() bool {
	return len(p.Fleet) > 0 && p.Epoch > 0 && !slices.ContainsFunc(p.Fleet, func(s Standing) bool { return s.trouble(p.Epoch) != "" })
}
