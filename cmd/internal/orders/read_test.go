package orders

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
)

const head = "InvoiceNo,StockCode,Quantity,CustomerID,Country\n"

func cart(invoice string, row int, lines ...Line) Order {
	return Order{Invoice: invoice, Kind: Cart, Row: row, Lines: lines}
}

func TestRead(t *testing.T) {
	two := func(a, b backends.Item) []Line { return []Line{{a, 6}, {b, 8}} }
	for _, c := range []struct {
		name   string
		file   string
		want   []Order
		broken []string // "row field", in order
	}{
		{
			"two invoices and a cancellation", head + "536365,85123A,6,17850,UK\n536365,71053,8,17850,UK\nC536379,D,-1,14527,UK\n536366,22633,2,,UK\n",
			[]Order{cart("536365", 2, two("85123A", "71053")...), {Invoice: "C536379", Kind: Restock, Row: 4, Lines: []Line{{"D", 1}}}, cart("536366", 5, Line{"22633", 2})}, nil,
		},
		{"repeated codes are merged", head + "1,A,6,,\n1,B,8,,\n1,A,1,,\n", []Order{cart("1", 2, Line{"A", 7}, Line{"B", 8})}, nil},
		{"of a cancellation too", head + "C1,A,-6,,\nC1,A,-1,,\n", []Order{{Invoice: "C1", Kind: Restock, Row: 2, Lines: []Line{{"A", 7}}}}, nil},
		{"case makes another item", head + "1,85123a,6,,\n1,85123A,8,,\n", []Order{cart("1", 2, two("85123a", "85123A")...)}, nil},
		{"codes with spaces", head + "1,BANK CHARGES,6,,\n", []Order{cart("1", 2, Line{"BANK CHARGES", 6})}, nil},
		{"an invoice in two places is one cart", head + "1,A,6,,\n2,A,1,,\n1,B,8,,\n", []Order{cart("1", 2, two("A", "B")...), cart("2", 3, Line{"A", 1})}, nil},
		{"all columns, in another order", "Country,UnitPrice,Quantity,StockCode,Description,InvoiceDate,InvoiceNo,CustomerID\nUK,2.55,6,A,\"HEART, \"\"RED\"\"\",12/1/2010 8:26,1,\nUK,2.55,8,B,x,,1,\n", []Order{cart("1", 2, two("A", "B")...)}, nil},
		{"only what is needed", "StockCode,Quantity,InvoiceNo\nA,6,1\n", []Order{cart("1", 2, Line{"A", 6})}, nil},
		{"header in another case, with blanks", "invoiceno, STOCKCODE ,quantity\n1,A,6\n", []Order{cart("1", 2, Line{"A", 6})}, nil},
		{"byte order mark", "\xef\xbb\xbf" + head + "1,A,6,,\n", []Order{cart("1", 2, Line{"A", 6})}, nil},
		{"byte order mark before a quote", "\xef\xbb\xbf\"InvoiceNo\",StockCode,Quantity\n1,A,6\n", []Order{cart("1", 2, Line{"A", 6})}, nil},
		{"carriage returns, and no line break at the end", strings.ReplaceAll(head+"1,A,6,,\n1,B,8,,", "\n", "\r\n"), []Order{cart("1", 2, two("A", "B")...)}, nil},
		{"Latin-1 in a description", "InvoiceNo,StockCode,Description,Quantity\n1,A,CR\xc8ME BR\xdbL\xc9E \xa32,6\n1,B,\"\xc8\",8\n", []Order{cart("1", 2, two("A", "B")...)}, nil},
		{"empty lines count for row numbers", head + "\n1,A,6,,\n   \n1,B,x,,\n", []Order{cart("1", 3, Line{"A", 6})}, []string{"5 Quantity"}},
		{"a quote inside a field", "InvoiceNo,StockCode,Description,Quantity\n1,A,12\" RULER,6\n1,B,\"x\",8\n", []Order{cart("1", 2, two("A", "B")...)}, nil},
		{"a line break in quotes", "InvoiceNo,StockCode,Description,Quantity\n1,A,\"two\nlines\",6\n1,B,x,8\n1,C,x,0\n", []Order{cart("1", 2, two("A", "B")...)}, []string{"5 Quantity"}},
		{"a quote that is never closed costs its row", "InvoiceNo,StockCode,Description,Quantity\n1,A,\"open,6\n1,B,x,8\n1,C,\"y\",1\n", []Order{cart("1", 3, Line{"B", 8}, Line{"C", 1})}, []string{"2 row"}},
		{"text after a quote", "InvoiceNo,StockCode,Description,Quantity\n1,A,\"x\"y,6\n1,B,x,8\n", []Order{cart("1", 3, Line{"B", 8})}, []string{"2 row"}},
		{"too few and too many fields", head + "1,A,6\n1,B,8,,,\n1,C,1,,\n", []Order{cart("1", 4, Line{"C", 1})}, []string{"2 number of fields", "3 number of fields"}},
		{"quantities", head + "1,A,0,,\n1,A,-3,,\n1,A,,,\n1,A,6.5,,\n1,A,1000001,,\n1,A,99999999999999999999,,\n1,A, 6 ,,\nC2,A,3,,\nC2,A,0,,\nC2,A,-1000001,,\nC2,A,-9223372036854775808,,\n",
			[]Order{cart("1", 8, Line{"A", 6})},
			[]string{"2 Quantity", "3 Quantity", "4 Quantity", "5 Quantity", "6 Quantity", "7 Quantity", "9 Quantity", "10 Quantity", "11 Quantity", "12 Quantity"}},
		{"identifiers", head + ",A,1,,\n1,,1,,\n1,\xc9,1,,\n" + strings.Repeat("9", 33) + ",A,1,,\n1," + strings.Repeat("x", 65) + ",1,,\n1,A,6,,\n",
			[]Order{cart("1", 7, Line{"A", 6})},
			[]string{"2 InvoiceNo", "3 StockCode", "4 StockCode", "5 InvoiceNo", "6 StockCode"}},
		{"a merged quantity over its bound", head + "1,A,999999,,\n1,A,2,,\n1,A,1,,\n", []Order{cart("1", 2, Line{"A", 1_000_000})}, []string{"3 Quantity"}},
		{"units of a cart over their bound", head + "1,A,1000000,,\n1,B,1000000,,\n1,C,1,,\n2,C,1,,\n", []Order{cart("1", 2, Line{"A", 1_000_000}, Line{"B", 1_000_000}), cart("2", 5, Line{"C", 1})}, []string{"4 units of invoice 1"}},
		{"a row that is far too long", head + "1,A," + strings.Repeat("6", MaxRowBytes*3) + ",,\n1,B,8,,\n", []Order{cart("1", 3, Line{"B", 8})}, []string{"2 row"}},
		{"a header alone", head, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := Read(strings.NewReader(c.file))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(b.Orders, c.want) {
				t.Errorf("orders:\n%+v, want\n%+v", b.Orders, c.want)
			}
			var broken []string
			for _, e := range b.Broken {
				broken = append(broken, fmt.Sprintf("%d %s", e.Row, e.Cause.Field))
				if e.Cause.Value == "" || e.Cause.Bound == "" || !strings.HasPrefix(e.Error(), fmt.Sprintf("row %d: ", e.Row)) {
					t.Errorf("it does not say what is wrong: %v", e)
				}
			}
			if !reflect.DeepEqual(broken, c.broken) || b.BrokenTotal != len(c.broken) {
				t.Errorf("broken rows %q (%d), want %q", broken, b.BrokenTotal, c.broken)
			}
		})
	}
}

func TestMoreLinesThanAHoldTakes(t *testing.T) {
	var f strings.Builder
	f.WriteString(head)
	for i := range backends.MaxLines + 2 {
		fmt.Fprintf(&f, "1,I%d,1,,\n", i)
	}
	fmt.Fprintf(&f, "1,I0,4,,\n") // an item that the cart has already
	b, err := Read(strings.NewReader(f.String()))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(b.Orders[0].Lines); n != backends.MaxLines || b.Orders[0].Lines[0].Quantity != 5 {
		t.Errorf("%d lines, the first of %d", n, b.Orders[0].Lines[0].Quantity)
	}
	if b.BrokenTotal != 2 || b.Broken[0].Row != backends.MaxLines+2 {
		t.Errorf("broken: %d, %v", b.BrokenTotal, b.Broken)
	}
}

func TestHeaders(t *testing.T) {
	for _, c := range []struct{ name, file, says string }{
		{"a column is missing", "InvoiceNo,Quantity\n1,1\n", "InvoiceNo, StockCode, Quantity"},
		{"semicolons", "InvoiceNo;StockCode;Quantity\n1;A;1\n", "separate the columns by commas"},
		{"no header", "536365,85123A,6\n", "with a header"},
		{"empty", "", "missing"},
		{"a column twice", "InvoiceNo,StockCode,Quantity,quantity\n", "twice"},
		{"too many", "InvoiceNo,StockCode,Quantity" + strings.Repeat(",", MaxColumns) + "\n", "at most 64"},
		{"a broken one", "\"InvoiceNo,StockCode,Quantity\n1,A,1\n", "row 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Read(strings.NewReader(c.file))
			var fe *backends.FieldError
			if !errors.As(err, &fe) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want it to say %q", err, c.says)
			}
		})
	}
}

func zipped(t *testing.T, s string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestCompressedFiles(t *testing.T) {
	whole := zipped(t, "\xef\xbb\xbf"+head+strings.Repeat("1,A,6,,\n2,B,7,,\n", 2000))
	path := filepath.Join(t.TempDir(), "orders.csv") // the name says nothing
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []Order{cart("1", 2, Line{"A", 12_000}), cart("2", 3, Line{"B", 14_000})}
	if !reflect.DeepEqual(b.Orders, want) || b.Rows != 4000 {
		t.Errorf("got %+v of %d rows", b.Orders, b.Rows)
	}
	if _, err := Read(bytes.NewReader(whole[:len(whole)-9])); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("half a file: %v", err)
	}
	if _, err := ReadFile(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestReaderThatFails(t *testing.T) {
	gone := errors.New("gone")
	_, err := Read(io.MultiReader(strings.NewReader(head+"1,A,6,,\n"), iotest.ErrReader(gone)))
	if !errors.Is(err, gone) || !strings.Contains(err.Error(), "after row") {
		t.Errorf("got %v", err)
	}
}

func TestBrokenRowsAreCountedBeyondTheList(t *testing.T) {
	b, err := Read(strings.NewReader(head + strings.Repeat("1,A,0,,\n", MaxBroken+5) + "1,A,6,,\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Broken) != MaxBroken || b.BrokenTotal != MaxBroken+5 || len(b.Orders) != 1 {
		t.Errorf("%d listed of %d, %d orders", len(b.Broken), b.BrokenTotal, len(b.Orders))
	}
}

// Merging loses no unit: for any file, each row is either in its order or reported.
func TestMergingLosesNothing(t *testing.T) {
	type row struct {
		invoice, item string
		quantity      int64
	}
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) row {
			return row{
				rapid.SampledFrom([]string{"1", "2", "C1", "C2", "3"}).Draw(t, "invoice"),
				rapid.SampledFrom([]string{"A", "a", "B", "X Y"}).Draw(t, "item"),
				rapid.Int64Range(-5, 5).Draw(t, "quantity"),
			}
		}), 0, 60).Draw(t, "rows")
		var f strings.Builder
		f.WriteString(head)
		want := map[[2]string]int64{}
		bad := 0
		for _, r := range rows {
			fmt.Fprintf(&f, "%s,%s,%d,,\n", r.invoice, r.item, r.quantity)
			if r.quantity == 0 || (r.quantity < 0) != (r.invoice[0] == 'C') {
				bad++
				continue
			}
			want[[2]string{r.invoice, r.item}] += max(r.quantity, -r.quantity)
		}
		b, err := Read(strings.NewReader(f.String()))
		if err != nil {
			t.Fatal(err)
		}
		got := map[[2]string]int64{}
		last := 0
		for _, o := range b.Orders {
			if o.Row <= last {
				t.Fatalf("orders are not in the order of their first rows: %+v", b.Orders)
			}
			last = o.Row
			for _, l := range o.Lines {
				k := [2]string{o.Invoice, string(l.Item)}
				if got[k] != 0 {
					t.Fatalf("item %s twice in invoice %s", l.Item, o.Invoice)
				}
				got[k] = l.Quantity
			}
		}
		if !reflect.DeepEqual(got, want) || b.BrokenTotal != bad || b.Rows != len(rows) {
			t.Fatalf("got %v with %d broken of %d; want %v with %d of %d", got, b.BrokenTotal, b.Rows, want, bad, len(rows))
		}
	})
}

// No file makes the reader fall over, and every row is accounted for.
func FuzzRead(f *testing.F) {
	f.Add([]byte(head + "1,A,6,,\n1,\"A,6,,\n\"x\"\"\",2\n"))
	f.Add([]byte("InvoiceNo,StockCode,Quantity\n\"1\n2\",A,\"6\"\n"))
	f.Add([]byte{0x1f, 0x8b, 8, 0})
	f.Fuzz(func(t *testing.T, file []byte) {
		b, err := Read(bytes.NewReader(file))
		if err != nil {
			return
		}
		n := b.BrokenTotal
		for i := range b.Orders {
			o := &b.Orders[i]
			n += len(o.Lines)
			if err := backends.CheckLines("shop", asCart(o)); err != nil {
				t.Fatalf("order %q cannot be played: %v", o.Invoice, err)
			}
		}
		if n > b.Rows {
			t.Fatalf("%d lines and broken rows out of %d rows", n, b.Rows)
		}
	})
}

func asCart(o *Order) []backends.Line {
	lines := make([]backends.Line, len(o.Lines))
	for i, l := range o.Lines {
		lines[i] = backends.Line{Item: l.Item, Quantity: l.Quantity, Locations: []backends.Location{"main"}}
	}
	return lines
}

func TestDemand(t *testing.T) {
	b, err := Read(strings.NewReader(head + "1,A,6,,\n2,A,1,,\n2,B,2,,\nC1,A,-3,,\nC1,Z,-3,,\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := b.Demand(), (map[backends.Item]int64{"A": 7, "B": 2, "Z": 0}); !reflect.DeepEqual(got, want) {
		t.Errorf("demand %v, want %v", got, want)
	}
	if got := b.Items(); !reflect.DeepEqual(got, []backends.Item{"A", "B", "Z"}) {
		t.Errorf("items %v", got)
	}
}
