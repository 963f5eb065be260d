package admin

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"connectrpc.com/connect"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/dualwrite"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// TestProblems: each error has the code of its meaning, however it is wrapped, and keeps its text.
func TestProblems(t *testing.T) {
	for _, c := range []struct {
		err  error
		code connect.Code
	}{
		{&dualwrite.LevelsDifferError{Keys: 1}, connect.CodeDataLoss},
		{errors.Join(dualwrite.ErrEpochMoved, &backends.FencedError{}), connect.CodeAborted},
		{comparator.ErrStageMoved, connect.CodeAborted},
		{comparator.ErrNothingToAudit, connect.CodeFailedPrecondition},
		{comparator.ErrNoPair, connect.CodeFailedPrecondition},
		{&comparator.LifeError{}, connect.CodeFailedPrecondition},
		{comparator.ErrNoFinding, connect.CodeNotFound},
		{comparator.ErrNoApology, connect.CodeNotFound},
		{&killswitch.KillRefusedError{}, connect.CodeFailedPrecondition},
		{&backends.FieldError{}, connect.CodeInvalidArgument},
		{killswitch.ErrConflict, connect.CodeAborted},
		{backends.ErrUnavailable, connect.CodeUnavailable},
		{context.DeadlineExceeded, connect.CodeDeadlineExceeded},
		{errors.New("something else"), connect.CodeInternal},
	} {
		err := fmt.Errorf("asked: %w", c.err)
		var ce *connect.Error
		if got := problem(err); connect.CodeOf(got) != c.code || !errors.As(got, &ce) || ce.Message() != err.Error() {
			t.Errorf("%v: %v, want %s", err, got, c.code)
		}
	}
	if problem(nil) != nil {
		t.Error("no error is a problem")
	}
}
