package orders

import (
	"fmt"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Bounds of an order file.
const (
	// MaxRows bounds the rows of a file, which are all held in memory: at some 40 bytes a line,
	// two million are 100 MB. The whole Online Retail data set has 541,909.
	MaxRows = 2_000_000
	// MaxRowBytes bounds one row; a field of an order is a word or a short description.
	MaxRowBytes = 64 << 10
	// MaxColumns bounds the columns of the header.
	MaxColumns = 64
	// MaxInvoiceLen bounds an invoice number, in bytes. It becomes part of hold and operation ids
	// (backends.MaxIDLen), beside the name of a run and the number of a line.
	MaxInvoiceLen = 32
	// MaxBroken bounds the broken rows that a book lists; BrokenTotal counts all.
	MaxBroken = 1000
)

// Kind says what an order is.
type Kind uint8

// The kinds. The zero value is unknown and is never played.
const (
	KindUnknown Kind = iota
	Cart             // an invoice: wants units
	Restock          // a cancellation ("C…"): its units come back
)

var kindNames = [...]string{"unknown", "cart", "restock"}

// String gives the name used in reports.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// Line is an item of an order. Items of one order are distinct; quantities are 1 to
// backends.MaxQuantity, of a restock too.
type Line struct {
	Item     backends.Item
	Quantity int64
}

// Order is an invoice with its rows merged.
type Order struct {
	Invoice string
	Kind    Kind
	// Row is where it begins in its file; 0 when it was generated.
	Row   int
	Lines []Line
}

// Units adds up the lines.
func (o *Order) Units() int64 {
	var n int64
	for _, l := range o.Lines {
		n += l.Quantity
	}
	return n
}

// Book is a file of orders, in the order of their first rows.
type Book struct {
	Orders []Order
	// Rows counts the rows below the header, broken ones included.
	Rows int
	// Broken lists the first MaxBroken rows that are not played; BrokenTotal counts all.
	Broken      []*RowError
	BrokenTotal int
}

// Demand is how many units of each item the carts want together. Items that only come back are in
// it with 0.
func (b *Book) Demand() map[backends.Item]int64 {
	d := map[backends.Item]int64{}
	for i := range b.Orders {
		for _, l := range b.Orders[i].Lines {
			if b.Orders[i].Kind == Cart {
				d[l.Item] += l.Quantity
			} else {
				d[l.Item] += 0
			}
		}
	}
	return d
}

// Items lists the items of all orders, sorted.
func (b *Book) Items() []backends.Item {
	d := b.Demand()
	items := make([]backends.Item, 0, len(d))
	for it := range d {
		items = append(items, it)
	}
	slices.Sort(items)
	return items
}

// RowError says why a row is not played.
type RowError struct {
	// Row counts the lines of the file; the header is 1.
	Row int
	// Cause names field, value and bound.
	Cause *backends.FieldError
}

func (e *RowError) Error() string { return fmt.Sprintf("row %d: %v", e.Row, e.Cause) }

// Unwrap gives the *backends.FieldError.
func (e *RowError) Unwrap() error { return e.Cause }
