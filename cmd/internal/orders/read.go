package orders

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/crossfade-proxy/crossfade/backends"
)

// The columns that are read. All others (Description, InvoiceDate, UnitPrice, CustomerID, Country,
// and any more) may be there or not, in any order, and are ignored.
const (
	colInvoice  = "InvoiceNo"
	colItem     = "StockCode"
	colQuantity = "Quantity"
)

// ReadFile reads a file, which may be compressed with gzip whatever it is called.
func ReadFile(path string) (*Book, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("orders: %w", err)
	}
	defer f.Close()
	b, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("orders of %s: %w", path, err)
	}
	return b, nil
}

// Read reads orders, compressed with gzip or not. Rows that are broken are listed in the book. An
// error is about the file as a whole: no header, more than MaxRows rows, a reader that fails.
func Read(r io.Reader) (*Book, error) {
	br := bufio.NewReaderSize(r, MaxRowBytes)
	if magic, err := br.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		br = bufio.NewReaderSize(z, MaxRowBytes)
	}
	if bom, err := br.Peek(3); err == nil && bytes.Equal(bom, []byte("\xef\xbb\xbf")) {
		_, _ = br.Discard(len(bom)) // they were peeked at
	}
	rows := &rowReader{lines: lineReader{r: br}}
	cols, err := readHeader(rows)
	if err != nil {
		return nil, err
	}
	bd := newBuilder()
	for {
		fields, row, err := rows.next()
		var re *RowError
		switch {
		case errors.Is(err, io.EOF):
			return bd.book, nil
		case err != nil && !errors.As(err, &re):
			return nil, fmt.Errorf("after row %d: %w", row, err)
		case re == nil:
			re = bd.add(row, fields[cols.invoice], fields[cols.item], fields[cols.quantity])
		}
		if bd.book.Rows++; bd.book.Rows > MaxRows {
			return nil, &backends.FieldError{Field: "order file", Value: "longer", Bound: fmt.Sprintf("at most %d rows", MaxRows), Next: "play it in parts"}
		}
		if re != nil {
			bd.report(re)
		}
	}
}

// columns are the places of the columns that are read.
type columns struct{ invoice, item, quantity int }

func readHeader(rows *rowReader) (columns, error) {
	bad := func(value, bound, next string) (columns, error) {
		return columns{}, &backends.FieldError{Field: "header of the order file", Value: value, Bound: bound, Next: next}
	}
	want := strings.Join([]string{colInvoice, colItem, colQuantity}, ", ")
	fields, _, err := rows.next()
	if errors.Is(err, io.EOF) {
		return bad("missing", "a first row with the columns "+want, "is the file empty?")
	}
	if err != nil {
		return columns{}, fmt.Errorf("header: %w", err)
	}
	if len(fields) > MaxColumns {
		return bad(fmt.Sprintf("%d columns", len(fields)), fmt.Sprintf("at most %d", MaxColumns), "leave out those that are not needed")
	}
	at := map[string]int{}
	for i, f := range fields {
		name := strings.ToLower(strings.TrimSpace(f))
		if _, twice := at[name]; twice && name != "" {
			return bad(clip(f)+" twice", "each column once", "rename one of them")
		}
		at[name] = i
	}
	place := func(name string) int {
		if i, ok := at[strings.ToLower(name)]; ok {
			return i
		}
		return -1
	}
	c := columns{place(colInvoice), place(colItem), place(colQuantity)}
	if min(c.invoice, c.item, c.quantity) < 0 {
		next := "the format is that of the UCI Online Retail data set, with a header"
		if len(fields) == 1 {
			next = "separate the columns by commas; " + next
		}
		return bad(clip(strings.Join(fields, ",")), "the columns "+want+" in any order", next)
	}
	rows.width = len(fields)
	return c, nil
}

// builder merges rows into orders.
type builder struct {
	book  *Book
	at    map[string]int // invoice → its place in book.Orders
	lines map[lineKey]int
	units map[string]int64 // of each invoice
	names map[string]string
}

type lineKey struct {
	order int
	item  backends.Item
}

func newBuilder() *builder {
	return &builder{book: &Book{}, at: map[string]int{}, lines: map[lineKey]int{}, units: map[string]int64{}, names: map[string]string{}}
}

func (b *builder) report(e *RowError) {
	if b.book.BrokenTotal++; len(b.book.Broken) < MaxBroken {
		b.book.Broken = append(b.book.Broken, e)
	}
}

// intern gives a copy that does not keep a whole row alive.
func (b *builder) intern(s string) string {
	if known, ok := b.names[s]; ok {
		return known
	}
	c := strings.Clone(s)
	b.names[c] = c
	return c
}

// add merges one row into its order, or says what is wrong with it; then it changes nothing.
func (b *builder) add(row int, invoice, item, quantity string) *RowError {
	invoice = strings.TrimSpace(invoice)
	kind := Cart
	if strings.HasPrefix(invoice, "C") {
		kind = Restock
	}
	if e := checkRow(row, invoice, item); e != nil {
		return e
	}
	n, e := parseQuantity(row, kind, quantity)
	if e != nil {
		return e
	}
	at, known := b.at[invoice]
	if !known {
		at = len(b.book.Orders)
	}
	key := lineKey{at, backends.Item(item)}
	line, repeated := b.lines[key]
	var have int64
	var lines int
	if known {
		lines = len(b.book.Orders[at].Lines)
	}
	if repeated {
		have = b.book.Orders[at].Lines[line].Quantity
	}
	switch {
	case have+n > backends.MaxQuantity:
		return broken(row, colQuantity, fmt.Sprintf("%d with the earlier rows of the same item", have+n), fmt.Sprintf("at most %d", backends.MaxQuantity), "split the invoice")
	case b.units[invoice]+n > backends.MaxCartUnits:
		return broken(row, "units of invoice "+invoice, strconv.FormatInt(b.units[invoice]+n, 10), fmt.Sprintf("at most %d", backends.MaxCartUnits), "split the invoice")
	case !repeated && lines >= backends.MaxLines:
		return broken(row, "lines of invoice "+invoice, strconv.Itoa(lines+1), fmt.Sprintf("at most %d different items", backends.MaxLines), "split the invoice")
	}
	if !known {
		invoice = strings.Clone(invoice)
		b.book.Orders = append(b.book.Orders, Order{Invoice: invoice, Kind: kind, Row: row})
		b.at[invoice] = at
	}
	o := &b.book.Orders[at]
	b.units[o.Invoice] += n
	if repeated {
		o.Lines[line].Quantity += n
		return nil
	}
	key.item = backends.Item(b.intern(item))
	b.lines[key] = len(o.Lines)
	o.Lines = append(o.Lines, Line{Item: key.item, Quantity: n})
	return nil
}

func checkRow(row int, invoice, item string) *RowError {
	err := backends.CheckID(colInvoice, invoice)
	if err == nil && len(invoice) > MaxInvoiceLen {
		err = &backends.FieldError{Field: colInvoice, Value: clip(invoice), Bound: fmt.Sprintf("at most %d bytes, has %d", MaxInvoiceLen, len(invoice)), Next: "shorten it"}
	}
	if err == nil {
		err = backends.CheckID(colItem, item)
	}
	var fe *backends.FieldError
	if errors.As(err, &fe) {
		return &RowError{Row: row, Cause: fe}
	}
	return nil
}

// parseQuantity gives the units of a row, positive for carts and restocks alike.
func parseQuantity(row int, kind Kind, s string) (int64, *RowError) {
	const most = backends.MaxQuantity
	bound := fmt.Sprintf("1 to %d in an invoice", most)
	if kind == Restock {
		bound = fmt.Sprintf("-%d to -1 in a cancellation (C…)", most)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil {
		return 0, broken(row, colQuantity, clip(s), "a whole number, "+bound, "write it in decimal digits")
	}
	units := n
	if kind == Restock {
		units = -max(n, -most-1) // the smallest integer has no negative
	}
	if units < 1 || units > most {
		return 0, broken(row, colQuantity, strconv.FormatInt(n, 10), bound, "what comes back belongs into a cancellation, whose number begins with C")
	}
	return units, nil
}
