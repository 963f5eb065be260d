package redisstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crossfade-proxy/crossfade/backends"
)

// writer is one goroutine of a lane. What it needs for a pipeline it keeps for the next one.
type writer struct {
	lane    *lane
	jobs    []*job
	cmds    []*command // of the present round
	calls   []*call    // the first used of them are of the present round
	used    int
	looks   []*look
	missing map[*script]bool
}

// look asks once whether the fence admits an epoch, for all who wait for that: it begins after each of
// them has asked.
type look struct {
	*command
	token backends.Token
	role  string
	jobs  []*job
}

func (w *writer) run() {
	for {
		select {
		case <-w.lane.stop:
			return
		case j := <-w.lane.queue:
			// Whoever is about to ask may do so first: those callers share the call. With nobody about to,
			// this is nothing.
			runtime.Gosched()
			w.gather(j)
			w.do()
		}
	}
}

// gather takes the jobs that wait, as far as they fit into one pipeline.
func (w *writer) gather(first *job) {
	clear(w.jobs)
	w.jobs = w.jobs[:0]
	n, args, weight := 0, 0, 0
	add := func(j *job) {
		if !j.state.CompareAndSwap(jobQueued, jobTaken) {
			return
		}
		w.jobs = append(w.jobs, j)
		n += len(j.cmds) + len(j.members)
		for _, c := range j.cmds {
			args += len(c.args)
		}
		for _, m := range j.members {
			weight += m.weight()
		}
	}
	add(first)
	for n < batchMax && args < batchArgs && weight < batchWeight {
		select {
		case j := <-w.lane.queue:
			add(j)
		default:
			return
		}
	}
}

// do sends jobs in one pipeline and answers them. Calls of scripts that the server does not know
// have done nothing: they are sent again after the text of their script. So the commands of one
// job keep their order as long as they are calls of one script. Members for which a call had no room
// are sent in another one.
func (w *writer) do() {
	if len(w.jobs) == 0 {
		return
	}
	ctx, cancel := w.deadline()
	defer cancel()
	if w.missing == nil {
		w.missing = map[*script]bool{}
	}
	w.cmds = w.cmds[:0]
	for _, j := range w.jobs {
		w.cmds = append(w.cmds, j.cmds...)
	}
	for forgotten := 0; ; {
		own := len(w.cmds)
		w.fold()
		if len(w.cmds) == 0 {
			break
		}
		w.pipeline(ctx)
		clear(w.missing)
		last := forgotten+1 >= scriptRounds
		again := w.cmds[:0]
		for i, c := range w.cmds {
			if !last && c.script != nil && isNoScript(c.cmd.Err()) {
				w.missing[c.script] = true
				if i < own {
					again = append(again, c)
				}
			}
		}
		w.cmds = again
		if len(w.missing) > 0 {
			forgotten++
		}
		w.absorb(last)
		w.answer()
	}
	clear(w.looks)
	w.looks = w.looks[:0]
	for _, j := range w.jobs {
		j.done <- struct{}{}
	}
}

// answer lets go of jobs that are done, while others need another call.
func (w *writer) answer() {
	left := w.jobs[:0]
	for _, j := range w.jobs {
		if len(j.cmds) == 0 && j.finished() {
			j.done <- struct{}{}
		} else {
			left = append(left, j)
		}
	}
	clear(w.jobs[len(left):])
	w.jobs = left
}

// fold puts what jobs have for calls and looks into commands.
func (w *writer) fold() {
	w.used = 0
	clear(w.looks)
	w.looks = w.looks[:0]
	for _, j := range w.jobs {
		switch {
		case j.look:
			w.look(j)
		case !j.finished():
			w.call(j).add(j)
		}
	}
	for _, c := range w.calls[:w.used] {
		c.seal(w.lane.store)
		w.cmds = append(w.cmds, &c.command)
	}
	for _, l := range w.looks {
		w.cmds = append(w.cmds, l.command)
	}
}

// call finds one that has room for the job, or begins it.
func (w *writer) call(j *job) *call {
	for _, c := range w.calls[:w.used] {
		if c.fits(j) {
			return c
		}
	}
	if w.used == len(w.calls) {
		w.calls = append(w.calls, &call{})
	}
	c := w.calls[w.used]
	w.used++
	c.begin(w.lane.store, j.script, j.token, j.role)
	return c
}

func (w *writer) look(j *job) {
	for _, l := range w.looks {
		if l.token == j.token && l.role == j.role {
			l.jobs = append(l.jobs, j)
			return
		}
	}
	w.looks = append(w.looks, &look{
		command: w.lane.store.script(admittedScript, j.token, nil, j.role), token: j.token, role: j.role, jobs: []*job{j},
	})
}

// absorb hands the answers of calls and looks to their jobs, but for those that are to be sent again.
func (w *writer) absorb(last bool) {
	for _, c := range w.calls[:w.used] {
		if last || !isNoScript(c.cmd.Err()) {
			c.absorb()
		}
	}
	for _, l := range w.looks {
		if !last && isNoScript(l.cmd.Err()) {
			continue
		}
		_, err := l.result()
		for _, j := range l.jobs {
			j.err, j.look = err, false
		}
	}
}

// deadline is the latest of the jobs' own, since each caller leaves at his, and no later than the
// lane's limit.
func (w *writer) deadline() (context.Context, context.CancelFunc) {
	now := time.Now()
	most, latest := now.Add(w.lane.limit), now.Add(stallPatience)
	for _, j := range w.jobs {
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
func (w *writer) pipeline(ctx context.Context) {
	p := w.lane.store.client.Pipeline()
	for s := range w.missing {
		p.ScriptLoad(ctx, s.text)
	}
	for _, c := range w.cmds {
		c.sent.Store(false)
		c.refused = nil
		c.cmd = redis.NewCmd(ctx, c.args...)
		_ = p.Process(ctx, c.cmd) // only queues
	}
	_, err := p.Exec(ctx)
	for _, c := range w.cmds {
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
