package telemetry_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/cmd/internal/telemetry"
)

// TestTagsAreBounded: a checkout that tags with order numbers gets some series of its own, and one for the
// rest; Crossfade's own operations and other pods are not crowded out. Nothing is lost from the count.
func TestTagsAreBounded(t *testing.T) {
	m, err := telemetry.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	const orders, callers = 200, 4
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for i := range orders {
				m.Connection("pod-1", fmt.Sprintf("order-%d", i), "reserve", time.Millisecond)
			}
		})
	}
	all.Wait()
	m.Connection("pod-1", "order-0", "claim", time.Millisecond)
	m.Connection("pod-1", "expire", "expire", time.Millisecond)
	m.Connection("pod-2", "checkout", "reserve", time.Millisecond)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	tags, total, others := map[string]bool{}, 0, 0
	for line := range strings.Lines(w.Body.String()) {
		if !strings.HasPrefix(line, telemetry.ConnectionSeconds+"_count{") {
			continue
		}
		var n int
		if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &n); err != nil {
			t.Fatal(err)
		}
		total += n
		for _, l := range label.FindAllString(line, -1) {
			if tag, ok := strings.CutPrefix(l, "tag="); ok {
				tags[tag] = true
				if tag == `"`+telemetry.OtherTag+`"` {
					others += n
				}
			}
		}
	}
	if want := telemetry.MaxTags + 3; len(tags) != want || !tags[`"expire"`] || !tags[`"checkout"`] {
		t.Errorf("%d tags, want %d: %v", len(tags), want, tags)
	}
	if total != orders*callers+3 || others != (orders-telemetry.MaxTags)*callers && others != (orders-telemetry.MaxTags)*callers+1 {
		t.Errorf("%d recorded, %d of them as %s", total, others, telemetry.OtherTag)
	}
}
