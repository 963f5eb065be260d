package backends

import (
	"fmt"
	"strings"
)

// KeyTemplate maps stock keys of Redis ("stock:{shop}:{item}") to levels and back. Placeholders
// are {shop}, {item} and {location}; a literal brace is written twice ("{{" and "}}"). A
// placeholder that the template lacks has a constant value. The mapping is one to one: Render
// refuses identifiers whose key would be read back as something else (a colon inside a shop,
// say, with the default template).
type KeyTemplate struct {
	source string
	parts  []templatePart
	shop   Shop
	loc    Location
}

type templatePart struct {
	field   string // "shop", "item", "location", or "" for a literal
	literal string
}

// DefaultKeyTemplate is the template of the legacy counters.
const DefaultKeyTemplate = "stock:{shop}:{item}"

// DefaultLocation is the location of stock whose template names none.
const DefaultLocation Location = "main"

// MaxKeyTemplateLen bounds the template, in bytes.
const MaxKeyTemplateLen = 256

// ParseKeyTemplate reads a template. shop is used when it has no {shop}, location when it has no
// {location}; giving a constant for a placeholder that is there, or none for one that is not, is
// an error.
func ParseKeyTemplate(source string, shop Shop, location Location) (*KeyTemplate, error) {
	bad := func(bound, next string) error {
		return &FieldError{Field: "key template", Value: abbreviate(source), Bound: bound, Next: next}
	}
	if source == "" || len(source) > MaxKeyTemplateLen {
		return nil, bad(fmt.Sprintf("1 to %d bytes", MaxKeyTemplateLen), "the default is "+DefaultKeyTemplate)
	}
	t := &KeyTemplate{source: source, shop: shop, loc: location}
	has := map[string]bool{}
	var lit strings.Builder
	flush := func() {
		if lit.Len() > 0 {
			t.parts = append(t.parts, templatePart{literal: lit.String()})
			lit.Reset()
		}
	}
	for i := 0; i < len(source); i++ {
		c := source[i]
		switch {
		case (c == '{' || c == '}') && i+1 < len(source) && source[i+1] == c:
			lit.WriteByte(c)
			i++
		case c == '{':
			end := strings.IndexByte(source[i:], '}')
			if end < 0 {
				return nil, bad("every { closed by a }", "write {{ for a literal brace")
			}
			name := source[i+1 : i+end]
			if name != "shop" && name != "item" && name != "location" || has[name] {
				return nil, bad("{shop}, {item} and {location}, each once at most; found {"+name+"}", "write {{ for a literal brace")
			}
			flush()
			if n := len(t.parts); n > 0 && t.parts[n-1].field != "" {
				return nil, bad("a literal between two placeholders", "put a separator before {"+name+"}")
			}
			has[name] = true
			t.parts = append(t.parts, templatePart{field: name})
			i += end
		case c == '}':
			return nil, bad("every } opened by a {", "write }} for a literal brace")
		default:
			lit.WriteByte(c)
		}
	}
	flush()
	if !has["item"] {
		return nil, bad("{item} somewhere", "the default is "+DefaultKeyTemplate)
	}
	if has["shop"] == (shop != "") {
		return nil, bad("either {shop} in the template or a constant shop, not both and not neither", "set the pod's 'shop' or add {shop}")
	}
	if has["location"] == (location != "") {
		return nil, bad("either {location} in the template or a constant location, not both and not neither", "set the pod's 'location' or add {location}")
	}
	if shop != "" {
		if err := CheckID("constant shop of the key template", string(shop)); err != nil {
			return nil, err
		}
	}
	if location != "" {
		if err := CheckID("constant location of the key template", string(location)); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// String gives the template as it was written.
func (t *KeyTemplate) String() string { return t.source }

// ConstantLocation is the one location of a pod whose counters have none, else "".
func (t *KeyTemplate) ConstantLocation() Location { return t.loc }

// ConstantShop is the one shop of a template without {shop}, else "".
func (t *KeyTemplate) ConstantShop() Shop { return t.shop }

// Render gives the Redis key of k, or a *FieldError when the template cannot name it.
func (t *KeyTemplate) Render(k Key) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		switch p.field {
		case "shop":
			b.WriteString(string(k.Shop))
		case "item":
			b.WriteString(string(k.Item))
		case "location":
			b.WriteString(string(k.Location))
		default:
			b.WriteString(p.literal)
		}
	}
	s := b.String()
	if back, ok := t.Parse(s); !ok || back != k {
		return "", &FieldError{
			Field: "stock key", Value: abbreviate(k.String()),
			Bound: "shops, items and locations that the key template " + t.source + " can tell apart" + t.constants(),
			Next:  "use other identifiers, or a template whose separator they do not contain",
		}
	}
	return s, nil
}

func (t *KeyTemplate) constants() string {
	s := ""
	if t.shop != "" {
		s += fmt.Sprintf("; its only shop is %q", t.shop)
	}
	if t.loc != "" {
		s += fmt.Sprintf("; its only location is %q", t.loc)
	}
	return s
}

// Parse reads a Redis key; false when it is not a stock key of this template. A placeholder ends
// at the first place where the literal after it stands; the last one takes the rest.
func (t *KeyTemplate) Parse(s string) (Key, bool) {
	k := Key{Shop: t.shop, Location: t.loc}
	for i, p := range t.parts {
		if p.field == "" {
			rest, ok := strings.CutPrefix(s, p.literal)
			if !ok {
				return Key{}, false
			}
			s = rest
			continue
		}
		v := s
		switch {
		case i+1 == len(t.parts):
		case i+2 == len(t.parts): // the last literal: it must end the key
			cut, ok := strings.CutSuffix(s, t.parts[i+1].literal)
			if !ok {
				return Key{}, false
			}
			v = cut
		default:
			n := strings.Index(s, t.parts[i+1].literal)
			if n < 0 {
				return Key{}, false
			}
			v = s[:n]
		}
		if CheckID(p.field, v) != nil {
			return Key{}, false
		}
		s = s[len(v):]
		switch p.field {
		case "shop":
			k.Shop = Shop(v)
		case "item":
			k.Item = Item(v)
		default:
			k.Location = Location(v)
		}
	}
	return k, s == ""
}
