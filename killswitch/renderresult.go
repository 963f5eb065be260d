package killswitch

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// foundWidth is how wide the column of what gates found is: longer texts go on in the next line, so that what is asked for
// stays in sight.
const foundWidth = 48

// RenderResult writes what became of a switch, or what a dry run would do.
func RenderResult(w io.Writer, r Result) error {
	c := r.Change
	head := fmt.Sprintf("pod %s: %s to %s: %s; it is in %s, epoch %d, %s (%.1f ms)", r.Pod, c.From, c.To, c.Outcome, r.Stage, r.Epoch, r.Phase, r.TookMillis)
	switch {
	case r.DryRun:
		head = fmt.Sprintf("pod %s: %s to %s under epoch %d: nothing was done (dry run)", r.Pod, c.From, c.To, c.Epoch)
	case r.Refused != "":
		head = fmt.Sprintf("pod %s: %s to %s: refused; nothing was done", r.Pod, c.From, c.To)
	case r.HeldMillis > 0:
		head += fmt.Sprintf("; callers waited for at most %.1f ms", r.HeldMillis)
	}
	if c.Cause != "" {
		head += "; " + c.Cause
	}
	if _, err := fmt.Fprintln(w, oneLine(head)); err != nil {
		return err
	}
	if err := renderGates(w, c.Gates); err != nil {
		return err
	}
	if len(r.Plan) > 0 {
		return renderPlan(w, r.Plan)
	}
	if r.Refused != "" {
		return nil
	}
	rows := doneRows(c.Steps)
	if len(r.Left) > 0 {
		rows = append(rows, []string{"to come", workNames(r.Left), ""})
	}
	return WriteRows(w, "  ", rows)
}

// renderGates writes what each gate found and asks for, and what stands in the way.
func renderGates(w io.Writer, gates []GateResult) error {
	if len(gates) == 0 {
		return nil
	}
	rows := [][]string{{"GATE", "", "FOUND", "ASKED FOR"}}
	for _, g := range gates {
		for i, part := range wrap(oneLine(g.Figure), foundWidth) {
			if i == 0 {
				rows = append(rows, []string{g.Name, g.word(), part, g.Bound})
			} else {
				rows = append(rows, []string{"", "", part, ""})
			}
		}
	}
	if err := WriteRows(w, "  ", rows); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "  "+inTheWay(gates)+"\n")
	return err
}

func (g GateResult) word() string {
	switch {
	case g.Pass:
		return "pass"
	case g.Forced:
		return "FORCED"
	case g.Off:
		return "off"
	default:
		return "FAIL"
	}
}

// inTheWay sums up gates in one line, with the next step.
func inTheWay(gates []GateResult) string {
	var standing, firm, forced, off []string
	for _, g := range gates {
		switch {
		case g.Forced:
			forced = append(forced, g.Name)
		case g.Off:
			off = append(off, g.Name)
		case g.Stands() && isFirm(g.Name):
			firm = append(firm, g.Name)
		case g.Stands():
			standing = append(standing, g.Name)
		}
	}
	var say []string
	switch {
	case len(standing)+len(firm) == 0:
		say = append(say, "No gate stands in the way.")
	case len(firm) > 0:
		say = append(say, fmt.Sprintf("In the way: %s; docs/operations.md says what to do. Never forced: %s.", strings.Join(slices.Concat(firm, standing), ", "), strings.Join(firm, ", ")))
	default:
		say = append(say, fmt.Sprintf("In the way: %s; docs/operations.md says what to do. '--force %s' passes by.", strings.Join(standing, ", "), strings.Join(slices.Concat(forced, standing), ",")))
	}
	if len(forced) > 0 {
		say = append(say, "Forced: "+strings.Join(forced, ", ")+".")
	}
	if len(off) > 0 {
		say = append(say, "Off by the configuration: "+strings.Join(off, ", ")+".")
	}
	return strings.Join(say, " ")
}

func isFirm(name string) bool {
	for _, g := range allGates() {
		if g.Name == name {
			return g.Firm
		}
	}
	return true
}

func renderPlan(w io.Writer, plan []Planned) error {
	rows := [][]string{{"", "STEP", "WHAT IT DOES"}}
	for i, p := range plan {
		rows = append(rows, []string{fmt.Sprint(i + 1), p.Name, p.Means})
	}
	return WriteRows(w, "  ", rows)
}

// wrap breaks a text at spaces into lines of at most width letters; a word that is longer has a line of its own.
func wrap(s string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(s) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// maxShownMissing is how many states a text lists; --json has more.
const maxShownMissing = 20

// rows say what a kill found of answers without Redis.
func (b *KillBehind) rows(dry bool) [][]string {
	if b == nil {
		return nil
	}
	if !b.Marked {
		return [][]string{{"redis behind", "not marked", "nothing was answered without Redis in this epoch that Redis does not have"}}
	}
	rows := [][]string{{"redis behind", fmt.Sprintf("marked since %s by %s", b.Since.UTC().Format("2006-01-02 15:04:05 UTC"), b.Who), fmt.Sprintf("waits for at most %.0f ms, and about a second to bring what Redis lacks", b.WaitMillis)}}
	if dry {
		return rows
	}
	if len(b.NotAsked) > 0 {
		rows = append(rows, []string{"not asked", strings.Join(b.NotAsked, ", "), "waited for until they could not answer any more"})
	}
	switch {
	case b.Complete:
		return append(rows, []string{"missing", "nothing", "all that MySQL had decided was brought to Redis"})
	case b.Why != "":
		rows = append(rows, []string{"missing", fmt.Sprintf("at least %d states, %d units", b.Missing.Count, b.Missing.Units), "MySQL could not be asked: " + oneLine(b.Why)})
	default:
		rows = append(rows, []string{"missing", fmt.Sprintf("%d states, %d units", b.Missing.Count, b.Missing.Units), "may have been acknowledged, and Redis does not have it"})
	}
	for i, s := range b.Missing.States {
		if i == maxShownMissing {
			return append(rows, []string{"", "…", "--json has more"})
		}
		rows = append(rows, s.row())
	}
	return rows
}

func (s MissingState) row() []string {
	what := "hold " + string(s.Hold)
	if s.Hold == "" {
		what = "operation " + string(s.Operation)
	} else if s.State != 0 {
		what += " (" + s.State.String() + ")"
	}
	var units []string
	for _, u := range s.Units {
		units = append(units, fmt.Sprintf("%d of %s", u.Quantity, u.Key))
	}
	return []string{"", what, strings.Join(units, ", ")}
}
