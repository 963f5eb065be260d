package killswitch

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Rendering for a terminal. The JSON of Status and Result is for machines.

const columnGap = 2

// WriteRows writes rows in columns. Cells are of one line, whatever is in them.
func WriteRows(w io.Writer, indent string, rows [][]string) error {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, columnGap, ' ', 0)
	for _, r := range rows {
		cells := make([]string, len(r))
		for i, c := range r {
			cells[i] = oneLine(c)
		}
		if _, err := fmt.Fprintln(t, indent+strings.Join(cells, "\t")); err != nil {
			return err
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(b.String()) {
		// The padding of a last cell that is empty would be trailing space.
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// oneLine keeps what people have typed from moving the cursor or breaking the table.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// short is a fence in few letters, for a column.
func (v View) short() string {
	switch {
	case !v.Known:
		return "away"
	case v.Fence.Epoch == 0:
		return "no fence"
	}
	s := fmt.Sprintf("%d %s", v.Fence.Epoch, v.Fence.Stage)
	if !v.Fence.Open {
		s += " closed"
	}
	return s
}

func (v View) long() string {
	switch {
	case !v.Known:
		return "does not answer: " + v.Why
	case v.Fence.Epoch == 0:
		return "no fence"
	}
	return v.Fence.String()
}

func (s Status) proxies() string {
	current := 0
	for _, p := range s.Proxies {
		if p.Current && !p.Silent {
			current++
		}
	}
	return fmt.Sprintf("%d/%d", current, len(s.Proxies))
}

// goingOn is the one thing that a pod is doing.
func (s Status) goingOn() string {
	switch {
	case s.Switch != nil && s.Switch.Undo:
		return fmt.Sprintf("undoing the switch to %s: %s", s.Switch.To, s.Switch.Name)
	case s.Switch != nil:
		return fmt.Sprintf("switching to %s: %s", s.Switch.To, s.Switch.Name)
	case len(s.Work) > 0:
		return workNames(s.Work)
	default:
		return "-"
	}
}

// RenderPods writes one line for each pod.
func RenderPods(w io.Writer, pods []Status) error {
	if len(pods) == 0 {
		_, err := fmt.Fprintln(w, "no pods")
		return err
	}
	rows := [][]string{{"POD", "STAGE", "EPOCH", "PHASE", "TRUTH", "REDIS", "MYSQL", "PROXIES", "GOING ON", "NOTES"}}
	for _, s := range pods {
		truth := "none"
		if s.Serving {
			truth = s.Actual.Stage.Truth().String()
		}
		notes := "-"
		if len(s.Notes) > 0 {
			notes = s.Notes[0]
			if more := len(s.Notes) - 1; more > 0 {
				notes += fmt.Sprintf(" (and %d more)", more)
			}
		}
		shown := s.Desired
		if shown.Epoch == 0 {
			shown = s.Actual // no record to be had: what the fences say
		}
		rows = append(rows, []string{
			string(s.Pod), shown.Stage.String(), fmt.Sprint(shown.Epoch), s.Phase.String(), truth,
			s.Redis.short(), s.MySQL.short(), s.proxies(), s.goingOn(), notes,
		})
	}
	return WriteRows(w, "", rows)
}

// RenderStatus writes all that is known of a pod.
func RenderStatus(w io.Writer, s Status) error {
	actual := "no decision can be acknowledged"
	if s.Serving {
		actual = fmt.Sprintf("%s decides, epoch %d", s.Actual.Stage.Truth(), s.Actual.Epoch)
	}
	desired := "no record"
	if s.Desired.Epoch > 0 {
		desired = fmt.Sprintf("%s, epoch %d, %s", s.Desired.Stage, s.Desired.Epoch, s.Phase)
	}
	rows := [][]string{
		{"pod", string(s.Pod)},
		{"recorded", desired},
		{"actual", actual},
		{"fence of redis", s.Redis.long()},
		{"fence of mysql", s.MySQL.long()},
		{"since", stamp(s.Since)},
		{"by", orDash(s.Who)},
		{"why", orDash(s.Why)},
	}
	if s.Behind != nil {
		waiting := ""
		if s.Waiting != nil {
			waiting = fmt.Sprintf(", %d entries wait for Redis", *s.Waiting)
		}
		rows = append(rows, []string{"redis behind", fmt.Sprintf("%s, since %s by %s, %d proxies%s", s.Behind.Mark, stamp(s.Behind.Since), s.Behind.Who, len(s.Behind.permitted()), waiting)})
	}
	if len(s.Work) > 0 {
		rows = append(rows, []string{"to be done", workNames(s.Work)})
	}
	for _, n := range s.Notes {
		rows = append(rows, []string{"note", n})
	}
	if err := WriteRows(w, "", rows); err != nil {
		return err
	}
	if s.Switch != nil {
		if err := renderSwitch(w, s.Switch); err != nil {
			return err
		}
	}
	return renderProxies(w, s.Proxies)
}

func renderSwitch(w io.Writer, sw *Switch) error {
	what := fmt.Sprintf("switch from %s to %s by %s, since %s: %s", sw.From, sw.To, sw.Who, stamp(sw.Started), sw.Why)
	if sw.Undo {
		what = fmt.Sprintf("undoing the switch from %s to %s: %s", sw.From, sw.To, sw.Cause)
	}
	if _, err := fmt.Fprintln(w, "\n"+oneLine(what)); err != nil {
		return err
	}
	rows := doneRows(sw.Steps)
	for i, s := range sw.steps() {
		switch {
		case i == sw.Step:
			rows = append(rows, []string{"now", s.Name, ""})
		case i > sw.Step:
			rows = append(rows, []string{"to come", s.Name, ""})
		}
	}
	return WriteRows(w, "  ", rows)
}

func doneRows(steps []StepDone) [][]string {
	var rows [][]string
	for _, d := range steps {
		took := fmt.Sprintf("%.1f ms", d.TookMillis)
		if d.Note != "" {
			took += ", " + d.Note
		}
		rows = append(rows, []string{"done", d.Name, took})
	}
	return rows
}

func renderProxies(w io.Writer, proxies []ProxyStatus) error {
	if len(proxies) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	rows := [][]string{{"PROXY", "SERVES", "EPOCH", "HEARD", "STATE"}}
	for _, p := range proxies {
		state := "current"
		switch {
		case p.Silent:
			state = "silent"
		case !p.Current:
			state = "behind"
		}
		heard := (time.Duration(p.AgeMillis) * time.Millisecond).Round(time.Second).String() + " ago"
		if p.At.IsZero() {
			heard, state = "-", "not heard yet"
		}
		rows = append(rows, []string{p.Proxy, p.Stage.String(), fmt.Sprint(p.Epoch), heard, state})
	}
	return WriteRows(w, "", rows)
}

// RenderKill writes what a kill did.
func RenderKill(w io.Writer, r KillResult) error {
	var head string
	switch {
	case r.Verdict == KillNothing:
		head = fmt.Sprintf("pod %s is in redis-only: nothing to do", r.Pod)
	case r.Verdict == KillAlready:
		head = alreadyKilled(r)
	case r.Verdict != KillGo:
		head = fmt.Sprintf("pod %s was not killed; Redis's fence is at %s", r.Pod, r.From)
	case r.DryRun:
		head = fmt.Sprintf("pod %s would go from %s to %s, epoch %d (dry run)", r.Pod, stageOf(r.From), r.To.Stage, r.To.Epoch)
	default:
		head = fmt.Sprintf("pod %s was killed from %s to %s, epoch %d: Redis decides", r.Pod, stageOf(r.From), r.To.Stage, r.To.Epoch)
	}
	if _, err := fmt.Fprintln(w, head); err != nil {
		return err
	}
	rows := doneRows(r.Steps)
	if r.Verdict == KillAlready && r.From.Stage == backends.Shadow {
		rows = append(rows, []string{"next", "to go on to redis-only", fmt.Sprintf("crossfade kill %s --from shadow --why …", r.Pod)})
	}
	rows = append(rows, r.Behind.rows(r.DryRun)...)
	if r.Verdict == KillGo && !r.DryRun {
		if !r.Recorded {
			rows = append(rows, []string{"note", "not recorded yet", r.NotRecorded})
		}
		rows = append(rows, []string{"to come", workNames(r.Left), "by the proxies, when MySQL answers"})
	}
	return WriteRows(w, "  ", rows)
}

func alreadyKilled(r KillResult) string {
	head := fmt.Sprintf("pod %s is already killed: in %s", r.Pod, r.From.Stage)
	c := r.Already
	if c != nil && !c.killed() {
		head = fmt.Sprintf("pod %s was taken back already: in %s", r.Pod, r.From.Stage)
	}
	if c != nil {
		head += " since " + c.At.UTC().Format("2006-01-02 15:04:05 UTC")
	}
	head += fmt.Sprintf(", epoch %d", r.From.Epoch)
	if c != nil {
		head += fmt.Sprintf(" (%s: %s)", c.Who, c.Why)
	}
	return oneLine(head + "; nothing was changed")
}

func stageOf(f backends.Fence) string {
	if !f.Open {
		return f.Stage.String() + " (in the middle of a switch)"
	}
	return f.Stage.String()
}
