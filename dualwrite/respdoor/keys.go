package respdoor

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/redcon"

	"github.com/crossfade-proxy/crossfade/backends"
)

// keyRef is a stock key among the arguments of a command.
type keyRef struct {
	arg int // its index
	pod backends.Pod
	key backends.Key
}

// stockCommands are what stock keys take besides the counters. The set may be mixed with other
// keys where the command has several.
var stockCommands = map[string]func(c *conn, cmd *command, args [][]byte, keys []keyRef){
	"get":         stockGet,
	"mget":        stockMGet,
	"exists":      stockExists,
	"touch":       stockExists,
	"type":        stockType,
	"strlen":      stockStrlen,
	"ttl":         stockTTL,
	"pttl":        stockTTL,
	"expiretime":  stockTTL,
	"pexpiretime": stockTTL,
	"set":         stockSet,
}

// runOnKeys sends a command where its keys belong.
func runOnKeys(c *conn, cmd *command, args [][]byte) {
	var keys []keyRef
	cmd.keyArgs(args, func(i int) {
		if pod, k, ok := c.srv.router.ParseKey(string(args[i])); ok {
			keys = append(keys, keyRef{i, pod, k})
		}
	})
	switch {
	case len(keys) == 0:
		c.passCommand(cmd, args)
	case cmd.onStock == nil:
		c.refuseOnStock(cmd, args[keys[0].arg])
	default:
		cmd.onStock(c, cmd, args, keys)
	}
}

// refuseOnStock names what to use instead.
func (c *conn) refuseOnStock(cmd *command, key []byte) {
	way := "stock keys take DECR, DECRBY, INCR, INCRBY, GET and MGET; holds are made with XF.RESERVE"
	switch cmd.name {
	case "mset", "msetnx", "setnx", "setex", "psetex", "getset", "setrange", "append", "restore", "incrbyfloat", "setbit", "bitfield":
		way = "change stock with DECRBY and INCRBY, or with XF.RESTOCK"
	case "del", "unlink", "getdel", "rename", "renamenx", "copy":
		way = "a stock key stays; XF.RESTOCK <shop> <item> 0 OPID <id> MODE ONHAND empties it"
	case "expire", "pexpire", "expireat", "pexpireat", "getex", "persist":
		way = "stock does not expire; a hold does: XF.RESERVE … TTL ms"
	}
	c.fail("ERR " + strings.ToUpper(cmd.name) + " is refused on stock key '" + printable(key, 128) + "': " + way)
}

func stockGet(c *conn, _ *command, _ [][]byte, keys []keyRef) {
	switch v, exists, ok := c.one(keys[0]); {
	case !ok:
	case exists:
		c.number(v)
	default:
		c.null()
	}
}

func stockMGet(c *conn, _ *command, args [][]byte, keys []keyRef) {
	worth, ok := c.stock(keys)
	if !ok {
		return
	}
	others, ok := c.others(args, keys)
	if !ok {
		return
	}
	c.array(len(args) - 1)
	for i := 1; i < len(args); i++ {
		if len(keys) == 0 || keys[0].arg != i {
			c.element(others[0])
			others = others[1:]
			continue
		}
		if v, exists := worth[keys[0].key]; exists {
			c.number(v)
		} else {
			c.null()
		}
		keys = keys[1:]
	}
}

// others asks Redis for the values of the keys that are no stock keys, and answers one element for
// each.
func (c *conn) others(args [][]byte, keys []keyRef) ([]redcon.RESP, bool) {
	rest := without(args, keys)
	if len(rest) == 1 {
		return nil, true
	}
	reply, ok := c.ask(rest, rest[1:])
	if !ok {
		return nil, false
	}
	var got []redcon.RESP
	if n, r := redcon.ReadNextRESP(reply); n == len(reply) && r.Type == redcon.Array {
		r.ForEach(func(e redcon.RESP) bool { got = append(got, e); return true })
	}
	if len(got) == len(rest)-1 {
		return got, true
	}
	if len(reply) > 0 && reply[0] == '-' {
		c.raw(reply)
	} else {
		c.failed(errOddReply, reading)
	}
	return nil, false
}

var errOddReply = errors.New("redis gave a reply that does not fit the command")

// without is the command less its stock keys.
func without(args [][]byte, keys []keyRef) [][]byte {
	rest := make([][]byte, 0, len(args)-len(keys))
	for i, a := range args {
		if len(keys) > 0 && keys[0].arg == i {
			keys = keys[1:]
			continue
		}
		rest = append(rest, a)
	}
	return rest
}

func (c *conn) element(e redcon.RESP) {
	if e.Data == nil && e.Type == redcon.Bulk {
		c.null()
		return
	}
	c.raw(e.Raw)
}

// stockExists counts, each key as often as it is named.
func stockExists(c *conn, _ *command, args [][]byte, keys []keyRef) {
	worth, ok := c.stock(keys)
	if !ok {
		return
	}
	var n int64
	for _, k := range keys {
		if _, exists := worth[k.key]; exists {
			n++
		}
	}
	if rest := without(args, keys); len(rest) > 1 {
		reply, ok := c.ask(rest, rest[1:])
		if !ok {
			return
		}
		size, r := redcon.ReadNextRESP(reply)
		if size != len(reply) || r.Type != redcon.Integer {
			c.raw(reply) // an error of Redis
			return
		}
		n += r.Int()
	}
	c.integer(n)
}

func stockType(c *conn, _ *command, _ [][]byte, keys []keyRef) {
	switch _, exists, ok := c.one(keys[0]); {
	case !ok:
	case exists:
		c.simple("string")
	default:
		c.simple("none")
	}
}

func stockStrlen(c *conn, _ *command, _ [][]byte, keys []keyRef) {
	switch v, exists, ok := c.one(keys[0]); {
	case !ok:
	case exists:
		c.integer(int64(len(strconv.FormatInt(v, 10))))
	default:
		c.integer(0)
	}
}

// stockTTL: a stock key never expires.
func stockTTL(c *conn, _ *command, _ [][]byte, keys []keyRef) {
	const forever, none = -1, -2
	switch _, exists, ok := c.one(keys[0]); {
	case !ok:
	case exists:
		c.integer(forever)
	default:
		c.integer(none)
	}
}

// stockSet is an absolute restock, where the pod is configured so.
func stockSet(c *conn, cmd *command, args [][]byte, keys []keyRef) {
	k := keys[0]
	if !c.srv.cfg.SetRestocks(k.pod) {
		c.fail("ERR SET is refused on stock key '" + printable(args[1], 128) +
			"': change stock with DECRBY and INCRBY, or with XF.RESTOCK; or configure the pod so that SET is an absolute restock")
		return
	}
	if len(args) > 3 {
		c.fail("ERR SET on a stock key takes no options here: it is an absolute restock")
		return
	}
	n, ok := parseInt64(args[2])
	if !ok {
		c.fail(errNotInteger)
		return
	}
	r := &backends.RestockRequest{OpID: c.srv.ops.next(time.Now()), Key: k.key, Kind: backends.RestockSetSellable, Amount: n, Caller: c.caller()}
	err := r.Check()
	if err == nil {
		_, err = c.srv.svc.Restock(c.op(), r)
	}
	if err != nil {
		c.failed(err, byCommand)
		return
	}
	c.ok()
}

// containerCommands have their key behind a subcommand.
var containerCommands = map[string]runner{"object": runContainer, "xgroup": runContainer, "xinfo": runContainer}

func runContainer(c *conn, cmd *command, args [][]byte) {
	const keyAt = 2
	if len(args) <= keyAt {
		c.pass(args)
		return
	}
	if _, _, ok := c.srv.router.ParseKey(string(args[keyAt])); ok {
		c.refuseOnStock(cmd, args[keyAt])
		return
	}
	c.pass(args, args[keyAt])
}

// passCommand passes on what has no stock key.
func (c *conn) passCommand(cmd *command, args [][]byte) {
	if cmd.name == "xread" || cmd.name == "xreadgroup" {
		for _, a := range args[1:] {
			if foldEq(a, "block") {
				c.fail(errBlocking)
				return
			}
			if foldEq(a, "streams") {
				break
			}
		}
	}
	var keys [][]byte
	cmd.keyArgs(args, func(i int) { keys = append(keys, args[i]) })
	c.pass(args, keys...)
}

// pass sends a command to Redis and its answer to the client.
func (c *conn) pass(args [][]byte, keys ...[]byte) {
	reply, ok := c.ask(args, keys)
	if !ok {
		return
	}
	if c.proto == 3 && (string(reply) == "$-1\r\n" || string(reply) == "*-1\r\n") {
		c.null()
		return
	}
	c.raw(reply)
}

// ask sends a command to Redis. When it answers false, the client has its error.
func (c *conn) ask(args, keys [][]byte) ([]byte, bool) {
	for _, k := range keys {
		for _, prefix := range c.srv.cfg.Reserved {
			if bytes.HasPrefix(k, []byte(prefix)) {
				c.fail(errReservedKey + "'" + printable(k, 128) + "'")
				return nil, false
			}
		}
	}
	if c.srv.cfg.Passthrough == nil {
		if len(keys) > 0 {
			c.fail(errOtherKey + "'" + printable(keys[0], 128) + "'")
		} else {
			c.fail(errKeyless + strings.ToUpper(printable(args[0], 128)))
		}
		return nil, false
	}
	reply, err := c.srv.cfg.Passthrough.Do(c.op(), args)
	switch {
	case err != nil:
		c.failed(err, byCommand)
	case len(reply) > MaxPassthroughReply:
		c.fail(errReplyTooLong)
	case len(reply) < 4:
		c.failed(errOddReply, byCommand)
	default:
		return reply, true
	}
	return nil, false
}
