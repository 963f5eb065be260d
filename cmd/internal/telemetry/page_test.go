package telemetry_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/telemetry"
)

// metric is what a page says of one metric.
type metric struct {
	kind   string // counter, gauge or histogram
	labels map[string]bool
}

var (
	typeLine = regexp.MustCompile(`^# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (\w+)$`)
	sample   = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? \S+$`)
	label    = regexp.MustCompile(`(\w+)="(?:[^"\\]|\\.)*"`)
)

// readPage reads metrics in Prometheus's text format. le belongs to buckets and is left out.
func readPage(t *testing.T, text string) map[string]metric {
	t.Helper()
	page := map[string]metric{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if m := typeLine.FindStringSubmatch(line); m != nil {
			page[m[1]] = metric{m[2], map[string]bool{}}
			continue
		}
		if line == "" || line[0] == '#' {
			continue
		}
		m := sample.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("the page has a line that is no sample: %q", line)
		}
		base, _ := baseOf(m[1], page)
		got, ok := page[base]
		if !ok {
			t.Fatalf("sample %q has no TYPE before it", m[1])
		}
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "le" {
				got.labels[l[1]] = true
			}
		}
	}
	return page
}

// baseOf tells which metric a name in a query or sample belongs to, and which part of a histogram it is.
func baseOf(name string, page map[string]metric) (base, part string) {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if b, ok := strings.CutSuffix(name, suffix); ok && page[b].kind == "histogram" {
			return b, suffix
		}
	}
	return name, ""
}

// usedOnce is the page of metrics whose every instrument was used once.
func usedOnce(t *testing.T) map[string]metric {
	t.Helper()
	m, err := telemetry.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	const pod, d = backends.Pod("pod-1"), time.Millisecond
	m.Operation(pod, backends.Shadow, backends.OpReserve, backends.OutcomeSoldOut, nil, d)
	m.StoreCall(pod, backends.SideMySQL, "shadow", backends.OpReserve, errors.New("broken"), d)
	m.GateWait(pod, d)
	m.Mirrored(pod, 1, d, true)
	m.LaneFull(pod, "probe")
	m.Apology(pod, backends.Apology{Quantity: 2})
	m.Resubmitted(pod, backends.OpReserve)
	m.Connection(pod, "checkout", "reserve", d)
	figures := func(context.Context) []telemetry.PodFigures {
		return []telemetry.PodFigures{{
			Pod: pod, Fence: backends.Fence{Epoch: 2, Stage: backends.Shadow, Open: true}, BreakerOpen: true, LaneDepth: 3,
			Outbox:    map[backends.Side]backends.OutboxStats{backends.SideRedis: {Entries: 4, OldestMillis: 5, Lost: true}},
			Debt:      map[backends.Side]int64{backends.SideMySQL: 6},
			Decisions: map[string]int64{"matched": 7}, Findings: map[string]int64{"quantity": 8}, SpoolBytes: 9,
			Audit: telemetry.AuditFigures{Known: true, Running: true, Failures: 1, Complete: true, Age: time.Minute, Findings: 2, Open: 3},
		}}
	}
	if err := m.Watch(figures, func() int64 { return 10 }); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	if w.Code != http.StatusOK {
		t.Fatalf("the page answers %d: %s", w.Code, w.Body)
	}
	return readPage(t, w.Body.String())
}

// TestNamesAreOnThePage: names.go is what Prometheus sees, no more and no less.
func TestNamesAreOnThePage(t *testing.T) {
	page := usedOnce(t)
	named := map[string]bool{}
	for _, n := range telemetry.Names() {
		if named[n] {
			t.Errorf("%s is named twice", n)
		}
		named[n] = true
		if _, ok := page[n]; !ok {
			t.Errorf("%s is named and is not on the page", n)
		}
	}
	for n := range page {
		if strings.HasPrefix(n, "crossfade_") && !named[n] {
			t.Errorf("%s is on the page and is not named", n)
		}
	}
}
