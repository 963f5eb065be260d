package backends

import (
	"context"
	"errors"
)

// ErrRestarted: the server is not the one at which its fence was raised, so it may have lost what it had
// acknowledged. It decides and follows nothing until the fence is raised under a higher epoch.
var ErrRestarted = errors.New("the server was restarted or replaced since its fence was raised")

// Restorer gives back to a truth what it has lost: a server that was replaced by a replica without the last
// writes knows less than the store that followed it. Redis is the one that it is for.
type Restorer interface {
	// Restore follows states of the other store as [Mirror.Apply] does, each by its version, in the store that
	// is the truth at t's epoch: under a closed fence, where nothing else happens, or an open one. Nothing is
	// written to the outbox: the other store has these states.
	Restore(ctx context.Context, t Token, asOf Instant, entries []Entry) ([]Applied, error)
	// RestoreLevel is [Repairer].Correct in the store that is the truth at t's epoch.
	RestoreLevel(ctx context.Context, t Token, asOf Instant, c *Correction) (done bool, err error)
}

// Rewinder is a store that remembers from where its outbox has to be read. Entries are numbered by the clocks of those who
// make them, so that one may be behind that; it is found later.
type Rewinder interface {
	// Rewind has the next reading of the outbox begin at its head.
	Rewind()
}

// AdmitsRestore tells whether side may be given back what it has lost, under t: it is the truth of that
// epoch, or will be once the fence is opened.
func (f Fence) AdmitsRestore(t Token, side Side) bool {
	return t.Epoch != 0 && f.Epoch == t.Epoch && side != SideUnknown && f.Stage.Truth() == side
}
