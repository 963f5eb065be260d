package mysqlstore

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// DefaultMaxConns is how many connections a pod's store uses at most, besides at most
	// adminConns for fences and settlements. Checkout's other queries share the server (P8).
	DefaultMaxConns = 8
	// DefaultCombine is the most requests that share a transaction; see docs/unit-pool.md for what was
	// measured.
	DefaultCombine = 128
	// DefaultLanes is how many transactions of one kind are under way at once.
	DefaultLanes = 2
	// maxWeight bounds the lines that a batch carries, which bounds its texts and its locks.
	maxWeight = 512
	// adminConns are kept apart so that raising a fence, settling a COMMIT or what a kill reads ([backends.Urgent]) never waits for
	// the writers that it is about.
	adminConns = 3
	// DefaultLockWait is how long a statement waits for a row lock: longer than a healthy
	// neighbour's transaction by two orders of magnitude, shorter than a buyer's patience.
	DefaultLockWait = 2 * time.Second
	// DefaultAbandoned is after which silence between two statements the server ends a session of ours, and what it
	// has in hand: that of a proxy that was stopped or cut off in the middle of a transaction, whose locks would turn the
	// buyers of an item away until somebody noticed. The longest pause of a proxy that lives is a thousand times shorter.
	DefaultAbandoned = 10 * time.Second
	// dialPatience and silence bound a connection that does not come about, and one that says
	// nothing: no statement of ours takes nearly as long.
	dialPatience = 2 * time.Second
	// leastAbandoned is twice the least that a server counts.
	leastAbandoned = 2 * time.Second
	silence        = 30 * time.Second
	// startShare: what is stocked fills a pool up to this share of its cap; so does a refill of a pool that
	// is emptied slowly.
	startShare = 4
	// firstRows is how many rows the pool gets of an item that the other store stocks: enough for its
	// first buyers. A shop's catalogue is mostly items that nobody buys today.
	firstRows = 32
	// lowWaterShare: a pool that somebody takes from is refilled below this share of its cap.
	lowWaterShare = 8
)

// Config says which pod to keep where. The zero value of each field but Pod and DSN gives its
// default.
type Config struct {
	Pod backends.Pod
	// DSN in the form of go-sql-driver; it has to name the database. Time-outs of its own are kept.
	DSN string
	// PoolCap is the most available rows per key; PoolCapFor may say otherwise for some keys
	// (0 from it means PoolCap).
	PoolCap    int
	PoolCapFor func(backends.Key) int
	// OutboxMax bounds the outbox, in entries. The bound is soft; see the package documentation.
	OutboxMax int
	// Retain is how long ended holds and operation ids are kept.
	Retain time.Duration
	// MaxConns bounds the connections.
	MaxConns int
	// Combine is the most requests that share a transaction; 1 gives each its own.
	Combine int
	// Lanes is how many transactions of one kind (takes, ends) may be under way at once.
	Lanes int
	// NoAhead leaves the refill of pools to the reserve that finds too little, and of those that have next to
	// nothing to Maintain.
	NoAhead bool
	// LockWait bounds the wait for one row lock; the server counts it in whole seconds.
	LockWait time.Duration
	// Abandoned is after which silence the server ends a session, in whole seconds from 2. Connections that
	// are idle for half of it are closed before.
	Abandoned time.Duration
	// Ledger names the ledger's table; the zero value is a table of our own.
	Ledger Ledger
	// Observe is told how long a connection was held, by whom (the caller's tag, or the
	// operation's name) and for which operation. It is called by many goroutines and must not wait.
	Observe func(tag, op string, held time.Duration)
	// Now is the machine's clock, for unit ids and for measuring; nil is time.Now. No promise
	// rests on it.
	Now func() time.Time
}

// Ledger names the table of the units on hand and its columns. The columns of the key have to be
// the table's primary or a unique key, and compare byte for byte.
type Ledger struct {
	Table string
	// Pod may be empty only when Table is given: then the table has no such column, and one pod.
	Pod, Shop, Item, Location, OnHand string
}

// OwnLedger is the ledger that Setup makes when none is named.
var OwnLedger = Ledger{Table: "crossfade_ledger", Pod: "pod", Shop: "shop", Item: "item", Location: "location", OnHand: "on_hand"}

var legalName = regexp.MustCompile(`^[A-Za-z0-9_$]{1,64}$`)

func (l Ledger) check() error {
	names := map[string]string{"ledger column shop": l.Shop, "ledger column item": l.Item, "ledger column location": l.Location, "ledger column on_hand": l.OnHand}
	if l.Pod != "" {
		names["ledger column pod"] = l.Pod
	}
	for i, part := range strings.SplitN(l.Table, ".", 2) {
		names[fmt.Sprintf("ledger table, part %d", i+1)] = part
	}
	for field, n := range names {
		if !legalName.MatchString(n) {
			return &backends.FieldError{Field: field, Value: fmt.Sprintf("%q", n), Bound: "1 to 64 letters, digits, '_' or '$'; a table may be database.table", Next: "name the table and each column of the ledger, or none for a table of Crossfade's own"}
		}
	}
	return nil
}

// complete checks a configuration and fills in its defaults.
func (c Config) complete() (Config, error) {
	if err := backends.CheckID("pod", string(c.Pod)); err != nil {
		return c, err
	}
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&c.PoolCap, backends.DefaultPoolCap)
	def(&c.OutboxMax, backends.DefaultOutboxMax)
	def(&c.MaxConns, DefaultMaxConns)
	def(&c.Combine, DefaultCombine)
	def(&c.Lanes, DefaultLanes)
	if c.Retain <= 0 {
		c.Retain = backends.DefaultRetain
	}
	if c.LockWait <= 0 {
		c.LockWait = DefaultLockWait
	}
	if c.Abandoned <= 0 {
		c.Abandoned = DefaultAbandoned
	}
	c.Abandoned = max(c.Abandoned, leastAbandoned)
	if c.Ledger == (Ledger{}) {
		c.Ledger = OwnLedger
	}
	if c.Observe == nil {
		c.Observe = func(string, string, time.Duration) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, c.Ledger.check()
}

// driverConfig is the DSN with what the store relies on.
func (c Config) driverConfig() (*mysql.Config, error) {
	d, err := mysql.ParseDSN(c.DSN)
	if err != nil {
		return nil, fmt.Errorf("%w: the DSN of pod %q: %w; write it as user:password@tcp(host:3306)/database", backends.ErrSetup, c.Pod, err)
	}
	if d.DBName == "" {
		return nil, fmt.Errorf("%w: the DSN of pod %q names no database; end it with /database", backends.ErrSetup, c.Pod)
	}
	d.MultiStatements, d.InterpolateParams = true, true
	d.ClientFoundRows, d.ParseTime = false, false
	d.Logger = &mysql.NopLogger{} // every error is answered to a caller
	if d.Timeout == 0 {
		d.Timeout = dialPatience
	}
	if d.ReadTimeout == 0 {
		d.ReadTimeout = silence
	}
	if d.WriteTimeout == 0 {
		d.WriteTimeout = silence
	}
	return d, nil
}

// capFor is the most rows in the pool of a key.
func (c *Config) capFor(k backends.Key) int64 {
	if c.PoolCapFor != nil {
		if n := c.PoolCapFor(k); n > 0 {
			return int64(n)
		}
	}
	return int64(c.PoolCap)
}

// startFor is the number of rows that suffices for a pool from which little is taken; at least one.
func (c *Config) startFor(k backends.Key) int64 {
	return max(1, c.capFor(k)/startShare)
}

// firstFor is the number of rows that suffices for a pool from which nothing is taken; at least one.
func (c *Config) firstFor(k backends.Key) int64 {
	return min(firstRows, c.startFor(k))
}

// lowWaterFor is the number of rows below which a pool is refilled that somebody takes from; at least one.
func (c *Config) lowWaterFor(k backends.Key) int64 {
	return max(1, c.capFor(k)/lowWaterShare)
}
