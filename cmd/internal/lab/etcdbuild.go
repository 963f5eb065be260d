package lab

import (
	"context"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// Etcd is the control store of a fleet. It is built from source where the machine has none, which wants Go. It is not one
// of [Kinds]: see [StartEtcd].
const Etcd Kind = "etcd"

// etcdSource is a module of its own that has etcd's server as its program. The names end in .txt, or the files would be a
// module, which cannot be embedded.
//
//go:embed etcdserver/go.mod.txt etcdserver/go.sum.txt etcdserver/main.go.txt
var etcdSource embed.FS

// etcdBuilt is the version that go.mod.txt asks for.
const etcdBuilt = "3.7.3"

// identifyEtcd reads "etcd Version: 3.7.3".
func identifyEtcd(line string) (Version, bool) {
	rest, is := strings.CutPrefix(line, "etcd Version: ")
	if !is {
		return Version{}, false
	}
	return ParseVersion(rest)
}

// etcdTree builds etcd into the cache, once.
func etcdTree(ctx context.Context, cache string, opts Options) (in install, err error) {
	goBin, err := exec.LookPath("go")
	if err != nil {
		return in, fmt.Errorf("no Go to build it with: %w", err)
	}
	guard, err := lock(ctx, filepath.Join(cache, "locks", "etcd-build.lock"), func() {
		opts.say("waiting for another process that is building etcd into %s …", cache)
	})
	if err != nil {
		return in, err
	}
	defer guard.unlock()
	if in, ok := cachedTree(cache, Etcd); ok { // the other process was after the same
		return in, nil
	}
	opts.say("building etcd %s from source, once; it takes about a minute …", etcdBuilt)
	final := filepath.Join(cache, "trees", fmt.Sprintf("%s-%s-%s", Etcd, etcdBuilt, runtime.GOARCH))
	if err := buildDir(final, func(dir string) error { return buildEtcd(ctx, goBin, dir) }); err != nil {
		return in, err
	}
	in, ok := cachedTree(cache, Etcd)
	if !ok {
		return in, fmt.Errorf("the tree %s does not hold what it should; remove it and try again", final)
	}
	return in, nil
}

func buildEtcd(ctx context.Context, goBin, dir string) error {
	src := filepath.Join(dir, "src")
	if err := os.MkdirAll(src, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		text, err := etcdSource.ReadFile("etcdserver/" + name + ".txt")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(src, name), text, 0o600); err != nil {
			return err
		}
	}
	in := install{Kind: Etcd, Bin: filepath.Join(dir, "bin", "etcd"), Origin: "built from go.etcd.io/etcd/server/v3 " + etcdBuilt}
	cmd := exec.CommandContext(ctx, goBin, "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", in.Bin, ".")
	cmd.Dir = src
	// The module is by itself, and the program needs no C library.
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOOS=", "GOARCH=", "GOEXPERIMENT=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, clip(string(out), 600))
	}
	in, err := in.probe(ctx)
	if err != nil {
		return err
	}
	if in.Kind != Etcd || in.Version.String() != etcdBuilt {
		return fmt.Errorf("what was built says that it is %s %s, not etcd %s", in.Kind.facts().title, in.Version, etcdBuilt)
	}
	return in.writeManifest(dir)
}
