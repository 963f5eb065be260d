package selftest

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

const (
	// DefaultParallel pods are played at the same time: most of a row is waiting for pauses between looks.
	DefaultParallel = 6
	maxParallel     = 32
	// rowPatience bounds one row. It takes some seconds; a busy machine takes longer.
	rowPatience = 2 * time.Minute
)

// Pair is the two kinds of servers that a pod is played on.
type Pair struct {
	SQL lab.Kind // MySQL or MariaDB
	KV  lab.Kind // Redis or Valkey
}

func (p Pair) String() string { return string(p.SQL) + " and " + string(p.KV) }

// Options of a self-test. The zero value of each field is its default.
type Options struct {
	Pairs    []Pair           // empty: MySQL and Redis
	Stages   []backends.Stage // empty: shadow and live
	Only     []string         // names of injections; empty: all
	Parallel int              // rows at the same time; 0: DefaultParallel
	Seed     uint64           // of what the buyers want
	// Progress gets a line for each row; may be nil.
	Progress io.Writer
}

// PairsOf puts server kinds together: the n-th of the databases with the n-th of the others.
func PairsOf(kinds []lab.Kind) ([]Pair, error) {
	var sql, kv []lab.Kind
	for _, k := range kinds {
		if slices.Contains(sql, k) || slices.Contains(kv, k) {
			continue
		}
		if k.SQL() {
			sql = append(sql, k)
		} else {
			kv = append(kv, k)
		}
	}
	if len(sql) != len(kv) || len(sql) == 0 {
		return nil, &backends.FieldError{Field: "--servers", Value: fmt.Sprintf("%q", kinds), Bound: "as many of mysql and mariadb as of redis and valkey", Next: "name pairs, as in --servers mysql,redis or --servers mysql,redis,mariadb,valkey"}
	}
	pairs := make([]Pair, len(sql))
	for i := range sql {
		pairs[i] = Pair{SQL: sql[i], KV: kv[i]}
	}
	return pairs, nil
}

// Names lists the injections, in the order of the rows.
func Names() []string {
	var out []string
	for _, in := range injections() {
		out = append(out, in.name)
	}
	return out
}

// complete checks the options and fills in defaults.
func (o Options) complete() (Options, error) {
	if len(o.Pairs) == 0 {
		o.Pairs = []Pair{{SQL: lab.MySQL, KV: lab.Redis}}
	}
	if len(o.Stages) == 0 {
		o.Stages = []backends.Stage{backends.Shadow, backends.Live}
	}
	if o.Parallel == 0 {
		o.Parallel = DefaultParallel
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	for _, s := range o.Stages {
		if !s.Dual() {
			return o, &backends.FieldError{Field: "--stage", Value: s.String(), Bound: "shadow or live", Next: "in the other stages one store serves alone, and nothing is compared"}
		}
	}
	for _, n := range o.Only {
		if !slices.Contains(Names(), n) {
			return o, &backends.FieldError{Field: "--only", Value: fmt.Sprintf("%.80q", n), Bound: "of " + strings.Join(Names(), ", "), Next: "name some of them, with commas between"}
		}
	}
	if o.Parallel < 1 || o.Parallel > maxParallel {
		return o, &backends.FieldError{Field: "--parallel", Value: fmt.Sprint(o.Parallel), Bound: fmt.Sprintf("1 to %d", maxParallel), Next: "give the number of pods at the same time"}
	}
	return o, nil
}
