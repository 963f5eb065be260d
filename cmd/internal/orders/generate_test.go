package orders

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
)

func TestGenerateIsRepeatable(t *testing.T) {
	long, err := Generate(7, 300)
	if err != nil {
		t.Fatal(err)
	}
	short, err := Generate(7, 100)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(long.Orders[:100], short.Orders) {
		t.Error("more orders of one seed begin with others")
	}
	other, err := Generate(8, 100)
	if err != nil {
		t.Fatal(err)
	}
	if reflect.DeepEqual(other.Orders, short.Orders) {
		t.Error("another seed gives the same orders")
	}
}

func TestGenerateBounds(t *testing.T) {
	for _, n := range []int{-1, MaxGenerated + 1} {
		_, err := Generate(1, n)
		var fe *backends.FieldError
		if !errors.As(err, &fe) || fe.Field != "number of orders" {
			t.Errorf("%d orders: %v", n, err)
		}
	}
	if b, err := Generate(1, 0); err != nil || len(b.Orders) != 0 {
		t.Errorf("no orders: %v, %v", b, err)
	}
}

// What is generated survives being written and read, so it is a legal file.
func TestGeneratedFilesAreRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g, err := Generate(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(0, 60).Draw(t, "orders"))
		if err != nil {
			t.Fatal(err)
		}
		b, err := Read(bytes.NewReader(asFile(g)))
		if err != nil {
			t.Fatal(err)
		}
		if b.BrokenTotal > 0 {
			t.Fatalf("broken: %v", b.Broken[0])
		}
		for i := range b.Orders {
			b.Orders[i].Row = 0
		}
		if len(g.Orders) != len(b.Orders) || len(g.Orders) > 0 && !reflect.DeepEqual(g.Orders, b.Orders) {
			t.Fatal("what was read is not what was generated")
		}
		if g.Rows != b.Rows {
			t.Fatalf("%d rows were generated, %d read", g.Rows, b.Rows)
		}
	})
}

func TestCatalogue(t *testing.T) {
	names := map[backends.Item]int{}
	folded := map[string]int{}
	for r := range catalogue {
		it := itemName(r)
		if err := backends.CheckID("item", string(it)); err != nil {
			t.Fatal(err)
		}
		if other, twice := names[it]; twice {
			t.Fatalf("items %d and %d are both called %q", other, r, it)
		}
		names[it] = r
		folded[strings.ToUpper(string(it))]++
	}
	twins := 0
	for _, n := range folded {
		twins += n - 1
	}
	if twins < 50 {
		t.Errorf("%d codes differ only in case; the extract has 62", twins)
	}
}

func TestQuantiles(t *testing.T) {
	q := quantiles{{0, 1}, {0.5, 1}, {0.6, 12}, {0.95, 100}, {1, 10_000}}
	for _, c := range []struct {
		u    float64
		want int64
	}{
		{0, 1}, {0.49, 1}, {0.55, 1}, {0.6, 12}, {0.94, 12}, {0.95, 100}, {0.975, 1000}, {0.9999999, 10_000},
	} {
		if got := q.at(c.u); got != c.want {
			t.Errorf("at %v: %d, want %d", c.u, got, c.want)
		}
	}
	if got := (quantiles{{0, 0}, {0.5, 10}, {1, 110}}).linear(0.75); got != 60 {
		t.Errorf("linear: %v, want 60", got)
	}
	for name, q := range map[string]quantiles{
		"cartLines": cartLines, "qtyOne": qtyOne, "qtyFew": qtyFew, "qtySome": qtySome, "qtyMany": qtyMany, "qtyMost": qtyMost,
		"backLines": backLines, "backQty": backQty, "itemRanks": itemRanks,
	} {
		if q[0].share != 0 || q[len(q)-1].share != 1 {
			t.Errorf("%s does not go from 0 to 1", name)
		}
		for i := 1; i < len(q); i++ {
			if q[i].share <= q[i-1].share || q[i].value < q[i-1].value {
				t.Errorf("%s does not ascend at %v", name, q[i])
			}
		}
	}
}

func ExampleGenerate() {
	b, err := Generate(1, 3)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, o := range b.Orders {
		fmt.Printf("%s %s: %d lines, %d units\n", o.Kind, o.Invoice, len(o.Lines), o.Units())
	}
	// Output:
	// cart 536365: 15 lines, 642 units
	// restock C536366: 2 lines, 13 units
	// cart 536367: 1 lines, 24 units
}
