package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestIdentify(t *testing.T) {
	for _, c := range []struct {
		name, output string
		kind         Kind
		version      Version
	}{
		{"a mysqld that is MariaDB", "/usr/sbin/mysqld  Ver 10.6.22-MariaDB-0ubuntu0.22.04.1 for debian-linux-gnu on x86_64 (Ubuntu 22.04)", MariaDB, Version{10, 6, 22}},
		{"MySQL of Debian", "/x/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))", MySQL, Version{9, 7, 4}},
		{"MySQL of Oracle", "mysqld  Ver 8.4.2 for Linux on aarch64 (MySQL Community Server - GPL)", MySQL, Version{8, 4, 2}},
		{"mariadbd", "mariadbd  Ver 11.8.1-MariaDB-ubu2404-log for debian-linux-gnu on x86_64 (mariadb.org binary distribution)", MariaDB, Version{11, 8, 1}},
		{"after a warning", "mysqld: [Warning] World-writable config file '/etc/my.cnf' is ignored.\nmysqld  Ver 8.0.36 for Linux on x86_64 (Source distribution)", MySQL, Version{8, 0, 36}},
		{"Redis", "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4d7c971a948f0", Redis, Version{7, 0, 15}},
		{"Valkey, under any name", "Valkey server v=9.1.2 sha=00000000:0 malloc=jemalloc-5.3.1 bits=64 build=9108e8f1788612b", Valkey, Version{9, 1, 2}},
		{"something else", "postgres (PostgreSQL) 17.1", "", Version{}},
		{"nothing", "", "", Version{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			kind, v, err := identify(c.output)
			if kind != c.kind || v != c.version || (err == nil) != (c.kind != "") {
				t.Errorf("got %q %s %v", kind, v, err)
			}
		})
	}
}

func TestCheckMinimum(t *testing.T) {
	for _, c := range []struct {
		kind Kind
		v    Version
		ok   bool
	}{
		{MySQL, Version{8, 0, 0}, false}, {MySQL, Version{8, 0, 1}, true}, {MySQL, Version{9, 7, 4}, true},
		{MariaDB, Version{10, 5, 29}, false}, {MariaDB, Version{10, 11, 19}, true},
		{Redis, Version{6, 2, 14}, false}, {Redis, Version{7, 0, 0}, true}, {Valkey, Version{7, 2, 0}, true},
	} {
		if err := checkMinimum(c.kind, c.v); (err == nil) != c.ok {
			t.Errorf("%s %s: %v", c.kind, c.v, err)
		}
	}
}

const bookworm822 = `Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb deb-src
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF

Enabled: no
Types: deb
URIs: http://off.example/
Suites: bookworm
Components: main
`

func TestSources(t *testing.T) {
	debian := parseOSRelease("ID=debian\nVERSION_CODENAME=bookworm\n")
	vendor := parseSources("vendor.list", "deb [arch=amd64 signed-by=/k.gpg] https://vendor.example/debian bookworm main\n# deb http://c.example x main\n")
	all := append(vendor, parseSources("debian.sources", bookworm822)...)
	own := ownSources(all, debian)
	want := "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\n" +
		"Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n" +
		"Types: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\nComponents: main contrib\n" +
		"Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n\n"
	if diff := cmp.Diff(want, renderSources(own)); diff != "" {
		t.Errorf("own sources: %s", diff)
	}
	want = "Types: deb\nURIs: http://mirror.example/debian\nSuites: sid\nComponents: main\n" +
		"Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n"
	if diff := cmp.Diff(want, renderSources(unstableSource(own, debian))); diff != "" {
		t.Errorf("unstable source: %s", diff)
	}
}

func TestSourcesOfOtherMachines(t *testing.T) {
	for _, c := range []struct {
		name, release, file, text, own, unstable string
	}{
		{"Ubuntu has no unstable suite of Debian's", "ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=jammy\n", "sources.list",
			"deb http://m.example/ubuntu jammy main universe\ndeb http://m.example/ubuntu jammy-security main\ndeb-src http://m.example/ubuntu jammy main\n",
			"jammy jammy-security", ""},
		{"old style with options", "ID=debian\nVERSION_CODENAME=trixie\n", "sources.list",
			"deb [ signed-by=/k.gpg trusted=yes ] http://m.example/debian trixie main # here\n", "trixie", "sid"},
		{"entries only in a file of another name", "ID=debian\nVERSION_CODENAME=trixie\n", "mirror.list",
			"deb http://m.example/debian trixie main\n", "trixie", "sid"},
		{"a rolling Debian", "ID=debian\n", "debian.sources",
			"Types: deb\nURIs: http://m.example/debian\nSuites: sid\nComponents: main\n", "sid", "sid"},
		{"a vendor's suites only", "ID=debian\nVERSION_CODENAME=bookworm\n", "cloud.list",
			"deb https://v.example/apt cloud-sdk-bookworm main\n", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := parseOSRelease(c.release)
			suites := func(all []aptSource) string {
				var s []string
				for _, one := range all {
					s = append(s, one.suites...)
				}
				return strings.Join(s, " ")
			}
			own := ownSources(parseSources(c.file, c.text), r)
			if got := suites(own); got != c.own {
				t.Errorf("own: %q, want %q", got, c.own)
			}
			if got := suites(unstableSource(own, r)); got != c.unstable {
				t.Errorf("unstable: %q, want %q", got, c.unstable)
			}
			if !r.debianFamily() {
				t.Error("not of the Debian family?")
			}
		})
	}
}

const dependsText = `shop-server
  Depends: shop-tools
 |Depends: systemd
 |Depends: systemd-standalone
  Depends: <systemd-tmpfiles>
    seedfiles
    systemd
  PreDepends: init-system-helpers
shop-tools
  Depends: adduser
  Depends: zlib1g
 |Depends: libnew1
  Depends: libold1
  Depends: <libvirtual:any>
    libprovider1
    libprovider2
adduser
  Depends: libperl5
zlib1g
  Depends: libc6
libold1
libprovider1
  Depends: libc6
libprovider2
libperl5
libc6
  Depends: libgcc-s1
libgcc-s1
  Depends: libc6
`

const showText = `Package: shop-server
Source: shop
Version: 5:9.1.2-1
Section: database
Size: 100

Package: shop-tools
Source: shop (9.1)
Version: 5:9.1.2-1+b1
Section: universe/database

Package: shop-tools
Version: 5:8.0-1
Section: database

Package: systemd
Section: admin

Package: adduser
Section: admin

Package: zlib1g
Section: libs

Package: libold1
Section: libs

Package: libprovider1
Section: universe/libs

Package: libprovider2
Section: libs

Package: libperl5
Section: libs

Package: libc6
Source: glibc
Section: libs

Package: libgcc-s1
Section: libs
`

// The closure has the server's own packages and the libraries that it reaches,
// each alternative once, and nothing for maintainer scripts.
func TestClosure(t *testing.T) {
	known := parseShow(showText)
	picked, err := closure("shop-server", parseDepends(dependsText), known)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range picked {
		names = append(names, p.name)
	}
	want := []string{"shop-server", "shop-tools", "zlib1g", "libold1", "libprovider1", "libc6", "libgcc-s1"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	if p := known["shop-tools"]; p.source != "shop" || p.version != "5:9.1.2-1+b1" || known["shop-server"].size != 100 {
		t.Errorf("show: %+v", p)
	}
	if _, err := closure("nothing", nil, known); err == nil {
		t.Error("the closure of an unknown package")
	}
}

func TestBestPackage(t *testing.T) {
	pkg := func(name, version string) aptPackage { return aptPackage{name: name, version: version} }
	for _, c := range []struct {
		name string
		kind Kind
		pkgs []aptPackage
		want string
	}{
		{"the newest", MySQL, []aptPackage{pkg("mysql-server-core-8.0", "8.0.42-0ubuntu0.24.04.1"), pkg("mysql-server-core-8.4", "8.4.5-0ubuntu1")}, "mysql-server-core-8.4"},
		{"an epoch is not a version", Redis, []aptPackage{pkg("redis-server", "5:7.0.15-1~deb12u4")}, "redis-server"},
		{"too old", Redis, []aptPackage{pkg("redis-server", "5:6.0.16-1ubuntu1")}, ""},
		{"none", Valkey, nil, ""},
	} {
		known := map[string]aptPackage{}
		for _, p := range c.pkgs {
			known[p.name] = p
		}
		if got, err := bestPackage(c.kind, known); got.name != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v", c.name, got.name, err)
		}
	}
}

func TestPortRange(t *testing.T) {
	for _, c := range [][4]int{{32768, 60999, 10240, 32768}, {1024, 60999, 61000, 65536}, {1024, 65535, 10240, 65536}} {
		if low, high := portRange(c[0], c[1]); low != c[2] || high != c[3] {
			t.Errorf("ephemeral %d–%d: %d–%d", c[0], c[1], low, high)
		}
	}
}

func TestUniqueName(t *testing.T) {
	long := uniqueName("TestX/" + strings.Repeat("Ä-b/", 50))
	if len(long) > 64 || strings.ContainsAny(long, "/-Ä") || long == uniqueName("TestX/"+strings.Repeat("Ä-b/", 50)) {
		t.Errorf("%q", long)
	}
}

func TestMissingNamesWhatToInstall(t *testing.T) {
	for _, want := range []string{"mysql-server", "redis-server", "CROSSFADE_MYSQL_DSN", "CROSSFADE_REDIS_ADDR", "docker compose"} {
		if !strings.Contains(Missing(), want) {
			t.Errorf("%q is not in: %s", want, Missing())
		}
	}
	err := error(&UnavailableError{Kind: Valkey, Tried: []string{"one", "two"}, Hint: Missing(Valkey)})
	for _, want := range []string{"Valkey", "tried: one", "tried: two", "CROSSFADE_VALKEY_ADDR"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}

// However many ask for a template at once, it is built once, is seen complete or
// not at all, and a builder that failed or died leaves nothing that is taken for it.
func TestTemplateIsBuiltOnceAndWhole(t *testing.T) {
	cache := t.TempDir()
	dead := filepath.Join(cache, "templates", partialPrefix+"x-dead")
	if err := os.MkdirAll(dead, 0o755); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	if _, err := template(t.Context(), cache, "x", Options{}, func(string) error { return broken }); !errors.Is(err, broken) {
		t.Fatalf("failed build: %v", err)
	}
	var built atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			dir, err := template(t.Context(), cache, "x", Options{}, func(dir string) error {
				built.Add(1)
				return os.WriteFile(filepath.Join(dir, "whole"), nil, 0o644)
			})
			if err != nil {
				t.Error(err)
			} else if _, err := os.Stat(filepath.Join(dir, "whole")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if built.Load() != 1 {
		t.Errorf("built %d times", built.Load())
	}
	if _, err := os.Stat(dead); err == nil {
		t.Error("the leftover of a dead builder is still there")
	}
}

func TestLockWaitsAndGivesUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	held, err := lock(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	told := 0
	if _, err := lock(ctx, path, func() { told++ }); !errors.Is(err, context.DeadlineExceeded) || told != 1 {
		t.Errorf("while held: %v, told %d times", err, told)
	}
	held.unlock()
	again, err := lock(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	again.unlock()
}

func TestCopyTreeKeepsBytesAndHoles(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	data := make([]byte, 300<<10)
	copy(data[70<<10:], "middle")
	copy(data[len(data)-3:], "end")
	for name, b := range map[string][]byte{"data": data, "zeros": make([]byte, 200<<10), "empty": nil, "auto.cnf": []byte("x")} {
		if err := os.WriteFile(filepath.Join(src, name), b, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := copyTree(src, dst, func(n string) bool { return n == "auto.cnf" }); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{"data": data, "zeros": make([]byte, 200<<10), "empty": {}} {
		if got, err := os.ReadFile(filepath.Join(dst, name)); err != nil || string(got) != string(want) {
			t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(want))
		}
	}
	if _, err := os.Stat(filepath.Join(dst, "auto.cnf")); err == nil {
		t.Error("a skipped file was copied")
	}
}
