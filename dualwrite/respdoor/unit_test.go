package respdoor

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

func TestReplyTo(t *testing.T) {
	field := &backends.FieldError{Field: "ttl", Value: "0s", Bound: "more", Next: "do"}
	for _, row := range []struct {
		err  error
		a    asked
		want string
	}{
		{fmt.Errorf("commit: %w", backends.ErrAmbiguous), byID, "XFUNKNOWN commit: outcome unknown: the step may or may not have taken effect; retry under the same id"},
		{fmt.Errorf("commit: %w", backends.ErrAmbiguous), byCommand, "XFUNKNOWN the command may or may not have taken effect, and would count again"},
		{fmt.Errorf("read: %w", backends.ErrAmbiguous), reading, "XFUNAVAILABLE read: outcome unknown"},
		{fmt.Errorf("%w: %w", backends.ErrUnavailable, backends.ErrAmbiguous), byID, "XFUNKNOWN "},
		{backends.ErrBusy, byID, "XFBUSY store is busy: a lock could not be had in time; retry under the same id"},
		{backends.ErrBusy, byCommand, "XFBUSY a lock could not be had in time; nothing was changed, try again"},
		{backends.ErrUnavailable, byID, "XFUNAVAILABLE store is unavailable"},
		{backends.ErrOutboxFull, byCommand, "XFUNAVAILABLE store is unavailable: its outbox is full, since the other store has not confirmed what waits there; nothing was changed, try again"},
		{fmt.Errorf("%w: %w", backends.ErrAmbiguous, backends.ErrOutboxFull), byCommand, "XFUNKNOWN the command may"},
		{fmt.Errorf("%w: %w", backends.ErrUnavailable, context.Canceled), byCommand, "XFUNAVAILABLE "},
		{&backends.FencedError{}, byID, "XFUNAVAILABLE "},
		{field, byID, "XFINVALID ttl is 0s; allowed: more; do"},
		{&syntaxError{"x"}, byID, "XFINVALID syntax: x; see XF.HELP"},
		{&backends.UnknownStockError{}, byID, "XFNOSTOCK "},
		{backends.ErrHoldConflict, byID, "XFCONFLICT "},
		{errors.New("what is this"), byID, "XFUNKNOWN what is this; the outcome is unknown, retry under the same id"},
		{errors.New("what is this"), byCommand, "XFUNKNOWN the command may"},
		{errors.New("what is this"), reading, "XFUNAVAILABLE what is this"},
		{context.DeadlineExceeded, byID, "XFUNKNOWN context deadline exceeded; the outcome is unknown"},
		{backends.ErrDamaged, byID, "XFUNKNOWN "},
	} {
		if got := replyTo(row.err, row.a); !strings.HasPrefix(got, row.want) {
			t.Errorf("%v, %d:\n got %s\nwant %s…", row.err, row.a, got, row.want)
		}
	}
	if n := len(replyTo(errors.New(strings.Repeat("x", 10_000)), byID)); n > 600 {
		t.Errorf("a reply of %d bytes", n)
	}
}

func TestCountDelta(t *testing.T) {
	most := strconv.FormatInt(backends.MaxOnHand, 10)
	for _, row := range []struct {
		amount  string // "-" is none
		sign    int64
		want    int64
		problem string
	}{
		{"-", -1, -1, ""},
		{"-", 1, 1, ""},
		{"5", -1, -5, ""},
		{"-5", -1, 5, ""},
		{"0", -1, 0, ""},
		{most, -1, -backends.MaxOnHand, ""},
		{"-" + most, 1, -backends.MaxOnHand, ""},
		{most + "0", -1, 0, CodeInvalid + " amount is " + most + "0; allowed"},
		{"-" + most + "0", 1, 0, CodeInvalid},
		{"x", -1, 0, errNotInteger},
		{strconv.Itoa(math.MinInt64), -1, 0, errDecrOverflow},
		{strconv.Itoa(math.MinInt64), 1, 0, CodeInvalid},
	} {
		args := [][]byte{[]byte("c"), []byte("k")}
		if row.amount != "-" {
			args = append(args, []byte(row.amount))
		}
		got, problem := countDelta(args, row.sign)
		if got != row.want || !strings.HasPrefix(problem, row.problem) || (problem == "") != (row.problem == "") {
			t.Errorf("%s × %d: %d %q", row.amount, row.sign, got, problem)
		}
	}
}

func TestOpIDs(t *testing.T) {
	a, err := newOpIDs()
	if err != nil {
		t.Fatal(err)
	}
	b, err := newOpIDs()
	if err != nil {
		t.Fatal(err)
	}
	now := time.UnixMilli(1_700_000_000_000)
	seen := map[backends.OpID]bool{}
	last := backends.OpID("")
	for i := range 1000 {
		id := a.next(now.Add(time.Duration(i) * time.Millisecond / 10))
		if err := backends.CheckID("operation id", string(id)); err != nil {
			t.Fatal(err)
		}
		if id <= last {
			t.Fatalf("%s after %s", id, last)
		}
		last = id
		for _, id := range []backends.OpID{id, b.next(now)} {
			if seen[id] {
				t.Fatalf("%s twice", id)
			}
			seen[id] = true
		}
	}
}

// TestLargestCartFits: the default bounds are made for it.
func TestLargestCartFits(t *testing.T) {
	if cartArgs > DefaultMaxArgs || cartBytes > DefaultMaxFrame {
		t.Errorf("%d arguments, %d bytes", cartArgs, cartBytes)
	}
}

// TestTable: every row of commands.tsv has somebody who runs it, and every handler a row.
func TestTable(t *testing.T) {
	tab := commandTable()
	for name, cmd := range tab.byName {
		if cmd.run == nil || name != cmd.name || cmd.name != strings.ToLower(name) || len(name) > maxName || cmd.arity == 0 {
			t.Errorf("%s: %+v", name, cmd)
		}
		if refusals[name] != "" {
			t.Errorf("%s is both known and refused", name)
		}
		for _, s := range cmd.specs {
			if !strings.ContainsAny(s.begin[:1], "iku") || !strings.ContainsAny(s.find[:1], "rnu") {
				t.Errorf("%s: %+v", name, s)
			}
		}
		if strings.HasPrefix(name, "xf.") && cmd.summary == "" {
			t.Errorf("%s has no summary", name)
		}
	}
	for name := range refusals {
		if len(name) > maxName {
			t.Errorf("%s is never found", name)
		}
	}
}

func TestConfig(t *testing.T) {
	if _, err := (Config{}).withDefaults(); err != nil {
		t.Errorf("the zero value: %v", err)
	}
	for name, c := range map[string]Config{
		"no room for an id": {MaxBulk: 10},
		"negative":          {MaxConns: -1},
		"negative time":     {FrameTimeout: -1},
		"a small frame":     {MaxFrame: 100},
		"small buffers":     {MaxBuffers: 100},
		"a caller":          {Caller: "a b"},
	} {
		var fe *backends.FieldError
		if _, err := c.withDefaults(); !errors.As(err, &fe) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
