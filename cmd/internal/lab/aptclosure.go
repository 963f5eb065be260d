package lab

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// aptPackage is what the choice needs to know of one package.
type aptPackage struct {
	name    string
	version string // with epoch and revision
	source  string // the source package that it is built from
	section string
	size    int64
}

// parseShow reads the output of `apt-cache show`. Of several versions of one
// package the first is kept: apt lists its candidate first.
func parseShow(text string) map[string]aptPackage {
	all := map[string]aptPackage{}
	for _, f := range paragraphs(text) {
		p := aptPackage{name: f["package"], version: f["version"], section: f["section"], source: f["package"]}
		if src := strings.Fields(f["source"]); len(src) > 0 {
			p.source = src[0] // "name (version)" when the versions differ
		}
		p.size, _ = strconv.ParseInt(f["size"], 10, 64)
		if _, seen := all[p.name]; !seen && p.name != "" {
			all[p.name] = p
		}
	}
	return all
}

// parseDepends reads the output of `apt-cache depends --recurse`: for each
// package its dependencies, each as its alternatives in order of preference.
//
//	redis-tools
//	  Depends: libc6
//	 |Depends: systemd              (an alternative: the next line is the other)
//	  Depends: <systemd-tmpfiles>   (a virtual package: its providers follow)
//	    systemd
func parseDepends(text string) map[string][][]string {
	graph := map[string][][]string{}
	pkg, or := "", false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \r\n")
		deps := graph[pkg]
		switch kind, name, is := strings.Cut(line, ": "); {
		case line == "":
		case line[0] != ' ':
			pkg, or = strings.TrimSuffix(line, ":"), false
			if _, seen := graph[pkg]; !seen {
				graph[pkg] = nil
			}
		case is:
			if !or || len(deps) == 0 {
				deps = append(deps, nil)
			}
			last := len(deps) - 1
			deps[last] = append(deps[last], plainName(name))
			or = strings.HasPrefix(kind, " |")
			graph[pkg] = deps
		case len(deps) > 0: // a provider of the virtual package in the line before
			last := len(deps) - 1
			deps[last] = append(deps[last], plainName(strings.TrimSpace(line)))
		}
	}
	return graph
}

// plainName is without the brackets of a virtual package and the architecture.
func plainName(s string) string {
	name, _, _ := strings.Cut(strings.Trim(s, "<>"), ":")
	return name
}

// closure are the packages that root needs in order to run, root first: from
// there it follows the dependencies on packages of the same source (a server
// split over several packages, as redis-server and redis-tools) and on shared
// libraries (the archive's section "libs", which has libc and its loader too).
// What only maintainer scripts want (perl, adduser, init systems) is in other
// sections, and what only that wants is never reached.
func closure(root string, depends map[string][][]string, known map[string]aptPackage) ([]aptPackage, error) {
	top, ok := known[root]
	if !ok {
		return nil, fmt.Errorf("apt does not know a package %s", root)
	}
	wanted := func(name string) bool {
		p, ok := known[name]
		return ok && (p.source == top.source || path.Base(p.section) == "libs")
	}
	picked := []aptPackage{top}
	seen := map[string]bool{root: true}
	for i := 0; i < len(picked); i++ {
		for _, alternatives := range depends[picked[i].name] {
			if slices.ContainsFunc(alternatives, func(name string) bool { return seen[name] }) {
				continue
			}
			if at := slices.IndexFunc(alternatives, wanted); at >= 0 {
				seen[alternatives[at]] = true
				picked = append(picked, known[alternatives[at]])
			}
		}
	}
	return picked, nil
}

// upstream is the version that the server's authors gave: without Debian's epoch
// and revision.
func upstream(version string) string {
	if _, rest, ok := strings.Cut(version, ":"); ok {
		version = rest
	}
	if at := strings.LastIndex(version, "-"); at > 0 {
		version = version[:at]
	}
	return version
}

// bestPackage is the newest of the known packages that is new enough for kind.
func bestPackage(k Kind, known map[string]aptPackage) (aptPackage, error) {
	var best aptPackage
	var bestVersion Version
	tooOld := error(nil)
	for _, p := range known {
		v, ok := ParseVersion(upstream(p.version))
		if !ok {
			continue
		}
		if err := checkMinimum(k, v); err != nil {
			tooOld = err
			continue
		}
		if best.name == "" || bestVersion.Less(v) || (v == bestVersion && p.name < best.name) {
			best, bestVersion = p, v
		}
	}
	switch {
	case best.name != "":
		return best, nil
	case tooOld != nil:
		return best, tooOld
	}
	return best, fmt.Errorf("there is no package of it (looked for %s)", k.facts().packages)
}
