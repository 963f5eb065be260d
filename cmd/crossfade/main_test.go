package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/crossfade-proxy/crossfade/cmd/internal/admin"
	"github.com/crossfade-proxy/crossfade/comparator"
)

func run(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = Main(t.Context(), args, &o, &e)
	return code, o.String(), e.String()
}

// configFile writes a configuration with one pod, whose servers nobody has, and more at the top.
func configFile(t *testing.T, top string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "crossfade.yaml")
	text := top + "\npods:\n  - name: pod-1\n    redis: {addr: \"127.0.0.1:1\"}\n    mysql: {dsn: \"u:p@tcp(127.0.0.1:1)/shop\"}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestExitCodes: scripts can tell a wrong command from a proxy that is away.
func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("nonsense: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"help", []string{"--help"}, exitOK, ""},
		{"wrong flag", []string{"pods", "--colour"}, exitUsage, "unknown flag"},
		{"unknown command", []string{"frob"}, exitUsage, "--help"},
		{"unknown command of stock", []string{"stock", "laod"}, exitUsage, "stock --help"},
		{"unknown command of lab", []string{"lab", "dwon"}, exitUsage, "lab --help"},
		{"nothing", nil, exitOK, ""},
		{"a group by itself", []string{"stock"}, exitOK, ""},
		{"replay against nobody", []string{"replay", "--generate", "5", "--against", "127.0.0.1:1", "--shop", "s"}, exitAway, "no proxy answers at 127.0.0.1:1"},
		{"missing argument", []string{"report"}, exitUsage, "--help"},
		{"no configuration", []string{"-c", filepath.Join(dir, "none.yaml"), "pods"}, exitUsage, "lab up"},
		{"bad configuration", []string{"-c", bad, "serve"}, exitUsage, "nonsense"},
		{"config", []string{"-c", bad, "config"}, exitUsage, "nonsense"},
		{"nobody answers", []string{"--admin", "127.0.0.1:1", "--token", "x", "pods"}, exitAway, "no proxy answers"},
		{"wrong format", []string{"--admin", "127.0.0.1:1", "--token", "x", "report", "p", "--format", "xml"}, exitUsage, "xml"},
		{"findings without a pod", []string{"findings"}, exitUsage, "--help"},
		{"findings of a class that is not there", []string{"findings", "p", "--class", "oversold"}, exitUsage, "one of oversell_risk"},
		{"findings in no state", []string{"findings", "p", "--state", "closed"}, exitUsage, "all, or some of open"},
		{"findings of no time", []string{"findings", "p", "--since", "-1h"}, exitUsage, "at least 1s"},
		{"no findings", []string{"findings", "p", "--limit", "0"}, exitUsage, "1 to 200"},
		{"findings as a letter", []string{"findings", "p", "--format", "letter"}, exitUsage, "table, json or csv"},
		{"findings of a pod called like a command", []string{"--admin", "127.0.0.1:1", "--token", "x", "findings", "--", "show"}, exitAway, "no proxy answers"},
		{"a finding without its id", []string{"findings", "show", "p"}, exitUsage, "--help"},
		{"a finding that is none", []string{"findings", "show", "p", "ABC"}, exitUsage, "32 hexadecimal digits"},
		{"acknowledging nothing", []string{"findings", "ack", "p"}, exitUsage, "--help"},
		{"acknowledging without a reason", []string{"findings", "ack", "p", strings.Repeat("0", 32)}, exitUsage, "say why"},
		{"reopening what is none", []string{"findings", "reopen", "p", "x", "--why", "x"}, exitUsage, "32 hexadecimal digits"},
		{"apologies without a pod", []string{"apologies"}, exitUsage, "--help"},
		{"apologies in no state", []string{"apologies", "p", "--state", "sorry"}, exitUsage, "open, acknowledged or all"},
		{"no apologies", []string{"apologies", "p", "--limit", "999"}, exitUsage, "1 to 200"},
		{"acknowledging two apologies", []string{"apologies", "ack", "p", "a", "b", "--why", "x"}, exitUsage, "--help"},
		{"acknowledging what is no apology", []string{"apologies", "ack", "p", "a", "--why", "x"}, exitUsage, "32 hexadecimal digits"},
		{"acknowledging an apology without a reason", []string{"apologies", "ack", "p", strings.Repeat("0", 32)}, exitUsage, "say why"},
		{"a kill from where there is no way back", []string{"--admin", "127.0.0.1:1", "--token", "x", "kill", "p", "--from", "mysql-only", "--why", "x"}, exitUsage, "live or shadow"},
		{"replay of nothing", []string{"replay"}, exitUsage, "--generate"},
		{"simulation of nothing", []string{"sim", "--schedules", "0"}, exitUsage, "at least 1"},
		{"bench of nothing", []string{"bench", "--only", "poool"}, exitUsage, "--list"},
		{"bench for ever", []string{"bench", "--duration", "9h"}, exitUsage, "50ms to 5m"},
		{"a soak of a store without a pool", []string{"soak", "--dialect", "redis"}, exitUsage, "--dialect"},
		{"a soak of nothing", []string{"soak", "--for", "1ms"}, exitUsage, "--for"},
		{"a rollout to nowhere", []string{"--admin", "127.0.0.1:1", "--token", "x", "rollout", "start", "--pods", "all", "--to", "lively", "--why", "x"}, exitUsage, "mysql-only"},
		{"an unknown command of rollout", []string{"rollout", "begin"}, exitUsage, "rollout --help"},
		{"no lab", []string{"lab", "env", "--dir", dir}, exitError, "no lab"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, _, errs := run(t, c.args...)
			if code != c.code || !strings.Contains(errs, c.want) {
				t.Fatalf("exit code %d, %q; want %d and %q", code, errs, c.code, c.want)
			}
		})
	}
}

// TestEveryCommandHelps: each has a short text, an example and --json.
func TestEveryCommandHelps(t *testing.T) {
	root := newRoot(&bytes.Buffer{}, &bytes.Buffer{})
	for _, c := range root.Commands() {
		subs := c.Commands()
		if len(subs) == 0 {
			subs = append(subs, c)
		}
		for _, s := range subs {
			if s.Short == "" || s.Example == "" {
				t.Errorf("%s has no short text or no example", s.CommandPath())
			}
			if s.InheritedFlags().Lookup("json") == nil {
				t.Errorf("%s has no --json", s.CommandPath())
			}
		}
	}
}

func TestParseStock(t *testing.T) {
	rows, bad, err := parseStock([]byte("\ufeffShop,Item,Quantity\ns,A,3\ns,,1\ns,B,x\ns,\"BANK CHARGES\",0\n"), false, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 2 || rows[0].Key.Location != "main" || rows[1].Key.Item != "BANK CHARGES" || rows[0].OpID == rows[1].OpID {
		t.Fatalf("%+v", rows)
	}
	if len(bad) != 2 || bad[0].Row != 3 || bad[1].Row != 4 || !strings.Contains(bad[1].Error, "whole number") {
		t.Fatalf("%+v", bad)
	}
	again, _, _ := parseStock([]byte("\ufeffShop,Item,Quantity\ns,A,3\ns,,1\ns,B,x\ns,\"BANK CHARGES\",0\n"), false, "")
	if again[0].OpID != rows[0].OpID {
		t.Fatal("the same file gives other operation ids")
	}
	anew, _, _ := parseStock([]byte("\ufeffShop,Item,Quantity\ns,A,3\ns,,1\ns,B,x\ns,\"BANK CHARGES\",0\n"), false, "of May")
	if anew[0].OpID == rows[0].OpID {
		t.Fatal("the same file under another name gives the same operation ids")
	}
	if _, _, err := parseStock([]byte("shop,item\n"), false, ""); err == nil || !strings.Contains(err.Error(), "quantity") {
		t.Fatal(err)
	}
}

// TestChecksDoNotPassUnread: a script that goes by the exit code is not told that all is well by a check
// that could not look.
func TestChecksDoNotPassUnread(t *testing.T) {
	store := func(broken int, err string) comparator.StoreConservation {
		return comparator.StoreConservation{Store: "mysql", BrokenTotal: broken, Error: err}
	}
	unbalanced := comparator.Coverage{Decisions: 1}
	for _, c := range []struct {
		name string
		err  error
		want int
	}{
		{"a report without findings", reportVerdict(&comparator.Report{}), exitOK},
		{"findings could not be read", reportVerdict(&comparator.Report{Incomplete: true, Problems: []string{"findings: store is unavailable"}}), exitAway},
		{"findings, and not all of them read", reportVerdict(&comparator.Report{Open: 1, Incomplete: true, Problems: []string{"x"}}), exitFound},
		{"a list that ends by its bound", reportVerdict(&comparator.Report{Problems: []string{comparator.ErrManyLevels.Error()}}), exitOK},
		{"an account out of balance", reportVerdict(&comparator.Report{Coverage: unbalanced, Problems: []string{unbalanced.Check().Error()}}), exitFound},
		{"stores in balance", conservationVerdict(&comparator.Conservation{Stores: []comparator.StoreConservation{store(0, "")}}), exitOK},
		{"a store that is away", conservationVerdict(&comparator.Conservation{Stores: []comparator.StoreConservation{store(0, "away")}}), exitAway},
		{"one away, one out of balance", conservationVerdict(&comparator.Conservation{Stores: []comparator.StoreConservation{store(0, "away"), store(2, "")}}), exitFound},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%s: exit code %d (%v), want %d", c.name, got, c.err, c.want)
		}
	}
}

// TestParseStockOfBrokenQuotes: a row that is no CSV is named like any other broken row, and the rest is
// read. A quote that is never closed takes its own row with it and not the file.
func TestParseStockOfBrokenQuotes(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		rows int
		bad  []int
	}{
		"a bare quote at the start of a row": {"shop,item,quantity\ns,A,1\ns\"x,B,2\ns,C,3\n", 2, []int{3}},
		"a bare quote in a later field":      {"shop,item,quantity\ns,A,1\ns,B\"x,2\ns,C,3\n", 2, []int{3}},
		"text after a closing quote":         {"shop,item,quantity\n\"s\"x,B,2\ns,C,3\n", 1, []int{2}},
		"a quote that is never closed":       {"shop,item,quantity\ns,A,1\ns,\"B,2\ns,C,3\ns,D,4\n", 3, []int{3}},
	} {
		t.Run(name, func(t *testing.T) {
			rows, bad, err := parseStock([]byte(c.text), false, "")
			if err != nil || len(rows) != c.rows {
				t.Fatalf("%d rows, %v; want %d: %+v", len(rows), err, c.rows, rows)
			}
			var at []int
			for _, b := range bad {
				at = append(at, b.Row)
			}
			if !slices.Equal(at, c.bad) {
				t.Fatalf("broken rows %+v, want %v", bad, c.bad)
			}
		})
	}
}

func TestSimPrintsJSON(t *testing.T) {
	var one struct {
		Steps int `json:"steps"`
	}
	if code, out, errs := run(t, "sim", "--seed", "3", "--json"); code != exitOK || json.Unmarshal([]byte(out), &one) != nil || one.Steps == 0 {
		t.Fatalf("%d %q %q", code, out, errs)
	}
	code, out, errs := run(t, "sim", "--schedules", "200", "--json")
	var s struct {
		Schedules int `json:"schedules"`
	}
	if err := json.Unmarshal([]byte(out), &s); code != exitOK || err != nil || s.Schedules != 200 {
		t.Fatalf("%d %v %q %q", code, err, out, errs)
	}
}

// TestExitCodesOfAnswers: what a proxy answers ends a command with the exit code of its meaning.
func TestExitCodesOfAnswers(t *testing.T) {
	for code, want := range map[connect.Code]int{
		connect.CodeInvalidArgument: exitUsage, connect.CodeDataLoss: exitFound, connect.CodeFailedPrecondition: exitRefused,
		connect.CodeAborted: exitRefused, connect.CodeUnauthenticated: exitRefused, connect.CodeUnavailable: exitAway, connect.CodeInternal: exitError,
	} {
		if got := exitCode(&admin.RemoteError{Code: code, Text: "x"}); got != want {
			t.Errorf("%s: exit code %d, want %d", code, got, want)
		}
	}
}

// TestConfigRefusesWhatServeRefuses: with the same words, and before anything is made on disk.
func TestConfigRefusesWhatServeRefuses(t *testing.T) {
	for _, c := range []struct{ name, top, pod, want string }{
		{"pool_size", "", "redis: {addr: 127.0.0.1:1, pool_size: 1000}", "redis pool_size is 1000; allowed: 1 to 256"},
		{"certificates that are not there", "resp: {tls_cert: none.pem, tls_key: none.key}", "", "resp.tls_cert and resp.tls_key is not usable"},
		{"max_conns", "resp: {max_conns: -1}", "", "max connections is -1"},
		{"retain", "", "retain: 87600h", "retain is 87600h0m0s"},
		{"a template under the prefix", "", "key_template: xf:pod-1:{shop}:{item}", "key template is"},
		{"no database", "", "mysql: {dsn: u:p@tcp(127.0.0.1:1)/}", "without a database"},
		{"excuses that are not there", "excuses: none.yaml", "", "excuses is not readable"},
		{"a negative bound", "", "sweep_age: -1s", "sweep_age is -1s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := configFile(t, c.top)
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if key, _, ok := strings.Cut(c.pod, ":"); ok {
				lines := slices.DeleteFunc(strings.Split(string(text), "\n"), func(l string) bool { return strings.HasPrefix(l, "    "+key+":") })
				text = []byte(strings.Join(lines, "\n") + "    " + c.pod + "\n")
			}
			if err := os.WriteFile(file, text, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, command := range []string{"config", "serve"} {
				if code, out, errs := run(t, "-c", file, command); code != exitUsage || !strings.Contains(errs, c.want) {
					t.Errorf("%s: exit code %d, %q, %q; want %d and %q", command, code, out, errs, exitUsage, c.want)
				}
			}
			if files, err := os.ReadDir(filepath.Dir(file)); err != nil || len(files) != 1 {
				t.Errorf("%v, %v; want the configuration alone", files, err)
			}
		})
	}
	if code, out, errs := run(t, "-c", configFile(t, ""), "config"); code != exitOK || !strings.Contains(out, "is fit: 1 pod") {
		t.Errorf("a good one: exit code %d, %q, %q", code, out, errs)
	}
}
