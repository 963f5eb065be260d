package redisstore

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/crossfade-proxy/crossfade/backends"
)

// RestartedError: the server that answers is not the one at which the fence was raised: it has
// been restarted, restored or replaced, and may have lost writes that were acknowledged. Nothing
// was changed, and no write is done until the fence is raised under a new epoch.
type RestartedError struct {
	// Was is the run id at which the fence was raised, Now that of the server; either may be empty.
	Was, Now string
}

func (e *RestartedError) Error() string {
	return fmt.Sprintf("redis was restarted or replaced since its fence was raised (run id was %q, is %q) and may have lost writes: raise the fence under a new epoch", e.Was, e.Now)
}

// Is makes it a case of ErrUnavailable and of ErrRestarted.
func (e *RestartedError) Is(target error) bool {
	return target == backends.ErrUnavailable || target == backends.ErrRestarted
}

// ReplicationError: the fence was raised at the primary, but not all of its replicas have
// confirmed it in time. One that is promoted may come up with the fence as it was before.
type ReplicationError struct {
	Confirmed, Replicas int64
}

func (e *ReplicationError) Error() string {
	return fmt.Sprintf("the fence was raised, but only %d of %d replicas have confirmed it: raise it again, or take the others out of the failover", e.Confirmed, e.Replicas)
}

// Is makes it a case of ErrUnavailable: the raise does not count yet.
func (e *ReplicationError) Is(target error) bool { return target == backends.ErrUnavailable }

// Codes of our scripts' error replies.
const (
	codeFenced   = "XFFENCED"
	codeDamaged  = "XFDAMAGED"
	codeConflict = "XFCONFLICT"
	codeRange    = "XFRANGE"
	codeStale    = "XFSTALE"
	codeOrder    = "XFORDER"
	codeVoid     = "XFVOID"
	codeLate     = "XFLATE"
	codeNoScript = "NOSCRIPT"
)

// unavailableCodes are refusals of a server that did nothing, and will do it later.
var unavailableCodes = map[string]bool{
	"LOADING": true, "READONLY": true, "MASTERDOWN": true, "OOM": true, "MISCONF": true, "BUSY": true,
	"NOREPLICAS": true, "NOAUTH": true, "WRONGPASS": true, "NOPERM": true, "CLUSTERDOWN": true, codeNoScript: true,
	codeLate: true,
}

// classify is the one place where a driver's error is told from another. sent tells whether the
// driver had begun to write the command.
func classify(err error, sent bool, want backends.Token) error {
	var reply redis.Error
	if !errors.As(err, &reply) {
		if sent {
			return fmt.Errorf("%w: %w", backends.ErrAmbiguous, err)
		}
		return unavailable(err)
	}
	code, rest, _ := strings.Cut(reply.Error(), " ")
	switch {
	case code == codeFenced:
		f, perr := parseFence(strings.Fields(rest))
		if perr != nil {
			return perr
		}
		return &backends.FencedError{Side: backends.SideRedis, Have: f, Want: want}
	case code == codeDamaged:
		return fmt.Errorf("%w: %s", backends.ErrDamaged, rest)
	case code == codeConflict:
		return backends.ErrHoldConflict
	case code == codeRange:
		return &backends.FieldError{
			Field: "units of the level", Value: rest, Bound: fmt.Sprintf("up to %d", int64(backends.MaxOnHand)), Next: "give the number of units",
		}
	case code == codeStale:
		return backends.ErrStaleAttempt
	case code == codeVoid:
		return backends.ErrVoid
	case code == codeOrder:
		return backends.ErrOutOfOrder
	case code == "WRONGTYPE":
		return fmt.Errorf("%w: %s", backends.ErrDamaged, reply.Error())
	case unavailableCodes[code]:
		return unavailable(reply)
	default:
		return fmt.Errorf("redis: %w", reply)
	}
}

func unavailable(err error) error {
	if errors.Is(err, backends.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", backends.ErrUnavailable, err)
}

// parseFence reads epoch, stage, open, filled and alone as scripts write them.
func parseFence(p []string) (backends.Fence, error) {
	bad := fmt.Errorf("%w: the fence cannot be read: %s", backends.ErrDamaged, abbreviate(strings.Join(p, " ")))
	if len(p) != 5 {
		return backends.Fence{}, bad
	}
	epoch, err := strconv.ParseUint(p[0], 10, 64)
	if err != nil {
		return backends.Fence{}, bad
	}
	f := backends.Fence{Epoch: epoch, Open: p[2] == "1", Filled: p[3] == "1", Alone: p[4] == "1"}
	if p[1] != backends.StageUnknown.String() {
		if f.Stage, err = backends.ParseStage(p[1]); err != nil {
			return backends.Fence{}, bad
		}
	}
	return f, nil
}

// malformed is damage found in an answer.
func malformed(what string, err error) error {
	return fmt.Errorf("%w: %s: %w", backends.ErrDamaged, what, err)
}
