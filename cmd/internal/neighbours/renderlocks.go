package neighbours

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
)

// modeText says InnoDB's name of a lock in words.
func modeText(kind, mode string) string {
	mode, table := strings.CutSuffix(mode, " (table)")
	parts := strings.Split(mode, ",")
	words := map[string]string{"X": "exclusive", "S": "shared", "REC_NOT_GAP": "row", "GAP": "gap", "INSERT_INTENTION": "insert", "AUTO_INC": "auto-increment", "SUPREMUM": "end"}
	var out []string
	for _, w := range parts {
		if words[w] == "" {
			return mode
		}
		out = append(out, words[w])
	}
	switch {
	case table:
		out = append(out, "table")
	case len(parts) == 1 && kind == "MySQL":
		out = append(out, "row and gap")
	case len(parts) == 1:
		out = append(out, "row")
	}
	return strings.Join(out, " ")
}

func where(table, index string) string {
	if index == "" || index == "PRIMARY" {
		return table
	}
	return table + " (" + index + ")"
}

func session(s mysqlstore.Source) string {
	if s.Session == 0 {
		return "-"
	}
	return fmt.Sprint(s.Session)
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// waited is a wait, which the servers tell in whole seconds.
func waited(millis int64) string {
	if millis < 1000 {
		return "<1 s"
	}
	return span(millis)
}

// short cuts a text so that the table keeps its shape.
func short(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

// rowKey makes the key of a row readable: InnoDB prints bytes in hexadecimal.
func rowKey(data string) string {
	parts := strings.Split(data, ", ")
	for i, part := range parts {
		part = strings.Trim(part, "'")
		if b, err := hex.DecodeString(strings.TrimPrefix(part, "0x")); err == nil && strings.HasPrefix(part, "0x") {
			text := string(b)
			if text != "" && !strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsPrint(r) }) {
				part = text
			}
		}
		parts[i] = part
	}
	return strings.Join(parts, " ")
}

// holder is a session that others wait for.
type holder struct {
	mysqlstore.Source
	doing   mysqlstore.Doing
	age     int64
	waiters int
	longest int64
	who     map[string]int // waiters by name
	on      map[string]bool
}

// holders are those who hold up others, the most first.
func holders(waits []mysqlstore.LockWait) []*holder {
	by := map[mysqlstore.Source]*holder{}
	var out []*holder
	for _, w := range waits {
		if w.Queued {
			continue // it holds up by being before somebody, which whoever has the lock does too
		}
		h := by[w.Holder]
		if h == nil {
			h = &holder{Source: w.Holder, doing: w.HolderDoing, age: w.HolderAgeMillis, who: map[string]int{}, on: map[string]bool{}}
			by[w.Holder] = h
			out = append(out, h)
		}
		h.waiters++
		h.longest = max(h.longest, w.WaitedMillis)
		h.who[w.Waiter.Who()]++
		h.on[where(w.Table, w.Index)] = true
	}
	slices.SortStableFunc(out, func(a, b *holder) int {
		return cmp.Or(cmp.Compare(b.waiters, a.waiters), cmp.Compare(b.longest, a.longest))
	})
	return out
}

// counted lists names with how often each is there, the most first.
func counted(names map[string]int) string {
	all := make([]string, 0, len(names))
	for n := range names {
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(cmp.Compare(names[b], names[a]), cmp.Compare(a, b)) })
	for i, n := range all {
		if names[n] > 1 {
			all[i] = fmt.Sprintf("%d × %s", names[n], n)
		}
	}
	return short(strings.Join(all, ", "), 48)
}

// RenderLocks writes it for people.
func RenderLocks(w io.Writer, v Locks) error {
	var p page
	p.line("Locks of %s %s at %s (pod %s): %s, %s, %d waiting", v.Server.Kind, v.Server.Version, v.Server.Addr, v.Pod,
		plural(v.Open, "open transaction", "open transactions"), plural(v.LockedRows, "row lock", "row locks"), v.Waiting)
	p.line("")
	p.waits(v)
	p.locks(v)
	p.snapshot(v)
	p.transactions(v)
	p.notes(v.Notes)
	_, err := w.Write(p.Bytes())
	return err
}

func (p *page) waits(v Locks) {
	if len(v.Waits) == 0 {
		if v.Waiting == 0 {
			p.line("Nobody waits for a row.\n")
		}
		return
	}
	hs := holders(v.Waits)
	p.table("HOLDS UP OTHERS\tSESSION\tIS\tOPEN FOR\tLONGEST WAIT\tWHO WAITS\tON", len(hs), func(i int) string {
		h := hs[i]
		on := slices.Sorted(maps.Keys(h.on))
		return strings.Join([]string{h.Who(), session(h.Source), h.doing.String(), span(h.age), waited(h.longest), counted(h.who), short(strings.Join(on, ", "), 48)}, "\t")
	})
	p.line("")
	p.table("WAITS\tSESSION\tFOR\tWANTS\tOF\tROW\tBEHIND", len(v.Waits), func(i int) string {
		x := v.Waits[i]
		behind := x.Holder.Who() + " " + session(x.Holder)
		if x.Queued {
			behind += " (queued too)"
		}
		return strings.Join([]string{x.Waiter.Who(), session(x.Waiter), waited(x.WaitedMillis), modeText(v.Server.Kind, x.Wants), where(x.Table, x.Index), short(rowKey(x.Row), 40), behind}, "\t")
	})
	p.line("")
}

// lockLine is the locks of one name and kind, of all its sessions.
type lockLine struct {
	who, of, mode string
	granted       bool
}

func (p *page) locks(v Locks) {
	if len(v.Locks) == 0 {
		return
	}
	type sum struct {
		sessions      map[uint64]bool
		locks, oldest int64
	}
	sums := map[lockLine]*sum{}
	var lines []lockLine
	for _, g := range v.Locks {
		k := lockLine{g.Who(), where(g.Table, g.Index), modeText(v.Server.Kind, g.Mode), g.Granted}
		if sums[k] == nil {
			sums[k] = &sum{sessions: map[uint64]bool{}}
			lines = append(lines, k)
		}
		sums[k].sessions[g.Session] = true
		sums[k].locks += g.Locks
		sums[k].oldest = max(sums[k].oldest, g.AgeMillis)
	}
	slices.SortStableFunc(lines, func(a, b lockLine) int {
		if a.granted != b.granted {
			if a.granted {
				return -1
			}
			return 1
		}
		return cmp.Compare(sums[b].oldest, sums[a].oldest)
	})
	p.table("LOCKS OF\tSESSIONS\tOLDEST\tLOCKS\tMODE\tOF\t", len(lines), func(i int) string {
		k := lines[i]
		state := ""
		if !k.granted {
			state = "waited for"
		}
		return strings.Join([]string{k.who, fmt.Sprint(len(sums[k].sessions)), span(sums[k].oldest), fmt.Sprint(sums[k].locks), k.mode, k.of, state}, "\t")
	})
	p.line("")
}

func (p *page) snapshot(v Locks) {
	if o := v.Oldest; o == nil {
		p.line("No transaction keeps a snapshot.")
	} else {
		p.line("Oldest snapshot: %s (session %s), %s old, %s, %s. What was changed or deleted since", o.Who(), session(o.Source), span(o.AgeMillis), o.Doing, o.Isolation)
		p.line("cannot be purged while it is open, and scans of it slow down.")
	}
	if v.History >= 0 {
		p.line("History list: %s to be purged.", plural(v.History, "transaction whose old row versions wait", "transactions whose old row versions wait"))
	}
	p.line("")
}

func (p *page) transactions(v Locks) {
	if len(v.Transactions) == 0 {
		return
	}
	p.table("OPEN TRANSACTION\tSESSION\tAGE\tIS\tROW LOCKS\tCHANGED\tSNAPSHOT\tSTATEMENT", len(v.Transactions), func(i int) string {
		t := v.Transactions[i]
		snap := "-"
		if t.Snapshot {
			snap = "yes"
		}
		return strings.Join([]string{t.Who(), session(t.Source), span(t.AgeMillis), t.Doing.String(), fmt.Sprint(t.RowsLocked), fmt.Sprint(t.RowsModified), snap, short(t.Statement, 48)}, "\t")
	})
}
