package lab

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// maxEtcd bounds a cluster; more members make etcd slower, not safer.
	maxEtcd = 7
	// With these a cluster has a new leader about a second after the old one has gone, on a busy machine as well.
	etcdHeartbeat = 100 * time.Millisecond
	etcdElection  = 700 * time.Millisecond
	// etcdAsk bounds one question: a paused member accepts and says nothing.
	etcdAsk = 500 * time.Millisecond
)

// EtcdCluster is members that each can be killed, paused, resumed and restarted by themselves, on their data.
type EtcdCluster struct {
	Members []*Server
}

// etcdMember is what a member is, beside a server.
type etcdMember struct {
	name    string
	peer    string // host:port on which it talks with the others
	cluster string // --initial-cluster
	token   string // so that members of two clusters never talk, whoever gets a port next
}

func (m *etcdMember) serveArgs(s *Server) []string {
	args := []string{
		"--name", m.name, "--data-dir", filepath.Join(s.Dir, "data"),
		"--listen-client-urls", "http://" + s.addr, "--advertise-client-urls", "http://" + s.addr,
		"--listen-peer-urls", "http://" + m.peer, "--initial-advertise-peer-urls", "http://" + m.peer,
		"--initial-cluster", m.cluster, "--initial-cluster-token", m.token, "--initial-cluster-state", "new",
		"--heartbeat-interval", strconv.FormatInt(etcdHeartbeat.Milliseconds(), 10),
		"--election-timeout", strconv.FormatInt(etcdElection.Milliseconds(), 10),
		"--logger", "zap", "--log-level", "warn", "--log-outputs", "stderr",
	}
	if s.opts.Fast {
		args = append(args, "--unsafe-no-fsync")
	}
	return args
}

// listens tells whether the member takes part: it answers clients only once there is a quorum, which is not its business.
func (m *etcdMember) listens(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, etcdAsk)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", m.peer)
	if err != nil {
		return err
	}
	return conn.Close()
}

// StartEtcd has n members that have elected a leader. The first way is taken that leads to a program: found on the machine,
// in the cache, built from source, fetched with apt.
func StartEtcd(ctx context.Context, n int, opts Options) (*EtcdCluster, error) {
	if n < 1 || n > maxEtcd {
		return nil, fmt.Errorf("lab: a cluster of %d etcds; it has 1 to %d", n, maxEtcd)
	}
	if opts.Detached || opts.Port != 0 || opts.Address != "" || opts.Dir != "" && n > 1 {
		return nil, errors.New("lab: an etcd is always attached and finds its own port, and only a single one has a given folder")
	}
	p, err := Find(ctx, Etcd, opts)
	if err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		c, err := startEtcd(ctx, p.in, n, opts)
		if err == nil || attempt == startAttempts || !errors.Is(err, errExited) || !strings.Contains(err.Error(), "address already in use") {
			return c, err
		}
	}
}

func startEtcd(ctx context.Context, in install, n int, opts Options) (_ *EtcdCluster, err error) {
	c := &EtcdCluster{}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop(context.WithoutCancel(ctx)))
		}
	}()
	var initial []string
	token := rand.Text()
	for i := range n {
		s, err := newEtcd(ctx, in, i, opts)
		if err != nil {
			return nil, err
		}
		s.member.token = token
		c.Members = append(c.Members, s)
		initial = append(initial, s.member.name+"=http://"+s.member.peer)
	}
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i, s := range c.Members {
		s.member.cluster = strings.Join(initial, ",")
		wg.Go(func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			errs[i] = s.start(ctx)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if _, err := c.AwaitLeader(ctx); err != nil {
		return nil, fmt.Errorf("%w; the end of a member's log:\n%s", err, tail(c.Members[0].LogFile(), 0))
	}
	return c, nil
}

// newEtcd has a place for a member, with two ports.
func newEtcd(ctx context.Context, in install, i int, opts Options) (*Server, error) {
	p, err := newPlace(ctx, Etcd, opts)
	if err != nil {
		return nil, err
	}
	root, err := tempRoot()
	if err == nil {
		p.also = &place{}
		err = p.also.takePort(root, 0)
	}
	if err != nil {
		return nil, errors.Join(err, p.leave())
	}
	return &Server{
		Kind: Etcd, Dir: p.dir, Origin: in.Origin, version: in.Version, opts: opts, in: in, place: p,
		addr:   net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)),
		member: &etcdMember{name: "m" + strconv.Itoa(i), peer: net.JoinHostPort("127.0.0.1", strconv.Itoa(p.also.port))},
	}, nil
}

// Endpoints are the members' addresses for clients, in their order, whether or not they run.
func (c *EtcdCluster) Endpoints() []string {
	out := make([]string, len(c.Members))
	for i, s := range c.Members {
		out[i] = s.addr
	}
	return out
}

// ErrNoLeader: no member that answers knows of a leader that answers too.
var ErrNoLeader = errors.New("etcd has no leader")

// Leader asks all members which of them leads, and answers its place; ErrNoLeader where none does.
func (c *EtcdCluster) Leader(ctx context.Context) (int, error) {
	leads := make([]bool, len(c.Members))
	var wg sync.WaitGroup
	for i, s := range c.Members {
		wg.Go(func() {
			id, leader, err := etcdStatus(ctx, s.addr)
			leads[i] = err == nil && id != "" && id == leader
		})
	}
	wg.Wait()
	for i, l := range leads {
		if l {
			return i, nil
		}
	}
	return -1, ErrNoLeader
}

// AwaitLeader returns once a member leads and has a quorum behind it.
func (c *EtcdCluster) AwaitLeader(ctx context.Context) (leader int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startPatience, fmt.Errorf("no leader within %s: %w", startPatience, ErrNoLeader))
	defer cancel()
	err = poll(ctx, func() (bool, error) {
		i, err := c.Leader(ctx)
		if err == nil { // a linearizable read: only a leader with a quorum answers it
			leader = i
			_, err = etcdPost(ctx, c.Members[i].addr, "/v3/kv/range", `{"key":"AA=="}`)
		}
		return err == nil, nil
	})
	return leader, err
}

// etcdStatus asks a member who it is and whom it follows.
func etcdStatus(ctx context.Context, addr string) (id, leader string, err error) {
	body, err := etcdPost(ctx, addr, "/v3/maintenance/status", "{}")
	if err != nil {
		return "", "", err
	}
	var answer struct {
		Header struct {
			Member string `json:"member_id"`
		} `json:"header"`
		Leader string `json:"leader"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return "", "", err
	}
	return answer.Header.Member, answer.Leader, nil
}

// etcdPost asks by etcd's JSON gateway, with a connection of its own: the lab needs no client.
func etcdPost(ctx context.Context, addr, path, body string) ([]byte, error) {
	const most = 64 << 10
	ctx, cancel := context.WithTimeout(ctx, etcdAsk)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, err
	}
	t := &http.Transport{DisableKeepAlives: true}
	defer t.CloseIdleConnections()
	r, err := t.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(io.LimitReader(r.Body, most))
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("etcd at %s answers %s: %s", addr, r.Status, clip(string(text), 200))
	}
	return text, err
}

// Stop ends all members and gives their places back. Twice is once.
func (c *EtcdCluster) Stop(ctx context.Context) error {
	errs := make([]error, len(c.Members))
	var wg sync.WaitGroup
	for i, s := range c.Members {
		wg.Go(func() { errs[i] = s.Stop(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Cluster is n members for this test alone, which may do to them what it likes; they are stopped when it ends. opts changes
// the options (Fast is set before).
func Cluster(tb TB, n int, opts ...func(*Options)) *EtcdCluster {
	tb.Helper()
	o := Options{Fast: true}
	for _, f := range opts {
		f(&o)
	}
	c, err := startClusterForTest(n, o)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopPatience+killPatience)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			tb.Logf("stopping etcd: %v", err)
		}
	})
	return c
}
