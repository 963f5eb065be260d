package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Bounds of a lane.
const (
	// queueMax bounds the jobs that wait for a free writer, at some kB each. Who finds the queue
	// full waits for a place within its own deadline.
	queueMax = 1024
	// batchMax bounds the commands of one pipeline: enough that the round trip does not matter,
	// few enough that the first reply does not wait long for the last.
	batchMax = 128
	// batchArgs bounds their arguments together: a few of the largest carts, about 2 MB.
	batchArgs = 40_000
	// batchWeight bounds what their members have scripts do: about what as many single ones do.
	batchWeight = 4 * foldWeight
	// stallPatience is how long a pipeline waits at least: callers leave at their own deadlines, and
	// a server that stalls shortly, in a fork or a long script, does not cost every connection.
	stallPatience = time.Second
	// scriptRounds bounds how often a pipeline is sent again since the server has forgotten a
	// script; nothing was done then. Twice is a race with SCRIPT FLUSH.
	scriptRounds = 3
)

// command is one command of a job, made by one goroutine and sent by another.
type command struct {
	script *script // nil for a plain command
	writes bool
	args   []any
	token  *backends.Token // set for a write that the guard has to let through
	guard  *guard
	sent   atomic.Bool // the driver has begun to write it
	// refused is the guard's error; the command was sent with an epoch that no fence admits.
	refused error
	cmd     *redis.Cmd
}

// job is what one caller sends at once: commands, members of a call, or a look at the fence. Commands
// are done in order on one connection, with those of other jobs before and after them, not between.
// Members are done in order, with those of other jobs in the same call.
type job struct {
	cmds     []*command
	members  []member
	script   *script                // of members
	call     atomic.Pointer[string] // the call of counts.lua in which they are, or leftJob
	look     bool                   // whether the fence admits token in role
	token    backends.Token
	role     string
	deadline time.Time
	state    atomic.Uint32
	done     chan struct{} // gets one token when the job is answered

	verdicts []string // of members, as far as they have any
	next     int      // first member without a verdict
	err      error    // of members without a verdict, or of a look
	one      [1]string
	answered []string // verdicts, for the caller alone
	left     bool     // the caller has gone without an answer; for him alone
	tried    *string  // the call that was given up, or failed; for the caller alone
}

// Life of a job: whoever moves it out of queued decides whether it is sent.
const (
	jobQueued uint32 = iota
	jobTaken
	jobAbandoned
)

// jobs are kept for use again, with their channels.
var jobs sync.Pool

func newJob(ctx context.Context) *job {
	j, ok := jobs.Get().(*job)
	if !ok {
		j = &job{done: make(chan struct{}, 1)}
	}
	j.deadline, _ = ctx.Deadline()
	return j
}

// free gives a job back that was answered: of one that was left a writer may still have something to say.
func (j *job) free() {
	if j.left {
		return
	}
	*j = job{done: j.done, members: j.members[:0]}
	clear(j.members[:cap(j.members)])
	jobs.Put(j)
}

// writes tells whether the job may have had an effect.
func (j *job) writes() bool {
	return len(j.members) > 0 || slices.ContainsFunc(j.cmds, func(c *command) bool { return c.writes })
}

// finished tells whether members and look have been answered.
func (j *job) finished() bool { return j.next == len(j.members) && !j.look }

// sentMark is an argument that is noted at the moment at which the driver writes it: until then
// nothing has been sent, and a failure is not ambiguous. The driver has a connection by then,
// which the guard has looked at.
type sentMark struct {
	c     *command
	value string
	guard *guard // set where value is the epoch of a write
}

// MarshalBinary gives the argument's bytes.
func (m sentMark) MarshalBinary() ([]byte, error) {
	m.c.sent.Store(true)
	if m.guard != nil {
		if m.c.refused = m.guard.check(*m.c.token); m.c.refused != nil {
			return []byte(noEpoch), nil //nolint:nilerr // an error here would break the whole pipeline
		}
	}
	return []byte(m.value), nil
}

// noEpoch is an epoch that no script admits.
const noEpoch = "0"

// lane sends jobs in pipelines: each of its writers takes what waits when it is free, so that
// requests share round trips and calls under load and wait for nobody without.
type lane struct {
	store  *Store
	limit  time.Duration // of one pipeline, when its callers have no deadline
	queue  chan *job
	stop   chan struct{} // closed: take no more
	closed atomic.Bool   // set before stop is closed
	ended  chan struct{} // closed: no writer is left
	wg     sync.WaitGroup
}

func newLane(s *Store, writers int, limit time.Duration) *lane {
	l := &lane{store: s, limit: limit, queue: make(chan *job, queueMax), stop: make(chan struct{}), ended: make(chan struct{})}
	for range writers {
		l.wg.Go((&writer{lane: l}).run)
	}
	return l
}

// close ends the writers when they have answered what they had taken.
func (l *lane) close() {
	l.closed.Store(true)
	close(l.stop)
	l.wg.Wait()
	for {
		select {
		case j := <-l.queue: // nobody takes it any more
			if j.state.CompareAndSwap(jobQueued, jobTaken) {
				j.fail(unavailable(errClosed))
			}
		default:
			close(l.ended)
			return
		}
	}
}

// fail answers a job that was not sent.
func (j *job) fail(err error) {
	j.err = err
	for _, c := range j.cmds {
		c.refused = err
		c.cmd = redis.NewCmd(context.Background())
		c.cmd.SetErr(err)
	}
	j.done <- struct{}{}
}

var errClosed = errors.New("the store is closed")

// do sends commands: send.
func (l *lane) do(ctx context.Context, cmds ...*command) error {
	j := newJob(ctx)
	j.cmds = cmds
	return l.send(ctx, j)
}

// send has a job done and returns when it has been answered, its parts each with their own error, or
// when ctx is over.
func (l *lane) send(ctx context.Context, j *job) error {
	if err := ctx.Err(); err != nil {
		return unavailable(err)
	}
	select {
	case l.queue <- j:
	default:
		if err := l.wait(ctx, j); err != nil {
			return err
		}
	}
	if l.closed.Load() {
		select {
		case <-j.done:
			return nil
		case <-ctx.Done():
			return l.leave(j, ctx.Err())
		case <-l.ended: // a writer that had taken it has answered it
			return l.leave(j, errClosed)
		}
	}
	// What was queued before the lane was closed is answered by close.
	select {
	case <-j.done:
		return nil
	case <-ctx.Done():
		return l.leave(j, ctx.Err())
	}
}

// wait is for a place in the queue.
func (l *lane) wait(ctx context.Context, j *job) error {
	select {
	case l.queue <- j:
		return nil
	case <-ctx.Done():
		return unavailable(fmt.Errorf("waiting for a free writer: %w", ctx.Err()))
	case <-l.stop:
		return unavailable(errClosed)
	}
}

// leave gives a job up. One that no writer has taken was not sent; of one that was taken nothing
// is known. A job of reads has no effect to be unknown.
func (l *lane) leave(j *job, err error) error {
	j.left = true
	if j.state.CompareAndSwap(jobQueued, jobAbandoned) {
		return unavailable(err)
	}
	if j.script == countsScript {
		if j.tried = j.call.Swap(&leftJob); j.tried == nil {
			return unavailable(err) // a writer has taken it, and will not send it
		}
	}
	select {
	case <-j.done:
		return nil
	default:
	}
	if !j.writes() {
		return unavailable(err)
	}
	return fmt.Errorf("%w: %w", backends.ErrAmbiguous, err)
}

// plain is a command that is no script, and reads.
func plain(args ...string) *command {
	c := &command{args: make([]any, len(args))}
	for i, a := range args {
		c.args[i] = a
	}
	return c
}

// plainWrite is a command that is no script, and writes. Its last argument tells when it was sent.
func plainWrite(args ...string) *command {
	c := plain(args...)
	c.writes = true
	c.args[len(args)-1] = sentMark{c: c, value: args[len(args)-1]}
	return c
}

// script makes a call of s under t; keys and args are those after the fixed ones.
func (s *Store) script(sc *script, t backends.Token, keys []string, args ...string) *command {
	c := &command{script: sc, writes: sc.writes, args: make([]any, 0, 3+len(s.names.fixed)+len(keys)+4+len(args))}
	c.args = append(c.args, "EVALSHA", sc.sha, len(s.names.fixed)+len(keys))
	c.args = append(c.args, s.names.fixed...)
	for _, k := range keys {
		c.args = append(c.args, k)
	}
	mark := sentMark{c: c, value: strconv.FormatUint(t.Epoch, 10)}
	if t != (backends.Token{}) {
		c.token, c.guard = &t, &s.guard
		mark.guard = c.guard
	}
	c.args = append(c.args, mark, s.names.marked, s.outboxMax, s.retainMillis)
	for _, a := range args {
		c.args = append(c.args, a)
	}
	return c
}

// result gives a command's answer, or its classified error. After send has failed only the error of
// send counts.
func (c *command) result() (any, error) {
	v, err := c.cmd.Result()
	if err == nil {
		return v, nil
	}
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if c.refused != nil {
		return nil, c.refused
	}
	var want backends.Token
	if c.token != nil {
		want = *c.token
	}
	return nil, classify(err, c.writes && c.sent.Load(), want)
}
