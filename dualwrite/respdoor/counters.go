package respdoor

import (
	"errors"
	"math"
	"strconv"

	"github.com/crossfade-proxy/crossfade/backends"
)

// counterCommands run without the general search for keys: they are what a checkout sends most.
var counterCommands = map[string]runner{
	"decr":   func(c *conn, _ *command, args [][]byte) { c.count(args, -1) },
	"incr":   func(c *conn, _ *command, args [][]byte) { c.count(args, 1) },
	"decrby": func(c *conn, _ *command, args [][]byte) { c.count(args, -1) },
	"incrby": func(c *conn, _ *command, args [][]byte) { c.count(args, 1) },
}

// countsAtOnce bounds the counts of one connection that are done together.
const countsAtOnce = 64

// count takes from or gives to a stock key; sign is that of the command. Counts that a client has sent
// one behind the other are done together: see settle.
func (c *conn) count(args [][]byte, sign int64) {
	_, k, ok := c.srv.router.ParseKey(string(args[1]))
	if !ok {
		if c.settle() {
			c.pass(args, args[1])
		}
		return
	}
	delta, problem := countDelta(args, sign)
	if problem != "" {
		if c.settle() {
			c.fail(problem)
		}
		return
	}
	r := backends.CountRequest{Key: k, Delta: delta, Caller: c.caller()}
	if c.srv.batches == nil || c.mute != muteNever || len(c.counts) == 0 && c.p.pos == len(c.p.buf) {
		if !c.settle() {
			return
		}
		res, err := c.countOnce(r)
		c.counted(res, err)
		return
	}
	c.counts = append(c.counts, c.fresh(r))
	if len(c.counts) == countsAtOnce {
		c.settle()
	}
}

// maxVoids bounds how many kills one counter command outlives; each takes about a second.
const maxVoids = 4

// fresh is a count under an operation id of its own. What was handed to the service is not used again.
func (c *conn) fresh(r backends.CountRequest) *backends.CountRequest {
	r.OpID, r.Fresh, r.Tried = c.srv.ops.next(c.readAt), true, ""
	return &r
}

// countOnce has a count decided under an operation id of its own. If a kill voids that, nothing was
// done under it, and the count is asked for anew.
func (c *conn) countOnce(r backends.CountRequest) (res *backends.CountResult, err error) {
	for range maxVoids {
		if res, err = c.srv.svc.Count(c.op(), c.fresh(r)); !errors.Is(err, backends.ErrVoid) {
			return res, err
		}
	}
	return nil, errors.Join(backends.ErrUnavailable, err)
}

func (c *conn) counted(res *backends.CountResult, err error) {
	if err == nil && res == nil {
		err = backends.ErrAmbiguous
	}
	if err != nil {
		c.failed(err, byCommand)
		return
	}
	c.integer(res.Value)
}

// settle does the counts that wait, and answers them. It is false when the connection is over.
func (c *conn) settle() bool {
	if len(c.counts) == 0 {
		return true
	}
	rs := c.counts
	c.counts, c.before = nil, len(c.out)
	defer c.recovered(len(rs))
	answers := c.srv.batches.Counts(c.op(), rs)
	for i := range rs {
		var a backends.CountAnswer
		if i < len(answers) {
			a = answers[i]
		}
		if errors.Is(a.Err, backends.ErrVoid) {
			a.Result, a.Err = c.countOnce(*rs[i])
		}
		c.counted(a.Result, a.Err)
	}
	c.before = len(c.out) // these stay, whatever becomes of the command behind them
	return !c.closing
}

// countDelta is the signed amount, or the error reply: Redis's, or ours for an amount that no
// level can have.
func countDelta(args [][]byte, sign int64) (delta int64, problem string) {
	if len(args) == 2 {
		return sign, ""
	}
	n, ok := parseInt64(args[2])
	switch {
	case !ok:
		return 0, errNotInteger
	case sign < 0 && n == math.MinInt64:
		return 0, errDecrOverflow
	case n > backends.MaxOnHand || n < -backends.MaxOnHand:
		return 0, CodeInvalid + " amount is " + strconv.FormatInt(n, 10) + "; allowed: up to " +
			strconv.FormatInt(backends.MaxOnHand, 10) + " units; give the number of units"
	}
	return sign * n, ""
}

// caller is the tag of this connection's operations.
func (c *conn) caller() string {
	if tag := c.info.Load().caller; tag != "" {
		return tag
	}
	return c.srv.cfg.Caller
}

// failed answers an error of the service.
func (c *conn) failed(err error, a asked) {
	c.srv.count.failed.Add(1)
	c.fail(replyTo(err, a))
}

// stock is what the stock keys of one command are worth: what is sellable, for those that exist.
func (c *conn) stock(keys []keyRef) (map[backends.Key]int64, bool) {
	if len(keys) > backends.MaxPage {
		c.fail(errTooManyKeys)
		return nil, false
	}
	ask := make([]backends.Key, 0, len(keys))
	worth := make(map[backends.Key]int64, len(keys))
	for _, r := range keys {
		if _, twice := worth[r.key]; !twice {
			worth[r.key] = 0
			ask = append(ask, r.key)
		}
	}
	clear(worth)
	levels, err := c.srv.svc.Levels(c.op(), ask)
	if err != nil {
		c.failed(err, reading)
		return nil, false
	}
	for _, l := range levels {
		worth[l.Key] = l.Sellable()
	}
	return worth, true
}

// one is stock for a command with one key.
func (c *conn) one(r keyRef) (value int64, exists, ok bool) {
	levels, err := c.srv.svc.Levels(c.op(), []backends.Key{r.key})
	if err != nil {
		c.failed(err, reading)
		return 0, false, false
	}
	for _, l := range levels {
		if l.Key == r.key {
			return l.Sellable(), true, true
		}
	}
	return 0, false, true
}
