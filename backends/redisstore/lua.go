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
	reserveScript = newScript("reserve", true)
	claimScript   = newScript("claim", true)
	endScript     = newScript("end", true)
	extendScript  = newScript("extend", true)
	stockScript   = newScript("stock", true)
	applyScript   = newScript("apply", true)
	reemitScript  = newScript("reemit", true)
	beginScript   = newScript("begin", true)
	adoptScript   = newScript("adopt", true)
	raiseScript   = newScript("raise", true)
	trimScript    = newScript("trim", true)
)

// The scripts that read.
var (
	fenceScript    = newScript("fence", false)
	admittedScript = newScript("admitted", false)
	levelsScript   = newScript("levels", false)
	dueScript      = newScript("due", false)
	openScript     = newScript("open", false)
	pendingScript  = newScript("pending", false)
	statsScript    = newScript("stats", false)
	sumHeldScript  = newScript("sumheld", false)
)

// newScript puts a script together. The files are part of the program: one that is missing is a
// programming error.
func newScript(name string, writes bool) *script {
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
