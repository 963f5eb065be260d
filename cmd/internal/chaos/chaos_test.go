package chaos

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/backends"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// h makes histories short to write.
func h(what, id string, units, began, ended int64, verdict string, had int64) op {
	return op{Op: what, ID: id, Units: units, Began: began, Ended: ended, Verdict: verdict, Had: had}
}

func uncertain(o op) op { o.Uncertain = true; return o }

// TestLinear: of two units for sale, what can be and what cannot.
func TestLinear(t *testing.T) {
	const units = 2
	for name, c := range map[string]struct {
		history []op
		final   map[string]backends.State
		marks   []int64
		want    porcupine.CheckResult
	}{
		"sold twice": {[]op{h("reserve", "a", 2, 0, 10, "granted", 0), h("reserve", "b", 1, 20, 30, "granted", 0)}, nil, nil, porcupine.Illegal},
		"sold, given back, sold": {[]op{
			h("reserve", "a", 2, 0, 10, "granted", 0), h("release", "a", 2, 11, 19, "released", 0), h("reserve", "b", 1, 20, 30, "granted", 0),
		}, nil, nil, porcupine.Ok},
		"refused while there was stock":   {[]op{h("reserve", "a", 1, 0, 10, "granted", 0), h("reserve", "b", 1, 20, 30, "sold_out", 0)}, nil, nil, porcupine.Illegal},
		"refused with a level never seen": {[]op{h("reserve", "a", 2, 0, 10, "granted", 0), h("reserve", "b", 2, 20, 30, "sold_out", 1)}, nil, nil, porcupine.Illegal},
		"refused by an overlapping cart":  {[]op{h("reserve", "a", 2, 0, 30, "granted", 0), h("reserve", "b", 1, 10, 20, "sold_out", 0)}, nil, nil, porcupine.Ok},
		"a claim gives nothing back": {[]op{
			h("reserve", "a", 2, 0, 10, "granted", 0), h("claim", "a", 2, 11, 19, "claimed", 0), h("reserve", "b", 1, 20, 30, "granted", 0),
		}, nil, nil, porcupine.Illegal},
		"an answer that never came has taken effect": {
			[]op{uncertain(h("reserve", "a", 2, 0, -1, "", 0)), h("reserve", "b", 1, 20, 30, "sold_out", 0)},
			map[string]backends.State{"a": backends.Held}, nil, porcupine.Ok,
		},
		"an answer that never came has taken nothing": {
			[]op{uncertain(h("reserve", "a", 2, 0, -1, "", 0)), h("reserve", "b", 1, 20, 30, "granted", 0)}, nil, nil, porcupine.Ok,
		},
		"a ghost at a kill": {
			[]op{h("reserve", "a", 2, 0, 40, "sold_out", 0), h("reserve", "b", 1, 10, 20, "sold_out", 0), h("reserve", "c", 2, 22, 38, "granted", 0)},
			nil, []int64{25}, porcupine.Ok,
		},
		"no ghost without a kill": {
			[]op{h("reserve", "a", 2, 0, 40, "sold_out", 0), h("reserve", "b", 1, 10, 20, "sold_out", 0), h("reserve", "c", 2, 22, 38, "granted", 0)},
			nil, nil, porcupine.Illegal,
		},
		"a ghost gives back no more than it took": {
			[]op{h("reserve", "a", 2, 0, 10, "granted", 0), h("reserve", "g", 2, 5, 40, "sold_out", 0), h("reserve", "b", 2, 20, 30, "granted", 0)},
			nil, []int64{25}, porcupine.Illegal,
		},
		// A restock was committed in MySQL, and its answer lost with the way to there. Others sold what it had brought.
		// After the kill Redis had it again when it was sent again.
		"a restock that a kill undoes until it is sent again": {
			[]op{
				h("restock", "r", 2, 0, 60, "restocked", 0), h("reserve", "a", 2, 5, 10, "granted", 0), h("reserve", "b", 1, 11, 15, "granted", 0),
				h("reserve", "c", 1, 30, 40, "sold_out", 0), h("reserve", "d", 1, 62, 70, "granted", 0),
			}, nil, []int64{20}, porcupine.Ok,
		},
		"a restock that counts twice": {
			[]op{
				h("restock", "r", 2, 0, 60, "restocked", 0), h("reserve", "a", 2, 5, 10, "granted", 0), h("reserve", "b", 2, 11, 15, "granted", 0),
				h("reserve", "c", 1, 62, 70, "granted", 0),
			}, nil, []int64{20}, porcupine.Illegal,
		},
	} {
		t.Run(name, func(t *testing.T) {
			final := func(id backends.HoldID) backends.State { return c.final[string(id)] }
			if got := linear(units, c.history, final, c.marks); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// TestCart: what a buyer was told, and what the stores have.
func TestCart(t *testing.T) {
	const id = "a"
	held := &backends.Hold{ID: id, State: backends.Held, Version: backends.Version{Epoch: 1, N: 1}}
	released := &backends.Hold{ID: id, State: backends.Released, Version: backends.Version{Epoch: 1, N: 2}}
	claimed := &backends.Hold{ID: id, State: backends.Claimed, Version: backends.Version{Epoch: 1, N: 2}}
	later := &backends.Hold{ID: id, State: backends.Held, Version: backends.Version{Epoch: 2, N: 1}}
	granted, soldOut := op{Verdict: "granted"}, op{Verdict: "sold_out"}
	for name, c := range map[string]struct {
		cart         cart
		truth, other *backends.Hold
		broken       string
	}{
		"lost":                         {cart{reserve: granted}, nil, nil, "has it as unknown"},
		"kept":                         {cart{reserve: granted}, held, held, ""},
		"in one store only":            {cart{reserve: granted}, held, nil, "the other store nothing"},
		"in two versions":              {cart{reserve: granted}, held, later, "the other store held at 2.1"},
		"released, and still held":     {cart{reserve: granted, end: op{Op: "release", Verdict: "released"}}, held, held, "has it as held"},
		"released":                     {cart{reserve: granted, end: op{Op: "release", Verdict: "released"}}, released, released, ""},
		"claimed, and lost":            {cart{reserve: granted, end: op{Op: "claim", Verdict: "claimed"}}, released, released, "has it as released"},
		"claimed in the truth only":    {cart{reserve: granted, end: op{Op: "claim", Verdict: "claimed"}}, claimed, nil, "the other store nothing"},
		"ended for no reason":          {cart{reserve: granted, end: op{Op: "release", Verdict: "ended"}}, released, released, "told granted, release ended"},
		"ended by a try before":        {cart{reserve: granted, end: op{Op: "release", Verdict: "ended", Uncertain: true}}, released, released, ""},
		"not found":                    {cart{reserve: granted, end: op{Op: "release", Verdict: "not_found"}}, nil, nil, "not_found"},
		"sold out, and held":           {cart{reserve: soldOut}, held, held, "has it as held"},
		"sold out, by an unknown try":  {cart{reserve: op{Verdict: "sold_out", Uncertain: true}}, held, held, ""},
		"sold out":                     {cart{reserve: soldOut}, nil, nil, ""},
		"ended before it was mirrored": {cart{reserve: soldOut}, released, nil, ""},
		"has to have expired":          {cart{reserve: granted, short: true}, held, held, "has it as held"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &finals{map[backends.HoldID]*backends.Hold{id: c.truth}, map[backends.HoldID]*backends.Hold{id: c.other}}
			x, got := c.cart, &checked{}
			x.id, x.items = id, []*item{{}}
			got.cart(&x, f)
			if text := strings.Join(got.Broken, "\n"); (c.broken == "") != (text == "") || !strings.Contains(text, c.broken) {
				t.Errorf("wanted %q, got %q", c.broken, text)
			}
		})
	}
}

// TestExcused: a failed try is excused only by its own proxy's excuse, or that of all, and only when it met it.
func TestExcused(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(1000+s), 0) }
	l := &load{excuses: []*excuse{{proxy: 1, from: at(10), to: at(20)}, {proxy: -1, from: at(40)}}}
	for _, c := range []struct {
		f    fault
		want bool
	}{
		{fault{proxy: 0, began: at(12), end: at(13)}, false},
		{fault{proxy: 1, began: at(12), end: at(13)}, true},
		{fault{proxy: 1, began: at(5), end: at(11)}, true},
		{fault{proxy: 1, began: at(5), end: at(9)}, false},
		{fault{proxy: 1, began: at(20), end: at(21)}, false},
		{fault{proxy: 0, began: at(50), end: at(51)}, true},
	} {
		if got := l.excused(&c.f); got != c.want {
			t.Errorf("%+v: %v", c.f, got)
		}
	}
	l.closeExcuses(at(45))
	if l.excused(&fault{proxy: 0, began: at(50), end: at(51)}) {
		t.Error("an excuse that is over excuses")
	}
}

// TestServedAfter: a proxy serves again behind its last failure, or its last answer that waited.
func TestServedAfter(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(100_000 + ms)) }
	ok := func(from, to int) probe { return probe{began: at(from), end: at(to), status: "granted"} }
	no := func(from, to int) probe { return probe{began: at(from), end: at(to)} }
	for name, c := range map[string]struct {
		probes []probe
		want   time.Duration
		fails  bool
	}{
		"it never stopped":   {[]probe{ok(-20, -10), ok(10, 20), ok(30, 40)}, 0, false},
		"one waited":         {[]probe{ok(10, 1500), ok(1510, 1520)}, 1500 * time.Millisecond, false},
		"one failed":         {[]probe{ok(10, 20), no(30, 2030), ok(2040, 2050), ok(2060, 2070)}, 2050 * time.Millisecond, false},
		"it does not answer": {[]probe{ok(10, 20), no(30, 2030)}, 0, true},
		"nobody asked":       {nil, 0, true},
	} {
		l := &load{probes: c.probes}
		if got, err := l.servedAfter(0, at(0)); got != c.want || (err != nil) != c.fails {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}

// TestRelay: what it does with bytes.
func TestRelay(t *testing.T) {
	const patience = 10 * time.Second
	echo, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _, _ = io.Copy(c, c) }()
		}
	}()
	defer func() { _ = echo.Close(); <-done }()
	r, err := newRelay(t.Context(), echo.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	dial := func() net.Conn {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", r.addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	say := func(c net.Conn, within time.Duration) (time.Duration, error) {
		began := time.Now()
		if err := errors.Join(c.SetDeadline(began.Add(within))); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("hello")); err != nil {
			return 0, err
		}
		_, err := io.ReadFull(c, make([]byte, len("hello")))
		return time.Since(began), err
	}
	c := dial()
	if _, err := say(c, patience); err != nil {
		t.Fatalf("passing: %v", err)
	}
	const late = 100 * time.Millisecond
	r.set(slow, late)
	if took, err := say(c, patience); err != nil || took < late {
		t.Errorf("slow: %s, %v", took, err)
	}
	r.set(stall, 0)
	if _, err := say(c, late); err == nil {
		t.Error("a stalled relay passes")
	}
	r.set(pass, 0)
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, len("hello"))); err != nil {
		t.Errorf("what was stalled does not arrive: %v", err)
	}
	r.set(cut, 0)
	if _, err := say(c, patience); err == nil {
		t.Error("a cut relay passes")
	}
	if _, err := say(dial(), patience); err == nil {
		t.Error("a cut relay takes new connections")
	}
	r.set(pass, 0)
	if _, err := say(dial(), patience); err != nil {
		t.Errorf("healed: %v", err)
	}
}

// TestWrongTime: the standard library reads its clock where the harness makes it wrong.
func TestWrongTime(t *testing.T) {
	_, changed, err := wrongTime(t.Context(), -skew)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(changed), "runtimeNow()\n\tsec += -30\n") {
		t.Error("the clock is right")
	}
}

// TestOptions: what is out of bounds is refused by its name.
func TestOptions(t *testing.T) {
	for field, o := range map[string]Options{
		"--scenario": {Binary: "x", Scenarios: []string{"kill/nobody"}},
		"--trials":   {Binary: "x", Trials: -1},
		"--for":      {Binary: "x", For: time.Millisecond},
		"--rate":     {Binary: "x", Rate: -1},
		"--buyers":   {Binary: "x", Buyers: 9999},
		"binary":     {},
	} {
		var fe *backends.FieldError
		if _, err := Run(context.Background(), o); !errors.As(err, &fe) || fe.Field != field || fe.Next == "" {
			t.Errorf("%s: %v", field, err)
		}
	}
	o := Options{Scenarios: []string{"kill", "driver/shadow-to-live-step-2"}}
	for _, c := range []struct {
		scenario, only string
		want           bool
	}{{"kill", "mysql-slow", true}, {"driver", "shadow-to-live-step-2", true}, {"driver", "shadow-to-live-step-1", false}, {"cut", "redis-live", false}} {
		if got := o.wants(c.scenario, c.only); got != c.want {
			t.Errorf("%s/%s: %v", c.scenario, c.only, got)
		}
	}
}

// TestReportBreaks: a row whose trials did not all survive breaks the run.
func TestReportBreaks(t *testing.T) {
	r := &Report{}
	row := r.row("kill", &faultCase{name: "x", bound: time.Second})
	r.judge()
	if !r.Kept() {
		t.Fatal("nothing is broken")
	}
	row.broken("something")
	r.judge()
	if r.Kept() || !slices.ContainsFunc(r.Broken, func(s string) bool { return strings.Contains(s, "something") }) {
		t.Errorf("%+v", r)
	}
}
