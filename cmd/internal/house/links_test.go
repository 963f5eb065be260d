package house

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

var (
	// [text](target) and [text](target "title"); an image is the same with a ! before.
	inlineLink = regexp.MustCompile(`\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)`)
	// [name]: target
	namedLink = regexp.MustCompile(`(?m)^ {0,3}\[[^\]]+\]:\s+<?([^\s>]+)>?`)
	codeSpan  = regexp.MustCompile("`+[^`]*`+")
	heading   = regexp.MustCompile(`^ {0,3}#{1,6}\s+(.*?)\s*#*\s*$`)
	htmlID    = regexp.MustCompile(`<a\s+(?:id|name)="([^"]+)"`)
	fence     = regexp.MustCompile("^ {0,3}(```+|~~~+)")
	linkText  = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`)
)

// withoutCode blanks fenced blocks, whose brackets are not links and whose # are not headings.
func withoutCode(text string) string {
	var b strings.Builder
	open := ""
	for line := range strings.Lines(text) {
		mark := ""
		if m := fence.FindStringSubmatch(line); m != nil {
			mark = m[1]
		}
		switch {
		case open == "" && mark != "":
			open = mark
			b.WriteString("\n")
		case open != "":
			if strings.HasPrefix(mark, open) {
				open = ""
			}
			b.WriteString("\n")
		default:
			b.WriteString(line)
		}
	}
	return b.String()
}

// anchors of a document, as the code hosts make them: lower case, spaces to dashes, no
// punctuation, a number after the second of the same name.
func anchors(text string) map[string]bool {
	found := map[string]bool{}
	seen := map[string]int{}
	for line := range strings.Lines(withoutCode(text)) {
		for _, m := range htmlID.FindAllStringSubmatch(line, -1) {
			found[m[1]] = true
		}
		m := heading.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if m == nil {
			continue
		}
		slug := slug(linkText.ReplaceAllString(m[1], "$1"))
		if n := seen[slug]; n > 0 {
			found[fmt.Sprintf("%s-%d", slug, n)] = true
		} else {
			found[slug] = true
		}
		seen[slug]++
	}
	return found
}

func slug(title string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		default:
			return -1
		}
	}, title)
}

// links of a document that lead into the tree; those with a scheme lead out of it.
func links(text string) []string {
	text = withoutCode(text)
	text = codeSpan.ReplaceAllString(text, "`code`")
	var found []string
	for _, re := range []*regexp.Regexp{inlineLink, namedLink} {
		for _, m := range re.FindAllStringSubmatch(text, -1) {
			if to := m[1]; !strings.Contains(to, "://") && !strings.HasPrefix(to, "mailto:") {
				found = append(found, to)
			}
		}
	}
	return found
}

// deadLink says what is wrong with a link, or nothing. read gives a document's text;
// exists tells whether a path below the module is there.
func deadLink(from textFile, link string, exists func(string) bool, read func(string) (string, error)) string {
	target, anchor, _ := strings.Cut(link, "#")
	doc := from.path
	if target != "" {
		doc = path.Join(path.Dir(from.path), target)
		if strings.HasPrefix(target, "/") || strings.HasPrefix(doc, "..") {
			return fmt.Sprintf("%s: link %q leaves the tree", from.path, link)
		}
		if !exists(doc) {
			return fmt.Sprintf("%s: link %q leads to %s, which is not there", from.path, link, doc)
		}
	}
	if anchor == "" || !strings.HasSuffix(doc, ".md") {
		return ""
	}
	text, err := read(doc)
	if err != nil {
		return fmt.Sprintf("%s: link %q: %v", from.path, link, err)
	}
	if !anchors(text)[anchor] {
		return fmt.Sprintf("%s: link %q: %s has no heading that makes that anchor", from.path, link, doc)
	}
	return ""
}

func TestLinksLeadSomewhere(t *testing.T) {
	dir := moduleRoot(t)
	exists := func(p string) bool {
		_, err := os.Stat(filepath.Join(dir, p))
		return err == nil
	}
	read := func(p string) (string, error) {
		b, err := os.ReadFile(filepath.Join(dir, p))
		return string(b), err
	}
	for _, f := range files(t, ".md") {
		for _, l := range links(f.text) {
			if msg := deadLink(f, l, exists, read); msg != "" {
				t.Error(msg)
			}
		}
	}
}

func TestDocumentsAreThere(t *testing.T) {
	dir := moduleRoot(t)
	for _, doc := range []string{"README.md", "CHANGELOG.md", "LICENSE", "docs/limits.md", "docs/contributing.md", "docs/dependencies.md"} {
		if info, err := os.Stat(filepath.Join(dir, doc)); err != nil || info.Size() == 0 {
			t.Errorf("%s is missing or empty (%v)", doc, err)
		}
	}
}

func TestDeadLinksAreSeen(t *testing.T) {
	docs := map[string]string{
		"README.md":     "# Crossfade\n## The `kill` switch, and why\n## Twice\n## Twice\n```\n# not a heading\n```\n",
		"docs/a.md":     "",
		"cmd/x/main.go": "",
	}
	exists := func(p string) bool { _, ok := docs[p]; return ok || p == "cmd/x" }
	read := func(p string) (string, error) { return docs[p], nil }
	for _, c := range []struct {
		from, text, wrong string
	}{
		{"docs/a.md", "[x](b.md)", "not there"},
		{"docs/a.md", "[x](../README.md)", ""},
		{"docs/a.md", "[x](../README.md#the-kill-switch-and-why)", ""},
		{"docs/a.md", "[x](../README.md#twice-1)", ""},
		{"docs/a.md", "[x](../README.md#not-a-heading)", "no heading"},
		{"README.md", "[x](#twice)", ""},
		{"README.md", "[x](#thrice)", "no heading"},
		{"README.md", "![x](pic.svg \"a picture\")", "not there"},
		{"README.md", "see [x].\n\n[x]: docs/b.md\n", "not there"},
		{"README.md", "[x](/etc/passwd)", "leaves"},
		{"README.md", "[x](../other)", "leaves"},
		{"README.md", "[x](cmd/x) and [y](cmd/x/main.go#L3) and [z](https://example.org/a)", ""},
		{"README.md", "`[x](b.md)`\n```\n[x](b.md)\n```\n", ""},
	} {
		var got []string
		for _, l := range links(c.text) {
			if msg := deadLink(textFile{c.from, c.text}, l, exists, read); msg != "" {
				got = append(got, msg)
			}
		}
		switch {
		case c.wrong == "" && len(got) > 0:
			t.Errorf("%s in %s: %q", c.text, c.from, got)
		case c.wrong != "" && (len(got) != 1 || !strings.Contains(got[0], c.wrong)):
			t.Errorf("%s in %s: want one complaint with %q, got %q", c.text, c.from, c.wrong, got)
		}
	}
}
