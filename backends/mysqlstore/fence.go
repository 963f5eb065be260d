package mysqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// grace is what transactions under way get to end by themselves before a fence that waits for
	// them kills their sessions: DESIGN's 200 ms.
	grace = 200 * time.Millisecond
	// hunt is how often blockers are looked for after that.
	hunt = copyAge
	// raisePatience bounds one Raise; a kill is to take about a second.
	raisePatience = 3 * time.Second
	// maxRaces bounds how often a Raise starts again because another was faster.
	maxRaces = 5
)

var (
	textFenceMake       = named("fence_make").one()
	textFenceRaise      = named("fence_raise").one()
	textClock           = named("clock").one()
	textBlockersMySQL   = named("blockers_mysql").one()
	textBlockersMariaDB = named("blockers_mariadb").one()
)

// extras is how a fence's Filled and Alone are kept, in the column filled. A program that does not know the second cannot
// read the column then, and so writes nothing: it would not know when MySQL may answer without Redis either.
type extras uint8

const (
	extraFilled extras = 1 << iota
	extraAlone
)

func extrasOf(f backends.Fence) (x extras) {
	if f.Filled {
		x |= extraFilled
	}
	if f.Alone {
		x |= extraAlone
	}
	return x
}

func (x extras) into(f *backends.Fence) { f.Filled, f.Alone = x&extraFilled != 0, x&extraAlone != 0 }

// Fence reads it; a missing one is the zero Fence.
func (s *Store) Fence(ctx context.Context) (f backends.Fence, err error) {
	var now backends.Instant
	err = s.read(ctx, "fence", "", func(b *batch) { s.askFence(b, &f, &now) })
	return f, err
}

// Admitted answers whether the fence admits t in the role asked about.
func (s *Store) Admitted(ctx context.Context, t backends.Token, asAMirror bool) error {
	f, err := s.Fence(ctx)
	if err != nil {
		return err
	}
	r := asTruth
	if asAMirror {
		r = asMirror
	}
	if !r.admitted(f, t) {
		return s.fenced(f, t)
	}
	return nil
}

// Now reads the server's clock.
func (s *Store) Now(ctx context.Context) (now backends.Instant, err error) {
	err = s.read(ctx, "clock", "", func(b *batch) {
		b.ask(func(r *sql.Rows) error { return r.Scan(&now) }, textClock)
	})
	return now, err
}

// Raise installs f if it outranks the present fence. Every write holds the fence's row in share
// mode, so the exclusive lock that Raise gets says that none of a lower rank is left; those that
// do not end by themselves within a grace are killed.
func (s *Store) Raise(ctx context.Context, f backends.Fence, ifEpoch uint64) (backends.Fence, error) {
	if s.closed.Load() {
		return backends.Fence{}, fmt.Errorf("%w: the store is closed", backends.ErrUnavailable)
	}
	ctx, cancel := context.WithTimeout(ctx, raisePatience)
	defer cancel()
	c, err := s.open(ctx, s.admin, "raise")
	if err != nil {
		return backends.Fence{}, undone(err)
	}
	defer c.free()
	for range maxRaces {
		have, there, err := s.fenceAt(ctx, c)
		if err != nil {
			return backends.Fence{}, undone(err)
		}
		if have == f {
			return have, nil
		}
		if !f.Outranks(have) || ifEpoch != 0 && ifEpoch != have.Epoch {
			return have, s.fenced(have, backends.Token{Epoch: f.Epoch})
		}
		if !there {
			if err := c.run(ctx, textFenceMake, s.cfg.Pod); err != nil {
				return backends.Fence{}, undone(err)
			}
		}
		done, err := s.swap(ctx, c, have, f)
		if err != nil {
			c.drop()
			return backends.Fence{}, raiseError(err)
		}
		if done {
			return f, nil
		}
	}
	return backends.Fence{}, fmt.Errorf("%w: other raises of the fence were faster %d times", backends.ErrBusy, maxRaces)
}

// raiseError: the statement commits by itself, so what breaks while it runs is in doubt.
func raiseError(err error) error {
	switch classify(err) {
	case faultBroken, faultContext:
		return fmt.Errorf("%w: %w", backends.ErrAmbiguous, err)
	default:
		return undone(err)
	}
}

func (s *Store) fenceAt(ctx context.Context, c *session) (f backends.Fence, there bool, err error) {
	err = c.ask(ctx, func(r *sql.Rows) (err error) {
		there = true
		f, _, _, err = scanFence(r)
		return err
	}, textFenceRead, s.cfg.Pod)
	return f, there, err
}

// swap replaces the fence that was read, and tells whether it was still there.
func (s *Store) swap(ctx context.Context, c *session, have, f backends.Fence) (done bool, err error) {
	var id uint64
	if err := c.ask(ctx, func(r *sql.Rows) error { return r.Scan(&id) }, "SELECT CONNECTION_ID()"); err != nil {
		return false, err
	}
	stop := s.clearWay(ctx, id)
	defer stop()
	b := c.batch()
	b.must(1, errRace, textFenceRaise, f.Epoch, f.Stage, f.Open, extrasOf(f), s.cfg.Pod, have.Epoch, have.Open)
	switch err := b.sendTo(ctx, c.conn); {
	case errors.Is(err, errRace):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, nil
}

// errRace: the fence was not what it was.
var errRace = errors.New("another was faster")

// clearWay kills, after a grace, the sessions that keep session id waiting, until it is stopped.
// stop waits for its end.
func (s *Store) clearWay(ctx context.Context, id uint64) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		wait := time.NewTimer(grace)
		defer wait.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-wait.C:
			}
			// What fails here shows in the statement that goes on waiting.
			_ = s.killBlockers(ctx, id)
			wait.Reset(hunt)
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

func (s *Store) killBlockers(ctx context.Context, id uint64) error {
	c, err := s.open(ctx, s.admin, "raise")
	if err != nil {
		return err
	}
	defer c.free()
	maria, err := s.isMariaDB(ctx, c)
	if err != nil {
		return err
	}
	text := textBlockersMySQL
	if maria {
		text = textBlockersMariaDB
	}
	var ids []uint64
	err = c.ask(ctx, func(r *sql.Rows) error {
		var n uint64
		err := r.Scan(&n)
		ids = append(ids, n)
		return err
	}, text, id)
	if err != nil {
		return err
	}
	for _, n := range ids {
		s.count.killed.Add(1) // whether or not its answer comes before the fence moves
		if err := kill(ctx, c, n); err != nil {
			return err
		}
	}
	return nil
}

// isMariaDB tells the dialects apart.
func (s *Store) isMariaDB(ctx context.Context, c *session) (bool, error) {
	var version string
	err := c.ask(ctx, func(r *sql.Rows) error { return r.Scan(&version) }, "SELECT VERSION()")
	return strings.Contains(strings.ToLower(version), "mariadb"), err
}
