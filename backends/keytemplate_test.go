package backends_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
)

func TestKeyTemplate(t *testing.T) {
	for _, c := range []struct {
		name, template string
		shop           backends.Shop
		location       backends.Location
		key            string
		want           backends.Key
	}{
		{"the default", backends.DefaultKeyTemplate, "", "main", "stock:s1:85123A", backends.Key{Shop: "s1", Item: "85123A", Location: "main"}},
		{"the last one takes the rest", backends.DefaultKeyTemplate, "", "main", "stock:s1:a:b", backends.Key{Shop: "s1", Item: "a:b", Location: "main"}},
		{"with a location", "{shop}/{item}@{location}", "", "", "s1/mug@east", backends.Key{Shop: "s1", Item: "mug", Location: "east"}},
		{"a constant shop", "inv:{item}", "only", "main", "inv:mug", backends.Key{Shop: "only", Item: "mug", Location: "main"}},
		{"the item alone", "{item}", "only", "main", "mug", backends.Key{Shop: "only", Item: "mug", Location: "main"}},
		{"a hash tag", "{{stock}}:{item}", "only", "main", "{stock}:mug", backends.Key{Shop: "only", Item: "mug", Location: "main"}},
		{"a placeholder in a hash tag", "stock:{{{shop}}}:{item}", "", "main", "stock:{s1}:mug", backends.Key{Shop: "s1", Item: "mug", Location: "main"}},
		{"a suffix", "{shop}:{item}:qty", "", "main", "s1:mug:qty", backends.Key{Shop: "s1", Item: "mug", Location: "main"}},
		{"a suffix inside the item", "{shop}:{item}:qty", "", "main", "s1:mug:qty:qty", backends.Key{Shop: "s1", Item: "mug:qty", Location: "main"}},
		{"a space", "stock {shop} {item}", "", "main", "stock s1 BANK CHARGES", backends.Key{Shop: "s1", Item: "BANK CHARGES", Location: "main"}},
		{"the item first", "{item}:{shop}", "", "main", "mug:s1", backends.Key{Shop: "s1", Item: "mug", Location: "main"}},
	} {
		kt, err := backends.ParseKeyTemplate(c.template, c.shop, c.location)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if kt.String() != c.template || kt.ConstantShop() != c.shop || kt.ConstantLocation() != c.location {
			t.Errorf("%s: the template is %q with shop %q and location %q", c.name, kt, kt.ConstantShop(), kt.ConstantLocation())
		}
		if got, ok := kt.Parse(c.key); !ok || got != c.want {
			t.Errorf("%s: %q is read as %+v (%v), want %+v", c.name, c.key, got, ok, c.want)
		}
		if got, err := kt.Render(c.want); err != nil || got != c.key {
			t.Errorf("%s: %+v is written as %q (%v), want %q", c.name, c.want, got, err, c.key)
		}
	}
}

func TestKeyTemplateForeignKeys(t *testing.T) {
	kt, err := backends.ParseKeyTemplate(backends.DefaultKeyTemplate, "", "main")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{
		"", "stock", "stock:", "stock:s1", "stock:s1:", "stock::mug", "Stock:s1:mug", "xstock:s1:mug", "cart:s1:mug",
		"stock:s1:mu\ng", "stock:s\xff:mug", "stock:" + strings.Repeat("s", backends.MaxIDLen+1) + ":mug",
		"stock:s1:" + strings.Repeat("i", backends.MaxIDLen+1),
	} {
		if k, ok := kt.Parse(key); ok {
			t.Errorf("%q is read as %+v", key, k)
		}
	}
	suffixed, err := backends.ParseKeyTemplate("{shop}:{item}:qty", "", "main")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"s1:mug", "s1:mug:qt", "s1:qty", ":mug:qty", "s1::qty", "s1:mug:qty "} {
		if k, ok := suffixed.Parse(key); ok {
			t.Errorf("%q is read as %+v", key, k)
		}
	}
}

func TestKeyTemplateRefusesToRender(t *testing.T) {
	kt, err := backends.ParseKeyTemplate(backends.DefaultKeyTemplate, "", "main")
	if err != nil {
		t.Fatal(err)
	}
	only, err := backends.ParseKeyTemplate("inv:{item}", "only", "main")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		kt   *backends.KeyTemplate
		key  backends.Key
		part string
	}{
		{"a separator in the shop", kt, backends.Key{Shop: "a:b", Item: "mug", Location: "main"}, "tell apart"},
		{"another location", kt, backends.Key{Shop: "s", Item: "mug", Location: "east"}, `only location is "main"`},
		{"another shop", only, backends.Key{Shop: "other", Item: "mug", Location: "main"}, `only shop is "only"`},
		{"an empty item", kt, backends.Key{Shop: "s", Location: "main"}, "tell apart"},
		{"an item that is no identifier", kt, backends.Key{Shop: "s", Item: "a\nb", Location: "main"}, "tell apart"},
	} {
		got, err := c.kt.Render(c.key)
		refused(t, c.name, err, c.part)
		if got != "" {
			t.Errorf("%s: it is written as %q all the same", c.name, got)
		}
	}
}

func TestParseKeyTemplateErrors(t *testing.T) {
	for _, c := range []struct {
		name, template string
		shop           backends.Shop
		location       backends.Location
		part           string
	}{
		{"empty", "", "", "main", "1 to 256 bytes"},
		{"too long", "{item}" + strings.Repeat("x", backends.MaxKeyTemplateLen), "s", "main", "1 to 256 bytes"},
		{"no item", "stock:{shop}", "", "main", "{item} somewhere"},
		{"an unknown placeholder", "{shop}:{sku}:{item}", "", "main", "{sku}"},
		{"the same twice", "{item}:{item}", "s", "main", "once at most"},
		{"side by side", "{shop}{item}", "", "main", "between two placeholders"},
		{"not closed", "stock:{item", "s", "main", "closed by a }"},
		{"not opened", "stock}:{item}", "s", "main", "opened by a {"},
		{"a shop too many", "{shop}:{item}", "s", "main", "constant shop"},
		{"a shop too few", "stock:{item}", "", "main", "constant shop"},
		{"a location too many", "{shop}:{item}:{location}", "", "main", "constant location"},
		{"a location too few", "{shop}:{item}", "", "", "constant location"},
		{"a constant shop that is none", "stock:{item}", "a\nb", "main", "printable ASCII"},
		{"a constant location that is none", "stock:{item}", "s", backends.Location(strings.Repeat("x", backends.MaxIDLen+1)), "at most 64 bytes"},
	} {
		kt, err := backends.ParseKeyTemplate(c.template, c.shop, c.location)
		refused(t, c.name, err, c.part)
		if kt != nil {
			t.Errorf("%s: there is a template as well", c.name)
		}
	}
}

// TestKeyTemplateIsOneToOne: whatever is rendered is read back as itself, and two keys are never
// rendered alike.
func TestKeyTemplateIsOneToOne(t *testing.T) {
	part := rapid.StringMatching(`[ab:/{} ]{1,4}`)
	rapid.Check(t, func(rt *rapid.T) {
		source := rapid.SampledFrom([]string{
			backends.DefaultKeyTemplate, "{shop}/{item}", "{item}:{shop}:", "{{{shop}}}:{item}", "a{shop}b{item}a", "{shop}::{item}::x",
		}).Draw(rt, "template")
		kt, err := backends.ParseKeyTemplate(source, "", "main")
		if err != nil {
			rt.Fatal(err)
		}
		seen := map[string]backends.Key{}
		for range 20 {
			k := backends.Key{Shop: backends.Shop(part.Draw(rt, "shop")), Item: backends.Item(part.Draw(rt, "item")), Location: "main"}
			s, err := kt.Render(k)
			if err != nil {
				continue
			}
			if back, ok := kt.Parse(s); !ok || back != k {
				rt.Fatalf("%+v is written as %q, which is read as %+v", k, s, back)
			}
			if other, taken := seen[s]; taken && other != k {
				rt.Fatalf("%+v and %+v are both written as %q", k, other, s)
			}
			seen[s] = k
		}
	})
}

// FuzzKeyTemplate: no template and no key makes it panic, and what is read is written back.
func FuzzKeyTemplate(f *testing.F) {
	f.Add(backends.DefaultKeyTemplate, "", "main", "stock:s1:mug")
	f.Add("{{x}}:{item}:", "s", "main", "{x}:mug:")
	f.Add("{", "", "", "")
	f.Fuzz(func(t *testing.T, source, shop, location, key string) {
		kt, err := backends.ParseKeyTemplate(source, backends.Shop(shop), backends.Location(location))
		if err != nil {
			return
		}
		k, ok := kt.Parse(key)
		if !ok {
			return
		}
		if back, err := kt.Render(k); err != nil || back != key {
			t.Fatalf("template %q reads %q as %+v and writes that as %q (%v)", source, key, k, back, err)
		}
	})
}
