package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/crossfade-proxy/crossfade/cmd/internal/admin"
)

// TestWatchingEnds: an interrupt is its regular end, a wrong command ends it at once, and a proxy that is
// away for a while does not.
func TestWatchingEnds(t *testing.T) {
	var out, errs bytes.Buffer
	g := &globals{out: &out, err: &errs}
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := watching(ctx, g, func(context.Context) error {
		if n++; n == 2 {
			cancel()
		}
		return &admin.RemoteError{Code: connect.CodeUnavailable, Text: "away"}
	})
	if err != nil || n != 2 || strings.Contains(out.String(), "\x1b") {
		t.Errorf("%v after %d: %q", err, n, out.String())
	}
	if errs.String() != "away\n" {
		t.Errorf("of the first failure it said %q", errs.String())
	}
	if g.out != &out {
		t.Error("the output is not given back")
	}
	wrong := &admin.RemoteError{Code: connect.CodeInvalidArgument, Text: "no such pod"}
	if err := watching(t.Context(), g, func(context.Context) error { return wrong }); !errors.Is(err, wrong) {
		t.Errorf("a wrong pod: %v", err)
	}
}

// TestPagesReplaceEachOther: on a screen each line clears what was behind it, and nothing is longer or wider
// than the screen, or it would scroll.
func TestPagesReplaceEachOther(t *testing.T) {
	for _, c := range []struct {
		name, page     string
		lines, columns int
		want           string
	}{
		{"it fits", "a\nb\n", 24, 80, "a|b|"},
		{"it fits exactly", "a\nb\n", 3, 2, "a|b|"},
		{"too many lines", "a\nb\nc\nd\n", 4, 80, "a|b|… a taller window shows more|"},
		{"too wide", "abcd\näöüß\nabc\n", 24, 3, "ab…|äö…|abc|"},
		{"a size that nobody tells", "a\nb\nc\n", 0, 0, "a|b|c|"},
		{"no page", "", 24, 80, "|"},
	} {
		if got := strings.ReplaceAll(fit(c.page, c.lines, c.columns), clearLine+"\n", "|"); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	var out bytes.Buffer
	if err := show(&out, "a\n", true, false); err != nil || !strings.HasPrefix(out.String(), screenTop) || !strings.HasSuffix(out.String(), "a"+clearLine+"\n"+clearBelow) {
		t.Errorf("%q, %v", out.String(), err)
	}
	out.Reset()
	if err := show(&out, "{}\n", false, true); err != nil || out.String() != "{}\n" {
		t.Errorf("JSON: %q, %v", out.String(), err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if isTerminal(f) || isTerminal(&out) {
		t.Error("a file is taken for a terminal")
	}
}
