package replay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/orders"
)

func book(tb testing.TB, n int) *orders.Book {
	tb.Helper()
	b, err := orders.Generate(3, n)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// realBook is the file that CROSSFADE_ORDERS names (the Online Retail data set, or a part of it), else
// orders of the same shape.
func realBook(tb testing.TB) *orders.Book {
	tb.Helper()
	path := os.Getenv("CROSSFADE_ORDERS")
	if path == "" {
		return book(tb, 300)
	}
	b, err := orders.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// options of a quick run against the shop.
func (s *shop) options(b *orders.Book) Options {
	return Options{
		Orders: b, Against: []string{s.addr}, User: "shop", Password: "secret", Shop: "shop-1", Stock: -1, Clients: 8,
		Patience: 20 * time.Second, Timeout: 5 * time.Second, LogPath: filepath.Join(s.tb.TempDir(), "log.jsonl"),
	}
}

// agree holds the log of a run against both stores.
func (s *shop) agree(path string) LogCheck {
	s.tb.Helper()
	s.settled()
	var c LogCheck
	door, done, err := ThroughDoor(Options{Against: []string{s.addr}, User: "shop", Password: "secret", Shop: "shop-1"})
	if err != nil {
		s.tb.Fatal(err)
	}
	defer done()
	gets := []Getter{s.redis.GetMany, s.mysql.GetMany}
	if s.isOpen {
		gets = append(gets, door)
	}
	for _, get := range gets {
		f, err := os.Open(path)
		if err != nil {
			s.tb.Fatal(err)
		}
		c, err = CheckLog(s.tb.Context(), f, get)
		f.Close()
		if err != nil || !c.Ok() {
			s.tb.Errorf("the log does not agree with a store: %v, %q", err, c.Violations)
		}
	}
	return c
}

func TestStockForAll(t *testing.T) {
	s := newShop(t)
	b := book(t, 300)
	o := s.options(b)
	o.Stock, o.Against = 1, []string{s.addr, s.addr}
	var progress bytes.Buffer
	o.Progress = &progress
	sum, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	f := orders.Measure(b)
	if sum.Carts != int64(f.Carts) || sum.Granted != sum.Carts || sum.Claimed != sum.Carts || !sum.Clean() || sum.Stopped {
		t.Errorf("not every cart was claimed: %+v", sum)
	}
	if sum.Restocks != int64(f.Restocks) || sum.RestockLines != int64(f.BackQuantity.N) || sum.Lines != int64(f.Quantity.N) {
		t.Errorf("restocks or lines: %+v", sum)
	}
	if sum.SeededUnits != sum.Units || sum.UnitsClaimed != sum.Units || sum.SeededItems != len(b.Demand()) {
		t.Errorf("units: %+v", sum)
	}
	if sum.Reserve.N != int(sum.Carts) || sum.Claim.N != int(sum.Claimed) || !(sum.Reserve.P50MS > 0 && sum.Reserve.P50MS <= sum.Reserve.P99MS && sum.Reserve.P99MS <= sum.Reserve.MaxMS) {
		t.Errorf("latencies: %+v, %+v", sum.Reserve, sum.Claim)
	}
	if c := s.agree(o.LogPath); c.Granted != int(sum.Granted) || c.Claimed != int(sum.Claimed) || c.Torn || c.Run != sum.Run {
		t.Errorf("the log has %+v", c)
	}
	s.checkStores()
	left, err := s.Levels(t.Context(), keysOf(b))
	if err != nil {
		t.Fatal(err)
	}
	var units int64
	for _, l := range left {
		units += l.OnHand
	}
	if units != sum.RestockUnits {
		t.Errorf("%d units are left; what came back is %d", units, sum.RestockUnits)
	}
	if !strings.HasPrefix(progress.String(), "replay: setting the stock") || !strings.Contains(progress.String(), "300 of 300 orders") {
		t.Errorf("progress:\n%s", progress.String())
	}
}

func keysOf(b *orders.Book) []backends.Key {
	var ks []backends.Key
	for _, it := range b.Items() {
		ks = append(ks, backends.Key{Shop: "shop-1", Item: it, Location: "main"})
	}
	return ks
}

func TestHalfOfTheStock(t *testing.T) {
	s := newShop(t)
	o := s.options(realBook(t))
	o.Stock, o.Hold, o.ReleaseShare, o.Location, o.Clients = 0.5, 5*time.Millisecond, 0.3, "main", 32
	sum, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := sum.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", table.String())
	if sum.SoldOut < 20 || sum.ShortLines < sum.SoldOut || sum.ShortUnits < sum.ShortLines || sum.Granted+sum.SoldOut != sum.Carts || !sum.Clean() {
		t.Errorf("sold out: %+v", sum)
	}
	if sum.Released < sum.Granted/6 || sum.Released > sum.Granted/2 || sum.Claimed+sum.Released != sum.Granted {
		t.Errorf("released: %+v", sum)
	}
	if c := s.agree(o.LogPath); c.SoldOut != int(sum.SoldOut) || c.Released != int(sum.Released) {
		t.Errorf("the log has %+v", c)
	}
	s.checkStores()
}

type result struct {
	sum Summary
	err error
}

func start(ctx context.Context, o Options) <-chan result {
	done := make(chan result, 1)
	go func() {
		sum, err := Run(ctx, o)
		done <- result{sum, err}
	}()
	return done
}

// The door goes away in the middle of a run, again and again, and comes back: nothing is done twice
// and nothing is lost.
func TestDoorThatIsStoppedAndStartedAgain(t *testing.T) {
	s := newShop(t)
	b := book(t, 400)
	o := s.options(b)
	o.Stock, o.Hold, o.Clients = 1, 2*time.Millisecond, 16
	o.Seed = func(ctx context.Context, ls []Level) error { // beside the door
		for _, l := range ls {
			r := &backends.RestockRequest{OpID: l.OpID, Key: backends.Key{Shop: "shop-1", Item: l.Item, Location: "main"}, Kind: backends.RestockSetOnHand, Amount: l.Quantity}
			if _, err := s.Restock(ctx, r); err != nil {
				return err
			}
		}
		return nil
	}
	done := start(t.Context(), o)
	for stops := 0; stops < 5; stops++ {
		before := s.door.Stats().Commands
		s.until("the door has served some more", func() bool { return s.door.Stats().Commands > before+60 })
		s.close()
		s.open()
	}
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	if !r.sum.Clean() || r.sum.Claimed != r.sum.Carts || r.sum.Stopped {
		t.Errorf("a cart was not claimed: %+v", r.sum)
	}
	if r.sum.Retries == 0 || r.sum.RetryReasons["connection broken"]+r.sum.RetryReasons["no connection"] == 0 {
		t.Errorf("nothing was sent again: %v", r.sum.RetryReasons)
	}
	s.agree(o.LogPath)
	s.checkStores()
	var units int64
	ls, err := s.Levels(t.Context(), keysOf(b))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range ls {
		units += l.OnHand
	}
	if units != r.sum.RestockUnits {
		t.Errorf("%d units are left; what came back is %d", units, r.sum.RestockUnits)
	}
}

// A door that never comes back: the run ends, and says what is open.
func TestNothingIsGivenUpSilently(t *testing.T) {
	s := newShop(t)
	o := s.options(book(t, 30))
	o.Stock, o.Patience, o.Hold = 1, 200*time.Millisecond, time.Millisecond
	o.Seed = func(context.Context, []Level) error { s.close(); return nil }
	sum, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if sum.Unresolved != sum.Carts || sum.Carts == 0 || sum.RestocksUnresolved != sum.RestockLines || sum.Clean() {
		t.Errorf("got %+v", sum)
	}
	if len(sum.Problems) == 0 || !strings.Contains(sum.Problems[0], "no verdict after") || len(sum.Problems) > maxProblems {
		t.Errorf("problems: %q", sum.Problems)
	}
	if c := s.agree(o.LogPath); c.Unresolved != int(sum.Carts) {
		t.Errorf("the log has %+v", c)
	}
}

func TestRefusals(t *testing.T) {
	s := newShop(t)
	o := s.options(&orders.Book{Orders: []orders.Order{
		{Invoice: "1", Kind: orders.Cart, Lines: []orders.Line{{Item: "never heard of", Quantity: 1}}},
	}})
	sum, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if sum.Refused != 1 || sum.RefusedBy["XFNOSTOCK"] != 1 || sum.Retries != 0 || sum.Clean() {
		t.Errorf("unknown stock: %+v", sum)
	}
	o.Password, o.LogPath = "wrong", ""
	if sum, err = Run(t.Context(), o); err != nil || sum.RefusedBy["AUTH"] != 1 {
		t.Errorf("wrong password: %v, %+v", err, sum)
	}
	o.Stock = 1
	if _, err = Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "setting the stock") {
		t.Errorf("wrong password when the stock is set: %v", err)
	}
}

// A hold that the truth loses must show.
func TestMissingHoldsShow(t *testing.T) {
	s := newShop(t)
	o := s.options(&orders.Book{Orders: []orders.Order{{Invoice: "1", Kind: orders.Cart, Lines: []orders.Line{{Item: "a", Quantity: 1}}}}})
	o.Stock, o.Run, o.Hold, o.Random = 1, "run", time.Millisecond, 1
	door := &forgetful{shop: s}
	ln, stop := door.listen(t)
	defer stop()
	o.Against = []string{ln}
	sum, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if sum.Missing != 1 || sum.Clean() || len(sum.Problems) != 1 || !strings.Contains(sum.Problems[0], "does not know it") {
		t.Errorf("got %+v", sum)
	}
	f, err := os.Open(o.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := CheckLog(t.Context(), f, s.redis.GetMany)
	if err != nil || c.ViolationsTotal != 1 {
		t.Errorf("the log's check: %v, %+v", err, c)
	}
}

func TestUntilEndsWhatIsUnderWay(t *testing.T) {
	s := newShop(t)
	o := s.options(book(t, 300))
	until := make(chan struct{})
	o.Stock, o.Rate, o.Hold, o.Until = 1, 200, 5*time.Millisecond, until
	o.Clients = 4
	seeded := int64(len(o.Orders.Demand()))
	done := start(t.Context(), o)
	s.until("some orders were played", func() bool { return s.door.Stats().Commands > seeded+50 })
	close(until)
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	sum := r.sum
	if !sum.Stopped || !sum.Clean() || sum.Claimed != sum.Carts || sum.Carts+sum.Restocks >= 300 {
		t.Errorf("got %+v", sum)
	}
	s.agree(o.LogPath)
}

func TestContextLeavesThingsAsTheyAre(t *testing.T) {
	s := newShop(t)
	o := s.options(book(t, 100))
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	enough := errors.New("enough")
	o.Stock, o.Hold, o.Clients = 1, time.Hour, 4
	o.Seed = func(ctx context.Context, ls []Level) error {
		for _, l := range ls {
			if _, err := s.Restock(ctx, &backends.RestockRequest{OpID: l.OpID, Key: backends.Key{Shop: "shop-1", Item: l.Item, Location: "main"}, Amount: l.Quantity}); err != nil {
				return err
			}
		}
		return nil
	}
	done := start(ctx, o)
	s.until("all clients hold something", func() bool {
		hs, _, err := s.redis.ScanHolds(t.Context(), "", 10, true)
		return err == nil && len(hs) == 4
	})
	cancel(enough)
	r := <-done
	if !errors.Is(r.err, enough) {
		t.Errorf("the error is %v", r.err)
	}
	sum := r.sum
	// A grant whose answer was still on its way is unresolved: the player never had it.
	if sum.Granted+sum.Unresolved != 4 || sum.Open != sum.Granted || !sum.Stopped {
		t.Errorf("got %+v", sum)
	}
	if c := s.agree(o.LogPath); int64(c.Granted) != sum.Granted || c.Claimed != 0 {
		t.Errorf("the log has %+v", c)
	}
}

func TestRateAndFate(t *testing.T) {
	s := newShop(t)
	b := &orders.Book{}
	for i := range 20 {
		b.Orders = append(b.Orders, orders.Order{Invoice: fmt.Sprint(i), Kind: orders.Cart, Lines: []orders.Line{{Item: "a", Quantity: 1}}})
	}
	o := s.options(b)
	o.Stock, o.Rate = 1, 100
	sum, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if least := 190.0; sum.WallMS < least || sum.Claimed != 20 {
		t.Errorf("20 orders at 100 a second took %v ms: %+v", sum.WallMS, sum)
	}
	p := &player{o: Options{Hold: 100 * time.Millisecond, ReleaseShare: 0.25, Random: 7}}
	var total time.Duration
	frees := 0
	const n = 4000
	for i := range n {
		d, free := p.fate(i)
		if again, f := p.fate(i); again != d || f != free {
			t.Fatal("an order's fate is not its own")
		}
		if d < 0 || d > HoldAtMost*p.o.Hold {
			t.Fatalf("held for %s", d)
		}
		total += d
		if free {
			frees++
		}
	}
	if mean := total / n; mean < 90*time.Millisecond || mean > 110*time.Millisecond {
		t.Errorf("held for %s on average", mean)
	}
	if frees < n/5 || frees > n*3/10 {
		t.Errorf("%d of %d released", frees, n)
	}
}

func TestLevels(t *testing.T) {
	b := &orders.Book{Orders: []orders.Order{
		{Invoice: "1", Kind: orders.Cart, Lines: []orders.Line{{Item: "b", Quantity: 10}, {Item: "a", Quantity: 3}}},
		{Invoice: "2", Kind: orders.Cart, Lines: []orders.Line{{Item: "a", Quantity: 2}}},
		{Invoice: "C3", Kind: orders.Restock, Lines: []orders.Line{{Item: "z", Quantity: 2}}},
	}}
	for _, c := range []struct {
		stock float64
		want  [3]int64 // a, b, z
	}{{1, [3]int64{5, 10, 0}}, {0.5, [3]int64{2, 5, 0}}, {0.1, [3]int64{0, 1, 0}}, {0, [3]int64{}}, {3, [3]int64{15, 30, 0}}} {
		o := Options{Orders: b, Stock: c.stock, Run: "r"}
		got := o.levels()
		want := []Level{{"a", c.want[0], "r-stock-1"}, {"b", c.want[1], "r-stock-2"}, {"z", c.want[2], "r-stock-3"}}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("stock %v: %v, want %v", c.stock, got, want)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	good := Options{Orders: &orders.Book{}, Against: []string{"127.0.0.1:1"}, Shop: "s", Stock: -1}
	for _, c := range []struct {
		name  string
		spoil func(*Options)
		field string
	}{
		{"nothing spoiled", func(*Options) {}, ""},
		{"no orders", func(o *Options) { o.Orders = nil }, "replay"},
		{"no address", func(o *Options) { o.Against = nil }, "replay"},
		{"an address without a port", func(o *Options) { o.Against = []string{"localhost"} }, "address"},
		{"too many addresses", func(o *Options) { o.Against = make([]string, MaxAgainst+1) }, "addresses"},
		{"clients", func(o *Options) { o.Clients = MaxClients + 1 }, "clients"},
		{"rate", func(o *Options) { o.Rate = -1 }, "rate"},
		{"stock", func(o *Options) { o.Stock = MaxStock + 1 }, "stock"},
		{"hold", func(o *Options) { o.Hold = -time.Second }, "hold"},
		{"release share", func(o *Options) { o.ReleaseShare = 1.1 }, "release share"},
		{"patience", func(o *Options) { o.Patience = -1 }, "patience and timeout"},
		{"run", func(o *Options) { o.Run = strings.Repeat("r", MaxRunLen+1) }, "run"},
		{"run in another alphabet", func(o *Options) { o.Run = "é" }, "run"},
		{"shop", func(o *Options) { o.Shop = "" }, "shop"},
		{"location", func(o *Options) { o.Location = "\n" }, "location"},
		{"ttl", func(o *Options) { o.TTL = time.Millisecond }, "ttl"},
		{"caller", func(o *Options) { o.Caller = "*/" }, "caller"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := good
			c.spoil(&o)
			_, err := Run(t.Context(), o)
			var fe *backends.FieldError
			if field := ""; errors.As(err, &fe) {
				field = fe.Field
				if field != c.field {
					t.Errorf("complains of %q: %v", field, err)
				}
			} else if c.field != "" || err != nil {
				t.Errorf("got %v", err)
			}
		})
	}
	if n := len(good.opID(strings.Repeat("i", orders.MaxInvoiceLen), backends.MaxLines)) + MaxRunLen; n > backends.MaxIDLen {
		t.Errorf("the longest operation id has %d bytes", n)
	}
}

func TestLogIsNotOverwritten(t *testing.T) {
	s := newShop(t)
	o := s.options(&orders.Book{})
	if err := os.WriteFile(o.LogPath, []byte("evidence"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), o); !errors.Is(err, os.ErrExist) {
		t.Errorf("got %v", err)
	}
}

func TestBrokenRowsAreTold(t *testing.T) {
	s := newShop(t)
	b, err := orders.Read(strings.NewReader("InvoiceNo,StockCode,Quantity\n1,A,1\n" + strings.Repeat("1,B,0\n", 25)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	o := s.options(b)
	o.Stock, o.Progress = 1, &out
	sum, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if sum.BrokenRows != 25 || sum.Claimed != 1 || !strings.Contains(out.String(), "not played: row 3: Quantity is 0") || !strings.Contains(out.String(), "not played: 5 more broken rows") {
		t.Errorf("%+v\n%s", sum, out.String())
	}
}

func TestSummaryIsForPeopleAndPrograms(t *testing.T) {
	s := Summary{
		Run: "r", Shop: "s", Orders: 3, Carts: 2, Granted: 1, SoldOut: 1, Claimed: 1, ShortLines: 1, ShortUnits: 4, Retries: 3,
		RetryReasons: map[string]int64{"timeout": 1, "XFBUSY": 2}, RefusedBy: map[string]int64{}, Problems: []string{"one"},
		Reserve: latencyOf([]time.Duration{3 * time.Millisecond, time.Millisecond, 2 * time.Second}),
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	var out bytes.Buffer
	if err := s.WriteTable(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"sold out", "1 (1 short lines, 4 units missing)", "3 (XFBUSY 2, timeout 1)", "p50 3ms, p95 2s, p99 2s, longest 2s, of 3", "problem"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	b, err := json.Marshal(s)
	if err != nil || !bytes.Contains(b, []byte(`"p50_ms":3`)) {
		t.Errorf("%v: %s", err, b)
	}
	s.SoldOut = 2
	if s.Check() == nil {
		t.Error("three of two carts are accounted for, and nobody minds")
	}
	s.SoldOut, s.Claimed = 1, 0
	if s.Check() == nil {
		t.Error("a granted cart has vanished, and nobody minds")
	}
}
