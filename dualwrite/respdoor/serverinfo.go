package respdoor

import (
	"fmt"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"time"
)

var serverCommands = map[string]runner{
	"info":    info,
	"time":    serverTime,
	"role":    role,
	"exec":    func(c *conn, _ *command, _ [][]byte) { c.fail(errExecAlone) },
	"discard": func(c *conn, _ *command, _ [][]byte) { c.fail(errDiscardAlone) },
	"unwatch": func(c *conn, _ *command, _ [][]byte) { c.ok() },
}

func serverTime(c *conn, _ *command, _ [][]byte) {
	now := time.Now()
	c.array(2)
	c.text(strconv.FormatInt(now.Unix(), 10))
	c.text(strconv.Itoa(now.Nanosecond() / int(time.Microsecond)))
}

func role(c *conn, _ *command, _ [][]byte) {
	c.array(3)
	c.text("master")
	c.integer(0)
	c.array(0)
}

// info answers the sections that were asked for; all of them when none was, or "all",
// "everything" or "default".
func info(c *conn, _ *command, args [][]byte) {
	all := len(args) == 1
	want := map[string]bool{}
	for _, a := range args[1:] {
		name := strings.ToLower(string(a[:min(len(a), maxName)]))
		all = all || name == "all" || name == "everything" || name == "default"
		want[name] = true
	}
	var b strings.Builder
	for _, s := range c.srv.infoSections() {
		if !all && !want[strings.ToLower(s.name)] {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString("# " + s.name + "\r\n")
		for _, f := range s.fields {
			b.WriteString(f.Name + ":" + f.Value + "\r\n")
		}
	}
	c.plain(b.String())
}

type infoSection struct {
	name   string
	fields []InfoField
}

func (s *Server) infoSections() []infoSection {
	n := func(v int64) string { return strconv.FormatInt(v, 10) }
	st := s.Stats()
	up := int64(time.Since(s.began) / time.Second)
	var own []InfoField
	if s.cfg.Info != nil {
		own = s.cfg.Info.CrossfadeInfo()
	}
	return []infoSection{
		{"Server", []InfoField{
			{"redis_version", s.cfg.Version}, {"redis_mode", "standalone"}, {"os", runtime.GOOS + " " + runtime.GOARCH},
			{"arch_bits", strconv.Itoa(strconv.IntSize)}, {"process_id", strconv.Itoa(os.Getpid())},
			{"uptime_in_seconds", n(up)}, {"server_name", "crossfade"},
		}},
		{"Clients", []InfoField{
			{"connected_clients", n(st.Connections)}, {"maxclients", strconv.Itoa(s.cfg.MaxConns)}, {"blocked_clients", "0"},
		}},
		{"Memory", []InfoField{{"used_buffers", n(st.BufferBytes)}, {"maxmemory", "0"}, {"maxmemory_policy", "noeviction"}}},
		{"Persistence", []InfoField{{"loading", "0"}, {"rdb_bgsave_in_progress", "0"}, {"aof_enabled", "0"}}},
		{"Stats", []InfoField{
			{"total_connections_received", n(st.Accepted + st.Refused)}, {"rejected_connections", n(st.Refused)},
			{"total_commands_processed", n(st.Commands)}, {"protocol_errors", n(st.Malformed)}, {"xf_errors", n(st.Failed)},
		}},
		{"Replication", []InfoField{{"role", "master"}, {"connected_slaves", "0"}}},
		{"Cluster", []InfoField{{"cluster_enabled", "0"}}},
		{"Crossfade", own},
	}
}

func configCommands() []*command {
	return []*command{
		{name: "config|get", arity: -3, run: configGet},
		{name: "config|set", arity: -4, run: configRefused},
		{name: "config|rewrite", arity: 2, run: configRefused},
		{name: "config|resetstat", arity: 2, run: configRefused},
	}
}

func configRefused(c *conn, _ *command, _ [][]byte) { c.fail(errConfigRefused) }

// configGet answers the settings that clients ask for, in Redis's words.
func configGet(c *conn, _ *command, args [][]byte) {
	settings := []InfoField{
		{"appendonly", "no"}, {"databases", "1"}, {"maxclients", strconv.Itoa(c.srv.cfg.MaxConns)}, {"maxmemory", "0"},
		{"maxmemory-policy", "noeviction"}, {"proto-max-bulk-len", strconv.Itoa(c.srv.cfg.MaxBulk)}, {"save", ""},
		{"timeout", strconv.Itoa(int(c.srv.cfg.IdleTimeout / time.Second))},
	}
	var hits []InfoField
	for _, s := range settings {
		for _, pattern := range args[2:] {
			if len(pattern) > MaxClientName {
				continue // longer than any setting
			}
			if strings.EqualFold(string(pattern), s.Name) {
				hits = append(hits, InfoField{string(pattern), s.Value}) // a name comes back as it was asked
				break
			}
			if ok, err := path.Match(strings.ToLower(string(pattern)), s.Name); ok && err == nil {
				hits = append(hits, s)
				break
			}
		}
	}
	c.fields(len(hits))
	for _, s := range hits {
		c.textField(s.Name, s.Value)
	}
}

func commandCommands() []*command {
	return []*command{
		{name: "command|count", arity: 2, run: func(c *conn, _ *command, _ [][]byte) { c.integer(int64(len(c.srv.table.names))) }},
		{name: "command|info", arity: -2, run: commandInfo},
		{name: "command|docs", arity: -2, run: commandDocs},
		{name: "command|list", arity: -2, run: commandList},
		{name: "command|getkeys", arity: -4, run: commandGetKeys},
	}
}

func commandAlone(c *conn, _ *command, _ [][]byte) {
	c.array(len(c.srv.table.names))
	for _, name := range c.srv.table.names {
		c.commandInfo(c.srv.table.byName[name])
	}
}

func commandInfo(c *conn, _ *command, args [][]byte) {
	if len(args) == 2 {
		commandAlone(c, nil, args)
		return
	}
	c.array(len(args) - 2)
	for _, a := range args[2:] {
		if cmd := c.srv.table.lookup(a); cmd != nil {
			c.commandInfo(cmd)
		} else {
			c.null()
		}
	}
}

func commandList(c *conn, _ *command, args [][]byte) {
	if len(args) > 2 {
		c.fail(errSyntax)
		return
	}
	c.array(len(c.srv.table.names))
	for _, name := range c.srv.table.names {
		c.text(name)
	}
}

func commandDocs(c *conn, _ *command, args [][]byte) {
	names := c.srv.table.names
	if len(args) > 2 {
		names = nil
		for _, a := range args[2:] {
			if cmd := c.srv.table.lookup(a); cmd != nil {
				names = append(names, cmd.name)
			}
		}
	}
	c.fields(len(names))
	for _, name := range names {
		cmd := c.srv.table.byName[name]
		c.text(name)
		c.fields(3)
		c.textField("summary", cmd.summary)
		c.textField("since", cmd.since)
		c.textField("group", cmd.group)
	}
}

func commandGetKeys(c *conn, _ *command, args [][]byte) {
	cmd := c.srv.table.lookup(args[2])
	switch {
	case cmd == nil:
		c.fail("ERR Invalid command specified")
	case !cmd.arityFits(len(args) - 2):
		c.fail("ERR Invalid number of arguments specified for command")
	case cmd.first == 0 || cmd.movable:
		c.fail("ERR The command has no key arguments")
	default:
		var keys [][]byte
		cmd.keyArgs(args[2:], func(i int) { keys = append(keys, args[2+i]) })
		c.array(len(keys))
		for _, k := range keys {
			c.bytes(k)
		}
	}
}

// commandInfo is the command's row, as COMMAND and COMMAND INFO of Redis 7 have it.
func (c *conn) commandInfo(cmd *command) {
	const parts = 10
	c.array(parts)
	c.text(cmd.name)
	c.integer(int64(cmd.arity))
	c.words(cmd.flags, "")
	c.integer(int64(cmd.first))
	c.integer(int64(cmd.last))
	c.integer(int64(cmd.step))
	c.words(cmd.acl, "@")
	c.set(len(cmd.tips))
	for _, t := range cmd.tips {
		c.text(t)
	}
	c.set(len(cmd.specs))
	for _, s := range cmd.specs {
		c.keySpec(s)
	}
	c.set(0) // subcommands
}

func (c *conn) words(ws []string, prefix string) {
	c.set(len(ws))
	for _, w := range ws {
		c.simple(prefix + w)
	}
}

func (c *conn) keySpec(s keySpec) {
	c.fields(3)
	c.text("flags")
	c.words(s.flags, "")
	c.text("begin_search")
	c.fields(2)
	switch s.begin[0] {
	case 'i':
		c.specParts("index", []string{"index"}, s.begin[1:])
	case 'k':
		word, from, _ := strings.Cut(s.begin[1:], "@")
		c.textField("type", "keyword")
		c.text("spec")
		c.fields(2)
		c.textField("keyword", word)
		c.integerField("startfrom", atoi(from))
	default:
		c.specParts("unknown", nil, "")
	}
	c.text("find_keys")
	c.fields(2)
	switch s.find[0] {
	case 'r':
		c.specParts("range", []string{"lastkey", "keystep", "limit"}, s.find[1:])
	case 'n':
		c.specParts("keynum", []string{"keynumidx", "firstkey", "keystep"}, s.find[1:])
	default:
		c.specParts("unknown", nil, "")
	}
}

func (c *conn) specParts(kind string, names []string, values string) {
	c.textField("type", kind)
	c.text("spec")
	c.fields(len(names))
	for i, v := range strings.Split(values, ":") {
		if i < len(names) {
			c.integerField(names[i], atoi(v))
		}
	}
}

// atoi reads a number of commands.tsv, which the package's test has read before.
func atoi(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic(fmt.Sprintf("respdoor: commands.tsv: %v", err))
	}
	return n
}
