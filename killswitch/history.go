package killswitch

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// HistoryLine is one change of one pod, as history is listed and exported.
type HistoryLine struct {
	Pod backends.Pod `json:"pod"`
	Change
}

// HistoryList is what a history command prints.
type HistoryList struct {
	// Changes are the newest first.
	Changes []HistoryLine `json:"changes"`
	// Next is the before of the page behind this one; 0 when there is none, or for several pods.
	Next uint64 `json:"next,omitempty"`
}

// HistoryFormat is how a history is written.
type HistoryFormat string

// The formats.
const (
	HistoryTable HistoryFormat = "table"
	HistoryJSON  HistoryFormat = "json"
	HistoryJSONL HistoryFormat = "jsonl"
	HistoryCSV   HistoryFormat = "csv"
)

// ParseHistoryFormat reads a format's name. The error is a *backends.FieldError.
func ParseHistoryFormat(s string) (HistoryFormat, error) {
	all := []HistoryFormat{HistoryTable, HistoryJSON, HistoryJSONL, HistoryCSV}
	if f := HistoryFormat(s); slices.Contains(all, f) {
		return f, nil
	}
	return "", &backends.FieldError{Field: "format", Value: fmt.Sprintf("%.80q", s), Bound: "table, json, jsonl or csv", Next: "jsonl and csv have one change a line"}
}

// Write writes the list: as a table or one document, or one change a line.
func (l HistoryList) Write(w io.Writer, f HistoryFormat) error {
	switch f {
	case HistoryJSON:
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(l)
	case HistoryJSONL:
		e := json.NewEncoder(w)
		for i := range l.Changes {
			if err := e.Encode(l.Changes[i]); err != nil {
				return err
			}
		}
		return nil
	case HistoryCSV:
		return l.writeCSV(w)
	default:
		return l.writeTable(w)
	}
}

func (l HistoryList) writeTable(w io.Writer) error {
	if len(l.Changes) == 0 {
		_, err := fmt.Fprintln(w, "no changes")
		return err
	}
	rows := [][]string{{"POD", "NO", "AT", "CHANGE", "EPOCH", "OUTCOME", "WHO", "WHY"}}
	for i := range l.Changes {
		c := &l.Changes[i]
		rows = append(rows, []string{string(c.Pod), fmt.Sprint(c.Seq), stamp(c.At), c.what(), c.epochs(), c.Outcome.String(), orDash(c.Who), orDash(c.Why)})
	}
	var b bytes.Buffer
	if err := WriteRows(&b, "", rows); err != nil {
		return err
	}
	i := -1 // the head
	for line := range strings.Lines(b.String()) {
		// What goes on below a change is as long as it is: it is no part of the columns.
		if i >= 0 {
			for _, more := range l.Changes[i].details() {
				line += "      " + oneLine(more) + "\n"
			}
		}
		i++
		if _, err := io.WriteString(w, line); err != nil {
			return err
		}
	}
	if l.Next > 0 {
		_, err := fmt.Fprintf(w, "\nOlder ones: --before %d, or --all\n", l.Next)
		return err
	}
	return nil
}

// what says in two words what a change was.
func (c *Change) what() string {
	if c.From == c.To || c.From == backends.StageUnknown {
		return fmt.Sprintf("%s in %s", c.Kind, c.To)
	}
	return fmt.Sprintf("%s %s to %s", c.Kind, c.From, c.To)
}

func (c *Change) epochs() string {
	if c.FromEpoch == c.Epoch {
		return fmt.Sprint(c.Epoch)
	}
	return fmt.Sprintf("%d to %d", c.FromEpoch, c.Epoch)
}

// details are what the table shows below a change: why it ended otherwise, what the gates had found, and its steps.
func (c *Change) details() []string {
	var out []string
	if c.Cause != "" {
		out = append(out, "since "+c.Cause)
	}
	passed := 0
	for _, g := range c.Gates {
		if g.Pass {
			passed++
			continue
		}
		out = append(out, fmt.Sprintf("gate %s %s", g.word(), g))
	}
	if passed > 0 {
		out = append(out, fmt.Sprintf("%d of %d gates passed", passed, len(c.Gates)))
	}
	if len(c.Steps) > 0 {
		out = append(out, stepsInLine(c.Steps))
	}
	return out
}

func stepsInLine(steps []StepDone) string {
	parts := make([]string, len(steps))
	for i, s := range steps {
		parts[i] = fmt.Sprintf("%s %.1f ms", s.Name, s.TookMillis)
		if s.Note != "" {
			parts[i] += " (" + s.Note + ")"
		}
	}
	return strings.Join(parts, "; ")
}

// writeCSV has one change a line; gates and steps are columns of text.
func (l HistoryList) writeCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	rows := [][]string{{"pod", "no", "at", "kind", "outcome", "from", "to", "from_epoch", "epoch", "who", "why", "cause", "gates", "steps", "steps_ms"}}
	for i := range l.Changes {
		c := &l.Changes[i]
		gates := make([]string, len(c.Gates))
		for j, g := range c.Gates {
			gates[j] = g.word() + " " + g.String()
		}
		total := 0.0
		for _, s := range c.Steps {
			total += s.TookMillis
		}
		rows = append(rows, []string{
			string(c.Pod), strconv.FormatUint(c.Seq, 10), c.At.UTC().Format(time.RFC3339Nano), c.Kind.String(), c.Outcome.String(), c.From.String(), c.To.String(),
			strconv.FormatUint(c.FromEpoch, 10), strconv.FormatUint(c.Epoch, 10), sheetSafe(c.Who), sheetSafe(c.Why), sheetSafe(c.Cause),
			sheetSafe(strings.Join(gates, "; ")), sheetSafe(stepsInLine(c.Steps)), strconv.FormatFloat(total, 'f', 3, 64),
		})
	}
	return out.WriteAll(rows)
}

// sheetSafe keeps a spreadsheet from taking what somebody has typed for a formula.
func sheetSafe(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}
