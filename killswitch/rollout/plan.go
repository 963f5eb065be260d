package rollout

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// Order is the order in which pods are moved.
type Order string

// The orders.
const (
	ByTraffic Order = "traffic" // lowest first; equal ones by name
	ByName    Order = "name"
)

// Request asks for a rollout.
type Request struct {
	// Select names the pods: "all", or conditions on their labels with commas between, all of which have to hold:
	// key=value, key!=value, or key alone for any value. The key "name" is the pod's name.
	Select string
	To     backends.Stage
	Order  Order
	// Waves are sizes with commas between: a number of pods, or a share of all of them in percent, rounded up. What they
	// leave is the last wave.
	Waves string
	Soak  time.Duration
	Who   string
	Why   string
}

// Candidate is a pod that this process serves, as it is now.
type Candidate struct {
	Pod    backends.Pod
	Labels map[string]string
	Stage  backends.Stage
	// Switching: a switch is open.
	Switching bool
	// Traffic is its decisions in an hour. Known tells whether it could be measured.
	Traffic killswitch.Figure[float64]
	// Problem is why its state could not be read; empty when it was.
	Problem string
}

// condition is one term of a selector.
type condition struct {
	key, value string
	any, not   bool
}

// nameKey is the key for a pod's name.
const nameKey = "name"

func parseSelect(s string) ([]condition, error) {
	refuse := func() error {
		return &backends.FieldError{Field: "pods", Value: fmt.Sprintf("%.80q", s), Bound: "all, or key=value, key!=value or key, with commas between; the key name is the pod's name", Next: "say which pods, like --pods region=eu"}
	}
	if s == "all" {
		return nil, nil
	}
	var out []condition
	for term := range strings.SplitSeq(s, ",") {
		c := condition{key: strings.TrimSpace(term), any: true}
		if k, v, ok := strings.Cut(term, "!="); ok {
			c = condition{key: strings.TrimSpace(k), value: strings.TrimSpace(v), not: true}
		} else if k, v, ok := strings.Cut(term, "="); ok {
			c = condition{key: strings.TrimSpace(k), value: strings.TrimSpace(v)}
		}
		if c.key == "" || !c.any && c.value == "" {
			return nil, refuse()
		}
		out = append(out, c)
	}
	return out, nil
}

func (c condition) holds(p *Candidate) bool {
	v, has := p.Labels[c.key]
	if c.key == nameKey {
		v, has = string(p.Pod), true
	}
	switch {
	case c.any:
		return has
	case c.not:
		return v != c.value || !has
	default:
		return has && v == c.value
	}
}

// parseWaves makes sizes of the waves for n pods.
func parseWaves(s string, n int) ([]int, error) {
	refuse := func(next string) ([]int, error) {
		return nil, &backends.FieldError{Field: "wave", Value: fmt.Sprintf("%.80q", s), Bound: fmt.Sprintf("up to %d sizes with commas between, each 1 or more, or more than 0%% and up to 100%%", MaxWaves), Next: next}
	}
	if s == "" {
		s = "100%"
	}
	var out []int
	left := n
	terms := strings.Split(s, ",")
	if len(terms) > MaxWaves {
		return refuse("name fewer")
	}
	for _, term := range terms {
		term = strings.TrimSpace(term)
		size := 0
		if share, ok := strings.CutSuffix(term, "%"); ok {
			f, err := strconv.ParseFloat(share, 64)
			if err != nil || !(f > 0 && f <= 100) {
				return refuse("write a share like 25%")
			}
			size = int(math.Ceil(float64(n) * f / 100))
		} else if v, err := strconv.Atoi(term); err == nil && v >= 1 {
			size = v
		} else {
			return refuse("write sizes like 1,5,25%")
		}
		if size = min(size, left); size > 0 { // those that come after all pods are in a wave are empty
			out = append(out, size)
			left -= size
		}
	}
	if left > 0 {
		out = append(out, left)
	}
	return out, nil
}

func (r *Request) check() error {
	if err := killswitch.CheckWhoWhy(r.Who, r.Why); err != nil {
		return err
	}
	if r.Soak < 0 || r.Soak > MaxSoak {
		return &backends.FieldError{Field: "soak", Value: r.Soak.String(), Bound: "0s to " + MaxSoak.String(), Next: "say how long each wave is watched, like --soak 30m"}
	}
	if r.Order != ByTraffic && r.Order != ByName {
		return &backends.FieldError{Field: "order", Value: fmt.Sprintf("%.80q", r.Order), Bound: "traffic or name", Next: "leave --order out for lowest traffic first"}
	}
	if r.To < backends.RedisOnly || r.To > backends.MySQLOnly {
		return &backends.FieldError{Field: "to", Value: r.To.String(), Bound: "redis-only, shadow, live or mysql-only", Next: "name the stage that the pods are to go to, like --to live"}
	}
	return nil
}

// Plan makes a rollout of a request and of the pods that there are. It is pure; number and now go into the record. Pods
// that are in the stage already are left out. All others have to stand in one stage, next to it.
func Plan(r Request, all []Candidate, number uint64, now time.Time) (*State, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	conds, err := parseSelect(r.Select)
	if err != nil {
		return nil, err
	}
	chosen := slices.DeleteFunc(slices.Clone(all), func(c Candidate) bool {
		return slices.ContainsFunc(conds, func(k condition) bool { return !k.holds(&c) })
	})
	selected := len(chosen)
	chosen = slices.DeleteFunc(chosen, func(c Candidate) bool { return c.Stage == r.To && !c.Switching && c.Problem == "" })
	if len(chosen) == 0 {
		return nil, &backends.FieldError{Field: "pods", Value: fmt.Sprintf("%.80q", r.Select), Bound: "at least one pod that is not in " + r.To.String(), Next: fmt.Sprintf("%d of the %d pods match, and none of them has to be moved; see 'crossfade pods'", selected, len(all))}
	}
	if len(chosen) > MaxPods {
		return nil, &backends.FieldError{Field: "pods", Value: fmt.Sprintf("%d pods", len(chosen)), Bound: fmt.Sprintf("at most %d", MaxPods), Next: "choose fewer by their labels"}
	}
	from, err := fit(r, chosen)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(chosen, func(a, b Candidate) int {
		if r.Order == ByTraffic && a.Traffic.Value != b.Traffic.Value {
			return cmp.Compare(a.Traffic.Value, b.Traffic.Value)
		}
		return cmp.Compare(a.Pod, b.Pod)
	})
	sizes, err := parseWaves(r.Waves, len(chosen))
	if err != nil {
		return nil, err
	}
	s := &State{
		Number: number, From: from, To: r.To, Select: r.Select, Who: r.Who, Why: r.Why, Started: now, Phase: Running,
		Waves: len(sizes), Wave: 1, SoakMillis: r.Soak.Milliseconds(),
	}
	wave, left := 1, sizes[0]
	for _, c := range chosen {
		if left == 0 {
			wave++
			left = sizes[wave-1]
		}
		left--
		s.Pods = append(s.Pods, Pod{Pod: c.Pod, Wave: wave, Place: Waiting, Traffic: c.Traffic.Value})
	}
	s.event(now, r.Who, fmt.Sprintf("started: %d pods from %s to %s in %d waves", len(s.Pods), from, r.To, len(sizes)), "")
	return s, nil
}

// fit finds the stage that all chosen pods are in, and refuses what could not be moved.
func fit(r Request, chosen []Candidate) (from backends.Stage, err error) {
	from = chosen[0].Stage
	for i := range chosen {
		c := &chosen[i]
		refuse := func(what, next string) (backends.Stage, error) {
			return 0, &backends.FieldError{Field: "pods", Value: fmt.Sprintf("%.80q", c.Pod), Bound: "pods that can be moved to " + r.To.String(), Next: fmt.Sprintf("pod %s %s; %s", c.Pod, what, next)}
		}
		switch {
		case c.Problem != "":
			return refuse("cannot be looked at: "+c.Problem, "mend that, or leave it out, like --pods name!="+string(c.Pod))
		case c.Switching:
			return refuse("is in the middle of a switch", fmt.Sprintf("wait for it ('crossfade status %s --watch'), or leave it out", c.Pod))
		case r.Order == ByTraffic && !c.Traffic.Known:
			return refuse("has traffic that cannot be measured at present", "try again, or give --order name")
		}
		if err := killswitch.CheckMove(killswitch.PodState{Pod: c.Pod, Stage: c.Stage, Filled: true}, r.To); err != nil {
			return refuse("is in "+c.Stage.String(), "a rollout moves pods by one stage: bring it next to "+r.To.String()+" first, or leave it out")
		}
		if c.Stage != from {
			return refuse(fmt.Sprintf("is in %s, and %s in %s", c.Stage, chosen[0].Pod, from), "roll out pods of one stage at a time")
		}
	}
	return from, nil
}
