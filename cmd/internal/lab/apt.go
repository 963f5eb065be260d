package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	aptAttempts   = 4                // of update and download; mirrors are moody
	aptFreshFor   = 24 * time.Hour   // lists older than this are updated before use
	aptRetryAfter = time.Second      // grows with each attempt
	aptPatience   = 10 * time.Minute // for one run of apt, also on a slow line
)

// errNoApt: this machine's packages are not apt's.
var errNoApt = errors.New("this machine is not of the Debian family, or has no apt")

// archive is a private apt: its own sources, lists, cache and (empty) status.
type archive struct {
	name    string // as people know it: the suites
	dir     string
	sources string
	opts    Options
}

// archives are the machine's own suites first, then the unstable one. An apt
// that is missing, or sources that are, make it an error that says so.
func archives(cache string, opts Options) ([]archive, error) {
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return nil, errNoApt
	}
	r := parseOSRelease(string(release))
	for _, tool := range []string{"apt-get", "apt-cache", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil || !r.debianFamily() {
			return nil, errNoApt
		}
	}
	own := ownSources(machineSources(), r)
	if len(own) == 0 {
		return nil, fmt.Errorf("the apt sources of this machine have no entry for its own suite %q; see /etc/apt/sources.list.d", r.codename)
	}
	var all []archive
	for _, sources := range [][]aptSource{own, unstableSource(own, r)} {
		if len(sources) == 0 {
			continue
		}
		name := sources[0].suites[0]
		all = append(all, archive{name: name, dir: filepath.Join(cache, "apt", name), sources: renderSources(sources), opts: opts})
	}
	return all, nil
}

// machineSources reads what the machine's own apt would read.
func machineSources() []aptSource {
	files, _ := filepath.Glob("/etc/apt/sources.list.d/*")
	var all []aptSource
	for _, file := range append([]string{"/etc/apt/sources.list"}, files...) {
		if ext := filepath.Ext(file); ext != ".list" && ext != ".sources" {
			continue
		}
		if text, err := os.ReadFile(file); err == nil {
			all = append(all, parseSources(filepath.Base(file), string(text))...)
		}
	}
	return all
}

// prepare writes the private configuration and has lists in it. The caller holds
// the archive's lock.
func (a archive) prepare(ctx context.Context, force bool) error {
	for _, sub := range []string{"lists/partial", "cache/archives/partial", "empty", "sources.list.d"} {
		if err := os.MkdirAll(filepath.Join(a.dir, sub), 0o755); err != nil {
			return err
		}
	}
	config, err := a.config(ctx)
	if err != nil {
		return err
	}
	old, _ := os.ReadFile(a.path("sources.list.d/lab.sources"))
	for name, text := range map[string]string{
		"sources.list.d/lab.sources": a.sources, "apt.conf": config, "status": "", "sources.list": "",
	} {
		if err := writeFile(a.path(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	stamp := a.path("updated")
	info, err := os.Stat(stamp)
	if err == nil && !force && string(old) == a.sources && time.Since(info.ModTime()) < aptFreshFor {
		return nil
	}
	a.opts.say("reading the package lists of %s …", a.name)
	if err := a.retry(ctx, "", "apt-get", "update", "-q", "--error-on=any"); err != nil {
		return err
	}
	return writeFile(stamp, nil, 0o644)
}

func (a archive) path(name string) string { return filepath.Join(a.dir, name) }

var indexTarget = regexp.MustCompile(`(?m)^Acquire::IndexTargets::deb::([^: ]+) `)

// config makes apt keep to our folder. It is given by -c, which apt reads after
// the machine's own (where proxies are set), so that ours wins; the hooks of the
// machine's, which clean the system's caches, are cleared.
func (a archive) config(ctx context.Context) (string, error) {
	dump, err := command(ctx, "", "apt-config", "dump")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, hook := range []string{"APT::Update", "DPkg"} {
		for _, when := range []string{"Pre-Invoke", "Post-Invoke", "Post-Invoke-Success"} {
			fmt.Fprintf(&b, "#clear %s::%s;\n", hook, when)
		}
	}
	for _, kv := range [][2]string{
		{"Dir::State", a.dir}, {"Dir::State::lists", a.path("lists")}, {"Dir::State::status", a.path("status")},
		{"Dir::Cache", a.path("cache")}, {"Dir::Cache::archives", a.path("cache/archives")},
		{"Dir::Cache::pkgcache", "pkgcache.bin"}, {"Dir::Cache::srcpkgcache", ""},
		{"Dir::Etc::sourcelist", a.path("sources.list")}, {"Dir::Etc::sourceparts", a.path("sources.list.d")},
		{"Dir::Etc::preferences", a.path("empty/none")}, {"Dir::Etc::preferencesparts", a.path("empty")},
		{"Dir::Log", a.path("log")}, {"Acquire::Languages", "none"}, {"Acquire::Retries", "3"},
		// apt would change to a user of its own, who may not write to our folder.
		{"APT::Sandbox::User", "root"},
	} {
		fmt.Fprintf(&b, "%s %q;\n", kv[0], kv[1])
	}
	for _, m := range indexTarget.FindAllStringSubmatch(dump, -1) {
		if m[1] != "Packages" && m[1] != "Translations" { // software centres' metadata: megabytes that we do not read
			fmt.Fprintf(&b, "Acquire::IndexTargets::deb::%s::DefaultEnabled \"false\";\n", m[1])
		}
	}
	return b.String(), nil
}

// run one of apt's programs in dir, with our configuration.
func (a archive) run(ctx context.Context, dir, tool string, args ...string) (string, error) {
	return command(ctx, dir, tool, append([]string{"-c", a.path("apt.conf")}, args...)...)
}

// retry is run without its output, again after a while if it failed.
func (a archive) retry(ctx context.Context, dir, tool string, args ...string) (err error) {
	for attempt := 1; ; attempt++ {
		if _, err = a.run(ctx, dir, tool, args...); err == nil || attempt == aptAttempts {
			return err
		}
		a.opts.say("%s %s failed, trying again (%d of %d): %s", tool, args[0], attempt+1, aptAttempts, clip(err.Error(), 300))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Duration(attempt) * aptRetryAfter):
		}
	}
}

// command runs a program to its end; its error has what the program said.
func command(ctx context.Context, dir, tool string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, aptPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool, args...)
	var out, errout bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &errout
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	cmd.WaitDelay = time.Second // a grandchild that keeps the pipe open does not keep us
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		said := errout.String()
		if said == "" {
			said = out.String()
		}
		return out.String(), fmt.Errorf("%s: %w: %s", tool, err, clip(said, 800))
	}
	return out.String(), nil
}

// resolve chooses the server's package and what it needs.
func (a archive) resolve(ctx context.Context, k Kind) ([]aptPackage, error) {
	pattern := regexp.MustCompile(k.facts().packages)
	prefix, _, _ := strings.Cut(strings.TrimLeft(k.facts().packages, "^"), "(")
	names, err := a.run(ctx, "", "apt-cache", "pkgnames", strings.TrimSuffix(prefix, "$"))
	if err != nil {
		return nil, err
	}
	candidates := slices.DeleteFunc(strings.Fields(names), func(n string) bool { return !pattern.MatchString(n) })
	known, err := a.show(ctx, candidates)
	if err != nil {
		return nil, err
	}
	best, err := bestPackage(k, known)
	if err != nil {
		return nil, fmt.Errorf("suite %s: %w", a.name, err)
	}
	text, err := a.run(ctx, "", "apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests",
		"--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances", best.name)
	if err != nil {
		return nil, err
	}
	depends := parseDepends(text)
	all := make([]string, 0, len(depends))
	for name := range depends {
		if !strings.HasPrefix(name, "<") && !strings.Contains(name, ":") {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	if known, err = a.show(ctx, all); err != nil {
		return nil, err
	}
	pkgs, err := closure(best.name, depends, known)
	if k.facts().native {
		pkgs = withoutLibc(pkgs)
	}
	return pkgs, err
}

// show asks apt about packages; names that only others provide are not in the
// answer, and make apt-cache fail though it answers for the rest.
func (a archive) show(ctx context.Context, names []string) (map[string]aptPackage, error) {
	if len(names) == 0 {
		return nil, nil
	}
	out, err := a.run(ctx, "", "apt-cache", append([]string{"show", "--no-all-versions"}, names...)...)
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		return nil, err
	}
	return parseShow(out), nil
}

// fetch downloads packages and unpacks them under root. apt checks every file
// against the signed lists.
func (a archive) fetch(ctx context.Context, pkgs []aptPackage, root string) error {
	debs, err := os.MkdirTemp(a.dir, "debs-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(debs)
	var size int64
	args := []string{"download", "-q"}
	for _, p := range pkgs {
		size += p.size
		args = append(args, p.name+"="+p.version)
	}
	a.opts.say("fetching %s %s of %s with %d packages that it needs (%d MB) …",
		pkgs[0].name, upstream(pkgs[0].version), a.name, len(pkgs)-1, (size+1<<19)>>20)
	if err := a.retry(ctx, debs, "apt-get", args...); err != nil {
		return fmt.Errorf("%w: %w", errDownload, err)
	}
	files, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil || len(files) != len(pkgs) {
		return fmt.Errorf("apt-get download left %d files for %d packages in %s", len(files), len(pkgs), debs)
	}
	for _, file := range files {
		if _, err := command(ctx, "", "dpkg-deb", "-x", file, root); err != nil {
			return err
		}
	}
	return nil
}
