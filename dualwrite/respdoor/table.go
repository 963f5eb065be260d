package respdoor

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

//go:embed commands.tsv
var commandRows string

// command is one row of the table: what the door needs to run it, and what COMMAND says of it.
type command struct {
	name, group string
	// arity counts the name; negative is "at least".
	arity             int
	flags             []string
	first, last, step int
	acl, tips         []string
	specs             []keySpec
	since, summary    string

	noAuth  bool // runs before AUTH
	counts  bool // may be done together with those before it
	movable bool // first, last and step do not find every key
	// run does it. For a command on keys it is runOnKeys.
	run runner
	// onStock does it when one of its keys is a stock key; nil refuses.
	onStock func(c *conn, cmd *command, args [][]byte, keys []keyRef)
	// subs, when not nil, are its subcommands; then run is for the name alone.
	subs map[string]*command
}

// runner runs a command and writes its reply.
type runner func(c *conn, cmd *command, args [][]byte)

type keySpec struct {
	flags []string
	begin string
	find  string
}

// table is every command by its lower-case name.
type table struct {
	byName map[string]*command
	names  []string // sorted
}

// maxName bounds what is looked up; no command has a longer name.
const maxName = 32

// lookup does not allocate.
func (t *table) lookup(name []byte) *command { return lookupIn(t.byName, name) }

func lookupIn(m map[string]*command, name []byte) *command {
	var b [maxName]byte
	if len(name) > len(b) {
		return nil
	}
	for i := range name {
		b[i] = toLower(name[i])
	}
	return m[string(b[:len(name)])]
}

// commandTable is built once; it panics when commands.tsv is not what the package's own test
// has checked.
var commandTable = sync.OnceValue(func() *table {
	t := &table{byName: map[string]*command{}}
	for line := range strings.Lines(commandRows) {
		if line = strings.TrimSuffix(line, "\n"); line == "" || line[0] == '#' {
			continue
		}
		cmd, err := parseRow(line)
		if err != nil {
			panic("respdoor: commands.tsv: " + err.Error())
		}
		cmd.run = runOnKeys
		t.byName[cmd.name] = cmd
	}
	for name, f := range stockCommands {
		t.byName[name].onStock = f
	}
	for _, runs := range []map[string]runner{counterCommands, containerCommands, sessionCommands, serverCommands} {
		for name, f := range runs {
			t.byName[name].run = f
		}
	}
	for name := range counterCommands {
		t.byName[name].counts = true
	}
	for name, subs := range subcommands() {
		t.byName[name].subs = subs
		t.byName[name].run = containerAlone
	}
	t.byName["command"].run = commandAlone
	for _, cmd := range holdCommands() {
		t.byName[cmd.name] = cmd
	}
	for name, cmd := range t.byName {
		cmd.summary = summaries[name]
		t.names = append(t.names, name)
	}
	slices.Sort(t.names)
	return t
})

func parseRow(line string) (*command, error) {
	col := strings.Split(line, "\t")
	const columns = 9
	if len(col) != columns {
		return nil, fmt.Errorf("%d columns in %q", len(col), line)
	}
	cmd := &command{group: col[0], name: col[1], flags: list(col[3]), acl: list(col[5]), tips: list(col[6]), since: col[8]}
	var err error
	if cmd.arity, err = strconv.Atoi(col[2]); err != nil {
		return nil, err
	}
	if _, err = fmt.Sscanf(col[4], "%d:%d:%d", &cmd.first, &cmd.last, &cmd.step); err != nil {
		return nil, err
	}
	cmd.movable = slices.Contains(cmd.flags, "movablekeys")
	cmd.noAuth = slices.Contains(cmd.flags, "no_auth")
	if col[7] != "-" {
		for _, s := range strings.Split(col[7], ";") {
			p := strings.Split(s, "|")
			if len(p) != 3 {
				return nil, fmt.Errorf("key spec %q", s)
			}
			cmd.specs = append(cmd.specs, keySpec{flags: list(p[0]), begin: p[1], find: p[2]})
		}
	}
	return cmd, nil
}

func list(s string) []string {
	if s == "-" || s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// subcommands are those of the containers that the door runs itself.
func subcommands() map[string]map[string]*command {
	out := map[string]map[string]*command{}
	for _, sub := range slices.Concat(clientCommands(), configCommands(), commandCommands()) {
		container, name, _ := strings.Cut(sub.name, "|")
		if out[container] == nil {
			out[container] = map[string]*command{}
		}
		out[container][name] = sub
	}
	return out
}

func containerAlone(c *conn, cmd *command, _ [][]byte) { c.wrongArity(cmd.name) }

func (cmd *command) arityFits(n int) bool {
	return n == cmd.arity || cmd.arity < 0 && n >= -cmd.arity
}

// keyArgs calls f with the index of every argument that is a key, or, where the row cannot tell,
// of every argument.
func (cmd *command) keyArgs(args [][]byte, f func(i int)) {
	if cmd.movable {
		for i := 1; i < len(args); i++ {
			f(i)
		}
		return
	}
	if cmd.first == 0 {
		return
	}
	last := cmd.last
	if last < 0 {
		last += len(args)
	}
	for i := cmd.first; i <= last && i < len(args); i += cmd.step {
		f(i)
	}
}
