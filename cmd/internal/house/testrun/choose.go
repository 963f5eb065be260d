package main

import (
	"slices"
	"strings"
)

// longest are the packages whose tests take longest. They begin first, so that they do not end alone.
var longest = []string{"/cmd/internal/it/e2e", "/cmd/internal/it/mysqlstore"}

// longestFirst puts them in front, in their order.
func longestFirst(paths []string) []string {
	rank := func(path string) int {
		i := slices.IndexFunc(longest, func(suffix string) bool { return strings.HasSuffix(path, suffix) })
		if i < 0 {
			return len(longest)
		}
		return i
	}
	paths = slices.Clone(paths)
	slices.SortStableFunc(paths, func(a, b string) int { return rank(a) - rank(b) })
	return paths
}

const labPackage = "/cmd/internal/lab"

// withoutServers parts the packages whose tests need no server from those whose tests do: those
// that reach the lab through what their tests import. A program imports the lab for its commands,
// which says nothing about its tests, so a program's own imports do not count.
func withoutServers(pkgs []pkg) (plain, left []string) {
	byPath := map[string]pkg{}
	for _, p := range pkgs {
		byPath[p.ImportPath] = p
	}
	for _, p := range pkgs {
		from := slices.Concat(p.TestImports, p.XTestImports)
		if p.Name != "main" {
			from = append(from, p.Imports...)
		}
		if strings.HasSuffix(p.ImportPath, labPackage) || reachesLab(from, byPath, map[string]bool{}) {
			left = append(left, p.ImportPath)
		} else {
			plain = append(plain, p.ImportPath)
		}
	}
	return plain, left
}

func reachesLab(from []string, byPath map[string]pkg, seen map[string]bool) bool {
	for _, path := range from {
		if seen[path] {
			continue
		}
		seen[path] = true
		if strings.HasSuffix(path, labPackage) || reachesLab(byPath[path].Imports, byPath, seen) {
			return true
		}
	}
	return false
}
