package mysqlstore

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"
)

//go:embed sql/*.sql
var sqlFiles embed.FS

// statements are the texts of sql/*.sql by their names.
var statements = mustParse(sqlFiles)

// statement is a text with at most one part that repeats, written [[part|separator]].
type statement struct{ head, part, sep, tail string }

// named gives a statement of sql/*.sql. It is for package variables: an unknown name stops the
// program when it starts.
func named(name string) statement {
	text, ok := statements[name]
	if !ok {
		panic("mysqlstore: no statement is called " + name) //nolint:forbidigo // when the program starts
	}
	return parseStatement(text)
}

func parseStatement(text string) statement {
	head, rest, repeats := strings.Cut(text, "[[")
	if !repeats {
		return statement{head: text}
	}
	part, tail, _ := strings.Cut(rest, "]]")
	i := strings.LastIndexByte(part, '|')
	return statement{head: head, part: part[:i], sep: part[i+1:], tail: tail}
}

// one is the text with its part once.
func (s statement) one() string { return s.times(1) }

// times is the text with its part n times; n is at least 1.
func (s statement) times(n int) string {
	if s.part == "" {
		return s.head
	}
	return s.head + strings.Repeat(s.part+s.sep, n-1) + s.part + s.tail
}

// mustParse reads "-- name: x" blocks. Other comment lines are for the reader and are not sent.
func mustParse(files fs.FS) map[string]string {
	out := map[string]string{}
	paths, err := fs.Glob(files, "sql/*.sql")
	if err != nil {
		panic(err) //nolint:forbidigo // when the program starts
	}
	for _, path := range paths {
		text, err := fs.ReadFile(files, path)
		if err != nil {
			panic(err) //nolint:forbidigo // when the program starts
		}
		name := ""
		var lines []string
		done := func() {
			if name != "" {
				out[name] = strings.TrimSuffix(strings.Join(lines, " "), ";")
			}
			lines = nil
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			switch n, isName := strings.CutPrefix(line, "-- name: "); {
			case isName:
				done()
				if name = n; out[n] != "" {
					panic(fmt.Sprintf("mysqlstore: two statements are called %s", n)) //nolint:forbidigo // when the program starts
				}
			case line == "" || strings.HasPrefix(line, "--"):
			default:
				lines = append(lines, line)
			}
		}
		done()
	}
	return out
}

// ledgerTexts are the statements that touch the ledger, with its names filled in.
type ledgerTexts struct {
	create, makeRow, lock, add, page string
	view                             statement
	withPod                          bool
}

func newLedgerTexts(l Ledger) ledgerTexts {
	quote := func(n string) string {
		return "`" + strings.ReplaceAll(n, ".", "`.`") + "`"
	}
	cols := []string{l.Shop, l.Item, l.Location}
	ours := []string{"shop", "item", "location"}
	if l.Pod != "" {
		cols, ours = append([]string{l.Pod}, cols...), append([]string{"pod"}, ours...)
	}
	var key, joined, columns []string
	for i, c := range cols {
		key = append(key, quote(c)+" = ?")
		joined = append(joined, "g."+quote(c)+" = l."+ours[i])
		columns = append(columns, quote(c))
	}
	r := strings.NewReplacer(
		"{ledger}", quote(l.Table), "{on_hand}", quote(l.OnHand), "{pod}", quote(l.Pod), "{shop}", quote(l.Shop),
		"{item}", quote(l.Item), "{location}", quote(l.Location), "{key}", strings.Join(key, " AND "),
		"{joined}", strings.Join(joined, " AND "), "{columns}", strings.Join(columns, ", "),
		"{marks}", strings.Repeat("?, ", len(cols)-1)+"?",
	)
	fill := func(name string) string { return r.Replace(named(name).head) }
	return ledgerTexts{
		create: fill("ledger_create"), makeRow: fill("ledger_make"), lock: fill("ledger_lock"), add: fill("ledger_add"),
		page: fill("level_page"), view: parseStatement(r.Replace(statements["level_view"])), withPod: l.Pod != "",
	}
}
