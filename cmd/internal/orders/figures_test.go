package orders

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"math"
	"os"
	"reflect"
	"strconv"
	"testing"
)

// asFile writes a book in the format of the data set, with all of its columns.
func asFile(b *Book) []byte {
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	_ = w.Write([]string{"InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"})
	for _, o := range b.Orders {
		sign := int64(1)
		if o.Kind == Restock {
			sign = -1
		}
		for _, l := range o.Lines {
			_ = w.Write([]string{o.Invoice, string(l.Item), `METAL SIGN, 4" "FRENCH"`, strconv.FormatInt(sign*l.Quantity, 10), "2010-12-01 08:26:00", "2.55", "", "France"})
		}
	}
	w.Flush()
	return out.Bytes()
}

// realOrders is the extract when CROSSFADE_ORDERS names it, else a file made by the generator.
func realOrders(t *testing.T) (b *Book, extract bool) {
	t.Helper()
	path := os.Getenv("CROSSFADE_ORDERS")
	if path == "" {
		g, err := Generate(1, 2257)
		if err != nil {
			t.Fatal(err)
		}
		b, err = Read(bytes.NewReader(asFile(g)))
		if err != nil {
			t.Fatal(err)
		}
		return b, false
	}
	b, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b, true
}

func TestGeneratorHasTheShapeOfTheExtract(t *testing.T) {
	want := Extract()
	for seed := uint64(1); seed <= 8; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			b, err := Generate(seed, want.Carts+want.Restocks)
			if err != nil {
				t.Fatal(err)
			}
			shapeWithin(t, Measure(b), want)
		})
	}
}

// shapeWithin states the bounds: what a sample of that size may differ by.
func shapeWithin(t *testing.T, got, want Figures) {
	t.Helper()
	share := func(what string, got, want, by float64) {
		if math.Abs(got-want) > by {
			t.Errorf("%s is %.4f; want %.4f ± %.4f", what, got, want, by)
		}
	}
	times := func(what string, got, want, factor float64) {
		if got < want/factor || got > want*factor {
			t.Errorf("%s is %.2f; want %.2f, within a factor of %.2f", what, got, want, factor)
		}
	}
	share("share of cancellations", got.RestockShare, want.RestockShare, 0.03)
	times("different items", float64(got.Items), float64(want.Items), 1.1)
	share("lines of the top 1 % of items", got.TopPercent, want.TopPercent, 0.015)
	share("lines of the top 10 %", got.TopTenth, want.TopTenth, 0.03)
	share("lines of the top 20 %", got.TopFifth, want.TopFifth, 0.03)
	share("units of the top 10 %", got.UnitsTopTenth, want.UnitsTopTenth, 0.06)
	for _, s := range []struct {
		what      string
		got, want Spread
		mean, max float64 // factors
	}{
		{"lines per cart", got.Lines, want.Lines, 1.25, 1.15},
		{"quantity", got.Quantity, want.Quantity, 1.15, 1.7},
		{"lines per cancellation", got.BackLines, want.BackLines, 1.35, 1.3},
		{"quantity per cancellation", got.BackQuantity, want.BackQuantity, 3.5, 80}, // one line of 9,360 in 901
	} {
		times(s.what+", mean", s.got.Mean, s.want.Mean, s.mean)
		times(s.what+", most", float64(s.got.Max), float64(s.want.Max), s.max)
		for _, q := range []struct {
			name      string
			got, want int64
			by        float64 // factor, besides one unit either way
		}{
			{"25 %", s.got.P25, s.want.P25, 1.3}, {"median", s.got.P50, s.want.P50, 1.3}, {"75 %", s.got.P75, s.want.P75, 1.3},
			{"90 %", s.got.P90, s.want.P90, 1.8}, {"95 %", s.got.P95, s.want.P95, 1.6}, {"99 %", s.got.P99, s.want.P99, 2.2},
		} {
			if f := float64(q.want); float64(q.got) < f/q.by-1 || float64(q.got) > f*q.by+1 {
				t.Errorf("%s, %s is %d; want %d, within a factor of %.1f", s.what, q.name, q.got, q.want, q.by)
			}
		}
	}
}

// The bounds bite: orders of another shape are not taken for the extract's.
func TestShapeIsNotJustAnything(t *testing.T) {
	b, err := Generate(1, 2257)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b.Orders {
		o := &b.Orders[i]
		o.Lines = o.Lines[:1]
		o.Kind = Cart
	}
	probe := &testing.T{}
	shapeWithin(probe, Measure(b), Extract())
	if !probe.Failed() {
		t.Error("carts of one line, without cancellations, pass for the extract")
	}
}

func TestExtractOrItsLike(t *testing.T) {
	b, extract := realOrders(t)
	got, want := Measure(b), Extract()
	if !extract {
		shapeWithin(t, got, want)
		if b.BrokenTotal != 0 {
			t.Errorf("%d rows of a generated file are broken, such as: %v", b.BrokenTotal, b.Broken[0])
		}
		return
	}
	if b.Rows != 50_062 || b.BrokenTotal != 85 {
		t.Errorf("%d rows, %d of them broken; the extract has 50062 and 85", b.Rows, b.BrokenTotal)
	}
	if r := roundFigures(got); !reflect.DeepEqual(r, want) {
		t.Errorf("the extract has\n%+v, stated is\n%+v", r, want)
	}
}

// roundFigures rounds as Extract states them: shares to four digits, means to three.
func roundFigures(f Figures) Figures {
	to := func(v *float64, unit float64) { *v = math.Round(*v*unit) / unit }
	for _, v := range []*float64{&f.RestockShare, &f.TopPercent, &f.TopTenth, &f.TopFifth, &f.UnitsTopTenth} {
		to(v, 10_000)
	}
	for _, s := range []*Spread{&f.Lines, &f.Quantity, &f.BackLines, &f.BackQuantity} {
		to(&s.Mean, 1000)
	}
	return f
}

func TestSpread(t *testing.T) {
	hundred := make([]int64, 100)
	for i := range hundred {
		hundred[i] = int64(100 - i)
	}
	want := Spread{N: 100, Mean: 50.5, P25: 25, P50: 50, P75: 75, P90: 90, P95: 95, P99: 99, Max: 100}
	if got := spread(hundred); got != want {
		t.Errorf("got %+v", got)
	}
	if got := spread([]int64{7}); got.P25 != 7 || got.P99 != 7 {
		t.Errorf("one value: got %+v", got)
	}
	if got := spread(nil); got != (Spread{}) {
		t.Errorf("nothing: got %+v", got)
	}
}
