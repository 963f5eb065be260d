package respdoor

import (
	"bytes"
	"strings"
)

// dispatch finds the command, and checks in Redis's order: known, arity, authenticated.
func (c *conn) dispatch(args [][]byte) {
	cmd := c.srv.table.lookup(args[0])
	if len(c.counts) > 0 && (cmd == nil || !cmd.counts || !cmd.arityFits(len(args))) && !c.settle() {
		return
	}
	if cmd == nil {
		c.unknown(args)
		return
	}
	if len(args) > 1 && cmd.subs != nil {
		sub := lookupIn(cmd.subs, args[1])
		if sub == nil {
			c.fail(errUnknownSubcommand + printable(args[1], 128) + "'. Try " + strings.ToUpper(cmd.name) + " HELP.")
			return
		}
		cmd = sub
	}
	if !cmd.arityFits(len(args)) {
		c.wrongArity(cmd.name)
		return
	}
	if !c.authed && !cmd.noAuth {
		c.fail(errNoAuth)
		return
	}
	cmd.run(c, cmd, args)
}

func (c *conn) wrongArity(name string) { c.fail(errArity + name + "' command") }

// unknown answers a name that is not in the table.
func (c *conn) unknown(args [][]byte) {
	name := strings.ToLower(string(args[0][:min(len(args[0]), maxName)]))
	if why, ok := refusals[name]; ok {
		if !c.authed {
			c.fail(errNoAuth)
			return
		}
		c.fail("ERR " + strings.ToUpper(name) + " is not available through this proxy: " + why)
		return
	}
	const most = 128 // Redis shortens there
	var b strings.Builder
	for _, a := range args[1:] {
		if b.Len() >= most {
			break
		}
		b.WriteString("'" + printable(a, most-b.Len()) + "' ")
	}
	c.fail(errUnknownCommand + printable(args[0], most) + "', with args beginning with: " + b.String())
}

// printable is at most n bytes of b, as C prints them; line breaks are replaced by the writer.
func printable(b []byte, n int) string {
	b = b[:min(len(b), n)]
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
