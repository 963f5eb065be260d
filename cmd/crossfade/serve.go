package main

import (
	"fmt"
	"log/slog"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/crossfade-proxy/crossfade/cmd/internal/config"
	"github.com/crossfade-proxy/crossfade/cmd/internal/proxy"
)

// ballastBytes of memory that is never touched, and so costs none: the collector, which runs when the heap
// has doubled, counts it as heap. What a proxy keeps is some MB, and it would otherwise be collected many
// times a second.
const ballastBytes = 16 << 20

func serveCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "serve", Short: "Run the proxy", Args: args(cobra.NoArgs),
		Long: "Runs the proxy that the configuration describes, until it is interrupted: then it answers what it has and\n" +
			"ends within ten seconds, or at once when it is interrupted again. Pods begin to serve as\n" +
			"soon as their Redis answers; MySQL may come later, but for a pod's very first start.",
		Example: "  crossfade serve -c crossfade.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(g.config)
			if err != nil {
				return &usageError{err}
			}
			var h slog.Handler = slog.NewTextHandler(g.err, nil)
			if g.json {
				h = slog.NewJSONHandler(g.err, nil)
			}
			ballast := make([]byte, ballastBytes)
			defer runtime.KeepAlive(ballast)
			log := slog.New(h).With("proxy", cfg.ProxyID)
			p, err := proxy.Start(cmd.Context(), cfg, log)
			if err != nil {
				return err
			}
			log.Info("listening", "resp", p.RESPAddr(), "admin", p.AdminAddr(), "pods", len(cfg.Pods))
			<-cmd.Context().Done()
			log.Info("stopping: what is under way is ended first; another interrupt ends the proxy at once")
			return p.Stop()
		},
	}
}

func configCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "config", Short: "Check the configuration", Args: args(cobra.NoArgs),
		Long:    "Checks all that 'crossfade serve' checks of the configuration before it asks its servers: exit code 2 when it\nwould not start. Nothing is connected to, and no port is taken.",
		Example: "  crossfade config -c crossfade.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(g.config)
			if err != nil {
				return &usageError{err}
			}
			if err := proxy.Check(cmd.Context(), cfg); err != nil {
				return &usageError{fmt.Errorf("%s: %w", g.config, err)}
			}
			if g.json {
				return g.printJSON(map[string]any{"ok": true, "pods": len(cfg.Pods)})
			}
			g.say("%s is fit: %s\n", g.config, plural(len(cfg.Pods), "pod"))
			return nil
		},
	}
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
