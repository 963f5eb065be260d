package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
	"github.com/crossfade-proxy/crossfade/cmd/internal/proxy"
)

func labCmd(g *globals) *cobra.Command {
	var dir string
	cmd := group(&cobra.Command{
		Use: "lab", Short: "Private, throw-away real servers on loopback",
		Long: "Runs MySQL (or MariaDB) and Redis (or Valkey) in a folder, on free loopback ports, without touching the\n" +
			"system, and writes a ready crossfade.yaml. Servers are found on the machine, or fetched once with apt into a\n" +
			"private cache. Root has no password there: for test data only.",
	})
	cmd.PersistentFlags().StringVar(&dir, "dir", lab.DefaultDir, "the lab's folder")
	cmd.AddCommand(labUpCmd(g, &dir), labDownCmd(g, &dir), labStatusCmd(g, &dir), labEnvCmd(g, &dir))
	return cmd
}

func labUpCmd(g *globals, dir *string) *cobra.Command {
	var kinds []string
	cmd := &cobra.Command{
		Use: "up", Short: "Start the servers and write crossfade.yaml", Args: args(cobra.NoArgs),
		Example: "  crossfade lab up && crossfade serve -c crossfade-lab/crossfade.yaml\n  crossfade lab up --servers mariadb,valkey",
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := lab.UpOptions{Options: lab.Options{Dir: *dir, Detached: true, Progress: g.err}, Config: func(l *lab.Lab) ([]byte, error) {
				return proxy.LabConfig(l, "proxy-1")
			}}
			for _, k := range kinds {
				kind, err := lab.ParseKind(k)
				if err != nil {
					return &usageError{err}
				}
				o.Kinds = append(o.Kinds, kind)
			}
			l, err := lab.Up(cmd.Context(), o)
			if err != nil {
				return err
			}
			if g.json {
				return g.labStatus(cmd, *dir)
			}
			for _, s := range l.Servers() {
				g.say("%-8s %-8s %s\n", s.Kind, s.Version(), s.Addr())
			}
			g.say("\nThe configuration is %s. Next: crossfade serve -c %s\n", l.ConfigPath(), l.ConfigPath())
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&kinds, "servers", []string{"mysql", "redis"}, "which servers: mysql, mariadb, redis, valkey")
	return cmd
}

func labDownCmd(g *globals, dir *string) *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use: "down", Short: "Stop the servers", Args: args(cobra.NoArgs),
		Example: "  crossfade lab down --remove",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := lab.Down(cmd.Context(), *dir, remove); err != nil {
				return err
			}
			if remove { // what a proxy has kept there belongs to the data that is gone
				for _, name := range []string{lab.ConfigFile, "control", "data", "proxy.log"} {
					if err := os.RemoveAll(filepath.Join(*dir, name)); err != nil {
						return err
					}
				}
			}
			if g.json {
				return g.printJSON(map[string]any{"stopped": true, "removed": remove})
			}
			g.say("Stopped.\n")
			return nil
		},
	}
	cmd.Flags().BoolVar(&remove, "remove", false, "remove the folder with its data too")
	return cmd
}

func (g *globals) labStatus(cmd *cobra.Command, dir string) error {
	all, err := lab.StatusOf(cmd.Context(), dir)
	if err != nil {
		return err
	}
	return errors.Join(g.printJSON(all), labVerdict(all))
}

// labVerdict is about the first server that does not answer.
func labVerdict(all []lab.Status) error {
	for _, s := range all {
		if !s.Answers {
			return &gapError{fmt.Sprintf("%s on %s does not answer; 'crossfade lab up' starts it again", s.Kind, s.Addr)}
		}
	}
	return nil
}

func labStatusCmd(g *globals, dir *string) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the servers", Args: args(cobra.NoArgs),
		Long:    "Asks every server of the lab. Exit code 5 when one does not answer.",
		Example: "  crossfade lab status --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if g.json {
				return g.labStatus(cmd, *dir)
			}
			all, err := lab.StatusOf(cmd.Context(), *dir)
			if err != nil {
				return err
			}
			for _, s := range all {
				state := "answers"
				if !s.Answers {
					state = "does not answer: " + s.Error
				}
				g.say("%-8s %-8s %-22s pid %-8d %s\n", s.Kind, s.Version, s.Addr, s.PID, state)
			}
			return labVerdict(all)
		},
	}
}

func labEnvCmd(g *globals, dir *string) *cobra.Command {
	return &cobra.Command{
		Use: "env", Short: "Print the servers' addresses as shell variables", Args: args(cobra.NoArgs),
		Example: `  eval "$(crossfade lab env)"`,
		RunE: func(*cobra.Command, []string) error {
			env, err := lab.EnvOf(*dir)
			if err != nil {
				return err
			}
			if g.json {
				m := map[string]string{}
				for _, line := range env {
					k, v, _ := strings.Cut(line, "=")
					m[k] = v
				}
				return g.printJSON(m)
			}
			g.say("%s", lab.ShellEnv(env))
			return nil
		},
	}
}
