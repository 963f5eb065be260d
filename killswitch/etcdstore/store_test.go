package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A writing whose comparison failed: what is there decides, and what nobody can tell is never a conflict.
func TestFailedComparison(t *testing.T) {
	at := func(rev int64, body string) []*mvccpb.KeyValue {
		return []*mvccpb.KeyValue{{ModRevision: rev, Value: []byte(body)}}
	}
	for _, c := range []struct {
		name   string
		rev    killswitch.Revision
		before bool
		there  []*mvccpb.KeyValue
		at     killswitch.Revision
		err    error
	}{
		{"an earlier attempt took effect, its answer was lost", 7, true, at(9, "ours"), 9, nil},
		{"it took effect, and the client sent it again by itself", 7, false, at(9, "ours"), 9, nil},
		{"the first one, and somebody was before it", 7, false, at(8, "theirs"), 0, killswitch.ErrConflict},
		{"an answer was lost, and somebody has written since", 7, true, at(9, "theirs"), 0, killswitch.ErrControlUnavailable},
		{"a record is created, and there is one", 0, false, at(3, "theirs"), 0, killswitch.ErrConflict},
		{"a record is created, an answer was lost, and there is one", 0, true, at(3, "theirs"), 0, killswitch.ErrControlUnavailable},
		{"a revision that never was", 12, true, at(9, "theirs"), 0, killswitch.ErrConflict},
		{"a record that does not exist", 7, false, nil, 0, killswitch.ErrConflict},
	} {
		got, err := failed("p", c.rev, "ours", c.before, c.there)
		if got != c.at || !errors.Is(err, c.err) || errors.Is(err, killswitch.ErrConflict) != (c.err == killswitch.ErrConflict) { //nolint:errorlint // the table's own
			t.Errorf("%s: %d, %v; want %d, %v", c.name, got, err, c.at, c.err)
		}
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		err  error
		want verdict
		says string // in what the caller is told
	}{
		{nil, fine, ""},
		{context.DeadlineExceeded, again, ""},
		{rpctypes.ErrNoLeader, again, ""},
		{rpctypes.ErrTimeout, again, ""},
		{rpctypes.ErrTimeoutDueToLeaderFail, again, ""},
		{rpctypes.ErrLeaderChanged, again, ""},
		{status.Error(codes.Unavailable, "connection refused"), again, ""},
		{rpctypes.ErrInvalidAuthToken, again, ""},
		{rpctypes.ErrTooManyRequests, again, ""},
		{rpctypes.ErrNoSpace, refused, "defragment"},
		{rpctypes.ErrPermissionDenied, refused, "control.etcd.prefix"},
		{rpctypes.ErrAuthFailed, refused, "control.etcd.username"},
		{rpctypes.ErrUserEmpty, refused, "control.etcd.username"},
		{rpctypes.ErrAuthNotEnabled, refused, "control.etcd.username"},
		{rpctypes.ErrRequestTooLarge, refused, "etcd refuses"},
		{fmt.Errorf("x: %w", killswitch.ErrConflict), refused, "changed by someone else"},
		{errClosed, refused, "closed"},
		{errMeanwhile, refused, "meanwhile"},
	} {
		if got := judge(c.err); got != c.want {
			t.Errorf("judge(%v) = %d, want %d", c.err, got, c.want)
		}
		if c.want == refused && !strings.Contains(explain(c.err).Error(), c.says) {
			t.Errorf("%v is told as %q, want %q in it", c.err, explain(c.err), c.says)
		}
	}
}

func TestMoreTelling(t *testing.T) {
	why := status.Error(codes.Unavailable, "no route")
	if got := moreTelling(why, context.DeadlineExceeded); !errors.Is(got, why) {
		t.Errorf("time that ran out hid the reason: %v", got)
	}
	if got := moreTelling(nil, context.DeadlineExceeded); !errors.Is(got, errSilent) {
		t.Errorf("nobody answered, and it is told as %v", got)
	}
	if got := moreTelling(why, rpctypes.ErrNoLeader); !errors.Is(got, rpctypes.ErrNoLeader) {
		t.Errorf("the last reason is told as %v", got)
	}
}

func TestOpenOptions(t *testing.T) {
	one := []string{"127.0.0.1:1"}
	var fe *backends.FieldError
	for _, o := range []Options{
		{}, {Endpoints: make([]string, MaxEndpoints+1)}, {Endpoints: one, Prefix: "x"}, {Endpoints: one, Prefix: strings.Repeat("x", MaxPrefix) + "/"},
		{Endpoints: one, Username: "u"}, {Endpoints: one, Password: "p"},
	} {
		if _, err := Open(o); !errors.As(err, &fe) {
			t.Errorf("%+v: %v, want a FieldError", o, err)
		}
	}
}

// Where nobody listens every call ends in its time, says why, and nothing is left behind.
func TestNobodyThere(t *testing.T) {
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{{Endpoints: []string{addr}}, {Endpoints: []string{addr}, Username: "u", Password: "p"}} {
		s, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		wctx, stop := context.WithCancel(t.Context())
		ch, err := s.Watch(wctx)
		if err != nil {
			t.Errorf("watching an etcd that may come: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		began := time.Now()
		_, _, err = s.Get(ctx, "p")
		cancel()
		if !errors.Is(err, killswitch.ErrControlUnavailable) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("%v; want ErrControlUnavailable with the reason", err)
		}
		if took := time.Since(began); took > MaxCall {
			t.Errorf("a call with 200 ms took %s", took)
		}
		stop()
		for range ch { //nolint:revive // until it is closed
			t.Error("a watch of nothing has reported something")
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, _, err := s.Get(t.Context(), "p"); !errors.Is(err, killswitch.ErrControlUnavailable) {
			t.Errorf("after Close: %v", err)
		}
	}
}

func TestDecode(t *testing.T) {
	good, err := encode(killswitch.PodState{Pod: "p"})
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"empty": "", "cut off": good[:len(good)/2], "no format": strings.Replace(good, `"format":1`, `"format":0`, 1),
		"newer": strings.Replace(good, `"format":1`, `"format":2`, 1), "another pod": strings.Replace(good, `"pod":"p"`, `"pod":"q"`, 1),
	} {
		_, err := record(&mvccpb.KeyValue{Key: []byte("/x/pods/p"), Value: []byte(bad)})
		if !errors.Is(err, killswitch.ErrControlDamaged) || !strings.Contains(err.Error(), "/x/pods/p") {
			t.Errorf("%s: %v; want ErrControlDamaged with the key", name, err)
		}
	}
	if r, err := record(&mvccpb.KeyValue{Key: []byte("/x/pods/p"), Value: []byte(good), ModRevision: 4}); err != nil || r.Revision != 4 {
		t.Errorf("%+v, %v", r, err)
	}
	if a, _ := encode(1); a == good {
		t.Error("two writings are one")
	}
}
