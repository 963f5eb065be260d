package config

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// MaxExcusesBytes bounds a file of excuses.
const MaxExcusesBytes = 1 << 20

// excusesFile is the file that the key excuses names.
type excusesFile struct {
	Excuses []excuse `yaml:"excuses"`
}

type excuse struct {
	Name    string   `yaml:"name"`
	Owner   string   `yaml:"owner"`
	Why     string   `yaml:"why"`
	From    day      `yaml:"from"`
	Until   day      `yaml:"until"`
	Classes []string `yaml:"classes"`
	Pods    []word   `yaml:"pods"`
	Shops   []word   `yaml:"shops"`
	Items   []word   `yaml:"items"`
	Callers []word   `yaml:"callers"`
}

// word is an identifier as it is written: YAML would read the item 007 as the number 7.
type word string

// UnmarshalYAML reads a scalar.
func (w *word) UnmarshalYAML(n ast.Node) error {
	switch n := n.(type) {
	case *ast.StringNode:
		*w = word(n.Value)
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		*w = word(n.GetToken().Value)
	default:
		return &backends.FieldError{Field: "identifier", Value: fmt.Sprintf("%.40q", n.String()), Bound: "a word or a number", Next: "put it in quotes"}
	}
	return nil
}

func words[T ~string](ws []word) []T {
	var out []T
	for _, w := range ws {
		out = append(out, T(w))
	}
	return out
}

// day is a date, which begins at midnight UTC, or an instant with its zone.
type day time.Time

// UnmarshalText reads a day.
func (d *day) UnmarshalText(b []byte) error {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, string(b)); err == nil {
			*d = day(t.UTC())
			return nil
		}
	}
	return &backends.FieldError{Field: "date", Value: fmt.Sprintf("%.40q", b), Bound: "a date, or an instant with its zone", Next: "write it like 2026-05-01 (midnight UTC) or 2026-05-01T18:00:00+02:00"}
}

// ReadExcuses gives the text of the file of excuses; none when the configuration names no file.
func (c *Config) ReadExcuses() ([]byte, error) {
	if c.Excuses == "" {
		return nil, nil
	}
	f, err := os.Open(c.Path(c.Excuses))
	if err != nil {
		return nil, &backends.FieldError{Field: "excuses", Value: "not readable (" + err.Error() + ")", Bound: "a file", Next: "name it by its path from the configuration's folder, or leave the key out"}
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxExcusesBytes+1))
	if err != nil {
		return nil, fmt.Errorf("excuses: %w", err)
	}
	if len(b) > MaxExcusesBytes {
		return nil, &backends.FieldError{Field: "excuses", Value: "a file of more bytes", Bound: fmt.Sprintf("at most %d bytes", MaxExcusesBytes), Next: "take out those that have run out"}
	}
	return b, nil
}

// ParseExcuses reads the text of a file of excuses, and checks all of it. An unknown key is an error.
func (c *Config) ParseExcuses(b []byte) (comparator.Excuses, error) {
	if c.Excuses == "" {
		return nil, nil
	}
	if len(strings.TrimSpace(string(b))) == 0 {
		return nil, &backends.FieldError{Field: "excuses", Value: "an empty file", Bound: "a list under the key excuses", Next: "write 'excuses: []' when there are none"}
	}
	var f excusesFile
	if err := yaml.UnmarshalWithOptions(b, &f, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("%s: %s", c.Excuses, strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	if len(f.Excuses) > comparator.MaxExcuses {
		return nil, &backends.FieldError{Field: "excuses", Value: strconv.Itoa(len(f.Excuses)), Bound: fmt.Sprintf("at most %d", comparator.MaxExcuses), Next: "take out those that have run out"}
	}
	out := make(comparator.Excuses, 0, len(f.Excuses))
	names := map[string]bool{}
	for i := range f.Excuses {
		e, err := f.Excuses[i].read()
		if err == nil {
			err = e.Check()
		}
		if err == nil && names[e.Name] {
			err = &backends.FieldError{Field: "name", Value: fmt.Sprintf("%q twice", e.Name), Bound: "each name once", Next: "rename one of them"}
		}
		if err == nil {
			err = c.checkExcusePods(&e)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: excuses[%d] %s: %w", c.Excuses, i, f.Excuses[i].Name, err)
		}
		names[e.Name] = true
		out = append(out, e)
	}
	return out, nil
}

func (e *excuse) read() (comparator.Excuse, error) {
	out := comparator.Excuse{Name: e.Name, Owner: e.Owner, Why: e.Why, From: time.Time(e.From), Until: time.Time(e.Until),
		Pods: words[backends.Pod](e.Pods), Shops: words[backends.Shop](e.Shops), Items: words[backends.Item](e.Items), Callers: words[string](e.Callers)}
	for _, name := range e.Classes {
		c, err := comparator.ParseClass(name)
		if err != nil {
			return out, err
		}
		out.Classes = append(out.Classes, c)
	}
	return out, nil
}

// checkExcusePods refuses a pod that is not there: what is misspelt would excuse nothing.
func (c *Config) checkExcusePods(e *comparator.Excuse) error {
	var have []string
	for i := range c.Pods {
		have = append(have, c.Pods[i].Name)
	}
	for _, p := range e.Pods {
		if !slices.Contains(have, string(p)) {
			return &backends.FieldError{Field: "pods", Value: fmt.Sprintf("%q", p), Bound: "pods of this configuration", Next: "name one of " + strings.Join(have[:min(len(have), 10)], ", ")}
		}
	}
	return nil
}
