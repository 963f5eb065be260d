package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// MaxFileBytes bounds a configuration file: a file larger than this is not one.
const MaxFileBytes = 4 << 20

// MaxPods bounds the pods that one proxy serves.
const MaxPods = 1000

// Config is a proxy's configuration.
type Config struct {
	// ProxyID names this proxy among those that serve the same pods.
	ProxyID string `yaml:"proxy_id"`
	// DataDir keeps what must outlive the process: the spool of findings.
	DataDir string `yaml:"data_dir"`
	// Excuses names the file of excuses; empty for none.
	Excuses string  `yaml:"excuses"`
	RESP    RESP    `yaml:"resp"`
	Admin   Admin   `yaml:"admin"`
	Metrics Metrics `yaml:"metrics"`
	Control Control `yaml:"control"`
	Kill    Kill    `yaml:"kill"`
	Pods    []Pod   `yaml:"pods"`

	dir string // of the file: relative paths start there
}

// RESP is the front door.
type RESP struct {
	Listen   string `yaml:"listen"`
	User     string `yaml:"user"`
	Password string `yaml:"password"`
	TLSCert  string `yaml:"tls_cert"`
	TLSKey   string `yaml:"tls_key"`
	// Passthrough names the pod whose Redis answers commands on other keys; empty refuses them.
	Passthrough string `yaml:"passthrough"`
	// MaxConns bounds the client connections.
	MaxConns int `yaml:"max_conns"`
}

// Admin is the admin service.
type Admin struct {
	Listen string `yaml:"listen"`
	// Tokens by the name of who holds them.
	Tokens map[string]string `yaml:"tokens"`
}

// Metrics is the page that Prometheus reads.
type Metrics struct {
	Listen string `yaml:"listen"`
}

// Control is the control store: a folder for one machine, or etcd for a fleet.
type Control struct {
	// Dir is a folder that all proxies of these pods on this machine share.
	Dir string `yaml:"dir"`
	// OneHost says that all proxies of these pods run on this machine and do share the folder. Nothing can check it, so
	// what would sell twice without it asks for it to be said.
	OneHost bool `yaml:"one_host"`
	Etcd    Etcd `yaml:"etcd"`
	// Lease is how long this proxy stays registered after its last renewal.
	Lease Duration `yaml:"lease"`
}

// Etcd is a control store in etcd.
type Etcd struct {
	// Endpoints are its members, as host:port or URLs.
	Endpoints []string `yaml:"endpoints"`
	Prefix    string   `yaml:"prefix"`
	Username  string   `yaml:"username"`
	Password  string   `yaml:"password"`
	// PasswordFile has the password, so that it need not be here.
	PasswordFile string `yaml:"password_file"`
	// TLS is used where it is true, or where one of the files is named.
	TLS     bool   `yaml:"tls"`
	TLSCA   string `yaml:"tls_ca"`
	TLSCert string `yaml:"tls_cert"`
	TLSKey  string `yaml:"tls_key"`
}

// Kill is another way in for kills.
type Kill struct {
	// Dir is a folder in which a file kill.<pod> kills that pod; empty for none.
	Dir string `yaml:"dir"`
}

// Pod is one pod.
type Pod struct {
	Name string `yaml:"name"`
	// Labels are for choosing pods of a rollout.
	Labels map[string]string `yaml:"labels"`
	// Shops that belong to the pod.
	Shops []string `yaml:"shops"`
	// Default takes the shops that no pod names.
	Default bool  `yaml:"default"`
	Redis   Redis `yaml:"redis"`
	MySQL   MySQL `yaml:"mysql"`
	// KeyTemplate of the counters; see backends.KeyTemplate.
	KeyTemplate string `yaml:"key_template"`
	// Shop is the constant shop of a template without {shop}.
	Shop string `yaml:"shop"`
	// Location is the constant location of a template without {location}.
	Location string `yaml:"location"`
	// SetRestocks makes SET on a stock key an absolute restock.
	SetRestocks bool `yaml:"set_restocks"`
	// ProbeShare is the share of refusals that are probed in the shadow, 0 to 1.
	ProbeShare *float64 `yaml:"probe_share"`
	// Retain is how long ended holds are kept.
	Retain Duration `yaml:"retain"`
	// OutboxMax bounds each outbox, in entries.
	OutboxMax int64 `yaml:"outbox_max"`
	// SettleWindow is how long a difference may wait for its explanation.
	SettleWindow Duration `yaml:"settle_window"`
	// SlowShadow is how long the shadow may take to follow before that is a finding.
	SlowShadow Duration `yaml:"slow_shadow"`
	// Readiness are the goals by stratum: the rate of wrong decisions that the upper bound at 95 % has to
	// come under.
	Readiness map[string]float64 `yaml:"readiness"`
	// Audit is when and how fast the pod is audited.
	Audit Audit `yaml:"audit"`
	// Gates are the bounds that moves of the pod are judged by.
	Gates Gates `yaml:"gates"`
	// SweepAge is how long an entry stays with the proxy that made it.
	SweepAge Duration `yaml:"sweep_age"`
	// RedisAway is what happens in live while Redis is away: refuse, or answer.
	RedisAway string `yaml:"redis_away"`
}

// What RedisAway may say.
const (
	// RefuseWithoutRedis answers "unavailable".
	RefuseWithoutRedis = "refuse"
	// AnswerWithoutRedis has MySQL answer alone, once the control store says that Redis is behind.
	AnswerWithoutRedis = "answer"
)

// AnswersAlone tells whether MySQL may answer without Redis.
func (p *Pod) AnswersAlone() bool { return p.RedisAway == AnswerWithoutRedis }

// Audit of a pod.
type Audit struct {
	// Every is from the beginning of one audit to that of the next; 0 means none by itself, and without it there is one
	// each day.
	Every *Duration `yaml:"every"`
	// Window is the part of the day in which it runs, UTC.
	Window string `yaml:"window"`
	// Share is the share of the time that it reads at most.
	Share float64 `yaml:"share"`
}

// AuditSchedule is when the pod is audited.
func (p *Pod) AuditSchedule() (comparator.AuditSchedule, error) {
	s := comparator.AuditSchedule{Every: comparator.DefaultAuditEvery}
	if p.Audit.Every != nil {
		s.Every = time.Duration(*p.Audit.Every)
	}
	var err error
	s.Window, err = comparator.ParseDayWindow(p.Audit.Window)
	return s, err
}

// Gates of a pod. What is left out has the default of killswitch.Bounds.
type Gates struct {
	// Off names gates that are judged and stand in nobody's way.
	Off []string `yaml:"off"`
	// Readiness is what the gate of that name asks for: evidence, or go.
	Readiness string `yaml:"readiness"`
	// OutboxLag and OutboxEntries bound what waits in the truth's outbox.
	OutboxLag     Duration `yaml:"outbox_lag"`
	OutboxEntries int64    `yaml:"outbox_entries"`
	// ShadowP99 is the budget of the shadow's latency over ShadowWindow.
	ShadowP99    Duration `yaml:"shadow_p99"`
	ShadowWindow Duration `yaml:"shadow_window"`
	// FindingsWindow is how far back open findings hold up a move.
	FindingsWindow Duration `yaml:"findings_window"`
}

// GateBounds are the pod's bounds, with their defaults.
func (p *Pod) GateBounds() killswitch.Bounds {
	g := &p.Gates
	return killswitch.Bounds{
		OutboxLag: time.Duration(g.OutboxLag), OutboxEntries: g.OutboxEntries, ShadowP99: time.Duration(g.ShadowP99), ShadowWindow: time.Duration(g.ShadowWindow),
		FindingsWindow: time.Duration(g.FindingsWindow), Readiness: killswitch.ReadinessBound(g.Readiness), Off: slices.Clone(g.Off),
	}.WithDefaults()
}

// Redis of a pod.
type Redis struct {
	Addr     string `yaml:"addr"`
	User     string `yaml:"user"`
	Password string `yaml:"password"`
	DB       int    `yaml:"db"`
	TLS      bool   `yaml:"tls"`
	// Prefix of Crossfade's own keys; "xf:<pod>:" when empty.
	Prefix   string `yaml:"prefix"`
	PoolSize int    `yaml:"pool_size"`
}

// MySQL of a pod.
type MySQL struct {
	DSN      string `yaml:"dsn"`
	MaxConns int    `yaml:"max_conns"`
	PoolCap  int    `yaml:"pool_cap"`
	// PoolCaps are those of items that want another.
	PoolCaps []PoolCap `yaml:"pool_caps"`
	// Combine is the most requests that share a transaction; 1 gives each its own.
	Combine int `yaml:"combine"`
	// Lanes is how many transactions of one kind are under way at once.
	Lanes int `yaml:"lanes"`
	// LockWait is how long a statement waits for a lock, whole seconds.
	LockWait Duration `yaml:"lock_wait"`
}

// PoolCap is the most rows that one item has in the unit pool, at each location.
type PoolCap struct {
	Shop string `yaml:"shop"`
	Item string `yaml:"item"`
	Cap  int    `yaml:"cap"`
}

// PoolCapFor gives the cap of a key; 0 where it has none of its own. It is nil where no item has.
func (m *MySQL) PoolCapFor() func(backends.Key) int {
	if len(m.PoolCaps) == 0 {
		return nil
	}
	type item struct {
		shop backends.Shop
		item backends.Item
	}
	caps := make(map[item]int, len(m.PoolCaps))
	for _, c := range m.PoolCaps {
		caps[item{backends.Shop(c.Shop), backends.Item(c.Item)}] = c.Cap
	}
	return func(k backends.Key) int { return caps[item{k.Shop, k.Item}] }
}

// Duration is written as Go writes it: 500ms, 3s, 48h.
type Duration time.Duration

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return &backends.FieldError{Field: "duration", Value: fmt.Sprintf("%q", b), Bound: "a number with a unit", Next: "write it like 500ms, 3s or 48h"}
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes a duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Load reads, completes and checks a file.
func Load(path string) (*Config, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no configuration at %s; 'crossfade lab up' writes one to try, docs/configuration.md describes it: %w", path, err)
	}
	if err != nil {
		return nil, err
	}
	if info.Size() > MaxFileBytes {
		return nil, fmt.Errorf("%s has %d bytes; a configuration has at most %d", path, info.Size(), MaxFileBytes)
	}
	b, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	c, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if c.dir, err = filepath.Abs(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return c, nil
}

// Parse reads, completes and checks the text of a configuration. An unknown key is an error.
func Parse(b []byte) (*Config, error) {
	c := &Config{}
	if err := yaml.UnmarshalWithOptions(b, c, yaml.Strict()); err != nil {
		return nil, errors.New(strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	c.complete()
	return c, c.check()
}

func (c *Config) complete() {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&c.ProxyID, "proxy-1")
	def(&c.DataDir, "data")
	def(&c.RESP.Listen, "127.0.0.1:6380")
	def(&c.Admin.Listen, "127.0.0.1:6390")
	if !c.Control.Etcd.Used() {
		def(&c.Control.Dir, "control")
	}
	if c.Control.Lease == 0 {
		c.Control.Lease = Duration(killswitch.DefaultLease)
	}
	for i := range c.Pods {
		p := &c.Pods[i]
		def(&p.KeyTemplate, backends.DefaultKeyTemplate)
		if p.Location == "" && !strings.Contains(p.KeyTemplate, "{location}") {
			p.Location = string(backends.DefaultLocation)
		}
		def(&p.Redis.Prefix, "xf:"+p.Name+":")
		def(&p.RedisAway, RefuseWithoutRedis)
		if p.Retain == 0 {
			p.Retain = Duration(backends.DefaultRetain)
		}
		if p.OutboxMax == 0 {
			p.OutboxMax = backends.DefaultOutboxMax
		}
		if p.Audit.Share == 0 {
			p.Audit.Share = comparator.DefaultAuditShare
		}
		if p.MySQL.PoolCap == 0 {
			p.MySQL.PoolCap = backends.DefaultPoolCap
		}
	}
	if len(c.Pods) == 1 && len(c.Pods[0].Shops) == 0 {
		c.Pods[0].Default = true
	}
}

// Path resolves a path of the file against the file's own folder.
func (c *Config) Path(p string) string {
	if filepath.IsAbs(p) || c.dir == "" {
		return p
	}
	return filepath.Join(c.dir, p)
}

// TLS loads the door's certificate; nil when none is configured.
func (r RESP) TLS(c *Config) (*tls.Config, error) {
	if r.TLSCert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(c.Path(r.TLSCert), c.Path(r.TLSKey))
	if err != nil {
		return nil, &backends.FieldError{Field: "resp.tls_cert and resp.tls_key", Value: "not usable (" + err.Error() + ")", Bound: "two PEM files that belong together", Next: "name them by their paths from the configuration's folder, or leave both out"}
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}

func checkListen(field, addr string, loopbackOnly bool) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return &backends.FieldError{Field: field, Value: fmt.Sprintf("%q", addr), Bound: "host:port", Next: "write it like 127.0.0.1:6380"}
	}
	if ip := net.ParseIP(host); loopbackOnly && (ip == nil || !ip.IsLoopback()) && host != "localhost" {
		return &backends.FieldError{Field: field, Value: fmt.Sprintf("%q", addr), Bound: "a loopback address unless admin.tokens is set", Next: "set a token, or listen on 127.0.0.1"}
	}
	return nil
}
