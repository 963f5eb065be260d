package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
	"github.com/crossfade-proxy/crossfade/cmd/internal/orders"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quick is the pace of tests: long enough that each part sees carts.
var quick = pace{shadow: 700 * time.Millisecond, live: 500 * time.Millisecond, after: 200 * time.Millisecond, orders: 300, items: 60, rate: 60, clients: 8, hold: 20 * time.Millisecond, stock: 0.6}

// timed keeps what is written, and the longest silence before a line.
type timed struct {
	mu      sync.Mutex
	text    bytes.Buffer
	last    time.Time
	silence time.Duration
	first   time.Duration
	begun   time.Time
}

func newTimed() *timed { return &timed{begun: time.Now(), last: time.Now(), first: -1} }

func (w *timed) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silence = max(w.silence, time.Since(w.last))
	w.last = time.Now()
	if w.first < 0 {
		w.first = time.Since(w.begun)
	}
	return w.text.Write(p)
}

func (w *timed) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

func (w *timed) inOrder(t *testing.T, words ...string) {
	t.Helper()
	rest := w.String()
	for _, word := range words {
		i := strings.Index(rest, word)
		if i < 0 {
			t.Fatalf("%q does not follow in\n%s", word, w.String())
		}
		rest = rest[i:]
	}
}

func TestShortDemo(t *testing.T) {
	t.Parallel()
	out := newTimed()
	sum, err := Run(t.Context(), Options{Short: true, Progress: out})
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out.first > 2*time.Second || out.silence > 2*progressEvery {
		t.Errorf("the first line came after %s, the longest silence was %s", out.first, out.silence)
	}
	out.inOrder(t, "Crossfade demo", "NO SERVERS", "Install MySQL", "1. Both shops", "2. Both pods go to shadow", "3. The shops go on", "4. Pod one goes live",
		"5. In pod two a unit is lost", "'crossfade report two' has it", "6. Somebody", "refused by gate findings", "7. Pod one is killed", "8. The shops close")
	one, two := sum.Pods[PodOne], sum.Pods[PodTwo]
	for pod, p := range sum.Pods {
		if p.Stage != "shadow" || p.Traffic.Carts < 20 || p.Traffic.Granted == 0 || !p.Traffic.Clean() || p.Parity.Compared < 20 || p.Log.Holds != int(p.Traffic.Carts) || p.Audit.Holds == 0 {
			t.Errorf("pod %s: %+v", pod, p)
		}
	}
	if one.OpenFindings != 0 || one.Audit.Findings != 0 || one.OutOfBalance != 0 {
		t.Errorf("pod one has differences: %+v", one)
	}
	if two.OpenFindings == 0 || two.Audit.Units != 1 || two.OutOfBalance != 1 {
		t.Errorf("the fault of pod two was not found: %+v", two)
	}
	if sum.Fault.Class != "false_sold_out" || sum.Kill.From != "live" || sum.Kill.To != "shadow" || sum.Kill.TookMS <= 0 || sum.Kill.ServedMS < sum.Kill.TookMS || sum.Kill.ServedMS > 5000 || !slices.Contains(sum.Gates, "findings") {
		t.Errorf("fault, gates or kill: %+v %v %+v", sum.Fault, sum.Gates, sum.Kill)
	}
	if !sum.OK || !sum.Memory || sum.Install == "" || len(sum.Steps) != 8 {
		t.Errorf("got %+v", sum)
	}
	forPeople(t, &sum)
}

func forPeople(t *testing.T, sum *Summary) {
	t.Helper()
	var text bytes.Buffer
	if err := sum.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"What you have seen", "7. Pod one is killed", "In figures", "do not stand", "MEMORY MODEL", "Install MySQL", "The demo ended well"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in\n%s", want, text.String())
		}
	}
	b, err := json.Marshal(sum)
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		OK     bool `json:"ok"`
		Memory bool `json:"memory_model"`
		Kill   struct {
			Took float64 `json:"took_ms"`
		} `json:"kill"`
		Pods map[string]struct {
			Traffic struct {
				Carts int64 `json:"carts"`
			} `json:"traffic"`
		} `json:"pods"`
	}
	if err := json.Unmarshal(b, &back); err != nil || !back.OK || !back.Memory || back.Kill.Took != sum.Kill.TookMS || back.Pods["one"].Traffic.Carts != sum.Pods[PodOne].Traffic.Carts {
		t.Errorf("%v: %s", err, b)
	}
}

func TestNoServersAreSaidSo(t *testing.T) {
	t.Parallel()
	out := newTimed()
	none := &lab.UnavailableError{Kind: lab.MySQL, Tried: []string{"apt: no network"}, Hint: "install it"}
	sum, err := run(t.Context(), Options{Progress: out, Open: func(context.Context, Setup) (System, error) {
		return nil, fmt.Errorf("the lab: %w", none)
	}}, quick)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out.inOrder(t, "Starting servers", "NO SERVERS", "apt: no network", "Install MySQL", "1. Both shops")
	if !sum.Memory || !sum.OK {
		t.Errorf("got %+v", sum)
	}
}

func TestServersThatDoNotStart(t *testing.T) {
	broken := errors.New("no space left")
	sum, err := run(t.Context(), Options{Open: func(context.Context, Setup) (System, error) { return nil, broken }}, quick)
	if !errors.Is(err, broken) || sum.OK || sum.Memory {
		t.Errorf("got %v, %+v", err, sum)
	}
}

// tampered is a system in which more goes wrong than the demo means to.
type tampered struct {
	System
	more func(m *memory)
}

func (s *tampered) About() []string { return []string{"servers"} }

func (s *tampered) LoseUnits(ctx context.Context, pod backends.Pod, key backends.Key, n int64) (string, error) {
	m, _ := s.System.(*memory)
	s.more(m)
	return s.System.LoseUnits(ctx, pod, key, n)
}

// The demo judges itself: a difference that it has not made itself is not taken for a success.
func TestTheDemoNoticesWhatItHasNotDone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, says string
		more       func(m *memory)
	}{
		{"a unit of pod one as well", "pod one", func(m *memory) {
			m.pods[PodOne].mysql.Bypass(backends.Key{Shop: ShopOne, Item: "nobody wants it", Location: Home}, 1)
		}},
		{"another item of pod two", "not of the lost unit", func(m *memory) {
			m.pods[PodTwo].mysql.Bypass(backends.Key{Shop: ShopTwo, Item: "nobody wants it", Location: Home}, 1)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out := newTimed()
			sum, err := run(t.Context(), Options{Progress: out, Open: func(ctx context.Context, _ Setup) (System, error) {
				m, err := OpenMemory(ctx)
				return &tampered{m, c.more}, err
			}}, quick)
			var we *WrongError
			if !errors.As(err, &we) || !strings.Contains(err.Error(), c.says) || sum.OK || sum.Memory {
				t.Errorf("got %v\n%s", err, out)
			}
			var text bytes.Buffer
			if err := sum.WriteText(&text); err != nil || !strings.Contains(text.String(), "WRONG: ") || !strings.Contains(text.String(), "did NOT end well") || strings.Contains(text.String(), "MEMORY") {
				t.Errorf("%v\n%s", err, text.String())
			}
		})
	}
}

func TestInterruptedDemoEndsInOrder(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	go func() { // interrupt it in the middle of its third step
		all := make([]byte, 0, 4096)
		buf := make([]byte, 512)
		for {
			n, err := r.Read(buf)
			all = append(all, buf[:n]...)
			if bytes.Contains(all, []byte("3. The shops")) {
				cancel()
			}
			if err != nil {
				return
			}
		}
	}()
	slow := quick
	slow.shadow = time.Minute
	dir := t.TempDir()
	sum, err := run(ctx, Options{Progress: w, Dir: dir}, slow)
	w.Close()
	if !errors.Is(err, context.Canceled) || sum.OK || len(sum.Steps) != 2 {
		t.Errorf("got %v, %+v", err, sum)
	}
	logs, err := filepath.Glob(filepath.Join(dir, "logs", "*.jsonl"))
	if err != nil || len(logs) != 2 {
		t.Errorf("the logs are %q, %v", logs, err)
	}
	var text bytes.Buffer
	if err := sum.WriteText(&text); err != nil || !strings.Contains(text.String(), "did NOT end well") || strings.Contains(text.String(), "In figures") {
		t.Errorf("%v\n%s", err, text.String())
	}
}

// What is thrown away is gone afterwards.
func TestNothingIsLeftBehind(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	if _, err := run(t.Context(), Options{}, quick); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(tmp)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestShelf(t *testing.T) {
	b, err := orders.Generate(5, 200)
	if err != nil {
		t.Fatal(err)
	}
	small := shelf(b, 50)
	if n := len(small.Items()); n != 50 {
		t.Errorf("%d items", n)
	}
	if len(small.Orders) != len(b.Orders) {
		t.Fatalf("%d orders", len(small.Orders))
	}
	for i := range b.Orders {
		o, s := &b.Orders[i], &small.Orders[i]
		if o.Units() != s.Units() || o.Invoice != s.Invoice || o.Kind != s.Kind || len(s.Lines) > min(50, len(o.Lines)) {
			t.Errorf("order %s: %+v became %+v", o.Invoice, o, s)
		}
		seen := map[backends.Item]bool{}
		for _, l := range s.Lines {
			if seen[l.Item] {
				t.Errorf("order %s has item %s twice", s.Invoice, l.Item)
			}
			seen[l.Item] = true
		}
	}
}

func TestLastLine(t *testing.T) {
	var l lastLine
	for _, c := range []struct{ in, want string }{{"", ""}, {"replay: on", ""}, {"e\n", "one"}, {"replay: two\nreplay: three\nrep", "three"}, {"lay: four\n", "four"}} {
		if _, err := io.WriteString(&l, c.in); err != nil || l.String() != c.want {
			t.Errorf("after %q: %q, want %q (%v)", c.in, l.String(), c.want, err)
		}
	}
}
