package redisstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// replyError is an error reply, as the driver gives it.
type replyError string

func (e replyError) Error() string { return string(e) }
func (replyError) RedisError()     {}

var _ redis.Error = replyError("")

func TestClassify(t *testing.T) {
	const no = "none of them"
	for _, c := range []struct {
		name string
		err  error
		sent bool
		want error
	}{
		{"reply lost", io.EOF, true, backends.ErrAmbiguous},
		{"refused at the door", io.EOF, false, backends.ErrUnavailable},
		{"deadline after sending", context.DeadlineExceeded, true, backends.ErrAmbiguous},
		{"deadline before sending", context.DeadlineExceeded, false, backends.ErrUnavailable},
		{"pool is full", redis.ErrPoolTimeout, false, backends.ErrUnavailable},
		{"loading", replyError("LOADING Redis is loading the dataset in memory"), true, backends.ErrUnavailable},
		{"read-only", replyError("READONLY You can't write against a read only replica."), true, backends.ErrUnavailable},
		{"no link to the primary", replyError("MASTERDOWN Link with MASTER is down"), true, backends.ErrUnavailable},
		{"out of memory", replyError("OOM command not allowed when used memory > 'maxmemory'."), true, backends.ErrUnavailable},
		{"cannot save", replyError("MISCONF Redis is configured to save RDB snapshots"), true, backends.ErrUnavailable},
		{"damage", replyError("XFDAMAGED key stock:a is not a counter"), true, backends.ErrDamaged},
		{"wrong type", replyError("WRONGTYPE Operation against a key"), true, backends.ErrDamaged},
		{"conflict", replyError("XFCONFLICT the hold id is in use"), true, backends.ErrHoldConflict},
		{"stale", replyError("XFSTALE the attempt is too old"), true, backends.ErrStaleAttempt},
		{"order", replyError("XFORDER an earlier take comes first"), true, backends.ErrOutOfOrder},
		{"a call that was given up", replyError("XFLATE the call was given up"), true, backends.ErrUnavailable},
		{"void", replyError("XFVOID a kill voided the operation"), true, backends.ErrVoid},
		{"restarted is unavailable", &RestartedError{Was: "a", Now: "b"}, false, backends.ErrUnavailable},
		{"a fence that cannot be read", replyError("XFFENCED x live 1 1 0"), true, backends.ErrDamaged},
		{"anything else", replyError("ERR what is this"), true, errors.New(no)},
	} {
		got := classify(c.err, c.sent, backends.Token{Epoch: 3})
		if c.want.Error() == no {
			for _, e := range []error{backends.ErrAmbiguous, backends.ErrUnavailable, backends.ErrDamaged} {
				if errors.Is(got, e) {
					t.Errorf("%s: %v is %v", c.name, got, e)
				}
			}
			continue
		}
		if !errors.Is(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
		if backends.IsAmbiguous(got) && !errors.Is(c.want, backends.ErrAmbiguous) {
			t.Errorf("%s: %v is ambiguous", c.name, got)
		}
	}
	var fe *backends.FencedError
	err := classify(replyError("XFFENCED 7 live 1 0 1"), true, backends.Token{Epoch: 3})
	want := backends.FencedError{Side: backends.SideRedis, Have: backends.Fence{Epoch: 7, Stage: backends.Live, Open: true, Alone: true}, Want: backends.Token{Epoch: 3}}
	if !errors.As(err, &fe) || *fe != want {
		t.Errorf("fenced: got %v, want %v", err, &want)
	}
	var field *backends.FieldError
	if err := classify(replyError("XFRANGE 5000000000000"), true, backends.Token{}); !errors.As(err, &field) {
		t.Errorf("range: got %v", err)
	}
}

func TestJudge(t *testing.T) {
	good := map[string]string{"redis_version": "7.0.15", "run_id": "abc", "cluster_enabled": "0", "role": "master", "maxmemory_policy": "noeviction"}
	for _, c := range []struct {
		name, field, value, policy, want string
	}{
		{"fit", "", "", "", ""},
		{"a later one", "redis_version", "8.2.1", "", ""},
		{"evicting", "maxmemory_policy", "allkeys-lru", "", "noeviction"},
		{"evicting what expires", "maxmemory_policy", "volatile-ttl", "", "noeviction"},
		{"CONFIG knows better", "maxmemory_policy", "noeviction", "allkeys-lfu", "allkeys-lfu"},
		{"no policy told", "maxmemory_policy", "", "", "noeviction"},
		{"cluster", "cluster_enabled", "1", "", "cluster mode"},
		{"replica", "role", "slave", "", "primary"},
		{"too old", "redis_version", "6.2.14", "", "7.0 or newer"},
		{"no version", "redis_version", "", "", "7.0 or newer"},
		{"no run id", "run_id", "", "", "run_id"},
	} {
		info := map[string]string{}
		for k, v := range good {
			info[k] = v
		}
		if c.field != "" {
			info[c.field] = c.value
		}
		err := judge(info, c.policy)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (!errors.Is(err, backends.ErrSetup) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestConserved(t *testing.T) {
	at := func(onHand, held, sellable int64, changes uint64) level {
		return level{Level: backends.Level{OnHand: onHand, Held: held, Available: sellable}, changes: changes}
	}
	for _, c := range []struct {
		name     string
		was, now level
		held     int64 // found by the scan
		settled  bool
		broken   bool
		report   int64 // Held of the report
	}{
		{"traffic is no alarm", at(10, 2, 8, 4), at(10, 3, 7, 5), 1, false, false, 0},
		{"at rest and equal", at(10, 2, 8, 4), at(10, 2, 8, 4), 2, true, false, 0},
		{"moved, and equal in the end", at(10, 2, 8, 4), at(10, 3, 7, 5), 3, true, false, 0},
		{"moved there and back", at(10, 2, 8, 4), at(10, 2, 8, 6), 1, false, false, 0},
		{"at rest, and a hold is lost", at(10, 2, 8, 4), at(10, 2, 8, 4), 1, true, true, 1},
		{"the counter was written by others", at(10, 2, 8, 4), at(10, 2, 9, 4), 2, true, true, 2},
		{"and that is found under traffic", at(10, 2, 9, 4), at(10, 3, 8, 5), 1, true, true, 3},
		{"only the running sum is wrong", at(10, 5, 8, 4), at(10, 5, 8, 4), 2, true, true, 5},
	} {
		got, settled := conserved(c.was, c.now, c.held)
		if settled != c.settled || (got != nil) != c.broken || got != nil && got.Held != c.report {
			t.Errorf("%s: got %+v, settled %v", c.name, got, settled)
		}
	}
}

func TestGuard(t *testing.T) {
	one, two := backends.Token{Epoch: 1}, backends.Token{Epoch: 2}
	fence := func(epoch uint64) backends.Fence {
		return backends.Fence{Epoch: epoch, Stage: backends.Shadow, Open: true}
	}
	restarted := func(err error) bool { var e *RestartedError; return errors.As(err, &e) }
	fenced := func(err error) bool { var e *backends.FencedError; return errors.As(err, &e) }

	var g guard
	g.connected("a", "") // never served
	if err := g.check(one); err != nil {
		t.Fatalf("a new pod: %v", err)
	}
	g.raised(fence(1), "a")
	g.connected("a", "a")
	if err := g.check(one); err != nil {
		t.Fatalf("after a raise: %v", err)
	}
	g.connected("b", "a")
	if err := g.check(one); !restarted(err) || !errors.Is(err, backends.ErrUnavailable) {
		t.Fatalf("after a restart: %v", err)
	}
	g.connected("a", "a") // the old one is still there: that says nothing of the new one
	g.saw(fence(1), "a", "a")
	if err := g.check(one); !restarted(err) {
		t.Fatalf("with the old server answering too: %v", err)
	}
	g.saw(fence(1), "b", "a") // the fence that came back with the data
	if err := g.check(one); !restarted(err) {
		t.Fatalf("after reading an old fence: %v", err)
	}
	g.saw(fence(2), "b", "b") // another proxy has raised
	if err := g.check(two); err != nil {
		t.Fatalf("under the new epoch: %v", err)
	}
	if err := g.check(one); !fenced(err) {
		t.Fatalf("under the old epoch: %v", err)
	}
	g.connected("c", "") // came up empty
	if err := g.check(two); !restarted(err) {
		t.Fatalf("after a restart without data: %v", err)
	}
	g.raised(fence(3), "c")
	if err := g.check(backends.Token{Epoch: 3}); err != nil {
		t.Fatalf("after the last raise: %v", err)
	}
	for i := range 2 * maxSuspects {
		g.connected(fmt.Sprint("x", i), "y")
	}
	if len(g.suspects) != maxSuspects || !g.suspicious() {
		t.Fatalf("%d suspects are kept, want %d", len(g.suspects), maxSuspects)
	}
}

func TestNames(t *testing.T) {
	tpl := func(s string, shop backends.Shop, loc backends.Location) *backends.KeyTemplate {
		p, err := backends.ParseKeyTemplate(s, shop, loc)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, c := range []struct {
		template *backends.KeyTemplate
		key      backends.Key
		marked   string
		counter  string
	}{
		{tpl(backends.DefaultKeyTemplate, "", "main"), backends.Key{Shop: "s", Item: "i", Location: "main"}, "stock:\x01:\x02", "stock:s:i"},
		{tpl("{{{location}}}/{item}", "s", ""), backends.Key{Shop: "s", Item: "i", Location: "l"}, "{\x03}/\x02", "{l}/i"},
		{tpl("*[{item}]?{{item}}", "s", "m"), backends.Key{Shop: "s", Item: "%1", Location: "m"}, "*[\x02]?{item}", "*[%1]?{item}"},
	} {
		n, err := newNames("xf:p:", c.template)
		if err != nil {
			t.Fatal(err)
		}
		got, err := n.stock(c.key)
		if n.marked != c.marked || got != c.counter || err != nil {
			t.Errorf("%s: marked %q, counter %q, %v", c.template, n.marked, got, err)
		}
	}
	n, err := newNames("xf:p:", tpl("{shop}:{item}", "", "m"))
	if err != nil {
		t.Fatal(err)
	}
	var field *backends.FieldError
	if _, err := n.stock(backends.Key{Shop: "xf", Item: "p:fence", Location: "m"}); !errors.As(err, &field) {
		t.Errorf("a counter among the pod's own keys: %v", err)
	}
	for _, bad := range []*backends.KeyTemplate{tpl("xf:p:{item}", "s", "m"), tpl("a\x02{item}", "s", "m")} {
		if _, err := newNames("xf:p:", bad); !errors.As(err, &field) {
			t.Errorf("template %q: %v", bad, err)
		}
	}
}

func TestPodsDoNotMeet(t *testing.T) {
	seen := map[string]backends.Pod{}
	for _, pod := range []backends.Pod{"a", "a:h", "a%3Ah", "a:h:b", "a%"} {
		c, err := Config{Pod: pod, Addr: "127.0.0.1:1"}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		for p, other := range seen {
			if strings.HasPrefix(p, c.Prefix) || strings.HasPrefix(c.Prefix, p) {
				t.Errorf("pods %q and %q have prefixes %q and %q", pod, other, c.Prefix, p)
			}
		}
		seen[c.Prefix] = pod
	}
}

func TestConfigRefusals(t *testing.T) {
	good := Config{Pod: "p", Addr: "127.0.0.1:6379"}
	for name, change := range map[string]func(*Config){
		"no pod":            func(c *Config) { c.Pod = "" },
		"no address":        func(c *Config) { c.Addr = "" },
		"no port":           func(c *Config) { c.Addr = "localhost" },
		"a broken URL":      func(c *Config) { c.Addr = "redis://:secret@%zz" },
		"negative outbox":   func(c *Config) { c.OutboxMax = -1 },
		"retain too short":  func(c *Config) { c.Retain = 1 },
		"pool too large":    func(c *Config) { c.PoolSize = MaxPoolSize + 1 },
		"timeout too short": func(c *Config) { c.Timeout = 1 },
	} {
		c := good
		change(&c)
		s, err := Open(t.Context(), c)
		var field *backends.FieldError
		if !errors.As(err, &field) {
			t.Errorf("%s: %v", name, err)
			if s != nil {
				_ = s.Close()
			}
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error tells the password: %v", name, err)
		}
	}
}

// drawHold gives any hold that a store may have written.
func drawHold(t *rapid.T) *backends.Hold {
	id := rapid.StringMatching(`[ -~]{1,64}`)
	h := &backends.Hold{
		ID: backends.HoldID(id.Draw(t, "id")), Shop: backends.Shop(id.Draw(t, "shop")), Caller: rapid.StringMatching(`[a-z._:/-]{0,64}`).Draw(t, "caller"),
		State:     backends.State(rapid.IntRange(int(backends.Held), int(backends.Expired)).Draw(t, "state")),
		Version:   backends.Version{Epoch: rapid.Uint64Range(0, maxExact).Draw(t, "epoch"), N: rapid.Uint64Range(0, maxExact).Draw(t, "n")},
		CreatedAt: backends.Instant(rapid.Int64Range(0, maxExact).Draw(t, "created")), ExpiresAt: backends.Instant(rapid.Int64Range(0, maxExact).Draw(t, "expires")),
		EndedAt: backends.Instant(rapid.Int64Range(0, maxExact).Draw(t, "ended")), LedgerOwed: rapid.Bool().Draw(t, "owed"),
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "lines") {
		l := backends.Line{Item: backends.Item(fmt.Sprint(i, id.Draw(t, "item")[:1])), Quantity: rapid.Int64Range(1, backends.MaxCartUnits/8).Draw(t, "qty"), Split: rapid.Bool().Draw(t, "split")}
		for j := range rapid.IntRange(1, 3).Draw(t, "locations") {
			loc := backends.Location(fmt.Sprint(j, id.Draw(t, "location")[:1]))
			l.Locations = append(l.Locations, loc)
			h.Allocs = append(h.Allocs, backends.Allocation{Line: i, Location: loc, Quantity: rapid.Int64Range(1, 9).Draw(t, "units")})
		}
		h.Lines = append(h.Lines, l)
	}
	return h
}

func TestRecordsKeepHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHold(t)
		record, err := encodeHold(h)
		if err != nil {
			t.Fatal(err)
		}
		got, own, err := decodeHold(h.ID, record)
		if err != nil || own != "" {
			t.Fatalf("%q: %v, own %q", record, err, own)
		}
		if d := cmp.Diff(h, got); d != "" {
			t.Fatalf("%q: %s", record, d)
		}
	})
}

func TestDamagedRecords(t *testing.T) {
	h := &backends.Hold{
		ID: "h", Shop: "s", State: backends.Held, Version: backends.Version{Epoch: 1, N: 1},
		Lines:  []backends.Line{{Item: "i", Quantity: 2, Locations: []backends.Location{"l"}}},
		Allocs: []backends.Allocation{{Line: 0, Location: "l", Quantity: 2}},
	}
	record, err := encodeHold(h)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"empty":           "",
		"one part":        strings.ReplaceAll(record, "\f", ""),
		"no state":        "9" + record[1:],
		"a negative":      strings.Replace(record, "1\t1\t1", "1\t-1\t1", 1),
		"short head":      strings.Replace(record, "\t", "", 1),
		"a bare line":     strings.Replace(record, "i\t2\t0\tl", "i\t2", 1),
		"a split of two":  strings.Replace(record, "i\t2\t0", "i\t2\t2", 1),
		"no quantity":     strings.Replace(record, "0\t2\tl", "0\tx\tl", 1),
		"no alloc column": strings.Replace(record, "0\t2\tl", "0\t2", 1),
	} {
		if bad == record {
			t.Fatalf("%s: nothing is damaged", name)
		}
		if got, _, err := decodeHold("h", bad); !errors.Is(err, errRecord) {
			t.Errorf("%s: %q gave %+v, %v", name, bad, got, err)
		}
	}
	for name, change := range map[string]func(*backends.Hold){
		"no id":               func(h *backends.Hold) { h.ID = "" },
		"no state":            func(h *backends.Hold) { h.State = backends.StateUnknown },
		"a control byte":      func(h *backends.Hold) { h.Lines[0].Item = "a\tb" },
		"a line without":      func(h *backends.Hold) { h.Allocs[0].Line = 7 },
		"a negative quantity": func(h *backends.Hold) { h.Allocs[0].Quantity = -1 },
		"an early instant":    func(h *backends.Hold) { h.CreatedAt = -1 },
		"a late version":      func(h *backends.Hold) { h.Version.N = maxExact + 1 },
		"a caller with tabs":  func(h *backends.Hold) { h.Caller = "a\tb" },
	} {
		c := h.Clone()
		change(c)
		if _, err := encodeHold(c); !errors.Is(err, backends.ErrDamaged) {
			t.Errorf("%s: %v, want ErrDamaged", name, err)
		}
	}
}

func TestScanPages(t *testing.T) {
	// A server that gives its elements in lumps: nothing, one, and many at once.
	lumps := [][]string{{}, {"a"}, {"b", "c", "d", "e", "f"}, {}, {"g"}}
	call := func(cursor string, _ int) (string, []string, error) {
		i := 0
		if cursor != "0" {
			if _, err := fmt.Sscan(cursor, &i); err != nil {
				return "", nil, err
			}
		}
		return fmt.Sprint((i + 1) % len(lumps)), lumps[i], nil
	}
	for _, limit := range []int{1, 2, 3, 6, 7, 100} {
		var got []string
		cursor := ""
		for range 20 {
			sc, err := parseScan(cursor)
			if err != nil {
				t.Fatal(err)
			}
			page, err := sc.page(limit, call)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) > limit {
				t.Fatalf("a page of %d has %d", limit, len(page))
			}
			got = append(got, page...)
			if cursor = sc.String(); cursor == "" {
				break
			}
		}
		if s := strings.Join(got, ""); s != "abcdefg" || cursor != "" {
			t.Errorf("by pages of %d: %q, cursor %q", limit, s, cursor)
		}
	}
	if _, err := parseScan("x"); err == nil {
		t.Error("a cursor that no page gave was taken")
	}
}
