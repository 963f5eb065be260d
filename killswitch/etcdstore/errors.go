package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/crossfade-proxy/crossfade/killswitch"
)

var (
	errClosed = errors.New("the control store was closed")
	// errSilent: no member has answered, and none has said why.
	errSilent = errors.New("no member of etcd has answered in time")
	// errMoved: a key is not at the revision at which it was read a moment ago.
	errMoved = errors.New("a key is written by somebody else again and again")
)

// verdict on an attempt.
type verdict uint8

// The verdicts. The zero value is one that asks for nothing.
const (
	refused verdict = iota // by etcd or by us: again would be the same
	fine
	again // not answered, or answered that it cannot at present
)

// judge classifies the errors of the client and of this package.
func judge(err error) verdict {
	switch {
	case err == nil:
		return fine
	case errors.Is(err, errClosed), errors.Is(err, killswitch.ErrConflict), errors.Is(err, killswitch.ErrControlDamaged),
		errors.Is(err, killswitch.ErrReplaced), errors.Is(err, killswitch.ErrControlUnavailable):
		return refused
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, errMoved):
		return again
	case errors.Is(err, rpctypes.ErrInvalidAuthToken), errors.Is(err, rpctypes.ErrAuthOldRevision):
		return again // the client has a new token by then
	case errors.Is(err, rpctypes.ErrNoSpace):
		return refused
	}
	switch code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Internal, codes.Aborted, codes.ResourceExhausted:
		return again
	default:
		return refused
	}
}

// code of an error of gRPC's or of etcd's.
func code(err error) codes.Code {
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		return e.Code()
	}
	return status.Code(err)
}

// moreTelling keeps the error that says more: that time ran out says nothing of why.
func moreTelling(old, now error) error {
	bare := errors.Is(now, context.DeadlineExceeded) || errors.Is(now, context.Canceled) ||
		code(now) == codes.DeadlineExceeded || code(now) == codes.Canceled
	if bare && old != nil {
		return old
	}
	if bare {
		return errSilent
	}
	return now
}

// unavailable is for calls that were not answered in their time; why is what was seen of it.
func unavailable(ctx context.Context, why error) error {
	end := ctx.Err()
	switch {
	case why == nil:
		why = end
	case end != nil && !errors.Is(why, end):
		return fmt.Errorf("%w: etcd: %w (%w)", killswitch.ErrControlUnavailable, why, end)
	}
	return fmt.Errorf("%w: etcd: %w", killswitch.ErrControlUnavailable, why)
}

// explain says what to do where etcd, or the way to it, refuses.
func explain(err error) error {
	var next string
	switch {
	case errors.Is(err, killswitch.ErrControlUnavailable), errors.Is(err, killswitch.ErrConflict), errors.Is(err, killswitch.ErrControlDamaged), errors.Is(err, killswitch.ErrReplaced):
		return err
	case errors.Is(err, errClosed):
		return fmt.Errorf("%w: %w", killswitch.ErrControlUnavailable, err)
	case errors.Is(err, rpctypes.ErrAuthFailed):
		next = "check control.etcd.username and its password"
	case errors.Is(err, rpctypes.ErrUserEmpty):
		next = "this etcd wants a user: set control.etcd.username and its password"
	case errors.Is(err, rpctypes.ErrAuthNotEnabled):
		next = "this etcd has no users: leave control.etcd.username out, or enable authentication there"
	case errors.Is(err, rpctypes.ErrPermissionDenied):
		next = "grant the user of control.etcd.username read and write on the keys under control.etcd.prefix"
	case errors.Is(err, rpctypes.ErrNoSpace):
		next = "compact and defragment it, then disarm its alarm"
	case code(err) == codes.Unknown:
		return err // of this package's own
	default:
		next = "see etcd's own log"
	}
	return fmt.Errorf("%w: etcd refuses: %w; %s", killswitch.ErrControlUnavailable, err, next)
}

// damaged is the error for a value that is there and is not what this package writes.
func damaged(key []byte, what string) error {
	return fmt.Errorf("%w: key %s: %s; restore it from a snapshot, or delete it and let the pod be set up again: its stage is then taken from the stores' fences", killswitch.ErrControlDamaged, key, what)
}

// connectParams make the client look for a member that has come back about every second, where gRPC's own would wait up to
// two minutes.
func connectParams() grpc.ConnectParams {
	b := backoff.DefaultConfig
	b.BaseDelay, b.MaxDelay = 100*time.Millisecond, reconnectMost
	return grpc.ConnectParams{Backoff: b, MinConnectTimeout: attemptFor}
}

// failFast lets a call that finds no member fail at once with the reason. The client would have it wait, and then say that time ran out.
func failFast(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return call(ctx, method, req, reply, cc, append(slices.Clone(opts), grpc.WaitForReady(false))...)
}
