package redisstore

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/crossfade-proxy/crossfade/backends"
)

// A record is a hold as text, for scripts to read without a parser of JSON:
//
//	head ⧸ allocations ⧸ body ⧸ own        (⧸ is a form feed)
//
//	head         state, epoch, n, created, expires, ended, owed, caller, digest, by tabs
//	allocations  rows "line<tab>quantity<tab>location"
//	body         the shop, then rows "item<tab>quantity<tab>split<tab>location<tab>location…"
//	own          what this store decided for itself as shadow: "g" or "s", a vertical tab, rows
//	             (allocations, "=" for those of the hold; or "line<tab>available"), a vertical tab,
//	             what was for sale at each line and location, in order, by spaces
//
// No identifier contains a control byte, so nothing needs escaping.
const (
	partSeparator = "\f"
	ownSeparator  = "\v"
	rowSeparator  = "\n"
	colSeparator  = "\t"
)

// errRecord is what is wrong with a record that cannot be read.
var errRecord = errors.New("not a record of a hold")

// encodeBody writes shop and lines.
func encodeBody(shop backends.Shop, lines []backends.Line) string {
	var b strings.Builder
	b.WriteString(string(shop))
	b.WriteByte('\n')
	for i, l := range lines {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(string(l.Item))
		b.WriteByte('\t')
		b.WriteString(strconv.FormatInt(l.Quantity, 10))
		if l.Split {
			b.WriteString("\t1")
		} else {
			b.WriteString("\t0")
		}
		for _, loc := range l.Locations {
			b.WriteByte('\t')
			b.WriteString(string(loc))
		}
	}
	return b.String()
}

func decodeBody(s string) (backends.Shop, []backends.Line, error) {
	if s == "" {
		return "", nil, nil
	}
	shop, rows, ok := strings.Cut(s, rowSeparator)
	if !ok {
		return "", nil, errRecord
	}
	if rows == "" {
		return backends.Shop(shop), nil, nil
	}
	lines := make([]backends.Line, 0, strings.Count(rows, rowSeparator)+1)
	for row := range strings.SplitSeq(rows, rowSeparator) {
		c := strings.Split(row, colSeparator)
		if len(c) < 4 || c[2] != "0" && c[2] != "1" {
			return "", nil, errRecord
		}
		n, err := strconv.ParseInt(c[1], 10, 64)
		if err != nil {
			return "", nil, errRecord
		}
		l := backends.Line{Item: backends.Item(c[0]), Quantity: n, Split: c[2] == "1", Locations: make([]backends.Location, len(c)-3)}
		for i, loc := range c[3:] {
			l.Locations[i] = backends.Location(loc)
		}
		lines = append(lines, l)
	}
	return backends.Shop(shop), lines, nil
}

func encodeAllocs(as []backends.Allocation) string {
	rows := make([]string, len(as))
	for i, a := range as {
		rows[i] = strconv.Itoa(a.Line) + colSeparator + strconv.FormatInt(a.Quantity, 10) + colSeparator + string(a.Location)
	}
	return strings.Join(rows, rowSeparator)
}

func decodeAllocs(s string) ([]backends.Allocation, error) {
	if s == "" {
		return nil, nil
	}
	out := make([]backends.Allocation, 0, strings.Count(s, rowSeparator)+1)
	for row := range strings.SplitSeq(s, rowSeparator) {
		line, rest, ok1 := strings.Cut(row, colSeparator)
		qty, loc, ok2 := strings.Cut(rest, colSeparator)
		i, err1 := strconv.Atoi(line)
		n, err2 := strconv.ParseInt(qty, 10, 64)
		if !ok1 || !ok2 || loc == "" || err1 != nil || err2 != nil {
			return nil, errRecord
		}
		out = append(out, backends.Allocation{Line: i, Location: backends.Location(loc), Quantity: n})
	}
	return out, nil
}

// encodeHold writes a hold of the other store. It refuses what a record cannot hold: such a hold
// was not made by any store.
func encodeHold(h *backends.Hold) (string, error) {
	if err := checkHold(h); err != nil {
		return "", err
	}
	owed := "0"
	if h.LedgerOwed {
		owed = "1"
	}
	head := strings.Join([]string{
		strconv.Itoa(int(h.State)), strconv.FormatUint(h.Version.Epoch, 10), strconv.FormatUint(h.Version.N, 10),
		strconv.FormatInt(int64(h.CreatedAt), 10), strconv.FormatInt(int64(h.ExpiresAt), 10), strconv.FormatInt(int64(h.EndedAt), 10),
		owed, h.Caller, backends.Digest(h.Shop, h.Lines),
	}, colSeparator)
	body := ""
	if h.Shop != "" || len(h.Lines) > 0 {
		body = encodeBody(h.Shop, h.Lines)
	}
	return head + partSeparator + encodeAllocs(h.Allocs) + partSeparator + body + partSeparator, nil
}

// checkHold tells what a script would not understand.
func checkHold(h *backends.Hold) error {
	bad := func(what string) error {
		return fmt.Errorf("%w: hold %s of the other store has %s", backends.ErrDamaged, abbreviate(string(h.ID)), what)
	}
	if err := backends.CheckID("hold id", string(h.ID)); err != nil {
		return bad("no legal id")
	}
	if h.State < backends.Held || h.State > backends.Expired {
		return bad("no state")
	}
	if h.CreatedAt < 0 || h.ExpiresAt < 0 || h.EndedAt < 0 || h.CreatedAt > maxExact || h.ExpiresAt > maxExact || h.EndedAt > maxExact {
		return bad("an instant out of range")
	}
	if h.Version.Epoch > maxExact || h.Version.N > maxExact {
		return bad("a version out of range")
	}
	if backends.CheckCaller(h.Caller) != nil {
		return bad("no legal caller tag")
	}
	if len(h.Lines) > 0 {
		if err := backends.CheckLines(h.Shop, h.Lines); err != nil {
			return bad("damaged lines: " + err.Error())
		}
	} else if h.Shop != "" && backends.CheckID("shop", string(h.Shop)) != nil {
		return bad("no legal shop")
	}
	for _, a := range h.Allocs {
		if a.Line < 0 || a.Line >= len(h.Lines) || a.Quantity < 1 || a.Quantity > backends.MaxCartUnits || backends.CheckID("location", string(a.Location)) != nil {
			return bad("a damaged allocation")
		}
	}
	return nil
}

// decodeHold reads a record. own is its last part, for decodeOwn.
func decodeHold(id backends.HoldID, record string) (h *backends.Hold, own string, err error) {
	p := strings.Split(record, partSeparator)
	if len(p) != 4 {
		return nil, "", errRecord
	}
	if h, err = decodeHead(id, p[0]); err != nil {
		return nil, "", err
	}
	if h.Allocs, err = decodeAllocs(p[1]); err != nil {
		return nil, "", err
	}
	if h.Shop, h.Lines, err = decodeBody(p[2]); err != nil {
		return nil, "", err
	}
	return h, p[3], nil
}

func decodeHead(id backends.HoldID, s string) (*backends.Hold, error) {
	c := strings.Split(s, colSeparator)
	if len(c) != 9 {
		return nil, errRecord
	}
	var n [6]int64
	for i := range n {
		v, err := strconv.ParseInt(c[i], 10, 64)
		if err != nil || v < 0 {
			return nil, errRecord
		}
		n[i] = v
	}
	if n[0] < int64(backends.Held) || n[0] > int64(backends.Expired) {
		return nil, errRecord
	}
	h := &backends.Hold{
		ID: id, Caller: c[7], State: backends.State(n[0]), LedgerOwed: c[6] == "1", //nolint:gosec // looked at above
		Version:   backends.Version{Epoch: uint64(n[1]), N: uint64(n[2])}, //nolint:gosec // not negative
		CreatedAt: backends.Instant(n[3]), ExpiresAt: backends.Instant(n[4]), EndedAt: backends.Instant(n[5]),
	}
	return h, nil
}

// decodeOwn reads what this store decided for itself about the cart of h; nil when it did not.
// allocs are the rows that "=" stands for.
func decodeOwn(own, allocs string, shop backends.Shop, lines []backends.Line) (*backends.OwnDecision, error) {
	if own == "" {
		return nil, nil
	}
	p := strings.Split(own, ownSeparator)
	if len(p) != 3 {
		return nil, errRecord
	}
	o := &backends.OwnDecision{}
	var err error
	switch p[0] {
	case "g":
		o.Outcome = backends.OutcomeGranted
		if p[1] != "=" {
			allocs = p[1]
		}
		o.Allocs, err = decodeAllocs(allocs)
	case "s":
		o.Outcome = backends.OutcomeSoldOut
		o.Short, err = decodeShort(p[1], lines)
	default:
		err = errRecord
	}
	if err == nil {
		o.Seen, err = decodeSeen(p[2], shop, lines)
	}
	if err != nil {
		return nil, err
	}
	return o, nil
}

func decodeShort(s string, lines []backends.Line) ([]backends.Shortage, error) {
	var out []backends.Shortage
	for row := range strings.SplitSeq(s, rowSeparator) {
		line, avail, ok := strings.Cut(row, colSeparator)
		i, err1 := strconv.Atoi(line)
		n, err2 := strconv.ParseInt(avail, 10, 64)
		if !ok || err1 != nil || err2 != nil || i < 0 || i >= len(lines) {
			return nil, errRecord
		}
		out = append(out, backends.Shortage{Line: i, Item: lines[i].Item, Wanted: lines[i].Quantity, Available: n})
	}
	return out, nil
}

// decodeSeen gives what was for sale, by key.
func decodeSeen(s string, shop backends.Shop, lines []backends.Line) ([]backends.Units, error) {
	values := strings.Split(s, " ")
	out := make([]backends.Units, 0, len(values))
	for _, l := range lines {
		for _, loc := range l.Locations {
			if len(out) == len(values) {
				return nil, errRecord
			}
			n, err := strconv.ParseInt(values[len(out)], 10, 64)
			if err != nil {
				return nil, errRecord
			}
			out = append(out, backends.Units{Key: backends.Key{Shop: shop, Item: l.Item, Location: loc}, Quantity: n})
		}
	}
	slices.SortFunc(out, func(a, b backends.Units) int { return a.Key.Compare(b.Key) })
	return out, nil
}

// decodeUnits reads rows "shop<tab>item<tab>location<tab>quantity", and orders them by key.
func decodeUnits(s string) ([]backends.Units, error) {
	if s == "" {
		return nil, nil
	}
	var out []backends.Units
	for row := range strings.SplitSeq(s, rowSeparator) {
		i := strings.LastIndex(row, colSeparator)
		if i < 0 {
			return nil, errRecord
		}
		k, ok := parseField(row[:i])
		n, err := strconv.ParseInt(row[i+1:], 10, 64)
		if !ok || err != nil {
			return nil, errRecord
		}
		out = append(out, backends.Units{Key: k, Quantity: n})
	}
	slices.SortFunc(out, func(a, b backends.Units) int { return a.Key.Compare(b.Key) })
	return slices.Compact(out), nil
}

// level is a level with the count of changes of its held sum.
type level struct {
	backends.Level
	changes uint64
}

// decodeLevel reads the text of levels.lua; nil when there is no level.
func decodeLevel(k backends.Key, s string) (*level, error) {
	if s == "" {
		return nil, nil
	}
	c := strings.Split(s, " ")
	if len(c) != 7 {
		return nil, errRecord
	}
	var n [7]int64
	for i := range n {
		v, err := strconv.ParseInt(c[i], 10, 64)
		if err != nil {
			return nil, errRecord
		}
		n[i] = v
	}
	return &level{
		Level: backends.Level{
			Key: k, OnHand: n[0], Held: n[1], Taken: n[2],
			TakenVersion: backends.Version{Epoch: uint64(n[3]), N: uint64(n[4])}, //nolint:gosec // scripts match digits only
			Available:    max(0, n[6]), Unmaterialised: min(0, n[6]),
		},
		changes: uint64(n[5]), //nolint:gosec // as above
	}, nil
}

// maxExact is the largest number that scripts, which count in doubles, take: 2^53.
const maxExact = 1 << 53

func abbreviate(s string) string {
	const most = 80
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + "…"
	}
	return strconv.QuoteToASCII(s)
}
