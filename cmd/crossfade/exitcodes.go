package main

import (
	"errors"

	"connectrpc.com/connect"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/admin"
)

// Exit codes, for scripts. They are listed in 'crossfade --help'.
const (
	exitOK      = 0
	exitError   = 1 // it did not work
	exitUsage   = 2 // the command or its input was wrong; nothing was done
	exitFound   = 3 // a check worked and found something (findings, levels out of balance, failed rows)
	exitRefused = 4 // a gate or a rule refused; nothing was changed
	exitAway    = 5 // no proxy, or a store that is needed, answers
)

// foundError ends a command whose check found something. What it found is printed already.
type foundError struct{ text string }

func (e *foundError) Error() string { return e.text }

// gapError ends a command whose check could not see all. What it saw is printed already.
type gapError struct{ text string }

func (e *gapError) Error() string { return e.text }

// usageError is a wrong command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func exitCode(err error) int {
	var found *foundError
	var gap *gapError
	var usage *usageError
	var remote *admin.RemoteError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &found):
		return exitFound
	case errors.As(err, &gap):
		return exitAway
	case errors.As(err, &usage), backends.IsRejection(err):
		return exitUsage
	case errors.As(err, &remote):
		switch remote.Code {
		case connect.CodeInvalidArgument, connect.CodeNotFound:
			return exitUsage
		case connect.CodeFailedPrecondition, connect.CodeAborted, connect.CodePermissionDenied, connect.CodeUnauthenticated:
			return exitRefused
		case connect.CodeDataLoss:
			return exitFound
		case connect.CodeUnavailable, connect.CodeDeadlineExceeded:
			return exitAway
		default:
			return exitError
		}
	case connect.CodeOf(err) == connect.CodeUnavailable:
		return exitAway
	}
	return exitError
}
