package house

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
)

// layer says which of our packages the packages that match may import. The first layer whose
// pattern matches (path.Match; a trailing /... takes everything below) is a package's own.
type layer struct {
	pattern string
	may     []string // patterns of our packages
	// testsMay are allowed to test files in addition.
	testsMay []string
	why      string
}

// layers are the arrows of the design.
var layers = []layer{
	{
		pattern: "backends",
		why:     "backends is the vocabulary: whoever imports it gets nothing else, so everybody can",
	},
	{
		pattern: "backends/storetest", may: []string{"backends", "backends/memstore"},
		why: "the conformance suite judges stores by the port and by the reference model, and by nothing that is particular to one of them",
	},
	{
		pattern: "backends/*", may: []string{"backends"}, testsMay: []string{"backends/storetest", "backends/memstore"},
		why: "an adapter knows the port that it fills and no other adapter, so that it can be replaced alone",
	},
	{
		pattern: "comparator", may: []string{"backends"}, testsMay: []string{"backends/memstore", "comparator/memfindings"},
		why: "the comparator judges; whether a pod may switch is not its business (comparator and killswitch never know each other: cmd turns findings into a gate's evidence)",
	},
	{
		pattern: "internal/linefile", why: "what two files of lines have in common is about neither of them",
	},
	{
		pattern: "comparator/*", may: []string{"comparator", "backends", "internal/linefile"}, testsMay: []string{"comparator/findingstest"},
		why: "an adapter of the comparator knows the port that it fills and no other adapter",
	},
	{
		pattern: "killswitch", may: []string{"backends"}, testsMay: []string{"backends/memstore", "killswitch/controltest"},
		why: "a kill has to work when everything else is broken: it depends on no comparator and no writer (cmd hands it evidence as a plain struct)",
	},
	{
		pattern: "killswitch/*", may: []string{"killswitch", "backends"}, testsMay: []string{"killswitch/controltest"},
		why: "a control store knows the port that it fills and no other control store",
	},
	{
		pattern: "dashboards", may: []string{"comparator", "killswitch", "backends"},
		why: "dashboards show what is; they never reach into the path of a checkout (dashboards and dualwrite never know each other)",
	},
	{
		pattern: "dashboards/...", may: []string{"dashboards", "comparator", "killswitch", "backends"},
		why: "dashboards show what is; they never reach into the path of a checkout (dashboards and dualwrite never know each other)",
	},
	{
		pattern: "dualwrite", may: []string{"comparator", "killswitch", "backends"}, testsMay: []string{"backends/memstore", "backends/storetest"},
		why: "the writer drives stores through their port: it knows no concrete store, no door and no dashboard",
	},
	{
		pattern: "dualwrite/*", may: []string{"backends", "internal/linefile"}, testsMay: []string{"backends/memstore", "dualwrite/*/doortest"},
		why: "a door speaks a protocol and hands requests to a port of its own: it knows the vocabulary, not the writer behind it, and no other door",
	},
	{
		pattern: "dualwrite/*/doortest", may: []string{"dualwrite/*", "backends", "backends/memstore"},
		why: "a door's test bench stands in for the writer: it knows the door's port and the model, and nothing that is behind them",
	},
	{
		pattern: "cmd/internal/lab", why: "the lab runs servers for tests of anything, so nothing of ours may be under it",
	},
	{
		pattern: "cmd/crossfade", may: []string{"..."}, why: "this is where concrete types meet",
	},
	{
		pattern: "cmd/...", may: []string{"..."}, why: "this is where concrete types meet",
	},
}

// neverImported are packages that nobody imports, with the reason.
var neverImported = []layer{
	{pattern: "cmd/crossfade", why: "the program is where things are put together; what two need is a package under cmd/internal"},
	{pattern: "cmd/internal/it/...", why: "these are tests"},
	{pattern: "cmd/internal/house/...", why: "these are tests"},
}

// foreign says who may import modules that are not ours, where it matters. The reason for each
// is that a driver's types and errors end in the one package that translates them.
var foreign = []struct {
	imported string // prefix of import paths
	by       []string
	why      string
}{
	{
		"github.com/redis/go-redis/", []string{"backends/redisstore", "dualwrite/respdoor", "cmd/..."},
		"only redisstore may speak to a pod's Redis: this client retries by itself, and only there is every write safe against that (the RESP door passes other keys through)",
	},
	{
		"github.com/go-sql-driver/mysql", []string{"backends/mysqlstore", "comparator/mysqlfindings", "cmd/..."},
		"a driver's errors are classified in one function of the adapter, never by whoever gets them",
	},
	{
		"go.etcd.io/etcd/", []string{"killswitch/etcdstore", "cmd/..."},
		"a client's errors are classified in one function of the adapter, never by whoever gets them; and etcd coordinates, it holds nothing that a checkout needs",
	},
	{
		"google.golang.org/grpc", []string{"killswitch/etcdstore", "cmd/..."},
		"etcd's client speaks gRPC; our own services are by ConnectRPC",
	},
	{
		"github.com/sony/gobreaker/", []string{"dualwrite", "cmd/..."},
		"the breaker guards the shadow, and the writer is who calls it; the truth is never behind one",
	},
	{
		"github.com/tidwall/redcon", []string{"dualwrite/respdoor", "cmd/..."},
		"RESP is spoken at one door",
	},
	{
		"connectrpc.com/connect", []string{"dualwrite/apidoor", "cmd/..."},
		"the admin service and the API door are the only ones that speak ConnectRPC",
	},
	{
		"go.opentelemetry.io/", []string{"dashboards", "dashboards/...", "cmd/..."},
		"a decision neither logs nor counts; metrics' names are in one file",
	},
	{
		"github.com/spf13/cobra", []string{"cmd/..."},
		"commands are the program's business",
	},
	{
		"github.com/goccy/go-yaml", []string{"cmd/..."},
		"configuration is read in one place and handed on as structs",
	},
}

func matches(pattern, rel string) bool {
	if pattern == "..." {
		return true
	}
	if prefix, all := strings.CutSuffix(pattern, "/..."); all {
		return strings.HasPrefix(rel, prefix+"/")
	}
	ok, err := path.Match(pattern, rel)
	return ok && err == nil
}

func anyMatches(patterns []string, rel string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, rel) })
}

// standard tells whether an import path is of the standard library: its first part has no dot.
func standard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".") || importPath == "C"
}

// brokenArrows lists the imports that no arrow allows, each with the reason of its layer.
func brokenArrows(pkgs []goPackage) []string {
	var broken []string
	for _, p := range pkgs {
		if p.rel() == "." {
			if len(p.GoFiles) > 0 {
				broken = append(broken, "the module's own folder has Go code: every package has a folder of its own, so that it has a layer")
			}
			continue
		}
		i := slices.IndexFunc(layers, func(l layer) bool { return matches(l.pattern, p.rel()) })
		if i < 0 {
			broken = append(broken, fmt.Sprintf("%s is in no layer: say in arrows_test.go, and in docs/contributing.md, what it may import and why", p.rel()))
			continue
		}
		for _, imp := range p.Imports {
			broken = append(broken, judgeImport(p, layers[i], imp, false)...)
		}
		for _, imp := range slices.Concat(p.TestImports, p.XTestImports) {
			broken = append(broken, judgeImport(p, layers[i], imp, true)...)
		}
	}
	slices.Sort(broken)
	return slices.Compact(broken)
}

func judgeImport(p goPackage, l layer, imported string, byTest bool) []string {
	from := p.rel()
	if byTest {
		from += " (its tests)"
	}
	if imported == module || strings.HasPrefix(imported, module+"/") {
		to := relative(imported)
		for _, n := range neverImported {
			if matches(n.pattern, to) && !(byTest && to == p.rel()) {
				return []string{fmt.Sprintf("%s imports %s, which nobody may: %s", from, to, n.why)}
			}
		}
		switch {
		case to == p.rel(): // an external test of the package
		case anyMatches(l.may, to):
		case byTest && anyMatches(l.testsMay, to):
		default:
			return []string{fmt.Sprintf("%s imports %s: %s", from, to, l.why)}
		}
		return nil
	}
	if standard(imported) {
		return nil
	}
	if p.rel() == "backends" && !byTest {
		return []string{fmt.Sprintf("backends imports %s: %s; it is made of the standard library only", imported, l.why)}
	}
	for _, f := range foreign {
		if strings.HasPrefix(imported, f.imported) && !anyMatches(f.by, p.rel()) && !byTest {
			return []string{fmt.Sprintf("%s imports %s: %s", from, imported, f.why)}
		}
	}
	return nil
}

func TestArrows(t *testing.T) {
	for _, b := range brokenArrows(packages(t)) {
		t.Error(b)
	}
}

// TestArrowsBite breaks each arrow once.
func TestArrowsBite(t *testing.T) {
	of := func(rel string, imports ...string) goPackage {
		for i, imp := range imports {
			if rest, ours := strings.CutPrefix(imp, "~/"); ours {
				imports[i] = module + "/" + rest
			}
		}
		return goPackage{ImportPath: module + "/" + rel, Imports: imports, GoFiles: []string{"x.go"}}
	}
	tests := func(rel string, imports ...string) goPackage {
		p := of(rel, imports...)
		p.Imports, p.XTestImports = nil, p.Imports
		return p
	}
	for _, c := range []struct {
		name  string
		pkg   goPackage
		wrong string // part of the message; empty: allowed
	}{
		{"comparator knows no kill switch", of("comparator", "~/killswitch"), "never know each other"},
		{"kill switch knows no comparator", of("killswitch", "~/comparator"), "when everything else is broken"},
		{"backends is of the standard library", of("backends", "github.com/google/go-cmp/cmp"), "standard library only"},
		{"backends knows nobody", of("backends", "~/comparator"), "the vocabulary"},
		{"no adapter knows another", of("backends/mysqlstore", "~/backends/memstore"), "no other adapter"},
		{"an adapter's tests may ask the model", tests("backends/mysqlstore", "~/backends/memstore", "~/backends/storetest"), ""},
		{"the suite knows the model", of("backends/storetest", "~/backends", "~/backends/memstore"), ""},
		{"the suite knows no real store", of("backends/storetest", "~/backends/mysqlstore"), "particular"},
		{"an adapter knows no user of its port", of("backends/redisstore", "~/dualwrite"), "no other adapter"},
		{"findings know the comparator", of("comparator/mysqlfindings", "~/comparator", "~/backends"), ""},
		{"findings know no store", of("comparator/mysqlfindings", "~/backends/mysqlstore"), "no other adapter"},
		{"a control store knows its port", of("killswitch/etcdstore", "~/killswitch"), ""},
		{"a control store knows no other", of("killswitch/etcdstore", "~/killswitch/filestore"), "no other control store"},
		{"dashboards know no writer", of("dashboards", "~/dualwrite"), "never reach"},
		{"what is under dashboards neither", of("dashboards/console", "~/dualwrite"), "never reach"},
		{"the writer knows no dashboard", of("dualwrite", "~/dashboards"), "no dashboard"},
		{"the writer knows no store", of("dualwrite", "~/backends/redisstore"), "no concrete store"},
		{"the writer's tests know no real store", tests("dualwrite", "~/backends/redisstore"), "no concrete store"},
		{"the writer compares", of("dualwrite", "~/comparator", "~/killswitch", "~/backends"), ""},
		{"a door knows no writer", of("dualwrite/respdoor", "~/dualwrite"), "not the writer"},
		{"a door knows no other", of("dualwrite/respdoor", "~/dualwrite/apidoor"), "no other door"},
		{"a door's tests have their bench", tests("dualwrite/respdoor", "~/dualwrite/respdoor/doortest"), ""},
		{"a door does not ship it", of("dualwrite/respdoor", "~/dualwrite/respdoor/doortest"), "not the writer"},
		{"the bench knows no writer", of("dualwrite/respdoor/doortest", "~/dualwrite"), "test bench"},
		{"nothing outside cmd knows the lab", tests("backends/redisstore", "~/cmd/internal/lab"), "no other adapter"},
		{"the lab knows nobody", of("cmd/internal/lab", "~/backends"), "nothing of ours"},
		{"cmd knows everybody", of("cmd/internal/it/redisstore", "~/cmd/internal/lab", "~/backends/redisstore"), ""},
		{"nobody knows the program", of("cmd/internal/demo", "~/cmd/crossfade"), "nobody may"},
		{"the program's external tests do", tests("cmd/crossfade", "~/cmd/crossfade"), ""},
		{"drivers end in adapters", of("dualwrite", "github.com/go-sql-driver/mysql"), "classified in one function"},
		{"Redis is spoken in one place", of("comparator", "github.com/redis/go-redis/v9"), "retries by itself"},
		{"the adapter has its driver", of("backends/redisstore", "github.com/redis/go-redis/v9"), ""},
		{"a decision does not count", of("comparator", "go.opentelemetry.io/otel/metric"), "neither logs nor counts"},
		{"a package has a layer", of("helpers"), "in no layer"},
		{"packages have folders", of("."), "folder of its own"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.pkg.ImportPath == module+"/." {
				c.pkg.ImportPath = module
			}
			got := brokenArrows([]goPackage{c.pkg})
			switch {
			case c.wrong == "" && len(got) > 0:
				t.Errorf("it is allowed, and the rules say: %q", got)
			case c.wrong != "" && (len(got) != 1 || !strings.Contains(got[0], c.wrong)):
				t.Errorf("want one complaint with %q, got %q", c.wrong, got)
			}
		})
	}
}

// TestDesignHasItsPackages guards the guard: an arrow of a folder that is not there checks nothing.
func TestDesignHasItsPackages(t *testing.T) {
	have := map[string]bool{}
	for _, p := range packages(t) {
		have[p.rel()] = true
	}
	for _, want := range []string{
		"backends", "backends/storetest", "backends/memstore", "backends/redisstore", "backends/mysqlstore",
		"comparator", "killswitch", "dashboards", "dualwrite", "dualwrite/respdoor", "cmd/crossfade", "cmd/internal/lab",
	} {
		if !have[want] {
			t.Errorf("the module has no package %s, which the layout of docs/contributing.md names", want)
		}
	}
}
