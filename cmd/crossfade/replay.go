package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/config"
	"github.com/crossfade-proxy/crossfade/cmd/internal/orders"
	"github.com/crossfade-proxy/crossfade/cmd/internal/replay"
)

// reachWithin bounds the first look at a proxy. Later a replay is patient: proxies may die under it.
const reachWithin = 3 * time.Second

// reachable says at once that nobody listens, instead of at the end of the replay's patience.
func reachable(ctx context.Context, addrs []string) error {
	for _, addr := range addrs {
		t, err := replay.ParseTarget(addr)
		if err != nil {
			return &usageError{err}
		}
		conn, err := (&net.Dialer{Timeout: reachWithin}).DialContext(ctx, "tcp", t.Addr)
		if err != nil {
			return &gapError{fmt.Sprintf("no proxy answers at %s (%v); start one with 'crossfade serve', or name another with --against", t.Addr, err)}
		}
		_ = conn.Close() // it has said nothing: only whether it can be had was asked
	}
	return nil
}

func replayCmd(g *globals) *cobra.Command {
	var o replay.Options
	var shop, location string
	var generate int
	var seed uint64
	cmd := &cobra.Command{
		Use: "replay [FILE]", Short: "Play an order file as checkouts would", Args: args(cobra.MaximumNArgs(1)),
		Long: "Plays an order file in the column format of the UCI Online Retail data set (CSV or .csv.gz, with or without\n" +
			"Description, InvoiceDate and UnitPrice): an invoice is a cart, which is reserved, held for about --hold and\n" +
			"claimed; an invoice whose number begins with C is a restock of what comes back. Broken rows are reported by\n" +
			"row and the rest is played. Without a file, --generate N plays N orders of the same shape.\n" +
			"Exit code 3 when an order was left unresolved or an answer made no sense.",
		Example: "  crossfade replay online-retail.csv.gz --stock 0.5 --clients 64 --hold 50ms --shop shop-one\n" +
			"  crossfade replay --generate 500 --stock 1 --against 127.0.0.1:6380 --against redis://:secret@127.0.0.1:6381 --shop shop-one",
		RunE: func(cmd *cobra.Command, a []string) error {
			var err error
			switch {
			case len(a) == 1:
				o.Orders, err = orders.ReadFile(a[0])
			case generate > 0:
				o.Orders, err = orders.Generate(seed, generate)
				if !cmd.Flags().Changed("stock") {
					o.Stock = 1 // generated items are nobody's: without stock there is nothing to play
				}
			default:
				err = fmt.Errorf("name an order file, or --generate N")
			}
			if err != nil {
				return &usageError{err}
			}
			if len(o.Against) == 0 {
				cfg, err := config.Load(g.config)
				if err != nil {
					return &usageError{fmt.Errorf("%w; or name a proxy with --against host:port", err)}
				}
				o.Against, o.User, o.Password = []string{cfg.RESP.Listen}, cfg.RESP.User, cfg.RESP.Password
				if shop == "" && len(cfg.Pods) > 0 && len(cfg.Pods[0].Shops) > 0 {
					shop = cfg.Pods[0].Shops[0]
				}
			}
			if err := reachable(cmd.Context(), o.Against); err != nil {
				return err
			}
			o.Shop, o.Location, o.Random = backends.Shop(shop), backends.Location(location), seed
			if !g.json {
				o.Progress = g.err
			}
			// An interrupt ends the run, not the carts that are under way.
			o.Until = cmd.Context().Done()
			sum, err := replay.Run(context.WithoutCancel(cmd.Context()), o)
			perr := g.printResult(&sum)
			if err == nil && !sum.Clean() {
				err = &foundError{"the replay did not end clean; see above"}
			}
			return errors.Join(err, perr)
		},
	}
	f := cmd.Flags()
	f.Float64Var(&o.Stock, "stock", -1, "seed each item with this fraction of its total demand (default: seed nothing for a file, 1 for generated orders)")
	f.IntVar(&o.Clients, "clients", replay.DefaultClients, "checkouts at the same time")
	f.Float64Var(&o.Rate, "rate", 0, "orders begun per second (default: as fast as the clients go)")
	f.DurationVar(&o.Hold, "hold", 0, "mean time between reserve and claim")
	f.Float64Var(&o.ReleaseShare, "release", 0, "share of granted carts that are released instead of claimed")
	f.DurationVar(&o.TTL, "ttl", replay.DefaultTTL, "life asked for each hold")
	f.DurationVar(&o.Patience, "patience", replay.DefaultPatience, "how long an operation is sent again before it counts as unresolved")
	f.StringArrayVar(&o.Against, "against", nil, "proxy to play against, as host:port or redis://user:password@host:port; may be given several times (default: that of the configuration)")
	f.StringVar(&shop, "shop", "", "shop of all orders (default: the first of the configuration)")
	f.StringVar(&location, "location", "", "location of all lines (default: the pod's own)")
	f.StringVar(&o.Run, "run", "", "name of the run, part of every hold id (default: random)")
	f.StringVar(&o.LogPath, "log", "", "write the client's own log of answers to this new file")
	f.IntVar(&generate, "generate", 0, "play so many generated orders instead of a file")
	f.Uint64Var(&seed, "seed", 1, "seed of generated orders, waits and releases")
	return cmd
}
