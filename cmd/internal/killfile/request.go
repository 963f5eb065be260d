package killfile

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
	"github.com/crossfade-proxy/crossfade/killswitch/filestore"
)

const (
	prefix = "kill."
	taken  = ".taken-"
	// maxText bounds what is read of a file; more than killswitch.MaxText is not kept.
	maxText = 4096
	// The keys of lines at a file's beginning. bound is written by whoever has taken the file.
	keyFrom, keyDry, keyBound = "from", "dry-run", "kills"
)

// request is what a file asks for.
type request struct {
	why   string
	from  backends.Stage
	epoch uint64
	dry   bool
	// bound: from and epoch are those that a proxy was about to kill.
	bound bool
}

// parse reads a file. The error is a *backends.FieldError.
func parse(text string) (r request, err error) {
	for {
		line, rest, more := strings.Cut(text, "\n")
		key, value, isKey := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if !isKey {
			break
		}
		switch strings.TrimSpace(key) {
		case keyFrom:
			if r.from, err = backends.ParseStage(value); err != nil {
				return r, err
			}
		case keyDry:
			r.dry = value == "yes" || value == "true"
		case keyBound:
			stage, epoch, _ := strings.Cut(value, " ")
			if r.from, err = backends.ParseStage(stage); err != nil {
				return r, err
			}
			if r.epoch, err = strconv.ParseUint(epoch, 10, 64); err != nil {
				return r, &backends.FieldError{Field: keyBound, Value: fmt.Sprintf("%.80q", value), Bound: "a stage and an epoch", Next: "leave the line out: it is written by the proxy"}
			}
			r.bound = true
		default:
			isKey = false
		}
		if !isKey {
			break
		}
		if text = rest; !more {
			break
		}
	}
	r.why = strings.ToValidUTF8(strings.TrimSpace(text), "?")
	if len(r.why) > killswitch.MaxText {
		cut := killswitch.MaxText
		for !utf8.RuneStart(r.why[cut]) {
			cut--
		}
		r.why = r.why[:cut]
	}
	if r.why == "" {
		r.why = "a file asked for it, without a reason"
	}
	return r, nil
}

// bind is the line that says what is about to be killed.
func bind(f backends.Fence) string {
	return fmt.Sprintf("%s: %s %d\n", keyBound, f.Stage, f.Epoch)
}

// podOf reads a file's name: the pod that it asks for, and whether a proxy has taken it.
func podOf(name string, mine []backends.Pod) (pod backends.Pod, isTaken, ok bool) {
	rest, is := strings.CutPrefix(name, prefix)
	if !is {
		return "", false, false
	}
	find := func(s string) (backends.Pod, bool) {
		escaped, isEscaped := filestore.PodOf(s)
		for _, p := range mine {
			if string(p) == s || isEscaped && p == escaped {
				return p, true
			}
		}
		return "", false
	}
	if p, ok := find(rest); ok {
		return p, false, true
	}
	if i := strings.LastIndex(rest, taken); i >= 0 {
		p, ok := find(rest[:i])
		return p, true, ok
	}
	return "", false, false
}
