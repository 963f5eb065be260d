package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
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
	sent   atomic.Bool     // the driver has begun to write it
	// refused is the guard's error; the command was sent with an epoch that no fence admits.
	refused error
	cmd     *redis.Cmd
}

// job is what one caller sends at once: its commands are done in order on one connection, with
// those of other jobs before and after them, not between.
type job struct {
	cmds     []*command
	deadline time.Time
	state    atomic.Uint32
	done     chan struct{}
}

// Life of a job: whoever moves it out of queued decides whether it is sent.
const (
	jobQueued uint32 = iota
	jobTaken
	jobAbandoned
)

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
// requests share round trips under load and wait for nobody without.
type lane struct {
	client *redis.Client
	limit  time.Duration // of one pipeline, when its callers have no deadline
	queue  chan *job
	stop   chan struct{} // closed: take no more
	ended  chan struct{} // closed: no writer is left
	wg     sync.WaitGroup
}

func newLane(client *redis.Client, writers int, limit time.Duration) *lane {
	l := &lane{client: client, limit: limit, queue: make(chan *job, queueMax), stop: make(chan struct{}), ended: make(chan struct{})}
	for range writers {
		l.wg.Go(l.write)
	}
	return l
}

// close ends the writers when they have answered what they had taken.
func (l *lane) close() {
	close(l.stop)
	l.wg.Wait()
	close(l.ended)
}

var errClosed = errors.New("the store is closed")

// send does the commands and returns when they have been answered, each with its own error, or
// when ctx is over.
func (l *lane) send(ctx context.Context, cmds ...*command) error {
	if err := ctx.Err(); err != nil {
		return unavailable(err)
	}
	j := &job{cmds: cmds, done: make(chan struct{})}
	j.deadline, _ = ctx.Deadline()
	select {
	case l.queue <- j:
	case <-ctx.Done():
		return unavailable(fmt.Errorf("waiting for a free writer: %w", ctx.Err()))
	case <-l.stop:
		return unavailable(errClosed)
	}
	select {
	case <-j.done:
		return nil
	case <-ctx.Done():
		return l.leave(j, ctx.Err())
	case <-l.ended: // a writer that had taken it has answered it
		return l.leave(j, errClosed)
	}
}

// leave gives a job up. One that no writer has taken was not sent; of one that was taken nothing
// is known. A job of reads has no effect to be unknown.
func (l *lane) leave(j *job, err error) error {
	if j.state.CompareAndSwap(jobQueued, jobAbandoned) {
		return unavailable(err)
	}
	select {
	case <-j.done:
		return nil
	default:
	}
	if !slices.ContainsFunc(j.cmds, func(c *command) bool { return c.writes }) {
		return unavailable(err)
	}
	return fmt.Errorf("%w: %w", backends.ErrAmbiguous, err)
}

func (l *lane) write() {
	for {
		select {
		case <-l.stop:
			return
		case j := <-l.queue:
			l.do(l.gather(j))
		}
	}
}

// gather takes the jobs that wait, as far as they fit into one pipeline.
func (l *lane) gather(first *job) []*job {
	jobs, n, args := []*job(nil), 0, 0
	add := func(j *job) {
		if !j.state.CompareAndSwap(jobQueued, jobTaken) {
			return
		}
		jobs = append(jobs, j)
		n += len(j.cmds)
		for _, c := range j.cmds {
			args += len(c.args)
		}
	}
	add(first)
	for n < batchMax && args < batchArgs {
		select {
		case j := <-l.queue:
			add(j)
		default:
			return jobs
		}
	}
	return jobs
}

// do sends jobs in one pipeline and answers them. Calls of scripts that the server does not know
// have done nothing: they are sent again after the text of their script. So the commands of one
// job keep their order as long as they are calls of one script.
func (l *lane) do(jobs []*job) {
	if len(jobs) == 0 {
		return
	}
	ctx, cancel := l.deadline(jobs)
	defer cancel()
	var cmds []*command
	for _, j := range jobs {
		cmds = append(cmds, j.cmds...)
	}
	missing := map[*script]bool{}
	for range scriptRounds {
		l.pipeline(ctx, cmds, missing)
		clear(missing)
		again := cmds[:0:0]
		for _, c := range cmds {
			if c.script != nil && isNoScript(c.cmd.Err()) {
				missing[c.script] = true
				again = append(again, c)
			}
		}
		if cmds = again; len(cmds) == 0 {
			break
		}
	}
	for _, j := range jobs {
		close(j.done)
	}
}

// deadline is the latest of the jobs' own, since each caller leaves at his, and no later than the
// lane's limit.
func (l *lane) deadline(jobs []*job) (context.Context, context.CancelFunc) {
	now := time.Now()
	most, latest := now.Add(l.limit), now.Add(stallPatience)
	for _, j := range jobs {
		if j.deadline.IsZero() {
			latest = most
			break
		}
		if j.deadline.After(latest) {
			latest = j.deadline
		}
	}
	if latest.After(most) {
		latest = most
	}
	return context.WithDeadline(context.Background(), latest)
}

// pipeline sends commands once, after loading the scripts that are missing.
func (l *lane) pipeline(ctx context.Context, cmds []*command, missing map[*script]bool) {
	p := l.client.Pipeline()
	for s := range missing {
		p.ScriptLoad(ctx, s.text)
	}
	for _, c := range cmds {
		c.sent.Store(false)
		c.refused = nil
		c.cmd = redis.NewCmd(ctx, c.args...)
		_ = p.Process(ctx, c.cmd) // only queues
	}
	_, err := p.Exec(ctx)
	for _, c := range cmds {
		// Each command has its own error; but where a connection could not be set up since the
		// server said no (LOADING, NOAUTH), the driver leaves commands with neither error nor
		// answer. An answer that is nothing has the error redis.Nil.
		if c.cmd.Err() == nil && c.cmd.Val() == nil {
			c.cmd.SetErr(fmt.Errorf("%w: %w", errNoAnswer, err))
		}
	}
}

// errNoAnswer: the command was not done, and the driver does not say so.
var errNoAnswer = errors.New("no connection")

func isNoScript(err error) bool {
	return err != nil && (errors.Is(err, redis.ErrNoScript) || strings.HasPrefix(err.Error(), codeNoScript))
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
		c.token, mark.guard = &t, &s.guard
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
