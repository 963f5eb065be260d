package rollout

import (
	"fmt"
	"io"
	"time"

	"github.com/crossfade-proxy/crossfade/killswitch"
)

// podsShown bounds the pods that a table spells out; JSON has all.
const podsShown = 100

// WriteTable writes the rollout for a terminal.
func (s *State) WriteTable(w io.Writer) error {
	p := printer{w: w}
	p.line("Rollout %d: %d pods from %s to %s, %s", s.Number, len(s.Pods), s.From, s.To, s.Phase)
	if s.Cause != "" {
		p.line("  since %s", s.Cause)
	}
	p.line("  by %s: %s (pods: %s)", s.Who, s.Why, s.Select)
	p.line("  started %s, %d moved, wave %d of %d, soaked %s of %s", stamp(s.Started), s.Moved(), s.Wave, s.Waves, seconds(s.SoakedMillis), seconds(s.SoakMillis))
	p.line("")
	rows := [][]string{{"WAVE", "POD", "PLACE", "DECISIONS/H", "EPOCH", "CALLERS WAITED", "AT"}}
	for i := range s.Pods[:min(len(s.Pods), podsShown)] {
		o := &s.Pods[i]
		row := []string{fmt.Sprint(o.Wave), string(o.Pod), string(o.Place), fmt.Sprintf("%.1f", o.Traffic), "-", "-", stamp(o.At)}
		if o.Place == Moved {
			row[4], row[5] = fmt.Sprint(o.Epoch), fmt.Sprintf("%.0f ms", o.HeldMillis)
		}
		rows = append(rows, row)
	}
	p.table(rows)
	if n := len(s.Pods) - podsShown; n > 0 {
		p.line("  and %d more; --json has all", n)
	}
	if len(s.Events) > 0 {
		p.line("")
		for _, e := range s.Events[max(0, len(s.Events)-10):] {
			what := e.What
			if e.Pod != "" {
				what = string(e.Pod) + ": " + what
			}
			p.line("  %s  %s  (%s)", stamp(e.At), what, e.Who)
		}
	}
	p.next(s)
	return p.err
}

// next says what a person can do now.
func (p *printer) next(s *State) {
	switch s.Phase {
	case Halted:
		p.line("")
		p.line("Mend that, then: crossfade rollout resume --why …   (--skip POD leaves a pod out)")
		p.line("Or end it:       crossfade rollout abort --why …")
	case Paused:
		p.line("")
		p.line("To go on: crossfade rollout resume --why …")
	case Aborted:
		if back := s.Back(); len(back) > 0 {
			p.line("")
			p.line("The pods that were moved stay in %s. To take one back:  %s", s.To, back[0])
		}
	case Running, Completed:
	}
}

// WriteTable writes the present rollout, and a line for each before it.
func (o Overview) WriteTable(w io.Writer) error {
	p := printer{w: w}
	if o.Current == nil {
		p.line("There is no rollout. To see what one would do: crossfade rollout start --pods all --to live --wave 1,5,25%% --soak 30m --dry-run --why …")
		return p.err
	}
	if err := o.Current.WriteTable(w); err != nil {
		return err
	}
	if len(o.Past) > 0 {
		p.line("")
		rows := [][]string{{"BEFORE", "FROM", "TO", "ENDED", "MOVED", "BY", "AT"}}
		for i := len(o.Past) - 1; i >= 0; i-- {
			s := &o.Past[i]
			rows = append(rows, []string{fmt.Sprint(s.Number), s.From.String(), s.To.String(), string(s.Phase), fmt.Sprintf("%d of %d", s.Moved, s.Pods), s.Who, stamp(s.Ended)})
		}
		p.table(rows)
	}
	return p.err
}

// printer keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, a ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", a...)
	}
}

func (p *printer) table(rows [][]string) {
	if p.err == nil {
		p.err = killswitch.WriteRows(p.w, "  ", rows)
	}
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

func seconds(ms int64) string {
	return (time.Duration(ms) * time.Millisecond).Round(time.Second).String()
}
