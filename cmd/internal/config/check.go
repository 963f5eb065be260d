package config

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

func (c *Config) check() error {
	if err := backends.CheckID("proxy_id", c.ProxyID); err != nil {
		return err
	}
	if err := checkListen("resp.listen", c.RESP.Listen, false); err != nil {
		return err
	}
	if err := checkListen("admin.listen", c.Admin.Listen, len(c.Admin.Tokens) == 0); err != nil {
		return err
	}
	if c.Metrics.Listen != "" {
		if err := checkListen("metrics.listen", c.Metrics.Listen, false); err != nil {
			return err
		}
	}
	if (c.RESP.TLSCert == "") != (c.RESP.TLSKey == "") {
		return &backends.FieldError{Field: "resp.tls_cert and resp.tls_key", Value: "only one of them", Bound: "both or none", Next: "name the file with the private key too"}
	}
	for name, token := range c.Admin.Tokens {
		if err := backends.CheckID("admin.tokens name", name); err != nil {
			return err
		}
		const least = 16
		if len(token) < least {
			return &backends.FieldError{Field: "admin.tokens." + name, Value: strconv.Itoa(len(token)) + " bytes", Bound: fmt.Sprintf("at least %d", least), Next: "generate one, for example with 'openssl rand -hex 16'"}
		}
	}
	if n := len(c.Pods); n < 1 || n > MaxPods {
		return &backends.FieldError{Field: "pods", Value: strconv.Itoa(n), Bound: fmt.Sprintf("1 to %d", MaxPods), Next: "describe at least one pod with its redis and mysql"}
	}
	if err := c.Control.check(); err != nil {
		return err
	}
	if err := c.checkRouting(); err != nil {
		return err
	}
	for i := range c.Pods {
		if err := c.Pods[i].check(fmt.Sprintf("pods[%d]", i)); err != nil {
			return err
		}
		if p := &c.Pods[i]; p.AnswersAlone() && !c.Control.Etcd.Used() && !c.Control.OneHost {
			return &backends.FieldError{Field: fmt.Sprintf("pods[%d] redis_away", i), Value: strconv.Quote(p.RedisAway), Bound: "a control store that all proxies of the pod share: control.etcd, or control.one_host: true",
				Next: "use etcd; or say one_host where all of them run on this machine with this control.dir. Two that do not share it would let both stores decide at once"}
		}
	}
	return c.checkCounters()
}

// route is the pod that has a shop; nil where none does.
func (c *Config) route(shop string) *Pod {
	var def *Pod
	for i := range c.Pods {
		p := &c.Pods[i]
		if slices.Contains(p.Shops, shop) {
			return p
		}
		if p.Default {
			def = p
		}
	}
	return def
}

// checkCounters refuses templates by which a pod would not find its own counters, or by which two pods would
// sell from one: each would have the other's units in its own books.
func (c *Config) checkCounters() error {
	for i := range c.Pods {
		p := &c.Pods[i]
		if p.Shop != "" && c.route(p.Shop) != p {
			return &backends.FieldError{Field: "pod " + p.Name + " shop", Value: strconv.Quote(p.Shop), Bound: "a shop of the same pod", Next: "add it to the pod's shops: its stock keys would be nobody's"}
		}
		for j := range c.Pods {
			q := &c.Pods[j]
			if i == j || p.Redis.Addr != q.Redis.Addr || p.Redis.DB != q.Redis.DB {
				continue
			}
			if key, shared := c.sharedCounter(p, q); shared {
				return &backends.FieldError{Field: "key_template", Value: fmt.Sprintf("%q of pod %s and %q of pod %s, which both name the counter %q", p.KeyTemplate, p.Name, q.KeyTemplate, q.Name, key), Bound: "templates that share no counter, for pods in one Redis", Next: "put {shop} or another word into one of them, or give one pod another db"}
			}
		}
	}
	return nil
}

// sharedCounter is a counter of p's that q would take for its own.
func (c *Config) sharedCounter(p, q *Pod) (key string, shared bool) {
	from, err := p.Template()
	if err != nil {
		return "", false
	}
	to, err := q.Template()
	if err != nil {
		return "", false
	}
	shops := slices.Clone(p.Shops)
	if p.Shop != "" {
		shops = []string{p.Shop}
	} else if p.Default {
		shops = append(shops, "any")
	}
	for _, shop := range shops {
		k := backends.Key{Shop: backends.Shop(shop), Item: "item", Location: backends.Location(p.Location)}
		if k.Location == "" {
			k.Location = "location"
		}
		key, err := from.Render(k)
		if err != nil || c.route(shop) != p {
			continue
		}
		if got, ok := to.Parse(key); ok && c.route(string(got.Shop)) == q {
			return key, true
		}
	}
	return "", false
}

func (c *Config) checkRouting() error {
	names := map[string]bool{}
	shops := map[string]string{}
	def := ""
	for _, p := range c.Pods {
		if names[p.Name] {
			return &backends.FieldError{Field: "pods", Value: fmt.Sprintf("%q twice", p.Name), Bound: "each name once", Next: "rename one of the pods"}
		}
		names[p.Name] = true
		for _, s := range p.Shops {
			if err := backends.CheckID("shop of pod "+p.Name, s); err != nil {
				return err
			}
			if other, dup := shops[s]; dup {
				return &backends.FieldError{Field: "shops", Value: fmt.Sprintf("%q in pods %s and %s", s, other, p.Name), Bound: "each shop in one pod", Next: "take it out of one of them"}
			}
			shops[s] = p.Name
		}
		if p.Default {
			if def != "" {
				return &backends.FieldError{Field: "default", Value: fmt.Sprintf("true in pods %s and %s", def, p.Name), Bound: "one default pod at most", Next: "take it out of one of them"}
			}
			def = p.Name
		}
	}
	for i, p := range c.Pods {
		for j, q := range c.Pods {
			if i != j && p.Redis.Addr == q.Redis.Addr && p.Redis.DB == q.Redis.DB && strings.HasPrefix(q.Redis.Prefix, p.Redis.Prefix) {
				return &backends.FieldError{Field: "redis.prefix", Value: fmt.Sprintf("%q of pod %s, with which %q of pod %s begins", p.Redis.Prefix, p.Name, q.Redis.Prefix, q.Name), Bound: "prefixes of which none begins with another, for pods in one Redis", Next: "give one of the pods another prefix"}
			}
		}
	}
	if pt := c.RESP.Passthrough; pt != "" && !names[pt] {
		return &backends.FieldError{Field: "resp.passthrough", Value: fmt.Sprintf("%q", pt), Bound: "the name of a pod", Next: "name a pod, or leave it out to refuse other keys"}
	}
	return nil
}

func (p *Pod) check(at string) error {
	if err := backends.CheckID(at+".name", p.Name); err != nil {
		return err
	}
	at = "pod " + p.Name
	if p.Redis.Addr == "" {
		return &backends.FieldError{Field: at + " redis.addr", Value: `""`, Bound: "host:port", Next: "every pod needs a Redis: it counts until the pod is in mysql-only, and arbitrates in live"}
	}
	if err := checkListen(at+" redis.addr", p.Redis.Addr, false); err != nil {
		return err
	}
	if p.MySQL.DSN == "" {
		return &backends.FieldError{Field: at + " mysql.dsn", Value: `""`, Bound: "user:password@tcp(host:port)/database", Next: "every pod needs a MySQL: the ledger is there in every stage"}
	}
	d, err := mysql.ParseDSN(p.MySQL.DSN)
	if err != nil {
		return &backends.FieldError{Field: at + " mysql.dsn", Value: "not readable (" + err.Error() + ")", Bound: "user:password@tcp(host:port)/database", Next: "see the documentation of go-sql-driver/mysql"}
	}
	if d.DBName == "" {
		return &backends.FieldError{Field: at + " mysql.dsn", Value: "without a database", Bound: "user:password@tcp(host:port)/database", Next: "end it with /database"}
	}
	if err := p.checkSigns(at); err != nil {
		return err
	}
	if _, err := p.Template(); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	if s := p.ProbeShare; s != nil && (*s < 0 || *s > 1) {
		return &backends.FieldError{Field: at + " probe_share", Value: strconv.FormatFloat(*s, 'g', -1, 64), Bound: "0 to 1", Next: "1 probes every refusal in the shadow"}
	}
	const leastRetain = time.Minute
	if time.Duration(p.Retain) < leastRetain {
		return &backends.FieldError{Field: at + " retain", Value: time.Duration(p.Retain).String(), Bound: "at least " + leastRetain.String(), Next: "the longest TTL plus the longest outage of a shadow that you want to survive without a backfill"}
	}
	if p.OutboxMax < 1000 {
		return &backends.FieldError{Field: at + " outbox_max", Value: strconv.FormatInt(p.OutboxMax, 10), Bound: "at least 1000", Next: "leave it out for the default"}
	}
	if p.RedisAway != RefuseWithoutRedis && p.RedisAway != AnswerWithoutRedis {
		return &backends.FieldError{Field: at + " redis_away", Value: fmt.Sprintf("%.80q", p.RedisAway), Bound: RefuseWithoutRedis + " or " + AnswerWithoutRedis, Next: "leave it out for " + RefuseWithoutRedis + "; docs/operations.md says what the other costs"}
	}
	if p.MySQL.PoolCap < 1 || p.MySQL.PoolCap > backends.MaxQuantity {
		return &backends.FieldError{Field: at + " mysql.pool_cap", Value: strconv.Itoa(p.MySQL.PoolCap), Bound: fmt.Sprintf("1 to %d", backends.MaxQuantity), Next: "leave it out for the default of " + strconv.Itoa(backends.DefaultPoolCap)}
	}
	if _, err := p.Goals(); err != nil {
		return fmt.Errorf("%s readiness: %w", at, err)
	}
	if err := p.checkLabels(at); err != nil {
		return err
	}
	if err := p.checkAudit(at); err != nil {
		return err
	}
	if err := p.GateBounds().Check(); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	return p.MySQL.checkSizes(at)
}

// maxLabels bounds the labels of a pod.
const maxLabels = 32

// labelText is what the selector of a rollout can name, as a key and as a value.
var labelText = regexp.MustCompile(`^[A-Za-z0-9._/-]{1,64}$`)

func (p *Pod) checkLabels(at string) error {
	if n := len(p.Labels); n > maxLabels {
		return &backends.FieldError{Field: at + " labels", Value: strconv.Itoa(n), Bound: fmt.Sprintf("at most %d", maxLabels), Next: "keep those by which pods are chosen for a rollout"}
	}
	for _, k := range slices.Sorted(maps.Keys(p.Labels)) {
		if k == "name" || !labelText.MatchString(k) || !labelText.MatchString(p.Labels[k]) {
			return &backends.FieldError{Field: at + " labels", Value: fmt.Sprintf("%.80q", k+"="+p.Labels[k]), Bound: "1 to 64 letters, digits and ._/- on both sides, and no key name", Next: "write it like region: eu; name is the pod's name"}
		}
	}
	return nil
}

// leastAuditEvery is the shortest interval: below it an audit of a busy pod never rests.
const leastAuditEvery = time.Minute

func (p *Pod) checkAudit(at string) error {
	s, err := p.AuditSchedule()
	if err != nil {
		return fmt.Errorf("%s audit: %w", at, err)
	}
	if s.Every != 0 && s.Every < leastAuditEvery {
		return &backends.FieldError{Field: at + " audit.every", Value: s.Every.String(), Bound: "0, or at least " + leastAuditEvery.String(), Next: "0 leaves audits to you; leave it out for one each day"}
	}
	if a := p.Audit.Share; a < comparator.LeastAuditShare || a > comparator.MaxAuditShare {
		return &backends.FieldError{Field: at + " audit.share", Value: strconv.FormatFloat(a, 'g', -1, 64), Bound: fmt.Sprintf("%g to %g", comparator.LeastAuditShare, comparator.MaxAuditShare), Next: "leave it out for the default"}
	}
	return nil
}

// Goals are the pod's goals of readiness.
func (p *Pod) Goals() (comparator.Goals, error) {
	goals := comparator.Goals{}
	for _, name := range slices.Sorted(maps.Keys(p.Readiness)) {
		s, err := comparator.ParseStratum(name)
		if err != nil {
			return nil, err
		}
		goals[s] = p.Readiness[name]
	}
	return goals, goals.Check()
}

// checkSizes checks what has no default of its own here: 0 leaves it to the store.
func (m *MySQL) checkSizes(at string) error {
	for _, c := range []struct {
		field       string
		value, most int
	}{{"mysql.combine", m.Combine, maxCombine}, {"mysql.lanes", m.Lanes, maxLanes}} {
		if c.value < 0 || c.value > c.most {
			return &backends.FieldError{Field: at + " " + c.field, Value: strconv.Itoa(c.value), Bound: fmt.Sprintf("1 to %d", c.most), Next: "leave it out for the default"}
		}
	}
	seen := map[[2]string]bool{}
	for i, c := range m.PoolCaps {
		field := fmt.Sprintf("%s mysql.pool_caps[%d]", at, i)
		if err := errors.Join(backends.CheckID(field+" shop", c.Shop), backends.CheckID(field+" item", c.Item)); err != nil {
			return err
		}
		if c.Cap < 1 || c.Cap > backends.MaxQuantity {
			return &backends.FieldError{Field: field + " cap", Value: strconv.Itoa(c.Cap), Bound: fmt.Sprintf("1 to %d", backends.MaxQuantity), Next: "give the rows that this item may have in the pool, or leave the item out"}
		}
		if seen[[2]string{c.Shop, c.Item}] {
			return &backends.FieldError{Field: field, Value: fmt.Sprintf("%s/%s", c.Shop, c.Item), Bound: "each item once", Next: "remove one of them"}
		}
		seen[[2]string{c.Shop, c.Item}] = true
	}
	return nil
}

const (
	maxCombine = 512 // beyond it a batch's locks last longer than its COMMIT
	maxLanes   = 8   // a few connections carry all; more cost the neighbours
)

// checkSigns refuses numbers and times below zero, for which a default would be taken in silence.
func (p *Pod) checkSigns(at string) error {
	for _, f := range []struct {
		key   string
		value string
		below bool
	}{
		{"redis.db", strconv.Itoa(p.Redis.DB), p.Redis.DB < 0},
		{"mysql.max_conns", strconv.Itoa(p.MySQL.MaxConns), p.MySQL.MaxConns < 0},
		{"mysql.lock_wait", time.Duration(p.MySQL.LockWait).String(), p.MySQL.LockWait < 0},
		{"settle_window", time.Duration(p.SettleWindow).String(), p.SettleWindow < 0},
		{"slow_shadow", time.Duration(p.SlowShadow).String(), p.SlowShadow < 0},
		{"sweep_age", time.Duration(p.SweepAge).String(), p.SweepAge < 0},
	} {
		if f.below {
			return &backends.FieldError{Field: at + " " + f.key, Value: f.value, Bound: "not below zero", Next: "leave it out for the default"}
		}
	}
	return nil
}

// Template gives the pod's key template.
func (p *Pod) Template() (*backends.KeyTemplate, error) {
	return backends.ParseKeyTemplate(p.KeyTemplate, backends.Shop(p.Shop), backends.Location(p.Location))
}
