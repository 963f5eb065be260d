package lab

import (
	"regexp"
	"slices"
	"strings"
)

// aptSource is one entry of the machine's own package sources, as far as the lab
// passes it on to its private apt.
type aptSource struct {
	file       string // base name of the file that has it
	uris       []string
	suites     []string
	components []string
	signedBy   string // path, or a whole key as deb822 allows
	trusted    bool
}

// parseSources reads a file of apt's: deb822 if its name ends in .sources, else
// one entry a line. Entries that are disabled or have no binaries are left out.
func parseSources(file, text string) []aptSource {
	if strings.HasSuffix(file, ".sources") {
		return parseDeb822(file, text)
	}
	var all []aptSource
	for line := range strings.Lines(text) {
		if s, ok := parseSourceLine(strings.TrimSpace(line)); ok {
			s.file = file
			all = append(all, s)
		}
	}
	return all
}

// deb [signed-by=/key trusted=yes] URI suite component…
var sourceLine = regexp.MustCompile(`^deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)((?:\s+[^#\s]+)*)`)

func parseSourceLine(line string) (aptSource, bool) {
	m := sourceLine.FindStringSubmatch(line)
	if m == nil {
		return aptSource{}, false
	}
	s := aptSource{uris: m[2:3], suites: m[3:4], components: strings.Fields(m[4])}
	for option := range strings.FieldsSeq(m[1]) {
		switch name, value, _ := strings.Cut(option, "="); strings.ToLower(name) {
		case "signed-by":
			s.signedBy = value
		case "trusted":
			s.trusted = value == "yes"
		}
	}
	return s, true
}

func parseDeb822(file, text string) []aptSource {
	var all []aptSource
	for _, fields := range paragraphs(text) {
		s := aptSource{
			file: file, uris: strings.Fields(fields["uris"]), suites: strings.Fields(fields["suites"]),
			components: strings.Fields(fields["components"]),
			signedBy:   fields["signed-by"], trusted: strings.EqualFold(fields["trusted"], "yes"),
		}
		binaries := slices.Contains(strings.Fields(fields["types"]), "deb")
		if binaries && !strings.EqualFold(fields["enabled"], "no") && len(s.uris) > 0 && len(s.suites) > 0 {
			all = append(all, s)
		}
	}
	return all
}

// paragraphs of a control file: fields by lower-case name; a line that begins
// with a space continues the field before it and is kept as it is.
func paragraphs(text string) []map[string]string {
	var all []map[string]string
	fields, last := map[string]string{}, ""
	flush := func() {
		if len(fields) > 0 {
			all = append(all, fields)
		}
		fields, last = map[string]string{}, ""
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		switch {
		case line == "":
			flush()
		case line[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if last != "" {
				fields[last] += "\n" + line
			}
		default:
			name, value, _ := strings.Cut(line, ":")
			last = strings.ToLower(name)
			fields[last] = strings.TrimSpace(value)
		}
	}
	flush()
	return all
}

// osRelease is what /etc/os-release says of the machine.
type osRelease struct {
	id, codename string
	like         []string
}

func parseOSRelease(text string) osRelease {
	var r osRelease
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, `"'`)
		switch name {
		case "ID":
			r.id = value
		case "ID_LIKE":
			r.like = strings.Fields(value)
		case "VERSION_CODENAME":
			r.codename = value
		}
	}
	return r
}

// debianFamily: packages of this machine are Debian packages.
func (r osRelease) debianFamily() bool {
	return r.id == "debian" || r.id == "ubuntu" || slices.Contains(r.like, "debian") || slices.Contains(r.like, "ubuntu")
}

// distributionFiles are where Debian and Ubuntu put their own entries; entries in
// other files are commonly a vendor's, with a suite named just the same.
var distributionFiles = []string{"sources.list", "debian.sources", "ubuntu.sources"}

// ownSources picks the distribution's own entries among all, narrowed to the
// suites of this release: a vendor's repository has other packages, and may not
// be reachable at all.
func ownSources(all []aptSource, r osRelease) []aptSource {
	own := func(suite string) bool {
		base, rest, _ := strings.Cut(suite, "-")
		return (base == r.codename && slices.Contains([]string{"", "updates", "security"}, rest)) ||
			(r.codename == "" && slices.Contains([]string{"sid", "unstable", "testing", "stable"}, base))
	}
	var picked, elsewhere []aptSource
	for _, s := range all {
		s.suites = slices.DeleteFunc(slices.Clone(s.suites), func(suite string) bool { return !own(suite) })
		if len(s.suites) == 0 || !slices.Contains(s.components, "main") {
			continue
		}
		if slices.Contains(distributionFiles, s.file) {
			picked = append(picked, s)
		} else {
			elsewhere = append(elsewhere, s)
		}
	}
	if len(picked) == 0 {
		return elsewhere
	}
	return picked
}

// unstableSuite is Debian's rolling suite: the only one with the real MySQL.
const unstableSuite = "sid"

// unstableSource is the unstable suite on the mirror that the machine itself
// uses; none for Ubuntu and for derivatives, whose mirrors do not have it.
func unstableSource(own []aptSource, r osRelease) []aptSource {
	if r.id != "debian" {
		return nil
	}
	for _, s := range own {
		if i := slices.IndexFunc(s.suites, func(suite string) bool { return !strings.Contains(suite, "-") }); i >= 0 {
			return []aptSource{{
				file: s.file, uris: s.uris, suites: []string{unstableSuite}, components: []string{"main"},
				signedBy: s.signedBy, trusted: s.trusted,
			}}
		}
	}
	return nil
}

// renderSources writes entries in the deb822 form, which can carry all of them.
func renderSources(all []aptSource) string {
	var b strings.Builder
	for _, s := range all {
		b.WriteString("Types: deb\nURIs: " + strings.Join(s.uris, " ") +
			"\nSuites: " + strings.Join(s.suites, " ") +
			"\nComponents: " + strings.Join(s.components, " ") + "\n")
		if s.signedBy != "" {
			b.WriteString("Signed-By: " + s.signedBy + "\n")
		}
		if s.trusted {
			b.WriteString("Trusted: yes\n")
		}
		b.WriteString("\n")
	}
	return b.String()
}
