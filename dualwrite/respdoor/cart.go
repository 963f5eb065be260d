package respdoor

import (
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// syntaxError is a request whose words are not where they should be.
type syntaxError struct{ text string }

func (e *syntaxError) Error() string { return "syntax: " + e.text + "; see XF.HELP" }

// words reads the arguments of an XF command one by one.
type words struct {
	rest [][]byte
	err  error // the first thing that was wrong
}

func (w *words) fail(format string, a ...any) {
	if w.err == nil {
		w.err = &syntaxError{fmt.Sprintf(format, a...)}
	}
}

func (w *words) more() bool { return w.err == nil && len(w.rest) > 0 }

// is takes the next word if it is the keyword.
func (w *words) is(lower string) bool {
	if !w.more() || !foldEq(w.rest[0], lower) {
		return false
	}
	w.rest = w.rest[1:]
	return true
}

func (w *words) next(what string) string {
	if w.err != nil {
		return ""
	}
	if len(w.rest) == 0 {
		w.fail("%s is missing at the end", what)
		return ""
	}
	s := string(w.rest[0])
	w.rest = w.rest[1:]
	return s
}

func (w *words) number(what string) int64 {
	s := w.next(what)
	if w.err != nil {
		return 0
	}
	n, ok := parseInt64([]byte(s))
	if !ok {
		w.err = &backends.FieldError{Field: what, Value: quote(s), Bound: "a whole number", Next: "write it in decimal digits"}
	}
	return n
}

// millis reads a time and keeps it in bounds in which it does not overflow; the exact bounds are
// the request's to check.
func (w *words) millis(what string) time.Duration {
	const most = int64(backends.MaxTTL/time.Millisecond) * 1000
	return time.Duration(min(max(w.number(what), -1), most)) * time.Millisecond
}

// stranger reports a word that fits nowhere.
func (w *words) stranger(wanted string) {
	w.fail("found %s where %s was expected", quote(string(w.rest[0])), wanted)
}

func quote(s string) string {
	const most = 80
	if len(s) > most {
		return fmt.Sprintf("%+q...", s[:most])
	}
	return fmt.Sprintf("%+q", s)
}

// cart is what the XF commands on holds have in common.
type cart struct {
	shop   backends.Shop
	id     backends.HoldID
	ttl    time.Duration
	wait   time.Duration
	caller string
	lines  []backends.Line
}

// options says which keywords a command takes.
type options struct {
	ttl, wait, lines bool
}

// homeOf is Router.DefaultLocation.
type homeOf func(backends.Shop) (backends.Location, bool)

// parseCart reads "shop hold [TTL ms] [WAIT ms] [CALLER tag] [LINE …]…", all that follows the
// command's name.
func parseCart(args [][]byte, o options, caller string, home homeOf) (*cart, error) {
	w := &words{rest: args}
	c := &cart{shop: backends.Shop(w.next("shop")), id: backends.HoldID(w.next("hold id")), caller: caller}
	seen := false
	for w.more() {
		switch {
		case o.ttl && w.is("ttl"):
			c.ttl, seen = w.millis("ttl"), true
		case o.wait && w.is("wait"):
			c.wait = w.millis("wait")
		case w.is("caller"):
			c.caller = w.next("caller")
		case o.lines && w.is("line"):
			c.lines = append(c.lines, w.line(len(c.lines)+1, c.shop, home))
			if len(c.lines) > backends.MaxLines {
				return nil, backends.CheckLines(c.shop, c.lines)
			}
		default:
			w.stranger(o.wanted())
		}
	}
	if o.ttl && !seen {
		w.fail("TTL is missing: how long the hold may live, in milliseconds")
	}
	if c.wait < 0 || c.wait > MaxWait {
		return nil, &backends.FieldError{Field: "wait", Value: c.wait.String(), Bound: fmt.Sprintf("0 to %s", MaxWait), Next: "wait less, and ask again with XF.CLAIM"}
	}
	return c, w.err
}

func (o options) wanted() string {
	s := ""
	if o.ttl {
		s += "TTL, "
	}
	if o.wait {
		s += "WAIT, "
	}
	if o.lines {
		s += "LINE, "
	}
	return s + "CALLER"
}

// line reads "item qty [LOC n loc…] [SPLIT]".
func (w *words) line(number int, shop backends.Shop, home homeOf) backends.Line {
	name := fmt.Sprintf("line %d", number)
	l := backends.Line{Item: backends.Item(w.next(name + " item")), Quantity: w.number(name + " quantity")}
	l.Locations = w.locations(name, shop, home)
	l.Split = w.is("split")
	return l
}

// locations reads "[LOC n loc…]", or takes the pod's own.
func (w *words) locations(name string, shop backends.Shop, home homeOf) []backends.Location {
	if w.err != nil {
		return nil
	}
	if !w.is("loc") {
		loc, ok := home(shop)
		if !ok {
			w.err = &backends.FieldError{Field: name + " locations", Value: "missing", Bound: "LOC n loc… in a pod whose stock keys name a location", Next: "name the locations that may fulfil it, best first"}
			return nil
		}
		return []backends.Location{loc}
	}
	n := w.number(name + " number of locations")
	if w.err == nil && (n < 1 || n > backends.MaxLocations) {
		w.err = &backends.FieldError{Field: name + " number of locations", Value: fmt.Sprint(n), Bound: fmt.Sprintf("1 to %d", backends.MaxLocations), Next: "name the locations that may fulfil it, best first"}
	}
	var locs []backends.Location
	for range n {
		if w.err != nil {
			return nil
		}
		locs = append(locs, backends.Location(w.next(name+" location")))
	}
	return locs
}

// parseRestock reads "shop item qty OPID id [LOC 1 loc] [MODE …] [CALLER tag]".
func parseRestock(args [][]byte, caller string, home homeOf) (*backends.RestockRequest, error) {
	w := &words{rest: args}
	r := &backends.RestockRequest{Caller: caller}
	r.Key.Shop, r.Key.Item = backends.Shop(w.next("shop")), backends.Item(w.next("item"))
	r.Amount = w.number("quantity")
	for w.more() {
		switch {
		case foldEq(w.rest[0], "loc"):
			locs := w.locations("restock", r.Key.Shop, home)
			if len(locs) > 1 {
				w.fail("a restock is of one location")
			} else if len(locs) == 1 {
				r.Key.Location = locs[0]
			}
		case w.is("opid"):
			r.OpID = backends.OpID(w.next("operation id"))
		case w.is("mode"):
			w.mode(r)
		case w.is("caller"):
			r.Caller = w.next("caller")
		default:
			w.stranger("OPID, LOC, MODE, CALLER")
		}
	}
	if w.err == nil && r.OpID == "" {
		w.fail("OPID is missing: an id of yours, so that a repeated restock counts once")
	}
	if w.err == nil && r.Key.Location == "" {
		r.Key.Location = first(w.locations("restock", r.Key.Shop, home))
	}
	if w.err != nil {
		return nil, w.err
	}
	return r, r.Check()
}

func first(ls []backends.Location) backends.Location {
	if len(ls) == 0 {
		return ""
	}
	return ls[0]
}

func (w *words) mode(r *backends.RestockRequest) {
	switch {
	case w.is("add"):
		r.Kind = backends.RestockAdd
	case w.is("onhand"):
		r.Kind = backends.RestockSetOnHand
	case w.is("sellable"):
		r.Kind = backends.RestockSetSellable
	case len(w.rest) == 0:
		w.fail("MODE is missing its word")
	default:
		w.stranger("ADD, ONHAND, SELLABLE")
	}
}

// parseStock reads "shop item [LOC n loc…]".
func parseStock(args [][]byte, home homeOf) ([]backends.Key, error) {
	w := &words{rest: args}
	shop, item := backends.Shop(w.next("shop")), backends.Item(w.next("item"))
	var keys []backends.Key
	seen := map[backends.Location]bool{}
	for _, loc := range w.locations("stock", shop, home) {
		k := backends.Key{Shop: shop, Item: item, Location: loc}
		if err := backends.CheckKey(k); err != nil && w.err == nil {
			w.err = err
		}
		if !seen[loc] {
			keys = append(keys, k)
		}
		seen[loc] = true
	}
	if w.more() {
		w.stranger("LOC, or the end,")
	}
	return keys, w.err
}
