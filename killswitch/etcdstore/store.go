package etcdstore

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// Bounds of the store.
const (
	// DefaultPrefix of all keys.
	DefaultPrefix = "/crossfade/"
	// MaxPrefix bounds a prefix, in bytes.
	MaxPrefix = 200
	// MaxEndpoints bounds the members that may be named; a cluster has 3 to 7.
	MaxEndpoints = 32
	// MaxRecord bounds what is written under one key, in bytes: etcd takes 1.5 MiB by default. A record is some 10 kB.
	MaxRecord = 1 << 20
	// MaxCall bounds every request with its repetitions, beside the caller's context: an election takes about a second with etcd's own settings.
	MaxCall = 3 * time.Second
	// attemptFor bounds one attempt, so that a member that does not answer leaves time for another.
	attemptFor = time.Second
	// retryPause is between attempts, and grows to retryPauseMost.
	retryPause     = 20 * time.Millisecond
	retryPauseMost = 300 * time.Millisecond
	// aliveEvery and aliveWithin find a connection whose other end is gone or stopped. etcd refuses more than one
	// such question in five seconds.
	aliveEvery  = 5 * time.Second
	aliveWithin = 2 * time.Second
	// listPage is how many records are read at once: etcd sends an answer as a whole.
	listPage = 256
	// listTries bounds how often a list is begun anew because the revision that it reads was compacted away.
	listTries = 3
	// reconnectMost bounds the pause between tries to connect to a member.
	reconnectMost = time.Second
	// format is that of the values; a higher one is of a newer version of Crossfade.
	format = 1
)

// Options of the store. Zero fields other than Endpoints have defaults.
type Options struct {
	// Endpoints are host:port or URLs of etcd's members, at least one.
	Endpoints []string
	// Prefix of all keys; it ends with a slash.
	Prefix   string
	Username string
	Password string
	TLS      *tls.Config
	Clock    killswitch.Clock
}

// Store is the control store in etcd.
type Store struct {
	o Options

	connect chan struct{} // has room while somebody makes the client
	mu      sync.Mutex
	client  *clientv3.Client
	closed  bool
	own     []*killswitch.Registration
	leases  map[string]*registrar // of proxies that have joined by this handle
}

var (
	_ killswitch.ControlStore = (*Store)(nil)
	_ killswitch.Documents    = (*Store)(nil)
)

// Open checks the options. It connects at the first call: etcd may be away, and come.
func Open(o Options) (*Store, error) {
	if n := len(o.Endpoints); n < 1 || n > MaxEndpoints {
		return nil, &backends.FieldError{Field: "etcd endpoints", Value: strconv.Itoa(n), Bound: fmt.Sprintf("1 to %d", MaxEndpoints), Next: "name the members of the cluster, like 10.0.0.1:2379"}
	}
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if len(o.Prefix) > MaxPrefix || !strings.HasSuffix(o.Prefix, "/") {
		return nil, &backends.FieldError{Field: "etcd prefix", Value: strconv.Quote(o.Prefix), Bound: fmt.Sprintf("at most %d bytes, with a slash at the end", MaxPrefix), Next: "write it like " + DefaultPrefix}
	}
	if (o.Username == "") != (o.Password == "") {
		return nil, &backends.FieldError{Field: "etcd username and password", Value: "only one of them", Bound: "both or none", Next: "give the other one too"}
	}
	if o.Clock == nil {
		o.Clock = killswitch.SystemClock{}
	}
	o.Endpoints = slices.Clone(o.Endpoints)
	return &Store{o: o, connect: make(chan struct{}, 1), leases: map[string]*registrar{}}, nil
}

// connected answers the client, and makes it where there is none: with a user name that asks etcd for a token.
func (s *Store) connected(ctx context.Context) (*clientv3.Client, error) {
	if c, err := s.have(); c != nil || err != nil {
		return c, err
	}
	select {
	case s.connect <- struct{}{}:
		defer func() { <-s.connect }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c, err := s.have(); c != nil || err != nil {
		return c, err
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints: s.o.Endpoints, Username: s.o.Username, Password: s.o.Password, TLS: s.o.TLS,
		DialTimeout: attemptFor, DialKeepAliveTime: aliveEvery, DialKeepAliveTimeout: aliveWithin,
		// It would send again by itself, and hide why it had to.
		MaxUnaryRetries: 1,
		Logger:          zap.NewNop(),
		DialOptions:     []grpc.DialOption{grpc.WithConnectParams(connectParams()), grpc.WithChainUnaryInterceptor(failFast)},
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = c.Close()
		return nil, errClosed
	}
	s.client = c
	return c, nil
}

func (s *Store) have() (*clientv3.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	return s.client, nil
}

// Close implements killswitch.ControlStore.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	own, c := s.own, s.client
	s.own, s.client = nil, nil
	s.mu.Unlock()
	for _, r := range own {
		r.Abandon()
	}
	if c != nil {
		_ = c.Close() // what it tells is that its context was cancelled, by this
	}
	return nil
}

// try calls do until it succeeds, is refused, or ctx or MaxCall is over. do has to be safe to be done again.
func (s *Store) try(ctx context.Context, do func(context.Context, *clientv3.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, MaxCall)
	defer cancel()
	var last error
	for pause := retryPause; ; pause = min(2*pause, retryPauseMost) {
		if ctx.Err() != nil {
			return unavailable(ctx, last)
		}
		err := s.attempt(ctx, do)
		switch judge(err) {
		case fine:
			return nil
		case refused:
			return explain(err)
		case again:
			last = moreTelling(last, err)
		}
		tick, stop := s.o.Clock.Tick(pause)
		select {
		case <-tick:
		case <-ctx.Done():
		}
		stop()
	}
}

func (s *Store) attempt(ctx context.Context, do func(context.Context, *clientv3.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, attemptFor)
	defer cancel()
	c, err := s.connected(ctx)
	if err != nil {
		return err
	}
	return do(ctx, c)
}

// value is what is under a key of a record, an acknowledgement or a registration.
type value struct {
	Format int `json:"format"`
	// Token tells one writing from another that writes the same.
	Token string          `json:"token"`
	Body  json.RawMessage `json:"body"`
}

func encode(body any) (string, error) {
	raw, err := json.Marshal(body)
	if err == nil {
		raw, err = json.Marshal(value{Format: format, Token: rand.Text(), Body: raw})
	}
	if err != nil {
		return "", fmt.Errorf("control store: %w", err)
	}
	if len(raw) > MaxRecord {
		return "", fmt.Errorf("control store: a value would have %d bytes (at most %d)", len(raw), MaxRecord)
	}
	return string(raw), nil
}

func decode(key, b []byte, to any) error {
	var v value
	if err := json.Unmarshal(b, &v); err != nil {
		return damaged(key, "it is not the JSON that was written: "+err.Error())
	}
	switch {
	case v.Format > format:
		return fmt.Errorf("%w: key %s has format %d, and this version of Crossfade knows formats up to %d; use a newer version", killswitch.ErrControlDamaged, key, v.Format, format)
	case v.Format < 1:
		return damaged(key, "it has no format")
	}
	if err := json.Unmarshal(v.Body, to); err != nil {
		return damaged(key, err.Error())
	}
	return nil
}

// key of a kind and names, each escaped.
func (s *Store) key(kind string, names ...string) string {
	k := s.o.Prefix + kind
	for _, n := range names {
		k += "/" + url.PathEscape(n)
	}
	return k
}

// named gives the last name of a key.
func named(key []byte) string {
	k := string(key)
	name, err := url.PathUnescape(k[strings.LastIndexByte(k, '/')+1:])
	if err != nil {
		return ""
	}
	return name
}

func check(ctx context.Context, pod backends.Pod) error {
	if err := ctx.Err(); err != nil {
		return unavailable(ctx, err)
	}
	return backends.CheckID("pod", string(pod))
}
