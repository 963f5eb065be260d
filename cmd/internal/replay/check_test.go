package replay

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/dualwrite/respdoor"
)

// forgetful is a shop whose truth loses every hold.
type forgetful struct{ *shop }

func (f *forgetful) Claim(_ context.Context, r *backends.ClaimRequest, _ time.Duration) (*backends.Decision, error) {
	return &backends.Decision{Op: backends.OpClaim, Outcome: backends.OutcomeNotFound}, nil
}

func (f *forgetful) listen(tb testing.TB) (addr string, stop func()) {
	tb.Helper()
	door, err := respdoor.New(respdoor.Config{User: "shop", Password: "secret"}, f, f)
	if err != nil {
		tb.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	if err := door.Start(ln); err != nil {
		tb.Fatal(err)
	}
	return ln.Addr().String(), func() {
		if err := door.Stop(context.Background()); err != nil {
			tb.Error(err)
		}
	}
}

func TestJudge(t *testing.T) {
	const unknown, held, claimed_, released_, expired = backends.StateUnknown, backends.Held, backends.Claimed, backends.Released, backends.Expired
	all := []backends.State{unknown, held, claimed_, released_, expired}
	type states = []backends.State
	for _, c := range []struct {
		name string
		rec  record
		ok   states
	}{
		{"claimed", record{reserve: "granted", claimSent: true, end: "claimed"}, states{claimed_}},
		{"granted, and nothing more", record{reserve: "granted"}, states{held, expired}},
		{"granted, claim sent", record{reserve: "granted", claimSent: true}, states{held, expired, claimed_}},
		{"granted, release sent", record{reserve: "granted", freeSent: true}, states{held, expired, released_}},
		{"released", record{reserve: "granted", freeSent: true, end: "released"}, states{released_}},
		{"released too late", record{reserve: "granted", freeSent: true, end: "ended"}, states{claimed_, released_, expired}},
		{"sold out", record{reserve: "sold_out"}, states{unknown, released_}},
		{"sold out after a try without an answer", record{reserve: "sold_out", uncertain: true}, states{unknown, held, released_, expired}},
		{"refused", record{reserve: "refused"}, states{unknown, released_}},
		{"ended", record{reserve: "ended"}, states{released_, expired}},
		{"no verdict", record{}, states{unknown, held, released_, expired}},
		{"not found", record{reserve: "granted", claimSent: true, end: "not_found"}, nil},
	} {
		for _, state := range all {
			var h *backends.Hold
			if state != unknown {
				h = &backends.Hold{State: state}
			}
			want := false
			for _, s := range c.ok {
				want = want || s == state
			}
			if wrong := judge(&c.rec, h); (wrong == "") != want {
				t.Errorf("%s, in the store %s: %q", c.name, state, wrong)
			}
		}
	}
	h := &backends.Hold{State: backends.Claimed, Lines: []backends.Line{{Item: "a", Quantity: 3}}, Allocs: []backends.Allocation{{Location: "m", Quantity: 2}}}
	if wrong := judge(&record{reserve: "granted", end: "claimed", units: 3}, h); !strings.Contains(wrong, "3 units") {
		t.Errorf("a hold that has lost a unit: %q", wrong)
	}
}

// Every prefix of a log is good evidence: it is what a killed player leaves.
func TestAnyPrefixOfALogAgrees(t *testing.T) {
	s := newShop(t)
	o := s.options(book(t, 40))
	o.Stock, o.ReleaseShare = 0.6, 0.3
	if _, err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(o.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	torn := 0
	for n := 0; n <= len(log); n += 37 {
		c, err := CheckLog(t.Context(), bytes.NewReader(log[:n]), prefixGetter(s, log[:n]))
		if err != nil || !c.Ok() {
			t.Fatalf("after %d bytes: %v, %q", n, err, c.Violations)
		}
		if c.Torn {
			torn++
		}
	}
	if torn == 0 {
		t.Error("no prefix ended in the middle of a line")
	}
}

// prefixGetter plays a store in which what comes after the prefix has not happened: a hold whose end
// is not in it is still held. A command is sent after its line is whole: a torn one was not.
func prefixGetter(s *shop, prefix []byte) Getter {
	prefix = prefix[:bytes.LastIndexByte(prefix, '\n')+1]
	return func(ctx context.Context, ids []backends.HoldID) (map[backends.HoldID]*backends.Hold, error) {
		all, err := s.redis.GetMany(ctx, ids)
		for id, h := range all {
			for _, op := range []string{"claim", "release"} {
				if bytes.Contains(prefix, []byte(`"event":"sent","op":"`+op+`","hold":"`+string(id)+`"`)) {
					h = nil
				}
			}
			if h != nil {
				h.State = backends.Held
			}
		}
		return all, err
	}
}

func TestCheckLogFindsLies(t *testing.T) {
	const head = `{"at":"2026-05-01T12:00:00Z","event":"run","run":"r","shop":"s"}` + "\n"
	claim := head + `{"event":"answer","op":"reserve","hold":"r-1","verdict":"granted","units":2}` + "\n" +
		`{"event":"sent","op":"claim","hold":"r-1"}` + "\n" + `{"event":"answer","op":"claim","hold":"r-1","verdict":"claimed"}` + "\n"
	hold := func(state backends.State, n int64) Getter {
		return func(context.Context, []backends.HoldID) (map[backends.HoldID]*backends.Hold, error) {
			return map[backends.HoldID]*backends.Hold{"r-1": {State: state, Lines: []backends.Line{{Item: "a", Quantity: 2}}, Allocs: []backends.Allocation{{Location: "m", Quantity: n}}}}, nil
		}
	}
	none := func(context.Context, []backends.HoldID) (map[backends.HoldID]*backends.Hold, error) { return nil, nil }
	gone := errors.New("gone")
	for _, c := range []struct {
		name  string
		log   string
		get   Getter
		says  string // in the violation, or the error
		isErr bool
	}{
		{"it agrees", claim, hold(backends.Claimed, 2), "", false},
		{"a claim was lost", claim, hold(backends.Held, 2), "it was claimed, and the store has it as held", false},
		{"a hold was lost", claim, none, "as unknown", false},
		{"a unit was lost", claim, hold(backends.Claimed, 1), "2 units were granted", false},
		{"a torn end", claim + `{"event":"ans`, hold(backends.Claimed, 2), "", false},
		{"a torn middle", head + `{"event":"ans` + "\n" + claim, hold(backends.Claimed, 2), "line 2", true},
		{"no log of a replay", "{}\n", none, "is it the log of a replay", true},
		{"a store that fails", claim, func(context.Context, []backends.HoldID) (map[backends.HoldID]*backends.Hold, error) { return nil, gone }, "gone", true},
		{"an endless line", head + strings.Repeat("x", maxLogLine+1), none, "line 2", true},
		{"an empty log", "", none, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := CheckLog(t.Context(), strings.NewReader(c.log), c.get)
			switch {
			case c.isErr:
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("error %v, want %q", err, c.says)
				}
			case err != nil:
				t.Error(err)
			case got.Ok() != (c.says == ""), c.says != "" && !strings.Contains(strings.Join(got.Violations, ";"), c.says):
				t.Errorf("got %+v, want %q", got, c.says)
			}
		})
	}
}

func TestUnderstand(t *testing.T) {
	text := func(s string) value { return value{kind: '$', text: s} }
	num := func(n int64) value { return value{kind: ':', n: n} }
	list := func(vs ...value) value { return value{kind: '*', items: vs} }
	for _, c := range []struct {
		name string
		in   value
		want answer
	}{
		{"granted", list(text("status"), text("granted"), text("state"), text("held"), text("replayed"), num(1)), answer{verdict: granted, state: "held", replayed: true}},
		{
			"sold out", list(text("status"), text("sold_out"), text("short"), list(list(text("wanted"), num(5), text("available"), num(2)), list(text("wanted"), num(1), text("available"), num(0)))),
			answer{verdict: soldOut, short: 2, shortUnits: 4},
		},
		{"claimed with an apology", list(text("status"), text("claimed"), text("apologies"), list(list(text("qty"), num(3)))), answer{verdict: claimed, apologies: 3}},
		{"the outcome is unknown", value{kind: '-', text: "XFUNKNOWN retry"}, answer{code: "XFUNKNOWN", text: "XFUNKNOWN retry"}},
		{"nothing was done", value{kind: '-', text: "XFUNAVAILABLE x"}, answer{code: "XFUNAVAILABLE", text: "XFUNAVAILABLE x", nothing: true}},
		{"busy", value{kind: '-', text: "XFBUSY x"}, answer{code: "XFBUSY", text: "XFBUSY x", nothing: true}},
		{"no room", value{kind: '-', text: "ERR max number of clients reached"}, answer{code: "ERR", text: "ERR max number of clients reached", nothing: true}},
		{"wrong as it stands", value{kind: '-', text: "XFINVALID x"}, answer{verdict: refused, code: "XFINVALID", text: "XFINVALID x"}},
		{"another server", value{kind: '-', text: "ERR unknown command 'XF.RESERVE'"}, answer{verdict: refused, code: "ERR", text: "ERR unknown command 'XF.RESERVE'"}},
		{"no status that is known", list(text("status"), text("perhaps")), answer{verdict: refused, code: "XF?", text: "an answer without a status that is known"}},
		{"no answer at all", value{kind: '_'}, answer{verdict: refused, code: "XF?", text: "an answer without a status that is known"}},
	} {
		if got := understand(c.in); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestReplies(t *testing.T) {
	for _, c := range []struct {
		in   string
		want string // kind and text or number of the first value; "" for an error
	}{
		{"+OK\r\n", "+OK"}, {"-ERR no\r\n", "-ERR no"}, {":-7\r\n", ":-7"}, {"$2\r\nab\r\n", "$ab"}, {"$0\r\n\r\n", "$"}, {"$-1\r\n", "_"}, {"*-1\r\n", "_"},
		{"*0\r\n", "*"}, {"*2\r\n:1\r\n$1\r\nx\r\n", "*"},
		{"", ""}, {"+OK\n", ""}, {"?\r\n", ""}, {":x\r\n", ""}, {"$3\r\nab\r\n", ""}, {"$2\r\nabc\r\n", ""}, {"$99999999\r\n", ""}, {"*1000000\r\n", ""}, {"$-2\r\n", ""}, {"*-2\r\n", ""},
		{strings.Repeat("*1\r\n", 20) + ":1\r\n", ""}, {strings.Repeat("x", maxReplyLine+1), ""},
	} {
		got := ""
		items := 0
		v, err := readValue(bufio.NewReaderSize(strings.NewReader(c.in), maxReplyLine), 0, &items)
		if err == nil {
			got = string(v.kind) + v.text
		}
		if got != c.want {
			t.Errorf("%.40q: %q (%v), want %q", c.in, got, err, c.want)
		}
		if err != nil && !errors.Is(err, errReply) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%.40q: %v", c.in, err)
		}
	}
}
