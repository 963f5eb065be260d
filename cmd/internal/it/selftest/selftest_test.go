package selftest_test

import (
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
	"github.com/crossfade-proxy/crossfade/cmd/internal/selftest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(lab.Wrap(m)) }

// pairs are all of them in the long form.
func pairs() []selftest.Pair {
	all := []selftest.Pair{{SQL: lab.MySQL, KV: lab.Redis}, {SQL: lab.MariaDB, KV: lab.Valkey}}
	if os.Getenv("CROSSFADE_LONG") == "" {
		return all[:1]
	}
	return all
}

func target(t *testing.T, p selftest.Pair) selftest.Target {
	db, kv := lab.ForTest(t, p.SQL), lab.ForTest(t, p.KV)
	return selftest.Target{Pair: p, SQL: db, KV: kv, DSN: db.NewDatabase(t), Prefix: kv.NewPrefix(t)}
}

// Every fault is found, in its class, with its units, and repaired; and where nothing was done nothing is found.
func TestSelfTest(t *testing.T) {
	var targets []selftest.Target
	for _, p := range pairs() {
		targets = append(targets, target(t, p))
	}
	r, err := selftest.Play(t.Context(), targets, selftest.Options{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := r.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + b.String())
	if want := len(selftest.Names()) * 2 * len(targets); !r.Passed() || len(r.Rows) != want {
		t.Errorf("%d of %d rows failed, of %d wanted", r.Failed, len(r.Rows), want)
	}
	for i := range r.Rows {
		if row := &r.Rows[i]; row.Passed != (len(row.Problems) == 0) || row.Repaired == "" && row.Passed {
			t.Errorf("%+v", row)
		}
	}
}
