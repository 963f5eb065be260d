package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// install is a server program that can be run.
type install struct {
	Kind    Kind
	Version Version
	Bin     string   // path of the program
	Loader  string   // dynamic loader to start it through; empty: started as it is
	Libs    []string // library folders for the loader
	Origin  string   // where it comes from, for people
}

// command runs the program with a clean environment: a locale or an OpenSSL
// configuration of the machine's must not reach a program of another release.
func (in install) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, in.Bin, args...)
	if in.Loader != "" {
		// --inhibit-cache: the cache is of the machine's own, older libraries.
		full := []string{"--inhibit-cache", "--library-path", strings.Join(in.Libs, ":"), in.Bin}
		cmd = exec.CommandContext(ctx, in.Loader, append(full, args...)...)
	}
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC", "OPENSSL_CONF=/dev/null", "PATH=" + os.Getenv("PATH")}
	if in.Loader == "" && len(in.Libs) > 0 {
		cmd.Env = append(cmd.Env, libraryPath(in.Libs))
	}
	return cmd
}

// probe asks the program what it is.
func (in install) probe(ctx context.Context) (install, error) {
	const patience = 20 * time.Second // a cold start of a large program on a busy machine
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ask := "--version"
	if filepath.Base(in.Bin) == string(Spin) {
		ask = "-V"
	}
	out, err := in.command(ctx, ask).CombinedOutput()
	if err != nil {
		return in, fmt.Errorf("%s %s: %w: %s", in.Bin, ask, err, clip(string(out), 300))
	}
	in.Kind, in.Version, err = identify(string(out))
	if err != nil {
		return in, fmt.Errorf("%s: %w", in.Bin, err)
	}
	return in, nil
}

// prefix is the folder that the program's bin folder is in: its basedir.
func (in install) prefix() string { return filepath.Dir(filepath.Dir(in.Bin)) }

// share finds the folder of the program's own files that has name in it.
func (in install) share(names ...string) (string, error) {
	for _, dir := range []string{"share/mysql", "share/mariadb", "share", "support-files", "scripts"} {
		for _, name := range names {
			if _, err := os.Stat(filepath.Join(in.prefix(), dir, name)); err == nil {
				return filepath.Join(in.prefix(), dir), nil
			}
		}
	}
	return "", fmt.Errorf("%s: no folder under %s has its %s", in.Bin, in.prefix(), strings.Join(names, " or "))
}

// onMachine finds programs of the kind that are installed; reasons tell of those
// that looked like it and are not.
func onMachine(ctx context.Context, k Kind) (found []install, reasons []string) {
	dirs := append(filepath.SplitList(os.Getenv("PATH")),
		"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/usr/libexec", "/usr/local/libexec")
	seen := map[string]bool{}
	for _, name := range k.facts().binaries {
		for _, dir := range dirs {
			bin, err := filepath.EvalSymlinks(filepath.Join(dir, name))
			if err != nil || seen[bin] || !executable(bin) {
				continue
			}
			seen[bin] = true
			// The name that was looked for is kept: a Redis program behaves by it.
			in, err := install{Bin: filepath.Join(dir, name), Origin: "found on this machine"}.probe(ctx)
			switch {
			case err != nil:
				reasons = append(reasons, err.Error())
			case in.Kind != k:
				reasons = append(reasons, fmt.Sprintf("%s is %s %s", in.Bin, in.Kind.facts().title, in.Version))
			case checkMinimum(k, in.Version) != nil:
				reasons = append(reasons, fmt.Sprintf("%s: %v", in.Bin, checkMinimum(k, in.Version)))
			default:
				found = append(found, in)
			}
		}
	}
	return found, reasons
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// treeManifest is in every finished tree; its paths are relative to the tree, so
// that the cache may be moved.
const treeManifest = "crossfade-tree.json"

// cachedTree is the newest tree of the kind, if any.
func cachedTree(cache string, k Kind) (install, bool) {
	manifests, _ := filepath.Glob(filepath.Join(cache, "trees", string(k)+"-*", treeManifest))
	var best install
	for _, path := range manifests {
		var in install
		text, err := os.ReadFile(path)
		if err != nil || json.Unmarshal(text, &in) != nil || in.Kind != k {
			continue
		}
		in = in.rebase(func(p string) string { return filepath.Join(filepath.Dir(path), p) })
		if executable(in.Bin) && (k.facts().native || executable(in.Loader)) && (best.Bin == "" || best.Version.Less(in.Version)) {
			best = in
		}
	}
	return best, best.Bin != ""
}

func (in install) rebase(f func(string) string) install {
	in.Bin, in.Libs = f(in.Bin), slices.Clone(in.Libs)
	if in.Loader != "" {
		in.Loader = f(in.Loader)
	}
	for i := range in.Libs {
		in.Libs[i] = f(in.Libs[i])
	}
	return in
}

// fetched has a tree of the kind: from the cache, or now from apt. reasons tell
// why a suite did not lead to one.
func fetched(ctx context.Context, cache string, k Kind, opts Options) (in install, reasons []string, err error) {
	if in, ok := cachedTree(cache, k); ok {
		return in, nil, nil
	}
	if k == Etcd {
		built, err := etcdTree(ctx, cache, opts)
		if err == nil {
			return built, nil, nil
		}
		if ctx.Err() != nil {
			return in, nil, context.Cause(ctx)
		}
		reasons = append(reasons, fmt.Sprintf("built from source: %v", err))
	}
	// One lock for all kinds: they share the lists, and one download at a time is
	// as fast as four.
	guard, err := lock(ctx, filepath.Join(cache, "locks", "fetch.lock"), func() {
		opts.say("waiting for another process that is fetching servers into %s …", cache)
	})
	if err != nil {
		return in, reasons, err
	}
	defer guard.unlock()
	if in, ok := cachedTree(cache, k); ok { // the other process was after the same
		return in, nil, nil
	}
	suites, err := archives(cache, opts)
	if err != nil {
		return in, append(reasons, err.Error()), nil
	}
	if k.facts().native {
		suites = suites[:1] // the machine's own
	}
	for _, a := range suites {
		in, err := a.tree(ctx, cache, k)
		if err == nil {
			return in, reasons, nil
		}
		if ctx.Err() != nil {
			return in, reasons, context.Cause(ctx)
		}
		reasons = append(reasons, fmt.Sprintf("apt, suite %s: %v", a.name, err))
	}
	return in, reasons, nil
}

// errDownload: packages could not be downloaded. Lists that name files which the
// mirror no longer has are the usual reason.
var errDownload = errors.New("downloading packages")

// tree fetches the kind from the archive into the cache; a download that fails is
// tried once more with new lists.
func (a archive) tree(ctx context.Context, cache string, k Kind) (in install, err error) {
	for _, fresh := range []bool{false, true} {
		if err = a.prepare(ctx, fresh); err != nil {
			return in, err
		}
		pkgs, rerr := a.resolve(ctx, k)
		if rerr != nil {
			return in, rerr
		}
		final := filepath.Join(cache, "trees", fmt.Sprintf("%s-%s-%s", k, plainFile(pkgs[0].version), runtime.GOARCH))
		err = buildDir(final, func(dir string) error { return a.build(ctx, k, pkgs, dir) })
		if err == nil {
			in, ok := cachedTree(cache, k)
			if !ok {
				return in, fmt.Errorf("the tree %s does not hold what it should; remove it and try again", final)
			}
			return in, nil
		}
		if ctx.Err() != nil || !errors.Is(err, errDownload) {
			break
		}
	}
	return in, err
}

// build fills dir with the packages, checks that the program in it runs and is
// what it should be, and writes the manifest, last.
func (a archive) build(ctx context.Context, k Kind, pkgs []aptPackage, dir string) error {
	if err := a.fetch(ctx, pkgs, dir); err != nil {
		return err
	}
	in, err := locate(dir, k)
	if err != nil {
		return err
	}
	in.Origin = fmt.Sprintf("package %s %s of %s", pkgs[0].name, pkgs[0].version, a.name)
	if in, err = in.probe(ctx); err != nil {
		return err
	}
	if in.Kind != k {
		return fmt.Errorf("%s turned out to be %s %s", pkgs[0].name, in.Kind.facts().title, in.Version)
	}
	if err := checkMinimum(k, in.Version); err != nil {
		return err
	}
	return in.writeManifest(dir)
}

// writeManifest makes dir a finished tree.
func (in install) writeManifest(dir string) error {
	text, err := json.MarshalIndent(in.rebase(func(p string) string {
		rel, _ := filepath.Rel(dir, p)
		return rel
	}), "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, treeManifest), text, 0o644)
}

var programFolders = []string{"sbin", "bin", "libexec"}

var (
	loaderName  = regexp.MustCompile(`^ld-linux-.+\.so\.[0-9]+$`)
	libraryName = regexp.MustCompile(`^lib.+\.so(\.[0-9.]+)?$`)
)

// locate finds program, loader and library folders in an unpacked tree: archives
// differ in whether /lib is a folder or a link, and in how the loader is called.
func locate(dir string, k Kind) (install, error) {
	in := install{Kind: k}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		switch name := d.Name(); {
		case loaderName.MatchString(name) && d.Type().IsRegular():
			in.Loader = path
		case libraryName.MatchString(name):
			if lib := filepath.Dir(path); !slices.Contains(in.Libs, lib) {
				in.Libs = append(in.Libs, lib)
			}
		// An init script has the same name, in another folder.
		case in.Bin == "" && slices.Contains(k.facts().binaries, name) &&
			k.inProgramFolder(path) && executable(path):
			in.Bin = path
		}
		return nil
	})
	if err == nil && in.Bin == "" {
		err = fmt.Errorf("the packages hold no program %s", strings.Join(k.facts().binaries, " or "))
	}
	if err == nil && in.Loader == "" && !k.facts().native {
		err = errors.New("the packages hold no dynamic loader")
	}
	slices.Sort(in.Libs)
	return in, err
}

// plainFile makes a version fit for a file name.
func plainFile(s string) string {
	return strings.Map(func(r rune) rune {
		if r == ':' || r == '/' || r == '~' {
			return '_'
		}
		return r
	}, s)
}
