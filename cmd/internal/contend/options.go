package contend

import (
	"fmt"
	"io"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// Defaults of a run.
const (
	DefaultDecisions = 1_000_000
	DefaultProxies   = 4
	DefaultBuyers    = 48
	// DefaultSale is the length of a sale in decisions. With losses it is the number of decisions to each loss.
	DefaultSale = 10_000
)

// MaxUndetermined is the share of the contended differences that may be undetermined.
const MaxUndetermined = 0.001

const (
	itemsInSale = 8
	unitsOfItem = 8 // of an item, far less than the buyers hold and ask for at any time
	maxQuantity = 3
	// lossAt is where in a sale a loss falls due. Behind it the stores differ for good, and many decisions with them.
	lossAt = 0.97
	// maxBehind is how many entries may be on their way, and how many decisions may wait to be settled, while the buyers go on.
	maxBehind = 2000
	// patience bounds what comes after the last decision: until each is in its last column.
	patience = 5 * time.Minute
)

// Options of a run. The zero value of each field is its default.
type Options struct {
	Decisions int64
	Stage     backends.Stage // Shadow or Live; zero means Shadow
	Proxies   int
	Buyers    int
	Sale      int64 // decisions
	// Lose: one write is lost in each sale.
	Lose       bool
	SQL, Redis lab.Kind
	Seed       uint64
	// Fast gives up what only a crash of the machine would need: for tests.
	Fast bool
	// Undetermined is the share of the contended differences that may be undetermined; 0 means [MaxUndetermined]. A machine on
	// which the shadow falls behind by half a minute leaves more.
	Undetermined float64
	// Patience is how long it may take until each decision is in its last column; 0 means five minutes.
	Patience time.Duration
	// Progress gets a line now and then; may be nil.
	Progress io.Writer
}

// complete checks the options and fills in defaults.
func (o Options) complete() (Options, error) {
	for _, d := range []struct {
		at  *int
		def int
	}{{&o.Proxies, DefaultProxies}, {&o.Buyers, DefaultBuyers}} {
		if *d.at == 0 {
			*d.at = d.def
		}
	}
	if o.Decisions == 0 {
		o.Decisions = DefaultDecisions
	}
	if o.Sale == 0 {
		o.Sale = DefaultSale
	}
	if o.Stage == backends.StageUnknown {
		o.Stage = backends.Shadow
	}
	if o.SQL == "" {
		o.SQL = lab.MySQL
	}
	if o.Redis == "" {
		o.Redis = lab.Redis
	}
	if o.Undetermined == 0 {
		o.Undetermined = MaxUndetermined
	}
	if o.Patience == 0 {
		o.Patience = patience
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	wrong := func(field string, value any, bound, next string) error {
		return &backends.FieldError{Field: field, Value: fmt.Sprint(value), Bound: bound, Next: next}
	}
	const maxDecisions, minSale, maxProxies, maxBuyers = 1_000_000_000, 100, 16, 1024
	switch {
	case !o.Stage.Dual():
		return o, wrong("--stage", o.Stage, "shadow or live", "only there both stores decide")
	case !o.SQL.SQL():
		return o, wrong("--dialect", o.SQL, "mysql or mariadb", "the unit pool is in one of these")
	case o.Redis.SQL():
		return o, wrong("--redis", o.Redis, "redis or valkey", "the counters are in one of these")
	case o.Sale < minSale || o.Sale > maxDecisions:
		return o, wrong("--sale", o.Sale, fmt.Sprintf("%d to %d", minSale, maxDecisions), "give the length of a sale in decisions")
	case o.Decisions < o.Sale || o.Decisions > maxDecisions:
		return o, wrong("--decisions", o.Decisions, fmt.Sprintf("the length of a sale (%d) to %d", o.Sale, maxDecisions), "give the number of decisions, or shorter sales with --sale")
	case o.Proxies < 1 || o.Proxies > maxProxies:
		return o, wrong("--proxies", o.Proxies, fmt.Sprintf("1 to %d", maxProxies), "give the number of proxies")
	case o.Buyers < 1 || o.Buyers > maxBuyers:
		return o, wrong("--buyers", o.Buyers, fmt.Sprintf("1 to %d", maxBuyers), "give the number of buyers")
	}
	return o, nil
}
