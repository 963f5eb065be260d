package respdoor_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/crossfade-proxy/crossfade/dualwrite/respdoor"
)

// TestHoldLife is the headline: a cart is reserved, seen, extended, claimed.
func TestHoldLife(t *testing.T) {
	for _, proto := range []string{"2", "3"} {
		t.Run("RESP"+proto, func(t *testing.T) {
			addr, _, _ := shop(t, respdoor.Config{Caller: "test"}, map[string]int64{"mug": 5, "BANK CHARGES": 1})
			c := dial(t, addr)
			c.do("HELLO", proto, "SETNAME", "web-1")

			d := pairs(t, c.do("XF.RESERVE", "s", "cart 1", "TTL", "60000", "LINE", "mug", "2", "LINE", "BANK CHARGES", "1", "LOC", "2", "none", "main"))
			if d["status"] != "granted" || d["hold"] != "cart 1" || d["state"] != "held" || d["replayed"] != int64(0) || d["expires_in_ms"] != int64(60000) {
				t.Fatalf("reserve: %v", d)
			}
			allocs := d["allocations"].([]any)
			want := map[string]any{"line": int64(2), "item": "BANK CHARGES", "location": "main", "qty": int64(1)}
			if len(allocs) != 2 || !cmp.Equal(pairs(t, allocs[1]), want) {
				t.Fatalf("allocations: %v", allocs)
			}
			again := pairs(t, c.do("xf.reserve", "s", "cart 1", "ttl", "1000", "line", "mug", "2", "line", "BANK CHARGES", "1", "loc", "2", "none", "main"))
			if again["status"] != "granted" || again["replayed"] != int64(1) || again["expires_in_ms"].(int64) < 1000 {
				t.Fatalf("replay: %v", again)
			}
			if v := c.do("GET", "stock:s:mug"); v != "3" {
				t.Fatalf("sellable is %v", v)
			}
			h := pairs(t, c.do("XF.GET", "s", "cart 1"))
			if h["state"] != "held" || h["caller"] != "web-1" || len(h["lines"].([]any)) != 2 {
				t.Fatalf("get: %v", h)
			}
			if x := pairs(t, c.do("XF.EXTEND", "s", "cart 1", "TTL", "120000")); x["status"] != "extended" || x["expires_in_ms"].(int64) <= 60000 {
				t.Fatalf("extend: %v", x)
			}
			cl := pairs(t, c.do("XF.CLAIM", "s", "cart 1", "WAIT", "100"))
			if cl["status"] != "claimed" || cl["state"] != "claimed" || cl["expires_in_ms"] != nil || cl["ledger"] == nil {
				t.Fatalf("claim: %v", cl)
			}
			if r := pairs(t, c.do("XF.RELEASE", "s", "cart 1")); r["status"] != "ended" || r["state"] != "claimed" {
				t.Fatalf("release: %v", r)
			}
			l := pairs(t, c.do("XF.STOCK", "s", "mug").([]any)[0])
			if l["on_hand"] != int64(3) || l["sellable"] != int64(3) || l["held"] != int64(0) || l["debt"] != int64(0) {
				t.Fatalf("stock: %v", l)
			}
		})
	}
}

func TestRefusalsAndErrors(t *testing.T) {
	addr, _, _ := shop(t, respdoor.Config{}, map[string]int64{"mug": 5})
	c := dial(t, addr)
	sold := pairs(t, c.do("XF.RESERVE", "s", "h1", "TTL", "60000", "LINE", "mug", "6"))
	short := pairs(t, sold["short"].([]any)[0])
	if sold["status"] != "sold_out" || sold["state"] != nil || !cmp.Equal(short, map[string]any{"line": int64(1), "item": "mug", "wanted": int64(6), "available": int64(5)}) {
		t.Fatalf("sold out: %v", sold)
	}
	if d := pairs(t, c.do("XF.RELEASE", "s", "nobody")); d["status"] != "not_found" || d["state"] != nil {
		t.Fatalf("unknown hold: %v", d)
	}
	if v := c.do("XF.GET", "s", "nobody"); v != nil {
		t.Fatalf("unknown hold: %v", v)
	}
	c.do("XF.RESERVE", "s", "h2", "TTL", "60000", "LINE", "mug", "1")
	long := strings.Repeat("x", 65)
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"XF.RESERVE", "s", "h2", "TTL", "60000", "LINE", "mug", "2"}, "XFCONFLICT hold id is in use"},
		{[]string{"XF.RESERVE", "s", "h3", "TTL", "60000", "LINE", "cup", "1"}, `XFNOSTOCK no stock is known for shop "s" item "cup"`},
		{[]string{"XF.RESERVE", "s", "h3", "TTL", "60000", "LINE", "mug"}, "ERR wrong number of arguments for 'xf.reserve' command"},
		{[]string{"XF.RESERVE", "s", "h3", "TTL", "0", "LINE", "mug", "1"}, "XFINVALID ttl is 0s; allowed: 10ms to 24h0m0s"},
		{[]string{"XF.RESERVE", "s", "h3", "TTL", "9999999999999", "LINE", "mug", "1"}, "XFINVALID ttl is "},
		{[]string{"XF.RESERVE", "s", "h3", "TTL", "soon", "LINE", "mug", "1"}, `XFINVALID ttl is "soon"; allowed: a whole number`},
		{[]string{"XF.RESERVE", "s", "h3", "CALLER", "a", "LINE", "mug", "1"}, "XFINVALID syntax: TTL is missing"},
		{[]string{"XF.RESERVE", "s", "h3", "TTL", "60000", "LINE", "mug", "0"}, "XFINVALID line 1 quantity is 0"},
		{[]string{"XF.RESERVE", "s", "h3", "TTL", "60000", "LINE", "mug", "1000001"}, "XFINVALID line 1 quantity is 1000001"},
		{[]string{"XF.RESERVE", "s", "h3", "TTL", "60000", "LINE", "", "1"}, `XFINVALID line 1 item is ""`},
		{[]string{"XF.RESERVE", "s", "h3", "TTL", "60000", "LINE", long, "1"}, "XFINVALID line 1 item is "},
		{[]string{"XF.RESERVE", "s", "h\x01", "TTL", "60000", "LINE", "mug", "1"}, "XFINVALID hold id is "},
		{[]string{"XF.RESERVE", "s", "h3", "TTL", "60000", "LINE", "mug", "1", "LINE", "mug", "1"}, "XFINVALID line 2 is item"},
		{[]string{"XF.RESERVE", "s", "h3", "TTL", "60000", "LINE", "mug", "1", "LOC", "17"}, "XFINVALID line 1 number of locations is 17"},
		{[]string{"XF.RESERVE", "s", "h3", "TTL", "60000", "LINE", "mug", "1", "LOC", "2", "a"}, "XFINVALID syntax: line 1 location is missing at the end"},
		{[]string{"XF.RESERVE", "s", "h3", "TTL", "60000", "LINE", "mug", "1", "SPLITS"}, `XFINVALID syntax: found "SPLITS" where TTL, LINE, CALLER was expected`},
		{[]string{"XF.RESERVE", "s", "h3", "TTL", "60000", "CALLER", "a b", "LINE", "mug", "1"}, `XFINVALID caller is "a b"`},
		{[]string{"XF.CLAIM", "s", "h2", "WAIT", "-1"}, "XFINVALID wait is "},
		{[]string{"XF.RESTOCK", "s", "mug", "1", "OPID"}, "ERR wrong number of arguments for 'xf.restock' command"},
		{[]string{"XF.RESTOCK", "s", "mug", "1", "LOC", "1", "main"}, "XFINVALID syntax: OPID is missing"},
		{[]string{"XF.RESTOCK", "s", "mug", "-1", "OPID", "o", "MODE", "ONHAND"}, "XFINVALID quantity is -1"},
		{[]string{"XF.STOCK", "s", "mug", "LOC", "0"}, "XFINVALID stock number of locations is 0"},
	} {
		got, ok := c.do(row.args...).(redisError)
		if !ok || !strings.HasPrefix(string(got), row.want) {
			t.Errorf("%q\n got %v\nwant %s…", row.args, got, row.want)
		}
	}
	if v := c.do("GET", "stock:s:mug"); v != "4" {
		t.Errorf("refused requests moved stock: sellable is %v", v)
	}
}

func TestRestock(t *testing.T) {
	addr, _, _ := shop(t, respdoor.Config{}, nil)
	c := dial(t, addr)
	for _, row := range []struct {
		args     []string
		replayed int64
		sellable string
	}{
		{[]string{"XF.RESTOCK", "s", "mug", "10", "OPID", "o1"}, 0, "10"},
		{[]string{"XF.RESTOCK", "s", "mug", "10", "OPID", "o1"}, 1, "10"},
		{[]string{"XF.RESTOCK", "s", "mug", "-3", "OPID", "o2", "CALLER", "wms"}, 0, "7"},
		{[]string{"XF.RESTOCK", "s", "mug", "4", "OPID", "o3", "LOC", "1", "main", "MODE", "ONHAND"}, 0, "4"},
		{[]string{"XF.RESTOCK", "s", "mug", "6", "OPID", "o4", "MODE", "sellable"}, 0, "6"},
	} {
		d := pairs(t, c.do(row.args...))
		if d["status"] != "restocked" || d["replayed"] != row.replayed {
			t.Errorf("%q: %v", row.args, d)
		}
		if v := c.do("GET", "stock:s:mug"); v != row.sellable {
			t.Errorf("%q: sellable is %v, want %s", row.args, v, row.sellable)
		}
	}
}

// TestLargestCart: a cart at every bound has to fit into one frame.
func TestLargestCart(t *testing.T) {
	addr, _, _ := shop(t, respdoor.Config{}, nil)
	c := dial(t, addr)
	pad := func(s string) string { return s + strings.Repeat("x", 64-len(s)) }
	args := []string{"XF.RESERVE", pad("s"), pad("h"), "TTL", "86400000", "CALLER", pad("c")}
	for i := range 1000 {
		args = append(args, "LINE", pad(fmt.Sprint("item", i)), "1", "LOC", "16")
		for l := range 16 {
			args = append(args, pad(fmt.Sprint("loc", l)))
		}
		args = append(args, "SPLIT")
	}
	got, ok := c.do(args...).(redisError)
	if !ok || !strings.HasPrefix(string(got), "XFNOSTOCK") { // it was read and understood
		t.Fatalf("%d arguments: %v", len(args), got)
	}
	more := append(args, args[7:]...)
	c.send(frame(more...)[:64]) // what it announces is enough
	if got := c.closed(); got != "-ERR Protocol error: invalid multibulk length\r\n" {
		t.Fatalf("%d arguments: %q", len(more), got)
	}
}
