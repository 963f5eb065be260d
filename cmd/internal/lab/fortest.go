package lab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

// TB is what the helpers need of testing.TB.
type TB interface {
	Helper()
	Name() string
	Cleanup(func())
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// coldPatience bounds a first start, which may fetch packages over a slow line.
const coldPatience = 5 * time.Minute

// shared are the servers of this test process, one a kind.
var shared = struct {
	sync.Mutex
	servers map[Kind]*sharedServer
}{servers: map[Kind]*sharedServer{}}

type sharedServer struct {
	once   sync.Once
	server *Server
	err    error
}

// ForTest is this process's server of the kind, fast, started at the first call.
// Tests share it: each works in a database or under a key prefix of its own, and
// none kills, pauses or flushes it (see [Private]). The package's TestMain stops
// it, by [Main] or [Wrap]. A test whose server cannot be had fails, with what to
// install; it is never skipped.
func ForTest(tb TB, k Kind) *Server {
	tb.Helper()
	shared.Lock()
	one := shared.servers[k]
	if one == nil {
		one = &sharedServer{}
		shared.servers[k] = one
	}
	shared.Unlock()
	one.once.Do(func() { one.server, one.err = startForTest(k, Options{Fast: true}) })
	if one.err != nil {
		tb.Fatalf("%v", one.err)
	}
	return one.server
}

// Private is a server for this test alone, which may do to it what it likes: it
// is always started by us, whatever addresses are given. opts changes the options
// (Fast and Own are set before); it is stopped when the test ends.
func Private(tb TB, k Kind, opts ...func(*Options)) *Server {
	tb.Helper()
	o := Options{Fast: true, Own: true}
	for _, f := range opts {
		f(&o)
	}
	s, err := startForTest(k, o)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopPatience+killPatience)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			tb.Logf("stopping %s: %v", s.Kind, err)
		}
	})
	return s
}

// FreeAddr is a loopback address for a program that the test starts itself, and may stop and start again
// there. It lies outside the ports from which connections go out, so that none of those takes it
// meanwhile, and no other lab is given it until the test ends.
func FreeAddr(tb TB) string {
	tb.Helper()
	addr, free, err := HoldAddr()
	if err != nil {
		tb.Fatalf("%v", err)
	}
	tb.Cleanup(free)
	return addr
}

// Durable is an option of Private, for tests of what survives.
func Durable(o *Options) { o.Fast = false }

func startForTest(k Kind, o Options) (*Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), coldPatience)
	defer cancel()
	if o.Progress == nil {
		o.Progress = os.Stderr // a fetch takes a while: say what is going on
	}
	return Start(ctx, k, o)
}

func startClusterForTest(n int, o Options) (*EtcdCluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), coldPatience)
	defer cancel()
	if o.Progress == nil {
		o.Progress = os.Stderr
	}
	return StartEtcd(ctx, n, o)
}

// StopShared stops the servers of [ForTest]. They would die with the process
// anyway, but their folders would wait for the next start to be removed.
func StopShared() error {
	shared.Lock()
	defer shared.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	var errs []error
	for k, one := range shared.servers {
		one.once.Do(func() {}) // a start that is under way ends first
		if one.server != nil {
			errs = append(errs, one.server.Stop(ctx))
		}
		delete(shared.servers, k)
	}
	return errors.Join(errs...)
}

// M is TestMain's argument, as goleak.VerifyTestMain takes it too.
type M interface{ Run() int }

// Main is a TestMain's body: it runs the tests, stops the shared servers, exits.
func Main(m M) { os.Exit(Wrap(m).Run()) }

// Wrap makes m stop the shared servers after its tests, so that
// goleak.VerifyTestMain(lab.Wrap(m)) finds nothing of ours.
func Wrap(m M) M { return wrapped{m} }

type wrapped struct{ m M }

func (w wrapped) Run() int {
	code := w.m.Run()
	if err := StopShared(); err != nil {
		fmt.Fprintln(os.Stderr, "lab: stopping shared servers:", err)
	}
	return code
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// uniqueName has something of the test's name in it, for people who look into a
// server, and enough randomness for many processes on one given server. It fits
// MySQL's 64 characters.
func uniqueName(test string) string {
	const most = 40
	plain := notInNames.ReplaceAllString(strings.ToLower(test), "_")
	if len(plain) > most {
		plain = plain[:most]
	}
	return fmt.Sprintf("xf_%s_%012x", strings.Trim(plain, "_"), rand.Uint64()&(1<<48-1))
}

// NewDatabase makes an empty database for the test, dropped when it ends, and
// returns its DSN.
func (s *Server) NewDatabase(tb TB) string {
	tb.Helper()
	const patience = 30 * time.Second
	name := uniqueName(tb.Name())
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.CreateDatabase(ctx, name); err != nil {
		tb.Fatalf("making a database on %s: %v", s.addr, err)
	}
	tb.Cleanup(func() {
		if s.place != nil && (s.PID() == 0 || s.isEnded()) {
			return // the test killed its server; nothing is left to drop
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.DropDatabase(ctx, name); err != nil {
			tb.Logf("dropping database %s: %v", name, err)
		}
	})
	return s.DSN(name)
}

func (s *Server) isEnded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// NewPrefix is a key prefix for the test, with a colon at its end. The keys stay:
// a shared server goes with its process, and a given one is meant for tests.
func (s *Server) NewPrefix(tb TB) string {
	tb.Helper()
	return uniqueName(tb.Name()) + ":"
}
