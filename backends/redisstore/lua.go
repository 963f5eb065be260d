package redisstore

import (
	"crypto/sha1" //nolint:gosec // Redis names scripts by SHA-1
	"embed"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/crossfade-proxy/crossfade/backends"
)

//go:embed lua/*.lua
var luaFiles embed.FS

// script is one atomic step: its text, and the name by which the server caches it.
type script struct {
	name   string
	text   string
	sha    string
	writes bool
}

// The scripts that write.
var (
	countsScript   = newScript("counts", true, "outbox")
	foldScript     = newScript("fold", true, "outbox", "carts", "members", "reserve", "stock", "claim", "end", "extend", "apply")
	reemitScript   = newScript("reemit", true, "outbox", "carts")
	restateScript  = newScript("restate", true, "outbox", "carts")
	correctScript  = newScript("correct", true, "outbox", "carts")
	completeScript = newScript("complete", true)
	adoptScript    = newScript("adopt", true, "outbox", "carts")
	raiseScript    = newScript("raise", true, "outbox", "carts")
	trimScript     = newScript("trim", true, "outbox", "carts")
)

// The scripts that read.
var (
	fenceScript    = newScript("fence", false, "outbox", "carts")
	admittedScript = newScript("admitted", false, "outbox", "carts")
	levelsScript   = newScript("levels", false, "outbox", "carts")
	dueScript      = newScript("due", false, "outbox", "carts")
	openScript     = newScript("open", false, "outbox", "carts")
	pendingScript  = newScript("pending", false, "outbox", "carts")
	statsScript    = newScript("stats", false, "outbox", "carts")
	sumHeldScript  = newScript("sumheld", false, "outbox", "carts")
)

// newScript puts a script together; parts come between the prelude and what it does. The files are part of the program: one that is missing is a
// programming error.
func newScript(name string, writes bool, parts ...string) *script {
	file := func(name string) string {
		b, err := luaFiles.ReadFile("lua/" + name + ".lua")
		if err != nil {
			panic(err)
		}
		return string(b)
	}
	var b strings.Builder
	b.WriteString("#!lua")
	if !writes {
		b.WriteString(" flags=no-writes")
	}
	fmt.Fprintf(&b, "\nlocal MAX_ON_HAND = %d\n", int64(backends.MaxOnHand))
	b.WriteString(stripComments(file("prelude")))
	for _, p := range parts {
		b.WriteString(stripComments(file(p)))
	}
	b.WriteString("local function main()\n")
	b.WriteString(stripComments(file(name)))
	b.WriteString("end\n")
	b.WriteString(stripComments(file("postlude")))
	s := &script{name: name, text: b.String(), writes: writes}
	sum := sha1.Sum([]byte(s.text)) //nolint:gosec // see above
	s.sha = hex.EncodeToString(sum[:])
	return s
}

// stripComments takes out lines that are nothing but a comment: the server keeps each script.
func stripComments(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if t := strings.TrimSpace(line); t != "" && !strings.HasPrefix(t, "--") {
			b.WriteString(line)
		}
	}
	return b.String()
}
