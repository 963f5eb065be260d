package redisstore

import (
	"strings"

	"github.com/crossfade-proxy/crossfade/backends"
)

// The fixed keys of a pod, by what follows its prefix. Their order is that of KEYS in the prelude.
const (
	fenceKey   = "fence"     // hash: the fence, and the run id of the server at which it was raised
	outKey     = "out"       // stream: the outbox
	boxKey     = "box"       // hash: lost and dropped of the outbox
	expKey     = "exp"       // sorted set: open holds by the instant of their expiry
	levelsKey  = "levels"    // hash: levels, and so the index of known keys
	apologyKey = "apologies" // stream: promises without stock behind them
	holdPart   = "h:"        // string: one hold, by its id
	opPart     = "op:"       // string: what a restock or a count answered, by its operation id
)

// fieldSeparator stands between shop, item and location in a field of the levels: no identifier
// contains it.
const fieldSeparator = "\t"

// Bytes that stand for the placeholders in the template as scripts have it.
const (
	shopMark     = "\x01"
	itemMark     = "\x02"
	locationMark = "\x03"
)

// names gives the keys of one pod.
type names struct {
	prefix   string
	template *backends.KeyTemplate
	marked   string // the template for scripts
	fixed    []any  // the keys that every script gets
}

func newNames(prefix string, t *backends.KeyTemplate) (*names, error) {
	n := &names{prefix: prefix, template: t}
	for _, k := range []string{fenceKey, outKey, boxKey, expKey, levelsKey, apologyKey} {
		n.fixed = append(n.fixed, prefix+k)
	}
	if strings.ContainsAny(t.String(), shopMark+itemMark+locationMark) {
		return nil, &backends.FieldError{Field: "key template", Value: abbreviate(t.String()), Bound: "no bytes 1, 2 or 3", Next: "use a printable separator"}
	}
	n.marked = markTemplate(t)
	if strings.HasPrefix(n.marked, prefix) {
		return nil, &backends.FieldError{Field: "key template", Value: abbreviate(t.String()), Bound: "keys outside the prefix " + abbreviate(prefix), Next: "choose another prefix for the pod's own keys"}
	}
	return n, nil
}

// markTemplate writes the template with one byte for each placeholder, and constants filled in.
func markTemplate(t *backends.KeyTemplate) string {
	return strings.NewReplacer("{{", "{", "}}", "}", "{shop}", shopMark, "{item}", itemMark, "{location}", locationMark).Replace(t.String())
}

// stockPattern matches all stock keys, and perhaps others.
func (n *names) stockPattern() string {
	p := escapeGlob(n.marked)
	return strings.NewReplacer(shopMark, "*", itemMark, "*", locationMark, "*").Replace(p)
}

// escapeGlob makes s match itself in a pattern of SCAN.
func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`).Replace(s)
}

// stock gives the counter of k, or a *FieldError when the template cannot name it.
func (n *names) stock(k backends.Key) (string, error) {
	s, err := n.template.Render(k)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(s, n.prefix) {
		return "", &backends.FieldError{Field: "stock key", Value: abbreviate(s), Bound: "keys outside the prefix " + abbreviate(n.prefix), Next: "use another shop or item, or another prefix for the pod's own keys"}
	}
	return s, nil
}

func (n *names) hold(id backends.HoldID) string { return n.prefix + holdPart + string(id) }

func (n *names) op(id backends.OpID) string { return n.prefix + opPart + string(id) }

// field names a level.
func field(k backends.Key) string {
	return string(k.Shop) + fieldSeparator + string(k.Item) + fieldSeparator + string(k.Location)
}

// parseField reads what field wrote.
func parseField(s string) (backends.Key, bool) {
	p := strings.Split(s, fieldSeparator)
	if len(p) != 3 {
		return backends.Key{}, false
	}
	k := backends.Key{Shop: backends.Shop(p[0]), Item: backends.Item(p[1]), Location: backends.Location(p[2])}
	return k, backends.CheckKey(k) == nil
}
