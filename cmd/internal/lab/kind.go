package lab

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Kind is one of the servers that the lab can run.
type Kind string

// The four kinds. Redis and Valkey speak one protocol, MySQL and MariaDB
// another, but none of them stands in for its sibling.
const (
	MySQL   Kind = "mysql"
	MariaDB Kind = "mariadb"
	Redis   Kind = "redis"
	Valkey  Kind = "valkey"
)

// Kinds are all kinds, in the order in which they are listed to people.
var Kinds = []Kind{MySQL, MariaDB, Redis, Valkey}

// ParseKind reads a kind as people write it.
func ParseKind(s string) (Kind, error) {
	for _, k := range Kinds {
		if strings.EqualFold(s, string(k)) {
			return k, nil
		}
	}
	return "", fmt.Errorf("unknown kind of server %q: want one of mysql, mariadb, redis, valkey", s)
}

// SQL tells the database servers from the Redis-like ones.
func (k Kind) SQL() bool { return k == MySQL || k == MariaDB }

// facts of a kind: everything that differs by kind and is only data.
type facts struct {
	title    string   // as people write it
	env      string   // variable that gives an address
	binaries []string // names under which the program is installed
	packages string   // pattern of the apt package with the program
	minimum  Version  // the oldest that Crossfade supports
	install  string   // what to install by hand
	// native: it starts itself again by /proc/self/exe, which has to be the program and not a loader. So
	// it runs on the machine's own libc, and only packages of the machine's own suite fit.
	native bool
	folder string // where its packages have the program; empty: one of programFolders
}

var kindFacts = map[Kind]facts{
	MySQL: {
		title: "MySQL", env: "CROSSFADE_MYSQL_DSN", binaries: []string{"mysqld"},
		packages: `^mysql-server-core(-[0-9.]+)?$`, minimum: Version{8, 0, 1},
		install: "MySQL 8.0.1 or newer (mysql-server)",
	},
	MariaDB: {
		title: "MariaDB", env: "CROSSFADE_MARIADB_DSN", binaries: []string{"mariadbd", "mysqld"},
		packages: `^mariadb-server-core(-[0-9.]+)?$`, minimum: Version{10, 6, 0},
		install: "MariaDB 10.6 or newer (mariadb-server)",
	},
	Redis: {
		title: "Redis", env: "CROSSFADE_REDIS_ADDR", binaries: []string{"redis-server"},
		packages: `^redis-server$`, minimum: Version{7, 0, 0},
		install: "Redis 7 or newer (redis-server)",
	},
	Valkey: {
		title: "Valkey", env: "CROSSFADE_VALKEY_ADDR", binaries: []string{"valkey-server", "redis-server"},
		packages: `^valkey-server$`, minimum: Version{7, 2, 0},
		install: "Valkey 7.2 or newer (valkey-server)",
	},
	Etcd: {
		title: "etcd", binaries: []string{"etcd"},
		packages: `^etcd-server$`, minimum: Version{3, 5, 0},
		install: "etcd 3.5 or newer (etcd-server), or Go, with which the lab builds one", native: true,
	},
	Twemproxy: {
		title: "twemproxy", binaries: []string{"nutcracker"},
		packages: `^nutcracker$`, minimum: Version{0, 4, 0},
		install: "twemproxy 0.4 or newer (nutcracker)",
	},
	Spin: {
		title: "Spin", binaries: []string{"spin"},
		packages: `^spin$`, minimum: Version{6, 4, 0},
		install: "Spin 6.4 or newer (spin)",
	},
	Chromium: {
		title: "Chromium", binaries: []string{"chromium-headless-shell", "chromium", "chromium-browser"},
		packages: `^chromium-headless-shell$`, minimum: Version{120, 0, 0},
		install: "Chromium 120 or newer (chromium-headless-shell, or chromium)", native: true, folder: "chromium",
	},
}

func (k Kind) facts() facts { return kindFacts[k] }

// Version is a server's upstream version: major, minor, patch.
type Version [3]int

var versionDigits = regexp.MustCompile(`[0-9]+(\.[0-9]+){0,2}`)

// ParseVersion reads the first dotted number of s; ok is false without one.
func ParseVersion(s string) (v Version, ok bool) {
	m := versionDigits.FindString(s)
	if m == "" {
		return v, false
	}
	for i, part := range strings.SplitN(m, ".", 3) {
		n, err := strconv.Atoi(part)
		if err != nil {
			return Version{}, false
		}
		v[i] = n
	}
	return v, true
}

// Less orders versions by their parts.
func (v Version) Less(w Version) bool {
	for i := range v {
		if v[i] != w[i] {
			return v[i] < w[i]
		}
	}
	return false
}

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }

// MarshalText writes a version as people do, also in JSON.
func (v Version) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText is the reverse.
func (v *Version) UnmarshalText(text []byte) error {
	w, ok := ParseVersion(string(text))
	if !ok {
		return fmt.Errorf("not a version: %q", clip(string(text), 40))
	}
	*v = w
	return nil
}

var (
	// "mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))"
	sqlVersionLine = regexp.MustCompile(`\bVer ([0-9][^ ]*) for `)
	// "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 …"
	redisVersionLine = regexp.MustCompile(`^(Redis|Valkey) server v=([0-9][^ ]*) `)
)

// identify reads what a server program prints for --version. The name of the
// program is not consulted: distributions install one under the other's name.
func identify(output string) (Kind, Version, error) {
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if v, ok := identifyTwemproxy(line); ok {
			return Twemproxy, v, nil
		}
		if v, ok := identifyEtcd(line); ok {
			return Etcd, v, nil
		}
		if rest, is := strings.CutPrefix(line, "Spin Version "); is {
			if v, ok := ParseVersion(rest); ok {
				return Spin, v, nil
			}
		}
		if v, ok := identifyChromium(line); ok {
			return Chromium, v, nil
		}
		if m := redisVersionLine.FindStringSubmatch(line + " "); m != nil {
			if v, ok := ParseVersion(m[2]); ok {
				return map[string]Kind{"Redis": Redis, "Valkey": Valkey}[m[1]], v, nil
			}
		}
		if m := sqlVersionLine.FindStringSubmatch(line); m != nil {
			if v, ok := ParseVersion(m[1]); ok {
				return sqlKind(m[1]), v, nil
			}
		}
	}
	return "", Version{}, fmt.Errorf("not a server that the lab knows; --version says %q", clip(output, 200))
}

// sqlKind tells the two apart by the version text, which is the same in the
// --version line and in SELECT VERSION(): MariaDB always names itself there.
func sqlKind(version string) Kind {
	if strings.Contains(strings.ToLower(version), "mariadb") {
		return MariaDB
	}
	return MySQL
}

// checkMinimum refuses a server that is older than what Crossfade supports.
func checkMinimum(k Kind, v Version) error {
	if least := k.facts().minimum; v.Less(least) {
		return fmt.Errorf("%s %s is too old: Crossfade needs %s or newer", k.facts().title, v, least)
	}
	return nil
}

func clip(s string, n int) string {
	s = strings.TrimSpace(s)
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}
