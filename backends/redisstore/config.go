package redisstore

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Config of a store. Only Pod and Addr have to be given.
type Config struct {
	// Pod is the pod whose store this is.
	Pod backends.Pod
	// Addr is host:port, or a URL: redis://user:password@host:port/db, rediss://…, unix://….
	Addr string
	// Username, Password and DB, where Addr is no URL.
	Username, Password string
	DB                 int
	// TLS, when set, is what the server must speak.
	TLS *tls.Config
	// Prefix of the pod's own keys; empty: "xf:<pod>:". No two pods of one server may have
	// prefixes of which one begins with the other.
	Prefix string
	// Template names the counters; nil: backends.DefaultKeyTemplate and backends.DefaultLocation.
	Template *backends.KeyTemplate
	// OutboxMax bounds the outbox, in entries; 0: backends.DefaultOutboxMax.
	OutboxMax int64
	// Retain is how long ended holds and the operation ids of restocks are kept; 0:
	// backends.DefaultRetain.
	Retain time.Duration
	// PoolSize bounds the connections that carry decisions, mirrors and reads of single holds; 0:
	// DefaultPoolSize. Scans have bulkWriters more, pass-through has its own.
	PoolSize int
	// Timeout bounds one round trip, where the caller's context does not end before; 0:
	// DefaultTimeout.
	Timeout time.Duration
}

// Bounds and defaults.
const (
	// DefaultPoolSize: Redis runs one script at a time. While it does one call the next one is put
	// together; more connections only make smaller calls.
	DefaultPoolSize = 2
	// MaxPoolSize bounds the connections of one proxy to one pod's Redis.
	MaxPoolSize = 256
	// bulkWriters carry scans, the outbox and fences, so that these do not wait behind decisions,
	// nor decisions behind them.
	bulkWriters = 2
	// passConns bounds the connections of pass-through.
	passConns = 64
	// DefaultTimeout is longer than a Redis stalls in a fork, and shorter than callers wait.
	DefaultTimeout = 5 * time.Second
	// minTimeout leaves room for the WAIT of a Raise.
	minTimeout = 2 * time.Second
	// TakeRetain is how long the operation id of a take or give-back is kept. Only the proxy that
	// sent it sends it again, within seconds; there is one for each DECR.
	TakeRetain = 15 * time.Minute
	// clientName is how connections show in CLIENT LIST.
	clientName = "crossfade"
)

// Store is the Redis side of one pod.
type Store struct {
	names        *names
	outboxMax    int64
	retain       time.Duration
	retainMillis string
	// takeRetainMillis is TakeRetain, but no longer than anything else is kept.
	takeRetainMillis string

	callIDs callIDs

	levels struct {
		sync.RWMutex
		named map[backends.Key]*levelName // some of the levels that were asked for
	}

	client *redis.Client // of the lanes
	pass   *redis.Client // of pass-through
	fast   *lane
	bulk   *lane
	guard  guard
	again  sync.Mutex // held by who looks whether a suspicion has ended

	closeOnce sync.Once
	closeErr  error
}

var (
	_ backends.Store        = (*Store)(nil)
	_ backends.BatchCounter = (*Store)(nil)
)

// Open makes a store. It checks the configuration and connects to nothing yet: a Redis that is away
// shows in the answers.
func Open(_ context.Context, c Config) (*Store, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	n, err := newNames(c.Prefix, c.Template)
	if err != nil {
		return nil, err
	}
	s := &Store{
		names: n, outboxMax: c.OutboxMax, retain: c.Retain,
		retainMillis:     strconv.FormatInt(c.Retain.Milliseconds(), 10),
		takeRetainMillis: strconv.FormatInt(min(c.Retain, TakeRetain).Milliseconds(), 10),
	}
	var random [10]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, err
	}
	s.callIDs.proxy = hex.EncodeToString(random[:]) + "-"
	o, err := c.options()
	if err != nil {
		return nil, err
	}
	pass := *o
	o.PoolSize = c.PoolSize + bulkWriters
	o.OnConnect = s.onConnect
	pass.PoolSize, pass.MaxActiveConns = passConns, passConns
	s.client, s.pass = redis.NewClient(o), redis.NewClient(&pass)
	s.fast = newLane(s, c.PoolSize, c.Timeout)
	s.bulk = newLane(s, bulkWriters, c.Timeout)
	return s, nil
}

func (c Config) withDefaults() (Config, error) {
	if err := backends.CheckID("pod", string(c.Pod)); err != nil {
		return c, err
	}
	if c.Prefix == "" {
		// A colon in a pod's name would let its keys meet those of another pod.
		c.Prefix = "xf:" + strings.NewReplacer("%", "%25", ":", "%3A").Replace(string(c.Pod)) + ":"
	}
	if c.Template == nil {
		t, err := backends.ParseKeyTemplate(backends.DefaultKeyTemplate, "", backends.DefaultLocation)
		if err != nil {
			return c, err
		}
		c.Template = t
	}
	if c.OutboxMax == 0 {
		c.OutboxMax = backends.DefaultOutboxMax
	}
	if c.Retain == 0 {
		c.Retain = backends.DefaultRetain
	}
	if c.PoolSize == 0 {
		c.PoolSize = DefaultPoolSize
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	const shortest, longest = 10 * time.Millisecond, 365 * 24 * time.Hour
	for _, b := range []struct {
		field, value, bound string
		ok                  bool
	}{
		{"outbox_max", strconv.FormatInt(c.OutboxMax, 10), "1 and more", c.OutboxMax > 0},
		{"retain", c.Retain.String(), shortest.String() + " to " + longest.String(), c.Retain >= shortest && c.Retain <= longest},
		{"redis pool_size", strconv.Itoa(c.PoolSize), fmt.Sprintf("1 to %d", MaxPoolSize), c.PoolSize >= 1 && c.PoolSize <= MaxPoolSize},
		{"redis timeout", c.Timeout.String(), minTimeout.String() + " and more", c.Timeout >= minTimeout},
	} {
		if !b.ok {
			return c, &backends.FieldError{Field: b.field, Value: b.value, Bound: b.bound, Next: "leave it out for the default"}
		}
	}
	return c, nil
}

// options of the driver. It never sends anything again by itself.
func (c Config) options() (*redis.Options, error) {
	bad := func(err error) error {
		return &backends.FieldError{Field: "redis address", Value: "not usable (" + err.Error() + ")", Bound: "host:port, or a redis://, rediss:// or unix:// URL", Next: "correct it"}
	}
	o := &redis.Options{Addr: c.Addr, Username: c.Username, Password: c.Password, DB: c.DB}
	if strings.Contains(c.Addr, "://") {
		var err error
		if o, err = redis.ParseURL(c.Addr); err != nil {
			return nil, bad(errors.New("the URL cannot be read")) // its text may hold the password
		}
	} else if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		return nil, bad(err)
	}
	if c.TLS != nil {
		o.TLSConfig = c.TLS
	}
	o.ClientName = clientName
	o.Protocol = 2 // replies of scripts are plain arrays, and nothing is pushed
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.MaxRetries = -1 // a write whose reply is lost must not be sent again behind our back
	o.DialerRetries = 1
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = c.Timeout, c.Timeout, c.Timeout, c.Timeout
	o.ContextTimeoutEnabled = true
	o.PipelinePoolSize = -1 // pipelines are all that the client does
	o.MaxActiveConns = 0
	return o, nil
}

// onConnect has the guard look at the server behind a new connection, before anything else is
// sent on it.
func (s *Store) onConnect(ctx context.Context, cn *redis.Conn) error {
	p := cn.Pipeline()
	info := p.InfoMap(ctx, "server")
	fenced := p.HGet(ctx, s.names.prefix+fenceKey, "run")
	if _, err := p.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	run := info.Item("Server", "run_id")
	if run == "" {
		return errors.New("INFO names no run_id: is it a Redis or Valkey?")
	}
	s.guard.connected(run, fenced.Val())
	return nil
}

// Side is Redis.
func (s *Store) Side() backends.Side { return backends.SideRedis }

// Close waits for what is under way, and frees the connections. Twice is once.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.fast.close()
		s.bulk.close()
		s.closeErr = errors.Join(s.client.Close(), s.pass.Close())
	})
	return s.closeErr
}

// Ping answers nil when the server answers.
func (s *Store) Ping(ctx context.Context) error {
	_, err := s.one(ctx, s.fast, plain("PING"))
	return err
}

// one sends one command and gives its answer.
func (s *Store) one(ctx context.Context, l *lane, c *command) (any, error) {
	if err := l.do(ctx, c); err != nil {
		return nil, err
	}
	return c.result()
}

// write is one for a write under a token. Where a restart of the server is suspected it looks
// once whether the fence has been raised again meanwhile, by another proxy.
func (s *Store) write(ctx context.Context, l *lane, c *command) (any, error) {
	s.reconsider(ctx)
	return s.one(ctx, l, c)
}

// reconsider reads the fence while there are suspects. One caller does; the others go on, and are
// refused.
func (s *Store) reconsider(ctx context.Context) {
	if !s.guard.suspicious() || !s.again.TryLock() {
		return
	}
	defer s.again.Unlock()
	_, _ = s.Fence(ctx) // what it finds is for the guard; a failure leaves the suspicion
}
