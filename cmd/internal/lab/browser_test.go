package lab

import (
	"slices"
	"testing"
)

func TestIdentifyChromium(t *testing.T) {
	for _, line := range []string{"Chromium 156.0.8078.79 built on Debian GNU/Linux 12 (bookworm)\n", "\nChromium 156.0.8078.79 \n"} {
		if k, v, err := identify(line); err != nil || k != Chromium || v != (Version{156, 0, 8078}) {
			t.Errorf("%q: %v %v %v", line, k, v, err)
		}
	}
}

// A native program brings its libraries and not libc, and is started as it is, with them on its path.
func TestNativePrograms(t *testing.T) {
	got := withoutLibc([]aptPackage{{name: "chromium-headless-shell", source: "chromium"}, {name: "libc6", source: "glibc"}, {name: "libnss3", source: "nss"}})
	if len(got) != 2 || got[1].name != "libnss3" {
		t.Errorf("%v", got)
	}
	cmd := install{Kind: Chromium, Bin: "/tree/chromium", Libs: []string{"/a", "/b"}}.command(t.Context(), "--version")
	if cmd.Path != "/tree/chromium" || !slices.Contains(cmd.Env, "LD_LIBRARY_PATH=/a:/b") {
		t.Errorf("%s %q", cmd.Path, cmd.Env)
	}
	if !Chromium.inProgramFolder("/tree/usr/lib/chromium/chromium-headless-shell") || Chromium.inProgramFolder("/tree/usr/bin/chromium-headless-shell") || !Redis.inProgramFolder("/tree/usr/bin/redis-server") {
		t.Error("programs are looked for in the wrong folder")
	}
	if _, err := ParseKind(string(Chromium)); err == nil {
		t.Error("a browser is no server")
	}
}
