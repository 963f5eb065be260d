package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/crossfade-proxy/crossfade/cmd/internal/config"
)

// keysOf lists the keys that a structure reads, as docs/configuration.md writes them.
func keysOf(t reflect.Type, at string) []string {
	var keys []string
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == "" || name == "-" {
			continue
		}
		switch {
		case f.Type.Kind() == reflect.Struct:
			keys = append(keys, keysOf(f.Type, at+name+".")...)
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
			keys = append(keys, keysOf(f.Type.Elem(), at+name+"[].")...)
		default:
			keys = append(keys, at+name)
		}
	}
	return keys
}

var documented = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|")

// TestEveryKeyIsDescribed: docs/configuration.md has a row for each key, and for nothing else.
func TestEveryKeyIsDescribed(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for _, m := range documented.FindAllStringSubmatch(string(text), -1) {
		rows[m[1]] = true
	}
	keys := keysOf(reflect.TypeFor[config.Config](), "")
	if len(keys) < 10 {
		t.Fatalf("only %d keys were found in the structures: %q", len(keys), keys)
	}
	for _, k := range keys {
		if !rows[k] {
			t.Errorf("docs/configuration.md has no row for %s", k)
		}
		delete(rows, k)
	}
	for r := range rows {
		t.Errorf("docs/configuration.md has a row for %s, which is no key", r)
	}
}
