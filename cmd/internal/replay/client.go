package replay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/orders"
)

// client is one checkout with its connections. It is used by one goroutine.
type client struct {
	o     *Options
	conns []*conn // by address; nil where there is none
	// retried is told of every repetition and its reason.
	retried func(reason string)
}

func (o *Options) newClient(retried func(string)) *client {
	return &client{o: o, conns: make([]*conn, len(o.Against)), retried: retried}
}

func (c *client) close() {
	for i := range c.conns {
		c.drop(i)
	}
}

func (c *client) drop(i int) {
	if c.conns[i] != nil {
		c.conns[i].close()
		c.conns[i] = nil
	}
}

// outcome is how an operation ended.
type outcome struct {
	answer
	tries int
	// uncertain: before the answer came, a try was sent whose effect is not known.
	uncertain bool
	took      time.Duration // from the first try to the answer, repetitions included
}

// unresolvedError: no verdict within the time allowed.
type unresolvedError struct {
	tries int
	last  string
}

func (e *unresolvedError) Error() string {
	return fmt.Sprintf("no verdict after %d tries; the last one: %s", e.tries, e.last)
}

// call sends a command until its verdict is known, first to address number first. The error is an
// *unresolvedError, and the context's when that is why.
func (c *client) call(ctx context.Context, first int, args []string) (outcome, error) {
	return c.ask(ctx, first, args, understand)
}

// getHold reads a hold: its state and its allocations. Nil when the truth does not know it.
func (c *client) getHold(ctx context.Context, first int, id backends.HoldID) (h *backends.Hold, err error) {
	out, err := c.ask(ctx, first, []string{"XF.GET", string(c.o.Shop), string(id)}, func(v value) answer {
		if v.kind == '-' {
			return understandError(v.text)
		}
		var a answer
		h, a = understandHold(v)
		return a
	})
	if err == nil && out.verdict == refused {
		err = errors.New(out.text)
	}
	return h, err
}

func (c *client) ask(ctx context.Context, first int, args []string, read func(value) answer) (outcome, error) {
	start := time.Now()
	pause := backoffFirst
	var out outcome
	for at := first % len(c.conns); ; at = (at + 1) % len(c.conns) {
		out.tries++
		a, err := c.try(ctx, at, args, read)
		out.took = time.Since(start)
		if err == nil && a.verdict != verdictUnknown {
			out.answer = a
			return out, nil
		}
		reason := a.code
		if err != nil {
			reason = reasonOf(err)
		}
		if !a.nothing && !errors.Is(err, errNotSent) {
			out.uncertain = true
		}
		last := a.text
		if err != nil {
			last = err.Error()
		}
		if out.took >= c.o.Patience || ctx.Err() != nil {
			return out, errors.Join(&unresolvedError{out.tries, last}, ctx.Err())
		}
		c.retried(reason)
		if wait(ctx, pause/2+rand.N(pause/2+1)) != nil {
			return out, errors.Join(&unresolvedError{out.tries, last}, ctx.Err())
		}
		pause = min(2*pause, backoffMost)
	}
}

// errNotSent: the command did not leave.
var errNotSent = errors.New("not sent")

// try sends a command once.
func (c *client) try(ctx context.Context, at int, args []string, read func(value) answer) (answer, error) {
	if c.conns[at] == nil {
		cn, err := dial(ctx, c.o.targets[at].Addr, c.o.targets[at].User, c.o.targets[at].Password)
		var ae *authError
		if errors.As(err, &ae) {
			return answer{verdict: refused, code: "AUTH", text: err.Error()}, nil
		}
		if err != nil {
			return answer{}, errors.Join(errNotSent, err)
		}
		c.conns[at] = cn
	}
	v, err := c.conns[at].do(ctx, c.o.Timeout, args)
	if err != nil {
		c.drop(at)
		return answer{}, err
	}
	a := read(v)
	if v.kind == '-' && a.verdict == verdictUnknown && !strings.HasPrefix(a.code, "XF") {
		c.drop(at) // the server turns connections away
	}
	return a, nil
}

// reasonOf sorts errors of connections for the summary.
func reasonOf(err error) string {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, errNotSent):
		return "no connection"
	case errors.Is(err, errReply):
		return "no RESP"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	default:
		return "connection broken"
	}
}

func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// The commands.

func (o *Options) reserveArgs(hold backends.HoldID, lines []orders.Line) []string {
	args := []string{"XF.RESERVE", string(o.Shop), string(hold), "TTL", fmt.Sprint(o.TTL.Milliseconds()), "CALLER", o.Caller}
	for _, l := range lines {
		args = append(args, "LINE", string(l.Item), fmt.Sprint(l.Quantity))
		if o.Location != "" {
			args = append(args, "LOC", "1", string(o.Location))
		}
	}
	return args
}

func (o *Options) endArgs(command string, hold backends.HoldID) []string {
	return []string{command, string(o.Shop), string(hold), "CALLER", o.Caller}
}

func (o *Options) restockArgs(item backends.Item, n int64, id backends.OpID, mode string) []string {
	args := []string{"XF.RESTOCK", string(o.Shop), string(item), fmt.Sprint(n), "OPID", string(id), "MODE", mode, "CALLER", o.Caller}
	if o.Location != "" {
		args = append(args, "LOC", "1", string(o.Location))
	}
	return args
}
