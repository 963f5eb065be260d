package rollout_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
	"github.com/crossfade-proxy/crossfade/killswitch/rollout"
)

// some are pods in shadow, with labels; pod e is in live.
func some() []rollout.Candidate {
	c := func(name string, traffic float64, labels ...string) rollout.Candidate {
		out := rollout.Candidate{Pod: backends.Pod(name), Stage: backends.Shadow, Traffic: killswitch.Is(traffic), Labels: map[string]string{}}
		for _, l := range labels {
			k, v, _ := strings.Cut(l, "=")
			out.Labels[k] = v
		}
		return out
	}
	all := []rollout.Candidate{
		c("a", 9, "region=eu", "tier=small"), c("b", 2, "region=eu"), c("c", 2, "region=us", "tier=small"), c("d", 0, "region=us", "canary=yes"), c("e", 5, "region=eu"),
	}
	all[4].Stage = backends.Live
	return all
}

func request(sel string) rollout.Request {
	return rollout.Request{Select: sel, To: backends.Live, Order: rollout.ByTraffic, Who: "ann", Why: "x"}
}

// TestSelect: labels, names, and the order by traffic, then by name. What is there already is left out.
func TestSelect(t *testing.T) {
	for sel, want := range map[string]string{
		"all": "d b c a", "region=eu": "b a", "region!=eu": "d c", "tier": "c a", "tier=small,region=us": "c", "name=d": "d", "name!=d,region=us": "c",
		"canary!=yes": "b c a", " region = eu ": "b a",
	} {
		s, err := rollout.Plan(request(sel), some(), 1, epoch0)
		if err != nil {
			t.Errorf("%s: %v", sel, err)
			continue
		}
		var got []string
		for _, p := range s.Names() {
			got = append(got, string(p))
		}
		if d := cmp.Diff(want, strings.Join(got, " ")); d != "" {
			t.Errorf("%s (-want +got):\n%s", sel, d)
		}
	}
}

// TestSizes of waves.
func TestSizes(t *testing.T) {
	for waves, want := range map[string][]int{
		"": {10}, "1": {1, 9}, "1,5,25%": {1, 5, 3, 1}, "50%": {5, 5}, "10": {10}, "20": {10}, "1,99,5": {1, 9}, "0.1%": {1, 9}, "100%,3": {10}, "3, 3": {3, 3, 4},
	} {
		r := request("all")
		r.Waves, r.Order = waves, rollout.ByName
		var all []rollout.Candidate
		for i := range 10 {
			all = append(all, rollout.Candidate{Pod: pod(i), Stage: backends.Shadow})
		}
		s, err := rollout.Plan(r, all, 1, epoch0)
		if err != nil {
			t.Errorf("%q: %v", waves, err)
			continue
		}
		got := make([]int, s.Waves)
		for _, p := range s.Pods {
			got[p.Wave-1]++
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q (-want +got):\n%s", waves, d)
		}
	}
}

// TestRefused: each bad request and each pod that could not be moved is named, with what to do.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change      func(*rollout.Request, []rollout.Candidate)
		field, next string
	}{
		"nobody":               {func(r *rollout.Request, _ []rollout.Candidate) { r.Who = "" }, "who", ""},
		"no reason":            {func(r *rollout.Request, _ []rollout.Candidate) { r.Why = "" }, "why", ""},
		"a negative soak":      {func(r *rollout.Request, _ []rollout.Candidate) { r.Soak = -time.Second }, "soak", "--soak 30m"},
		"a soak of a year":     {func(r *rollout.Request, _ []rollout.Candidate) { r.Soak = 365 * 24 * time.Hour }, "soak", ""},
		"an order of none":     {func(r *rollout.Request, _ []rollout.Candidate) { r.Order = "size" }, "order", "--order"},
		"no pods":              {func(r *rollout.Request, _ []rollout.Candidate) { r.Select = "" }, "pods", "region=eu"},
		"half a condition":     {func(r *rollout.Request, _ []rollout.Candidate) { r.Select = "region=" }, "pods", ""},
		"pods of nowhere":      {func(r *rollout.Request, _ []rollout.Candidate) { r.Select = "region=mars" }, "pods", "0 of the 5 pods match"},
		"pods that are there":  {func(r *rollout.Request, _ []rollout.Candidate) { r.Select = "name=e" }, "pods", "1 of the 5 pods match"},
		"a wave of nothing":    {func(r *rollout.Request, _ []rollout.Candidate) { r.Waves = "0" }, "wave", "1,5,25%"},
		"a wave of too much":   {func(r *rollout.Request, _ []rollout.Candidate) { r.Waves = "101%" }, "wave", "25%"},
		"a wave of no number":  {func(r *rollout.Request, _ []rollout.Candidate) { r.Waves = "NaN%" }, "wave", "25%"},
		"many waves":           {func(r *rollout.Request, _ []rollout.Candidate) { r.Waves = strings.Repeat("1,", 40) + "1" }, "wave", "fewer"},
		"two stages at once":   {func(_ *rollout.Request, cs []rollout.Candidate) { cs[1].Stage = backends.MySQLOnly }, "pods", "pod b is in mysql-only"},
		"two steps at once":    {func(r *rollout.Request, _ []rollout.Candidate) { r.To = backends.MySQLOnly }, "pods", "by one stage"},
		"a switch is open":     {func(_ *rollout.Request, cs []rollout.Candidate) { cs[1].Switching = true }, "pods", "status b --watch"},
		"a pod out of sight":   {func(_ *rollout.Request, cs []rollout.Candidate) { cs[1].Problem = "no answer" }, "pods", "name!=b"},
		"traffic is not known": {func(_ *rollout.Request, cs []rollout.Candidate) { cs[1].Traffic.Known = false }, "pods", "--order name"},
		"a stage that is none": {func(r *rollout.Request, _ []rollout.Candidate) { r.To = 0 }, "to", "--to live"},
	} {
		r, all := request("all"), some()
		c.change(&r, all)
		_, err := rollout.Plan(r, all, 1, epoch0)
		var fe *backends.FieldError
		if !errors.As(err, &fe) || fe.Field != c.field || !strings.Contains(fe.Next, c.next) {
			t.Errorf("%s: %v; want field %s and %q", name, err, c.field, c.next)
		}
	}
}
