package respdoor

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// guard checks who a client says it is. It keeps and compares hashes: their lengths are equal, so
// the time that it takes says nothing about the password.
type guard struct {
	open       bool // no password is asked for
	user, pass [sha256.Size]byte
}

func newGuard(user, password string) guard {
	return guard{open: password == "", user: sha256.Sum256([]byte(user)), pass: sha256.Sum256([]byte(password))}
}

func (g *guard) admits(user, password []byte) bool {
	u, p := sha256.Sum256(user), sha256.Sum256(password)
	match := subtle.ConstantTimeCompare(u[:], g.user[:])
	if !g.open {
		match &= subtle.ConstantTimeCompare(p[:], g.pass[:])
	}
	return match == 1
}

var sessionCommands = map[string]runner{
	"auth":   auth,
	"hello":  hello,
	"quit":   quit,
	"reset":  reset,
	"ping":   ping,
	"echo":   func(c *conn, _ *command, args [][]byte) { c.bytes(args[1]) },
	"select": selectDB,
}

func auth(c *conn, _ *command, args [][]byte) {
	user, password := []byte("default"), args[1]
	switch {
	case len(args) > 3:
		c.fail(errSyntax)
		return
	case len(args) == 3:
		user, password = args[1], args[2]
	case c.srv.guard.open:
		c.fail(errNoPassword)
		return
	}
	if c.login(user, password) {
		c.ok()
	}
}

// login answers the client itself when it is refused.
func (c *conn) login(user, password []byte) bool {
	if !c.srv.guard.admits(user, password) {
		c.fail(errWrongPass)
		return false
	}
	c.authed = true
	c.change(func(i *clientInfo) { i.user = string(user) })
	return true
}

// change replaces what is known of the client, which others may be reading.
func (c *conn) change(f func(*clientInfo)) {
	i := *c.info.Load()
	f(&i)
	c.info.Store(&i)
}

func hello(c *conn, _ *command, args [][]byte) {
	var proto int64
	rest := args[1:]
	if len(rest) > 0 {
		var ok bool
		if proto, ok = parseInt64(rest[0]); !ok {
			c.fail(errProtoNumber)
			return
		}
		if proto < 2 || proto > 3 {
			c.fail(errNoProto)
			return
		}
		rest = rest[1:]
	}
	var user, password, name []byte
	named := false
	for len(rest) > 0 {
		switch {
		case foldEq(rest[0], "auth") && len(rest) > 2:
			user, password, rest = rest[1], rest[2], rest[3:]
		case foldEq(rest[0], "setname") && len(rest) > 1:
			if problem := nameProblem(rest[1]); problem != "" {
				c.fail(problem)
				return
			}
			name, named, rest = rest[1], true, rest[2:]
		default:
			c.fail(errHelloOption + printable(rest[0], MaxClientName) + "'")
			return
		}
	}
	if user != nil && !c.login(user, password) {
		return
	}
	if !c.authed {
		c.fail(errHelloNoAuth)
		return
	}
	if named {
		c.setName(name)
	}
	if proto != 0 {
		c.proto = int(proto)
	}
	c.fields(7)
	c.textField("server", "redis") // clients look for this word
	c.textField("version", c.srv.cfg.Version)
	c.integerField("proto", int64(c.proto))
	c.integerField("id", c.id)
	c.textField("mode", "standalone")
	c.textField("role", "master")
	c.text("modules")
	c.array(0)
}

// nameProblem is Redis's rule for names: printable, without blanks.
func nameProblem(name []byte) string {
	if len(name) > MaxClientName {
		return errNameTooLong
	}
	for _, b := range name {
		if b < '!' || b > '~' {
			return errClientName
		}
	}
	return ""
}

func (c *conn) setName(name []byte) {
	c.change(func(i *clientInfo) {
		i.name, i.caller = string(name), ""
		if backends.CheckCaller(i.name) == nil {
			i.caller = i.name
		}
	})
}

func quit(c *conn, _ *command, _ [][]byte) {
	c.ok()
	c.closing = true
}

func reset(c *conn, _ *command, _ [][]byte) {
	c.proto, c.mute, c.authed = 2, muteNever, c.srv.guard.open
	c.info.Store(&clientInfo{})
	c.simple("RESET")
}

func ping(c *conn, cmd *command, args [][]byte) {
	switch len(args) {
	case 1:
		c.simple("PONG")
	case 2:
		c.bytes(args[1])
	default:
		c.wrongArity(cmd.name)
	}
}

func selectDB(c *conn, _ *command, args [][]byte) {
	n, ok := parseInt64(args[1])
	switch {
	case !ok:
		c.fail(errNotInteger)
	case n > math.MaxInt32 || n < math.MinInt32:
		c.fail(errNotInt32)
	case n != 0:
		c.fail(errDBIndex)
	default:
		c.ok()
	}
}

func clientCommands() []*command {
	sub := func(name string, arity int, run func(c *conn, args [][]byte)) *command {
		return &command{name: "client|" + name, arity: arity,
			run: func(c *conn, _ *command, args [][]byte) { run(c, args) }}
	}
	return []*command{
		sub("id", 2, func(c *conn, _ [][]byte) { c.integer(c.id) }),
		sub("getname", 2, clientGetName),
		sub("setname", 3, clientSetName),
		sub("setinfo", 4, clientSetInfo),
		sub("info", 2, func(c *conn, _ [][]byte) { c.plain(c.describe(time.Now())) }),
		sub("list", -2, clientList),
		sub("reply", 3, clientReply),
		sub("no-evict", 3, clientSwitch),
		sub("no-touch", 3, clientSwitch),
		sub("getredir", 2, func(c *conn, _ [][]byte) { c.integer(-1) }),
		sub("tracking", -3, clientTracking),
		sub("help", 2, func(c *conn, _ [][]byte) { c.lines(clientHelp) }),
	}
}

var clientHelp = []string{
	"CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
	"GETNAME, GETREDIR, ID, INFO, LIST, NO-EVICT (ON|OFF), NO-TOUCH (ON|OFF), REPLY (ON|OFF|SKIP),",
	"SETINFO <LIB-NAME|LIB-VER> <value>, SETNAME <name>, TRACKING OFF, HELP",
}

func clientGetName(c *conn, _ [][]byte) {
	if name := c.info.Load().name; name != "" {
		c.text(name)
		return
	}
	c.null()
}

func clientSetName(c *conn, args [][]byte) {
	if problem := nameProblem(args[2]); problem != "" {
		c.fail(problem)
		return
	}
	c.setName(args[2])
	c.ok()
}

func clientSetInfo(c *conn, args [][]byte) {
	what := strings.ToLower(string(args[2][:min(len(args[2]), maxName)]))
	if what != "lib-name" && what != "lib-ver" {
		c.fail("ERR Unrecognized option '" + printable(args[2], 128) + "'")
		return
	}
	if problem := nameProblem(args[3]); problem == errNameTooLong {
		c.fail(problem)
		return
	} else if problem != "" {
		c.fail("ERR " + what + " cannot contain spaces, newlines or special characters.")
		return
	}
	c.change(func(i *clientInfo) {
		if what == "lib-name" {
			i.libName = string(args[3])
		} else {
			i.libVersion = string(args[3])
		}
	})
	c.ok()
}

// clientReply switches replies off. The switch itself is answered only by ON.
func clientReply(c *conn, args [][]byte) {
	switch {
	case foldEq(args[2], "on"):
		c.mute = muteNever
		c.ok()
	case foldEq(args[2], "off"):
		c.mute = muteAlways
	case foldEq(args[2], "skip"):
		if c.mute != muteAlways {
			c.mute = muteNext
		}
	default:
		c.fail(errSyntax)
	}
}

// clientSwitch accepts what has no meaning here: nothing is evicted or touched.
func clientSwitch(c *conn, args [][]byte) {
	if foldEq(args[2], "on") || foldEq(args[2], "off") {
		c.ok()
		return
	}
	c.fail(errSyntax)
}

func clientTracking(c *conn, args [][]byte) {
	if foldEq(args[2], "off") {
		c.ok()
		return
	}
	c.fail(errTracking)
}

func clientList(c *conn, args [][]byte) {
	if len(args) > 2 && !(len(args) == 4 && foldEq(args[2], "type") && foldEq(args[3], "normal")) {
		c.fail(errSyntax)
		return
	}
	c.srv.mu.Lock()
	all := make([]*conn, 0, len(c.srv.conns))
	for o := range c.srv.conns {
		all = append(all, o)
	}
	c.srv.mu.Unlock()
	now := time.Now()
	var b strings.Builder
	for _, o := range all {
		b.WriteString(o.describe(now))
	}
	c.plain(b.String())
}

// describe is the client's line in CLIENT LIST. Other connections ask it too.
func (c *conn) describe(now time.Time) string {
	i := c.info.Load()
	user := i.user
	if user == "" {
		user = "default"
	}
	idle := max(0, now.UnixMilli()-c.last.Load()) / 1000
	return fmt.Sprintf("id=%d addr=%s laddr=%s fd=0 name=%s age=%d idle=%d flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 events=r cmd=unknown user=%s lib-name=%s lib-ver=%s\n",
		c.id, c.sink.RemoteAddr(), c.sink.LocalAddr(), i.name, int64(now.Sub(c.began)/time.Second), idle, user, i.libName, i.libVersion)
}
