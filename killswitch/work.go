package killswitch

import (
	"slices"
	"strings"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Work is something that is left to be done after a kill, a switch, or the loss of a fence.
type Work uint8

// The works, in the order in which they are done.
const (
	WorkUnknown    Work = iota
	WorkReissue         // Redis has lost its fence, and perhaps its data: only on an operator's word
	WorkRealign         // the fences disagree as no open switch would leave them
	WorkRaiseMySQL      // MySQL's fence is behind
	WorkRaiseRedis      // Redis's fence is behind, where it does not arbitrate
	WorkSettle          // MySQL's outbox is from before Redis became the truth
	WorkRestore         // Redis, the truth, may have lost what MySQL has
	WorkBackfill        // the shadow is not complete
	WorkFill            // live: Redis is complete and can become the arbiter
)

var workNamesOf = [...]string{"unknown", "re-issue Redis's fence", "realign fences", "raise MySQL's fence", "raise Redis's fence", "settle MySQL's outbox", "restore Redis from MySQL", "backfill", "complete filling"}

func (w Work) String() string { return name(workNamesOf[:], int(w)) }

// MarshalText carries a work by its name.
func (w Work) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (w *Work) UnmarshalText(b []byte) error { return parse(workNamesOf[:], b, "work", w) }

func workNames(ws []Work) string {
	names := make([]string, len(ws))
	for i, w := range ws {
		names[i] = w.String()
	}
	return strings.Join(names, ", ")
}

// WorkFor lists what is left to be done for a pod whose record agrees with its fences (see
// Reconcile), in order. While a switch is open that is the only work. A fence that could not be read
// gives no work: it will be seen again.
func WorkFor(seen Seen) []Work {
	st := seen.State
	if st.Switch != nil || st.Epoch == 0 {
		return nil
	}
	want := st.Fence()
	works := append(redisWork(st, want, seen.Redis), mysqlWork(want, seen.MySQL)...)
	slices.Sort(works)
	works = slices.Compact(works)
	if slices.Contains(works, WorkReissue) {
		return []Work{WorkReissue}
	}
	if slices.Contains(works, WorkRealign) {
		return append([]Work{WorkRealign}, fitting(st)...)
	}
	return append(works, fitting(st)...)
}

func redisWork(st PodState, want backends.Fence, v View) []Work {
	switch {
	case !v.Known || v.Fence == want:
		return nil
	case v.Fence == closed(want) && !alone(want) && !adopted(st):
		// Without an open switch nobody closes a fence: Redis was restarted, and its store shows the
		// fence of another run as closed. What it lost is not known, so nobody but an operator
		// says that it may go on.
		return []Work{WorkReissue}
	case v.Fence.Outranks(want) || v.Fence.Epoch == want.Epoch:
		return []Work{WorkRealign}
	case alone(want):
		return []Work{WorkRaiseRedis}
	default:
		return []Work{WorkReissue}
	}
}

// adopted tells whether the record was made from the fences: then a closed one may be what a switch
// has left whose record was lost.
func adopted(st PodState) bool {
	n := len(st.History)
	return n > 0 && st.History[n-1].Kind == KindAdopt
}

func mysqlWork(want backends.Fence, v View) []Work {
	switch {
	case !v.Known || v.Fence == want:
		return nil
	case want.Outranks(v.Fence) && want.Stage.Truth() == backends.SideRedis:
		return []Work{WorkRaiseMySQL}
	default:
		return []Work{WorkRealign}
	}
}

// fitting are the due works that mean something in the stage that the pod is in.
func fitting(st PodState) []Work {
	var out []Work
	for _, w := range st.Due {
		ok := false
		switch w {
		case WorkSettle, WorkRestore:
			ok = st.Stage.Truth() == backends.SideRedis
		case WorkBackfill:
			ok = st.Stage == backends.Shadow || st.Stage == backends.Live && !st.Filled
		case WorkFill:
			ok = st.Stage == backends.Live && !st.Filled
		default:
			// The fences tell the rest; it is never in a record.
		}
		if ok {
			out = append(out, w)
		}
	}
	return out
}
