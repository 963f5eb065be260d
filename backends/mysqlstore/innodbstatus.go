package mysqlstore

import (
	"strconv"
	"strings"
)

// innodbStatus is what is read from SHOW ENGINE INNODB STATUS: what no table has.
type innodbStatus struct {
	history int64 // length of the history list; -1 when it is not told
	views   int64 // read views open; -1 when it is not told
	// active are the sessions with a transaction in the list, and whether it has a read view. MySQL leaves
	// those out that only read, MariaDB none.
	active map[uint64]bool
	// cut: the list was too long for the server.
	cut bool
}

// parseInnodbStatus reads it. The text is the server's own and made for people: what is not understood
// is left out. Statements of others are part of it, so nothing in it is trusted beyond a number.
func parseInnodbStatus(text string) innodbStatus {
	out := innodbStatus{history: -1, views: -1, active: map[uint64]bool{}}
	inList, active := false, false
	var session uint64
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(line, "History list length "):
			out.history = numberIn(line, "History list length ")
		case strings.HasSuffix(line, " read views open inside InnoDB"):
			out.views = numberIn(line, "")
		case strings.HasPrefix(line, "LIST OF TRANSACTIONS"):
			inList = true
		case line == "FILE I/O":
			inList = false
		case strings.Contains(line, "... truncated..."):
			out.cut = true
		case !inList:
		case strings.HasPrefix(line, "---TRANSACTION "):
			session, active = 0, strings.Contains(line, ", ACTIVE")
		case session == 0 && (strings.HasPrefix(line, "MySQL thread id ") || strings.HasPrefix(line, "MariaDB thread id ")):
			_, rest, _ := strings.Cut(line, " thread id ")
			if n := numberIn(rest, ""); n > 0 && active {
				session = uint64(n)
				out.active[session] = false
			}
		case session != 0 && strings.HasPrefix(line, "Trx read view will not see trx with id >= "):
			out.active[session] = true
		}
	}
	return out
}

// numberIn reads the number that line begins with after a prefix; -1 when there is none.
func numberIn(line, prefix string) int64 {
	line = strings.TrimPrefix(line, prefix)
	end := 0
	for end < len(line) && line[end] >= '0' && line[end] <= '9' {
		end++
	}
	n, err := strconv.ParseInt(line[:end], 10, 64)
	if err != nil {
		return -1
	}
	return n
}
