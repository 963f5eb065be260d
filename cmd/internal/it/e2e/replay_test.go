package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/cmd/internal/replay"
	"github.com/crossfade-proxy/crossfade/comparator"
)

func (r *rig) addrs() []string {
	var out []string
	for _, p := range r.proxies {
		out = append(out, p.resp)
	}
	return out
}

// options of a replay through all proxies.
func (r *rig) options(stock float64, short int) replay.Options {
	return replay.Options{
		Orders: book(r.t, short), Against: r.addrs(), Shop: shop, Stock: stock, Clients: 64, Hold: 20 * time.Millisecond,
		Patience: 90 * time.Second, Random: 1,
	}
}

func (r *rig) play(o replay.Options) replay.Summary {
	r.t.Helper()
	sum, err := replay.Run(r.t.Context(), o)
	if err != nil {
		r.t.Fatalf("%v\n%s", err, r.logs())
	}
	if err := sum.Check(); err != nil {
		r.t.Fatal(err)
	}
	return sum
}

// TestReplay plays orders through two proxies, with stock for all and for half, with Redis and with
// MySQL as truth: every decision is in the account, nothing is confirmed as a difference, and the
// audit finds nothing.
func TestReplay(t *testing.T) {
	for _, stage := range []string{"shadow", "live"} {
		for _, stock := range []float64{1, 0.5} {
			t.Run(fmt.Sprintf("%s/stock %g", stage, stock), func(t *testing.T) {
				r := newRig(t, 2)
				r.stage("shadow")
				if stage == "live" {
					r.stage("live")
				}
				sum := r.play(r.options(stock, 120))
				t.Logf("%d carts, %d granted, %d sold out, %d claimed, %.0f carts/s, reserve p50 %.1f ms p99 %.1f ms",
					sum.Carts, sum.Granted, sum.SoldOut, sum.Claimed, sum.Rate, sum.Reserve.P50MS, sum.Reserve.P99MS)
				if sum.Unresolved != 0 || sum.Missing != 0 || sum.Refused != 0 {
					t.Fatalf("unresolved %d, missing %d, refused %d: %v", sum.Unresolved, sum.Missing, sum.Refused, sum.Problems)
				}
				if stock == 1 && sum.SoldOut != 0 || stock < 1 && sum.SoldOut == 0 {
					t.Fatalf("%d sold out with stock %g", sum.SoldOut, stock)
				}
				start := time.Now()
				rep := r.drainedOf(pick(2*time.Minute, 8*time.Minute), sum.Granted+sum.SoldOut)
				c := rep.Coverage
				t.Logf("after %s: %+v, undetermined why: %v", time.Since(start).Round(time.Second), c.Counts, rep.UndeterminedWhy)
				if err := c.Check(); err != nil {
					t.Fatal(err)
				}
				if want := sum.Granted + sum.SoldOut; c.Decisions != want {
					t.Fatalf("%d decisions in the account, the clients got %d", c.Decisions, want)
				}
				if c.Confirmed != 0 || c.Lost != 0 || c.SampledOut != 0 || rep.Open != 0 {
					t.Fatalf("confirmed %d, lost %d, sampled out %d, open findings %d: %+v", c.Confirmed, c.Lost, c.SampledOut, rep.Open, rep.Findings)
				}
				r.evidence(rep.Parity.Compared, comparator.Plentiful, comparator.LastUnits, comparator.SoldOut)
				r.clean()
			})
		}
	}
}
