package respdoor

import (
	"context"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// holdCommands are the door's own. Their acl categories and key fields are those of commands
// without keys: the identifiers in them are no Redis keys.
func holdCommands() []*command {
	const group, since = "crossfade", "7.2.0"
	write, read := []string{"write", "denyoom"}, []string{"readonly", "fast"}
	row := func(name string, arity int, flags []string, run func(c *conn, args [][]byte)) *command {
		return &command{name: name, group: group, since: since, arity: arity, flags: flags,
			run: func(c *conn, _ *command, args [][]byte) { run(c, args[1:]) }}
	}
	return []*command{
		row("xf.reserve", -8, write, (*conn).reserve),
		row("xf.claim", -3, write, (*conn).claim),
		row("xf.release", -3, write, (*conn).release),
		row("xf.extend", -5, write, (*conn).extend),
		row("xf.get", 3, read, (*conn).getHold),
		row("xf.stock", -3, read, (*conn).stockLevels),
		row("xf.restock", -6, write, (*conn).restock),
		row("xf.help", 1, read, func(c *conn, _ [][]byte) { c.lines(helpText) }),
	}
}

var helpText = []string{
	"XF.RESERVE <shop> <hold> TTL <ms> [CALLER <tag>] LINE <item> <qty> [LOC <n> <location> ...] [SPLIT] [LINE ...]",
	"    Reserve a whole cart or nothing. The hold id is yours: sent again, it gives the same answer and takes nothing.",
	"XF.CLAIM <shop> <hold> [WAIT <ms>] [CALLER <tag>] [LINE ...]",
	"    Payment succeeded. WAIT for the ledger; LINEs are what was sold, for a hold that is not known any more.",
	"XF.RELEASE <shop> <hold> [CALLER <tag>]",
	"    Give the units back.",
	"XF.EXTEND <shop> <hold> TTL <ms> [CALLER <tag>]",
	"    Let the hold live for so long from now.",
	"XF.GET <shop> <hold>",
	"    The hold as it is, or null.",
	"XF.STOCK <shop> <item> [LOC <n> <location> ...]",
	"    What is on hand, sellable and held.",
	"XF.RESTOCK <shop> <item> <qty> OPID <id> [LOC 1 <location>] [MODE ADD|ONHAND|SELLABLE] [CALLER <tag>]",
	"    Change the units on hand, once per operation id.",
	"Errors: XFINVALID, XFNOSTOCK, XFCONFLICT (mend the request); XFBUSY, XFUNAVAILABLE (nothing was changed, try again);",
	"    XFUNKNOWN (it may have taken effect: send it again under the same id).",
}

func (c *conn) reserve(args [][]byte) {
	p, err := parseCart(args, options{ttl: true, lines: true}, c.caller(), c.srv.router.DefaultLocation)
	if err != nil {
		c.failed(err, byID)
		return
	}
	r := &backends.ReserveRequest{ID: p.id, Shop: p.shop, Lines: p.lines, TTL: p.ttl, Caller: p.caller}
	if err := r.Check(); err != nil {
		c.failed(err, byID)
		return
	}
	d, err := c.srv.svc.Reserve(c.op(), r)
	c.decision(p.id, d, err)
}

func (c *conn) claim(args [][]byte) {
	p, err := parseCart(args, options{wait: true, lines: true}, c.caller(), c.srv.router.DefaultLocation)
	if err == nil && len(p.lines) > 0 {
		err = backends.CheckLines(p.shop, p.lines)
	}
	if err == nil {
		err = p.check()
	}
	if err != nil {
		c.failed(err, byID)
		return
	}
	ctx := c.op()
	if p.wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(c.srv.base, c.srv.cfg.RequestTimeout+p.wait)
		defer cancel()
	}
	d, err := c.srv.svc.Claim(ctx, &backends.ClaimRequest{ID: p.id, Shop: p.shop, Lines: p.lines, Caller: p.caller}, p.wait)
	c.decision(p.id, d, err)
}

func (c *conn) release(args [][]byte) {
	p, err := parseCart(args, options{}, c.caller(), c.srv.router.DefaultLocation)
	if err == nil {
		err = p.check()
	}
	if err != nil {
		c.failed(err, byID)
		return
	}
	d, err := c.srv.svc.Release(c.op(), p.shop, &backends.ReleaseRequest{ID: p.id, Caller: p.caller})
	c.decision(p.id, d, err)
}

func (c *conn) extend(args [][]byte) {
	p, err := parseCart(args, options{ttl: true}, c.caller(), c.srv.router.DefaultLocation)
	if err == nil {
		err = p.check()
	}
	if err == nil {
		err = backends.CheckTTL(p.ttl)
	}
	if err != nil {
		c.failed(err, byID)
		return
	}
	d, err := c.srv.svc.Extend(c.op(), p.shop, &backends.ExtendRequest{ID: p.id, TTL: p.ttl, Caller: p.caller})
	c.decision(p.id, d, err)
}

// check is for requests that have no Check of their own.
func (p *cart) check() error {
	if err := backends.CheckID("shop", string(p.shop)); err != nil {
		return err
	}
	if err := backends.CheckID("hold id", string(p.id)); err != nil {
		return err
	}
	return backends.CheckCaller(p.caller)
}

func (c *conn) getHold(args [][]byte) {
	p := &cart{shop: backends.Shop(args[0]), id: backends.HoldID(args[1])}
	if err := p.check(); err != nil {
		c.failed(err, reading)
		return
	}
	h, err := c.srv.svc.Get(c.op(), p.shop, p.id)
	switch {
	case err != nil:
		c.failed(err, reading)
	case h == nil:
		c.null()
	default:
		c.hold(h, c.left(h))
	}
}

func (c *conn) stockLevels(args [][]byte) {
	keys, err := parseStock(args, c.srv.router.DefaultLocation)
	if err != nil {
		c.failed(err, reading)
		return
	}
	levels, err := c.srv.svc.Levels(c.op(), keys)
	if err != nil {
		c.failed(err, reading)
		return
	}
	byKey := make(map[backends.Key]backends.Level, len(levels))
	for _, l := range levels {
		byKey[l.Key] = l
	}
	known := keys[:0]
	for _, k := range keys {
		if _, ok := byKey[k]; ok {
			known = append(known, k)
		}
	}
	c.array(len(known))
	for _, k := range known {
		c.level(byKey[k])
	}
}

func (c *conn) restock(args [][]byte) {
	r, err := parseRestock(args, c.caller(), c.srv.router.DefaultLocation)
	if err != nil {
		c.failed(err, byID)
		return
	}
	d, err := c.srv.svc.Restock(c.op(), r)
	switch {
	case err != nil:
		c.failed(err, byID)
	case d == nil || d.Outcome == backends.OutcomeUnknown:
		c.failed(backends.ErrAmbiguous, byID)
	default:
		c.fields(2)
		c.textField("status", status(d.Outcome))
		c.integerField("replayed", flag(d.Replayed))
	}
}

// left is how long an open hold still has, in milliseconds by the truth's clock; nil when it is
// not open, or that clock cannot be read now.
func (c *conn) left(h *backends.Hold) *int64 {
	if h == nil || !h.State.Open() {
		return nil
	}
	now, err := c.srv.svc.Now(c.op(), h.Shop)
	if err != nil {
		return nil
	}
	return millis(h.ExpiresAt.Sub(now))
}

func millis(d time.Duration) *int64 {
	ms := max(0, d.Milliseconds())
	return &ms
}
