package demo

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/replay"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// Summary is what a demo has shown.
type Summary struct {
	// OK: it went to its end, and all was as it should be.
	OK    bool     `json:"ok"`
	Wrong []string `json:"wrong"`
	// Memory: there were no servers, but the memory model; Install says what to install.
	Memory  bool     `json:"memory_model"`
	Install string   `json:"install,omitempty"`
	System  []string `json:"system"`
	StartMS int64    `json:"start_ms"` // until the system ran
	TookMS  int64    `json:"took_ms"`
	Steps   []Step   `json:"steps"`

	// LiveHeldMS is how long buyers could have waited while pod one went live.
	LiveHeldMS float64      `json:"live_held_ms"`
	Fault      FaultSummary `json:"fault"`
	// Gates are those that refused to take pod two live.
	Gates []string                     `json:"gates_refused"`
	Kill  KillSummary                  `json:"kill"`
	Pods  map[backends.Pod]*PodSummary `json:"pods"`
}

// Step is one thing that was shown.
type Step struct {
	Name   string   `json:"name"`
	Title  string   `json:"title"`
	Found  []string `json:"found"`
	TookMS int64    `json:"took_ms"`
}

// FaultSummary is of the unit that was lost in pod two's MySQL.
type FaultSummary struct {
	Lost    int64  `json:"units_lost"`
	FoundMS int64  `json:"found_after_ms"`
	Class   string `json:"class"`
	Units   int64  `json:"units_found"`
	Proof   string `json:"proof"`
}

// KillSummary is of the kill of pod one. Served is from the command until a buyer was served.
type KillSummary struct {
	From     string  `json:"from"`
	To       string  `json:"to"`
	TookMS   float64 `json:"took_ms"`
	ServedMS float64 `json:"served_ms"`
}

// PodSummary is of one pod at the end.
type PodSummary struct {
	Stage        string              `json:"stage"`
	Traffic      replay.Summary      `json:"traffic"`
	Parity       comparator.Parity   `json:"parity"`
	Coverage     comparator.Coverage `json:"coverage"`
	OpenFindings int64               `json:"open_findings"`
	Audit        AuditSummary        `json:"audit"`
	// OutOfBalance is how many levels break the conservation of units, over both stores.
	OutOfBalance int             `json:"levels_out_of_balance"`
	Log          replay.LogCheck `json:"answers_checked"`
}

// AuditSummary is of one pod's audit.
type AuditSummary struct {
	Holds        int64 `json:"holds"`
	Levels       int64 `json:"levels"`
	Findings     int64 `json:"findings"`
	Units        int64 `json:"units"`
	Undetermined int64 `json:"undetermined"`
}

// WrongError: the demo went to its end, and something was not as it should be.
type WrongError struct{ Wrong []string }

func (e *WrongError) Error() string {
	return fmt.Sprintf("the demo has found %d things that should not be: %s", len(e.Wrong), strings.Join(e.Wrong, "; "))
}

// WriteText writes the summary for people.
func (s *Summary) WriteText(w io.Writer) error {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("")
	line("What you have seen")
	for i, st := range s.Steps {
		line("%d. %s (%s)", i+1, st.Title, round(time.Duration(st.TookMS)*time.Millisecond))
		for _, f := range st.Found {
			line("     %s", f)
		}
	}
	line("")
	if one, two := s.Pods[PodOne], s.Pods[PodTwo]; one != nil && two != nil && one.Stage != "" && two.Stage != "" {
		line("In figures")
		line("  %d carts of two shops: %d granted, %d sold out; %d decisions compared", one.Traffic.Carts+two.Traffic.Carts,
			one.Traffic.Granted+two.Traffic.Granted, one.Traffic.SoldOut+two.Traffic.SoldOut, one.Parity.Compared+two.Parity.Compared)
		line("  %d answers that buyers were given, held against the stores at the end: %d do not stand", one.Log.Holds+two.Log.Holds, one.Log.ViolationsTotal+two.Log.ViolationsTotal)
		line("  pod one: %s; pod two, where %s was lost: %s, the first after %d ms, %s", count(one.OpenFindings, "open finding"),
			count(s.Fault.Lost, "unit"), count(two.OpenFindings, "open finding"), s.Fault.FoundMS, s.Fault.Class)
		line("  live took the truth over within %.0f ms; the kill took %.0f ms, and %.0f ms after it a buyer was served", s.LiveHeldMS, s.Kill.TookMS, s.Kill.ServedMS)
		line("")
	}
	if s.Memory {
		line(memoryNotice)
		line("%s", s.Install)
	} else {
		line("On %s.", strings.Join(s.System, "; "))
	}
	for _, p := range s.Wrong {
		line("WRONG: %s", p)
	}
	switch {
	case s.OK:
		line("The demo ended well, after %s.", round(time.Duration(s.TookMS)*time.Millisecond))
	default:
		line("The demo did NOT end well.")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// round is for people.
func round(d time.Duration) time.Duration {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second)
	case d >= time.Second:
		return d.Round(100 * time.Millisecond)
	default:
		return d.Round(100 * time.Microsecond)
	}
}

func millis(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}
