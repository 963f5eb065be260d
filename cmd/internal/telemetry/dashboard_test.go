package telemetry_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/crossfade-proxy/crossfade/cmd/internal/telemetry"
	"github.com/crossfade-proxy/crossfade/dashboards"
)

// scraped are the labels that Prometheus itself puts on every series.
var scraped = map[string]bool{"instance": true, "job": true}

var (
	ourMetric = regexp.MustCompile(`\bcrossfade_\w+`)
	selector  = regexp.MustCompile(`\b(crossfade_\w+)(\{[^}]*\})?`)
	matcher   = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"[^"]*"`)
	grouping  = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	legend    = regexp.MustCompile(`\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}`)
	values    = regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`)
)

// complaints says what a query, with the text that shows its labels, asks for that is not there.
func complaints(query, text string, page map[string]metric) []string {
	var out []string
	if m := values.FindStringSubmatch(query); m != nil {
		query = fmt.Sprintf(`max by (%s) (%s)`, m[2], m[1])
	}
	known := map[string]bool{"le": true}
	found := false
	for _, m := range selector.FindAllStringSubmatch(query, -1) {
		found = true
		base, part := baseOf(m[1], page)
		got, ok := page[base]
		switch {
		case !ok:
			out = append(out, m[1]+" does not exist")
			continue
		case got.kind == "histogram" && part == "":
			out = append(out, m[1]+" is a histogram: it has _bucket, _sum and _count")
		case got.kind == "gauge" && regexp.MustCompile(`\b(rate|increase)\(`+m[1]+`\b`).MatchString(query):
			out = append(out, m[1]+" is a gauge: it has no rate")
		}
		for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
			if !got.labels[l[1]] && !scraped[l[1]] {
				out = append(out, m[1]+" has no label "+l[1])
			}
		}
		for l := range got.labels {
			known[l] = true
		}
	}
	if !found {
		out = append(out, "no metric of ours in it")
	}
	kept := map[string]bool{}
	for _, m := range grouping.FindAllStringSubmatch(query, -1) {
		for _, l := range strings.Split(m[1], ",") {
			l = strings.TrimSpace(l)
			kept[l] = true
			if !known[l] && !scraped[l] {
				out = append(out, "no metric in it has label "+l)
			}
		}
	}
	for _, m := range legend.FindAllStringSubmatch(text, -1) {
		if len(kept) > 0 && !kept[m[1]] || len(kept) == 0 && !known[m[1]] && !scraped[m[1]] {
			out = append(out, "label "+m[1]+" is shown and is not in the result")
		}
	}
	return out
}

func TestComplaints(t *testing.T) {
	page := map[string]metric{
		"crossfade_a_seconds": {"histogram", map[string]bool{"pod": true, "op": true}},
		"crossfade_b":         {"gauge", map[string]bool{"pod": true}},
		"crossfade_c_total":   {"counter", map[string]bool{"pod": true}},
	}
	for _, c := range []struct{ query, text, wrong string }{
		{`sum by (pod, le) (rate(crossfade_a_seconds_bucket{op="reserve"}[5m]))`, "{{pod}}", ""},
		{`crossfade_nosuch{pod="x"}`, "", "crossfade_nosuch does not exist"},
		{`crossfade_b_count`, "", "crossfade_b_count does not exist"},
		{`rate(crossfade_a_seconds[5m])`, "", "is a histogram"},
		{`rate(crossfade_b[5m])`, "", "is a gauge"},
		{`crossfade_b{op="x"}`, "", "no label op"},
		{`sum by (op) (crossfade_b)`, "", "label op"},
		{`sum by (pod) (crossfade_b)`, "{{op}}", "op is shown"},
		{`sum by (pod) (crossfade_b)`, "of {{ $labels.store }}", "store is shown"},
		{`crossfade_b`, "{{instance}}", ""},
		{`vector(1)`, "", "no metric of ours"},
		{`label_values(crossfade_b, pod)`, "", ""},
		{`label_values(crossfade_b, op)`, "", "label op"},
		{`sum by (pod) (increase(crossfade_c_total[5m])) / sum by (pod) (crossfade_b)`, "{{pod}}", ""},
	} {
		got := complaints(c.query, c.text, page)
		switch {
		case c.wrong == "" && len(got) > 0:
			t.Errorf("%s: %q", c.query, got)
		case c.wrong != "" && (len(got) != 1 || !strings.Contains(got[0], c.wrong)):
			t.Errorf("%s: want one complaint with %q, got %q", c.query, c.wrong, got)
		}
	}
}

// target is one query of a panel, an annotation or a variable.
type target struct {
	Expr         string `json:"expr"`
	LegendFormat string `json:"legendFormat"`
}

type dashboard struct {
	Panels []struct {
		ID      int    `json:"id"`
		Type    string `json:"type"`
		Title   string `json:"title"`
		GridPos struct{ H, W, X, Y int }
		Targets []target `json:"targets"`
	} `json:"panels"`
	Annotations struct {
		List []struct {
			Name        string `json:"name"`
			Expr        string `json:"expr"`
			TitleFormat string `json:"titleFormat"`
		} `json:"list"`
	} `json:"annotations"`
	Templating struct {
		List []struct {
			Name  string          `json:"name"`
			Type  string          `json:"type"`
			Query json.RawMessage `json:"query"`
		} `json:"list"`
	} `json:"templating"`
}

func grafana(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(dashboards.Grafana()), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDashboardNamesWhatThereIs(t *testing.T) {
	page, d := usedOnce(t), grafana(t)
	shown := map[string]bool{}
	check := func(what, query, text string) {
		for _, c := range complaints(query, text, page) {
			t.Errorf("%s: %s: %s", what, query, c)
		}
		for _, n := range ourMetric.FindAllString(query, -1) {
			base, _ := baseOf(n, page)
			shown[base] = true
		}
	}
	ids := map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("panel %q has the id %d of another", p.Title, p.ID)
		}
		ids[p.ID] = true
		if p.GridPos.X < 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %q is wider than the page", p.Title)
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, q := range p.Targets {
			check("panel "+p.Title, q.Expr, q.LegendFormat)
			if strings.Contains(q.Expr, "pod") && !strings.Contains(q.Expr, `pod=~"$pod"`) {
				t.Errorf("panel %q does not obey the choice of a pod: %s", p.Title, q.Expr)
			}
		}
	}
	for _, n := range telemetry.Names() {
		if !shown[n] {
			t.Errorf("no panel shows %s", n)
		}
	}
	for _, a := range d.Annotations.List {
		check("annotation "+a.Name, a.Expr, a.TitleFormat)
	}
	variables := map[string]bool{}
	for _, v := range d.Templating.List {
		variables[v.Name] = true
		if v.Type != "query" {
			continue
		}
		var q struct{ Query string }
		if err := json.Unmarshal(v.Query, &q); err != nil {
			t.Fatal(err)
		}
		check("variable "+v.Name, q.Query, "")
	}
	if !variables["datasource"] || !variables["pod"] {
		t.Errorf("the dashboard has variables %v; it needs datasource and pod", variables)
	}
}

func TestPanelsDoNotOverlap(t *testing.T) {
	type cell struct{ x, y int }
	taken := map[cell]string{}
	for _, p := range grafana(t).Panels {
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, dup := taken[cell{x, y}]; dup {
					t.Fatalf("panels %q and %q overlap", other, p.Title)
				}
				taken[cell{x, y}] = p.Title
			}
		}
	}
}

func TestAlertsNameWhatThereIs(t *testing.T) {
	var rules struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []struct {
				Alert       string            `yaml:"alert"`
				Expr        string            `yaml:"expr"`
				For         string            `yaml:"for"`
				Labels      map[string]string `yaml:"labels"`
				Annotations map[string]string `yaml:"annotations"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.UnmarshalWithOptions([]byte(dashboards.Alerts()), &rules, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	runbook, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	page, seen := usedOnce(t), map[string]bool{}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if seen[r.Alert] || r.Alert == "" {
				t.Errorf("alert %q has no name of its own", r.Alert)
			}
			seen[r.Alert] = true
			for _, c := range complaints(r.Expr, r.Annotations["summary"], page) {
				t.Errorf("alert %s: %s: %s", r.Alert, r.Expr, c)
			}
			if s := r.Labels["severity"]; s != "page" && s != "ticket" {
				t.Errorf("alert %s has severity %q", r.Alert, s)
			}
			if r.Annotations["summary"] == "" || r.Annotations["runbook"] != "docs/operations.md#"+strings.ToLower(r.Alert) {
				t.Errorf("alert %s has no summary, or does not lead to its part of the runbook", r.Alert)
			}
			if !strings.Contains(string(runbook), "### "+r.Alert+"\n") {
				t.Errorf("docs/operations.md does not say what to do about %s", r.Alert)
			}
		}
	}
	if len(seen) == 0 {
		t.Error("there are no alerts")
	}
}
