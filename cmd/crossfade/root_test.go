package main

import (
	"strings"
	"testing"
)

// TestTokenOf: the history names the one who did it, so nobody's token is guessed.
func TestTokenOf(t *testing.T) {
	both := map[string]string{"ann": "secret-ann", "bob": "secret-bob"}
	for _, c := range []struct {
		name   string
		tokens map[string]string
		as     string
		want   string
		err    string
	}{
		{"several, and none is named", both, "", "", "one of ann, bob"},
		{"several, one is named", both, "bob", "secret-bob", ""},
		{"a name that is not there", both, "eve", "", `"eve"`},
		{"the only one", map[string]string{"ann": "secret-ann"}, "", "secret-ann", ""},
		{"not the only one", map[string]string{"ann": "secret-ann"}, "bob", "", "one of ann"},
		{"none", nil, "", "", ""},
		{"none, and one is named", nil, "ann", "", "no admin.tokens"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := tokenOf(c.tokens, c.as)
			if got != c.want || (err != nil) != (c.err != "") {
				t.Fatalf("%q, %v", got, err)
			}
			if err != nil && (!strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "secret-")) {
				t.Errorf("%v; want %q in it, and no secret", err, c.err)
			}
		})
	}
}

// TestSeveralTokens: the command ends as a wrong one, with the way on, before anybody is asked.
func TestSeveralTokens(t *testing.T) {
	t.Setenv("CROSSFADE_TOKEN", "")
	t.Setenv("CROSSFADE_AS", "")
	file := configFile(t, `admin: {listen: "127.0.0.1:1", tokens: {ann: 0123456789abcdef, bob: fedcba9876543210}}`)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"kill", "pod-1", "--why", "x"}, exitUsage, "--as NAME"},
		{[]string{"--as", "bob", "kill", "pod-1", "--why", "x"}, exitAway, "no proxy answers"},
		{[]string{"--as", "bob", "--token", "t", "pods"}, exitUsage, "give one of them"},
	} {
		code, _, errs := run(t, append([]string{"-c", file}, c.args...)...)
		if code != c.code || !strings.Contains(errs, c.want) {
			t.Errorf("%q: exit code %d, %q; want %d and %q", c.args, code, errs, c.code, c.want)
		}
	}
}
