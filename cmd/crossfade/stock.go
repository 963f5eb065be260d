package main

import (
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/admin"
)

// maxBadRows is how many broken rows are listed; all are counted.
const maxBadRows = 50

func stockCmd(g *globals) *cobra.Command {
	cmd := group(&cobra.Command{Use: "stock", Short: "Load stock"})
	var add bool
	var run string
	load := &cobra.Command{
		Use: "load FILE.csv", Short: "Put stock into ledger and both stores", Args: args(cobra.ExactArgs(1)),
		Long: "Reads a CSV file with the columns shop, item, location and quantity (location may be missing: then it is\n" +
			"\"" + string(backends.DefaultLocation) + "\"), and sets the units on hand of each row; with --add it adds to them. Each row has an operation id\n" +
			"made from the file's content and the row, so loading the same file again after a failure does nothing twice:\n" +
			"such rows are counted as known. To load the same figures anew, give the load a name with --run.\n" +
			"Broken rows are reported by row; the rest is loaded. Exit code 3 when a row failed.",
		Example: "  crossfade stock load stock.csv",
		RunE: func(cmd *cobra.Command, a []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			b, err := os.ReadFile(a[0])
			if err != nil {
				return &usageError{err}
			}
			rows, bad, err := parseStock(b, add, run)
			if err != nil {
				return &usageError{fmt.Errorf("%s: %w", a[0], err)}
			}
			var sum stockSum
			for part := range slices.Chunk(rows, admin.MaxRows) {
				send := make([]admin.StockRow, len(part))
				for i, r := range part {
					send[i] = r.StockRow
				}
				done, err := c.LoadStock(cmd.Context(), send, add)
				if err != nil {
					return fmt.Errorf("after %d rows: %w; load the file again, rows that are in are not loaded twice", sum.Loaded+sum.Known, err)
				}
				sum.Loaded, sum.Known = sum.Loaded+done.New, sum.Known+done.Known
				for i, text := range done.Bad {
					bad = append(bad, badRow{part[i].line, text})
				}
				if !g.json && len(rows) > admin.MaxRows {
					g.tell("  %d of %d rows\n", sum.Loaded+sum.Known, len(rows))
				}
			}
			sum.Failed, sum.Rows = len(bad), append([]badRow{}, bad...)
			return g.stockLoaded(sum)
		},
	}
	load.Flags().BoolVar(&add, "add", false, "add to what is on hand instead of setting it")
	load.Flags().StringVar(&run, "run", "", "name of this load: the same file under another name is loaded anew")
	cmd.AddCommand(load, stockAdoptCmd(g))
	return cmd
}

func stockAdoptCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "adopt <pod>", Short: "Take over the stock keys that are in Redis already", Args: args(cobra.ExactArgs(1)),
		Long: "Gives a level to each stock key that the pod's Redis has and that its template names, and tells the ledger of\n" +
			"its quantity. The pod has to be in redis-only; run it before the first move to shadow, as often as you like.\n" +
			"Where the ledger has another quantity already, nothing is changed and the key is named: exit code 3.",
		Example: "  crossfade stock adopt pod-1",
		RunE: func(cmd *cobra.Command, a []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			res, err := c.AdoptStock(cmd.Context(), a[0])
			if err != nil {
				return err
			}
			if g.json {
				if err := g.printJSON(res); err != nil {
					return err
				}
			} else {
				for _, d := range res.Differ {
					g.tell("  %s: %d in Redis, %d in the ledger\n", d.Key, d.Redis, d.Ledger)
				}
				g.say("%s adopted in Redis; the ledger learnt of %d, agreed already on %d, differs on %d.\n", plural(res.Adopted, "counter"), res.Ledger, res.Same, res.DifferTotal)
			}
			if res.DifferTotal > 0 {
				return &foundError{plural(res.DifferTotal, "key") + " with another quantity in the ledger: correct the ledger or the counter, then run it again"}
			}
			return nil
		},
	}
}

// stockSum is what became of a file's rows.
type stockSum struct {
	Loaded int      `json:"loaded"`
	Known  int      `json:"known"` // loaded before from the same file; nothing was changed for them
	Failed int      `json:"failed"`
	Rows   []badRow `json:"rows"`
}

func (g *globals) stockLoaded(s stockSum) error {
	slices.SortFunc(s.Rows, func(a, b badRow) int { return a.Row - b.Row })
	if g.json {
		if err := g.printJSON(s); err != nil {
			return err
		}
	} else {
		for _, r := range s.Rows[:min(len(s.Rows), maxBadRows)] {
			g.tell("  row %d: %s\n", r.Row, r.Error)
		}
		g.say("%s loaded, %d failed.\n", plural(s.Loaded, "row"), s.Failed)
		if s.Known > 0 {
			g.say("%s of this very file had been loaded before: nothing was changed for them. To load the same figures anew, name this load with --run.\n", plural(s.Known, "row"))
		}
	}
	if s.Failed > 0 {
		return &foundError{plural(s.Failed, "row") + " failed"}
	}
	return nil
}

var errNoRows = errors.New("no header row")

type badRow struct {
	Row   int    `json:"row"`
	Error string `json:"error"`
}

type stockRow struct {
	admin.StockRow
	line int
}

// parseStock reads rows; the error is about the file as a whole. name tells loads of one content apart.
func parseStock(b []byte, add bool, name string) (rows []stockRow, bad []badRow, err error) {
	sum := sha256.Sum256(append([]byte(name), b...))
	run := hex.EncodeToString(sum[:12])
	if add {
		run += "+"
	}
	lines := strings.Split(strings.TrimPrefix(string(b), "\ufeff"), "\n")
	head, err := csvLine(lines[0])
	if err != nil {
		return nil, nil, errors.Join(errNoRows, err)
	}
	col := map[string]int{}
	for i, h := range head {
		col[strings.ToLower(strings.TrimSpace(h))] = i
	}
	for _, want := range []string{"shop", "item", "quantity"} {
		if _, ok := col[want]; !ok {
			return nil, nil, &backends.FieldError{Field: "header", Value: strings.Join(head, ","), Bound: "the columns shop, item, quantity and, if wanted, location", Next: "add the column " + want}
		}
	}
	for i, text := range lines[1:] {
		line := i + 2
		rec, err := csvLine(text)
		if errors.Is(err, io.EOF) {
			continue // an empty line
		}
		if err != nil {
			bad = append(bad, badRow{line, err.Error()})
			continue
		}
		row, err := stockRowOf(rec, col)
		if err != nil {
			bad = append(bad, badRow{line, err.Error()})
			continue
		}
		row.OpID = backends.OpID(fmt.Sprintf("load:%s:%d", run, line))
		rows = append(rows, stockRow{row, line})
	}
	return rows, bad, nil
}

// csvLine reads one line by itself: no field of ours has a line break in it, and so a quote that is never
// closed cannot swallow the rows that follow.
func csvLine(line string) ([]string, error) {
	rec, err := csv.NewReader(strings.NewReader(line)).Read()
	var pe *csv.ParseError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return rec, err
}

func stockRowOf(rec []string, col map[string]int) (admin.StockRow, error) {
	get := func(name, def string) string {
		if i, ok := col[name]; ok && i < len(rec) && rec[i] != "" {
			return rec[i]
		}
		return def
	}
	row := admin.StockRow{Key: backends.Key{
		Shop: backends.Shop(get("shop", "")), Item: backends.Item(get("item", "")),
		Location: backends.Location(get("location", string(backends.DefaultLocation))),
	}}
	q := get("quantity", "")
	n, err := strconv.ParseInt(strings.TrimSpace(q), 10, 64)
	if err != nil {
		return row, &backends.FieldError{Field: "quantity", Value: fmt.Sprintf("%q", q), Bound: "a whole number", Next: "give the number of units"}
	}
	row.Quantity = n
	return row, backends.CheckKey(row.Key)
}
