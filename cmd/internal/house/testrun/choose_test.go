package main

import (
	"slices"
	"testing"
)

func TestWithoutServers(t *testing.T) {
	const m = "example.org/m"
	pkgs := []pkg{
		{ImportPath: m + "/cmd/internal/it/redisstore", XTestImports: []string{m + labPackage}},
		{ImportPath: m + labPackage},
		{ImportPath: m + "/cmd/internal/demo", Name: "demo", Imports: []string{m + labPackage}},
		{ImportPath: m + "/cmd/internal/it/demo", XTestImports: []string{m + "/cmd/internal/demo"}},
		{ImportPath: m + "/cmd/crossfade", Name: "main", Imports: []string{m + labPackage}, TestImports: []string{"testing"}},
		{ImportPath: m + "/cmd/program", Name: "main", TestImports: []string{m + "/cmd/internal/demo"}},
		{ImportPath: m + "/backends", Name: "backends", TestImports: []string{"testing"}},
		{ImportPath: m + "/a", Name: "a", Imports: []string{m + "/b"}},
		{ImportPath: m + "/b", Name: "b", TestImports: []string{m + "/a"}},
	}
	plain, left := withoutServers(pkgs)
	if want := []string{m + "/cmd/crossfade", m + "/backends", m + "/a", m + "/b"}; !slices.Equal(plain, want) {
		t.Errorf("these need no server: %q, want %q", plain, want)
	}
	if len(plain)+len(left) != len(pkgs) {
		t.Errorf("some package is in neither part: %q, %q", plain, left)
	}
}

func TestParseKinds(t *testing.T) {
	if kinds, err := parseKinds("mysql,valkey,etcd"); err != nil || len(kinds) != 3 {
		t.Errorf("three kinds: %v, %v", kinds, err)
	}
	if _, err := parseKinds("mysql,oracle"); err == nil {
		t.Error("a kind that the lab does not know is taken")
	}
}

// TestLongestFirst moves the long ones to the front, and nothing else.
func TestLongestFirst(t *testing.T) {
	got := longestFirst([]string{"m/a", "m/cmd/internal/it/mysqlstore", "m/b", "m/cmd/internal/it/e2e", "m/c"})
	want := []string{"m/cmd/internal/it/e2e", "m/cmd/internal/it/mysqlstore", "m/a", "m/b", "m/c"}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
