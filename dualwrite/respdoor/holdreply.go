package respdoor

import (
	"github.com/crossfade-proxy/crossfade/backends"
)

// status is the word of an outcome in replies.
func status(o backends.Outcome) string {
	switch o {
	case backends.OutcomeSoldOut:
		return "sold_out"
	case backends.OutcomeNotFound:
		return "not_found"
	default:
		return o.String() // one word each
	}
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// decision answers a hold command: always the same fields, those without meaning empty or null.
func (c *conn) decision(id backends.HoldID, d *backends.Decision, err error) {
	if err == nil && (d == nil || d.Outcome == backends.OutcomeUnknown) {
		err = backends.ErrAmbiguous
	}
	if err != nil {
		c.failed(err, byID)
		return
	}
	left := c.decided(d)
	const fields = 9
	c.fields(fields)
	c.textField("status", status(d.Outcome))
	c.textField("hold", string(id))
	c.text("state")
	if d.Hold == nil {
		c.null()
	} else {
		c.text(d.Hold.State.String())
	}
	c.integerField("replayed", flag(d.Replayed))
	c.optionalField("expires_in_ms", left)
	c.allocations(d.Hold)
	c.shortages(d.Short)
	c.text("ledger")
	switch {
	case d.Outcome != backends.OutcomeClaimed:
		c.null()
	case d.LedgerPending:
		c.text("pending")
	default:
		c.text("deducted")
	}
	c.apologies(d.Apologies)
}

// decided is how long the hold has. Where this very decision set the expiry, it is the TTL, and
// nobody's clock has to be read.
func (c *conn) decided(d *backends.Decision) *int64 {
	if d.Outcome == backends.OutcomeGranted && !d.Replayed && d.Hold != nil && d.Hold.State.Open() {
		return millis(d.Hold.ExpiresAt.Sub(d.Hold.CreatedAt))
	}
	return c.left(d.Hold)
}

func (c *conn) allocations(h *backends.Hold) {
	c.text("allocations")
	if h == nil {
		c.array(0)
		return
	}
	c.array(len(h.Allocs))
	for _, a := range h.Allocs {
		item := backends.Item("")
		if a.Line >= 0 && a.Line < len(h.Lines) {
			item = h.Lines[a.Line].Item
		}
		c.fields(4)
		c.integerField("line", int64(a.Line)+1)
		c.textField("item", string(item))
		c.textField("location", string(a.Location))
		c.integerField("qty", a.Quantity)
	}
}

func (c *conn) shortages(short []backends.Shortage) {
	c.text("short")
	c.array(len(short))
	for _, s := range short {
		c.fields(4)
		c.integerField("line", int64(s.Line)+1)
		c.textField("item", string(s.Item))
		c.integerField("wanted", s.Wanted)
		c.integerField("available", s.Available)
	}
}

func (c *conn) apologies(as []backends.Apology) {
	c.text("apologies")
	c.array(len(as))
	for _, a := range as {
		c.fields(4)
		c.textField("item", string(a.Key.Item))
		c.textField("location", string(a.Key.Location))
		c.integerField("qty", a.Quantity)
		c.textField("reason", shorten(a.Reason))
	}
}

func (c *conn) hold(h *backends.Hold, left *int64) {
	const fields = 8
	c.fields(fields)
	c.textField("hold", string(h.ID))
	c.textField("shop", string(h.Shop))
	c.textField("state", h.State.String())
	c.textField("version", h.Version.String())
	c.textField("caller", h.Caller)
	c.optionalField("expires_in_ms", left)
	c.text("lines")
	c.array(len(h.Lines))
	for _, l := range h.Lines {
		c.fields(4)
		c.textField("item", string(l.Item))
		c.integerField("qty", l.Quantity)
		c.text("locations")
		c.array(len(l.Locations))
		for _, loc := range l.Locations {
			c.text(string(loc))
		}
		c.integerField("split", flag(l.Split))
	}
	c.allocations(h)
}

func (c *conn) level(l backends.Level) {
	const fields = 7
	c.fields(fields)
	c.textField("item", string(l.Key.Item))
	c.textField("location", string(l.Key.Location))
	c.integerField("on_hand", l.OnHand)
	c.integerField("sellable", l.Sellable())
	c.integerField("held", l.Held)
	c.integerField("taken", l.Taken)
	c.integerField("debt", l.Debt())
}
