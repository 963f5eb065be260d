package replay

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/orders"
)

// Bounds and defaults of a run.
const (
	// DefaultClients is the number of checkouts that the project's own measurements use.
	DefaultClients = 64
	// MaxClients bounds the connections: one per client and address.
	MaxClients = 4096
	// MaxAgainst bounds the addresses.
	MaxAgainst = 64
	// MaxHold bounds the mean time between reserve and claim.
	MaxHold = time.Hour
	// HoldAtMost bounds a single wait, in means: an exponential distribution has no end.
	HoldAtMost = 5
	// MaxStock bounds the fraction of the demand that is seeded.
	MaxStock = 1000
	// MaxRunLen bounds the name of a run, in bytes: with an invoice (orders.MaxInvoiceLen), the
	// number of a line and two separators it fits an operation id (backends.MaxIDLen).
	MaxRunLen = 16
	// DefaultTTL is the life asked for each hold: much longer than anybody waits here.
	DefaultTTL = 15 * time.Minute
	// DefaultPatience is how long one operation is sent again before it counts as unresolved: longer
	// than a proxy or a server takes to be restarted.
	DefaultPatience = 2 * time.Minute
	// DefaultTimeout is how long one answer is waited for: longer than a door takes to give up.
	DefaultTimeout = 15 * time.Second
	// dialTimeout bounds one connection attempt.
	dialTimeout = 2 * time.Second
	// backoffFirst and backoffMost bound the pause before an operation is sent again; it doubles.
	backoffFirst = 5 * time.Millisecond
	backoffMost  = 500 * time.Millisecond
	// progressEvery is how often a line of progress is written.
	progressEvery = 2 * time.Second
)

// Level is stock to be seeded.
type Level struct {
	Item     backends.Item
	Quantity int64
	// OpID makes setting it twice once.
	OpID backends.OpID
}

// Options of a run. Orders and Against are required.
type Options struct {
	Orders *orders.Book
	// Against are the RESP addresses over which orders are dealt: host:port, or a URL with a user and password
	// of its own; see [ParseTarget].
	Against []string
	// User and Password for AUTH where an address has none; an empty Password asks for none.
	User, Password string
	// Shop of all orders; required.
	Shop backends.Shop
	// Location that fulfils all lines; empty where the pod has a constant one.
	Location backends.Location
	// Caller is the tag of all operations; empty means "replay".
	Caller string

	// Stock is the fraction of each item's total demand that is made sellable before the first
	// order. Below zero nothing is seeded.
	Stock float64
	// Seed sets the levels; nil does it through the doors (XF.RESTOCK … MODE SELLABLE).
	Seed func(context.Context, []Level) error

	Clients int // 0 means DefaultClients
	// Rate bounds the orders begun per second; 0 is as fast as the clients go.
	Rate float64
	// Hold is the mean time between reserve and claim; 0 claims at once.
	Hold time.Duration
	// ReleaseShare of the granted carts is released instead of claimed, 0 to 1.
	ReleaseShare float64
	TTL          time.Duration // 0 means DefaultTTL
	Patience     time.Duration // 0 means DefaultPatience
	Timeout      time.Duration // 0 means DefaultTimeout
	// Until, when closed, ends the run early: no order is begun, those under way are ended. (When the
	// context ends, they are left as they are.) May be nil.
	Until <-chan struct{}

	// Run names the run; empty means a random name.
	Run string
	// Random seeds the choice of waits and releases.
	Random uint64
	// LogPath is where the log is written; the file must not exist. Empty writes none.
	LogPath string
	// Progress gets a line now and then; may be nil.
	Progress io.Writer

	targets []Target // Against, read
}

// Target is a door.
type Target struct {
	Addr           string // host:port
	User, Password string
}

// String is the address alone: passwords are not shown.
func (t Target) String() string { return t.Addr }

// ParseTarget reads host:port, or redis://user:password@host:port as other Redis clients take it; the user may
// be left out. Its errors never show a password.
func ParseTarget(s string) (Target, error) {
	bad := func(value, bound string) (Target, error) {
		return Target{}, &backends.FieldError{Field: "address", Value: value, Bound: bound, Next: "see 'crossfade replay --help'"}
	}
	if !strings.Contains(s, "://") {
		if strings.Contains(s, "@") {
			return bad("a password without redis:// before it", "host:port, or redis://user:password@host:port")
		}
		if _, _, err := net.SplitHostPort(s); err != nil {
			return bad(fmt.Sprintf("%.80q", s), "host:port, or redis://user:password@host:port")
		}
		return Target{Addr: s}, nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return bad("a URL that cannot be read", "redis://user:password@host:port, with %-escapes for what is special in URLs")
	case u.Scheme != "redis":
		return bad(fmt.Sprintf("a %.20s:// URL", u.Scheme), "redis://, without TLS")
	case u.Hostname() == "" || u.Port() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
		return bad(fmt.Sprintf("%.80q", u.Redacted()), "redis://user:password@host:port and nothing after it")
	}
	t := Target{Addr: u.Host, User: u.User.Username()}
	t.Password, _ = u.User.Password()
	if t.User != "" && t.Password == "" {
		return bad(fmt.Sprintf("a user, %.80q, without a password", t.User), "redis://:password@host:port, or with a user before the colon")
	}
	return t, nil
}

func (o Options) withDefaults() (Options, error) {
	if o.Orders == nil || len(o.Against) == 0 {
		return o, &backends.FieldError{Field: "replay", Value: "no orders, or no address", Bound: "a book and at least one address", Next: "name an order file and --against host:port"}
	}
	if o.Clients == 0 {
		o.Clients = DefaultClients
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.TTL, DefaultTTL)
	def(&o.Patience, DefaultPatience)
	def(&o.Timeout, DefaultTimeout)
	if o.Caller == "" {
		o.Caller = "replay"
	}
	if len(o.Against) > MaxAgainst {
		return o, &backends.FieldError{Field: "addresses", Value: strconv.Itoa(len(o.Against)), Bound: fmt.Sprintf("at most %d", MaxAgainst), Next: "see 'crossfade replay --help'"}
	}
	o.targets = make([]Target, len(o.Against))
	for i, a := range o.Against {
		t, err := ParseTarget(a)
		if err != nil {
			return o, err
		}
		if t.Password == "" {
			t.User, t.Password = o.User, o.Password
		}
		o.targets[i] = t
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	if o.Run == "" {
		var b [5]byte
		_, _ = rand.Read(b[:]) // it never fails (crypto/rand)
		o.Run = hex.EncodeToString(b[:])
	}
	return o, o.check()
}

// check gives a *backends.FieldError for the first thing that is wrong.
func (o *Options) check() error {
	bad := func(field, value, bound string) error {
		return &backends.FieldError{Field: field, Value: value, Bound: bound, Next: "see 'crossfade replay --help'"}
	}
	if o.Clients < 1 || o.Clients > MaxClients {
		return bad("clients", strconv.Itoa(o.Clients), fmt.Sprintf("1 to %d", MaxClients))
	}
	if !(o.Rate >= 0) || math.IsInf(o.Rate, 0) {
		return bad("rate", fmt.Sprint(o.Rate), "0 (as fast as possible) or orders per second")
	}
	if math.IsNaN(o.Stock) || o.Stock > MaxStock {
		return bad("stock", fmt.Sprint(o.Stock), fmt.Sprintf("a fraction of the demand up to %d, or below 0 to seed nothing", MaxStock))
	}
	if o.Hold < 0 || o.Hold > MaxHold {
		return bad("hold", o.Hold.String(), fmt.Sprintf("0 to %s", MaxHold))
	}
	if !(o.ReleaseShare >= 0 && o.ReleaseShare <= 1) {
		return bad("release share", fmt.Sprint(o.ReleaseShare), "0 to 1")
	}
	if o.Patience < 0 || o.Timeout < 0 {
		return bad("patience and timeout", fmt.Sprintf("%s and %s", o.Patience, o.Timeout), "above 0")
	}
	if len(o.Run) > MaxRunLen {
		return bad("run", fmt.Sprintf("%.80q", o.Run), fmt.Sprintf("at most %d bytes", MaxRunLen))
	}
	if err := backends.CheckID("run", o.Run); err != nil {
		return err
	}
	if err := backends.CheckID("shop", string(o.Shop)); err != nil {
		return err
	}
	if o.Location != "" {
		if err := backends.CheckID("location", string(o.Location)); err != nil {
			return err
		}
	}
	if err := backends.CheckTTL(o.TTL); err != nil {
		return err
	}
	return backends.CheckCaller(o.Caller)
}

// holdID names the hold of an order.
func (o *Options) holdID(invoice string) backends.HoldID {
	return backends.HoldID(o.Run + "-" + invoice)
}

// opID names the restock of one line of an order.
func (o *Options) opID(invoice string, line int) backends.OpID {
	return backends.OpID(o.Run + "-" + invoice + "-" + strconv.Itoa(line+1))
}
