package lab

import (
	"path/filepath"
	"slices"
	"strings"
)

// Chromium is a browser without a window, for the test that opens the report. It is no server of the
// lab's, and not one of [Kinds].
const Chromium Kind = "chromium"

// Path of the program.
func (p *Program) Path() string { return p.in.Bin }

// Env is what the program's environment has to have besides, for whoever starts it by its path.
func (p *Program) Env() []string {
	if p.in.Loader == "" && len(p.in.Libs) > 0 {
		return []string{libraryPath(p.in.Libs)}
	}
	return nil
}

// libraryPath makes the machine's own loader look into folders first.
func libraryPath(dirs []string) string { return "LD_LIBRARY_PATH=" + strings.Join(dirs, ":") }

// withoutLibc leaves out the packages of libc: the program runs on the machine's.
func withoutLibc(pkgs []aptPackage) []aptPackage {
	return slices.DeleteFunc(pkgs, func(p aptPackage) bool { return p.source == "glibc" })
}

func (k Kind) inProgramFolder(path string) bool {
	folder := filepath.Base(filepath.Dir(path))
	if f := k.facts().folder; f != "" {
		return folder == f
	}
	return slices.Contains(programFolders, folder)
}

// identifyChromium reads the line that Chromium prints for --version.
func identifyChromium(line string) (Version, bool) {
	for _, name := range []string{"Chromium ", "Google Chrome for Testing "} {
		if rest, is := strings.CutPrefix(line, name); is {
			return ParseVersion(rest)
		}
	}
	return Version{}, false
}
