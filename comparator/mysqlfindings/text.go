package mysqlfindings

import (
	_ "embed"
	"strings"
)

//go:embed sql/findings.sql
var findingsText string

//go:embed sql/apologies.sql
var apologiesText string

//go:embed sql/tallies.sql
var talliesText string

//go:embed sql/audits.sql
var auditsText string

// tag attributes the connection's time to its business process (P8).
const tag = "/* conn_tag:crossfade.comparator */ "

// statement is a text with at most one part that repeats, written [[part|separator]].
type statement struct{ head, part, sep, tail string }

var (
	findingInsert      = named("finding_insert")
	findingLock        = named("finding_lock")
	findingUpdate      = named("finding_update")
	findingRead        = named("finding_read")
	findingList        = named("finding_list")
	findingListClasses = named("finding_list_classes")
	findingListLives   = named("finding_list_lives")
	findingListSubject = named("finding_list_subject")
	findingListAfter   = named("finding_list_after")
	findingListEnd     = named("finding_list_end")
	findingSummary     = named("finding_summary")
	findingExcuses     = named("finding_excuses")
	findingPrune       = named("finding_prune")
	coverageSave       = named("coverage_save")
	coverageSum        = named("coverage_sum")
	coveragePrune      = named("coverage_prune")
	apologyFile        = named("apology_file")
	apologyList        = named("apology_list")
	apologyListOpen    = named("apology_list_open")
	apologyListAcked   = named("apology_list_acked")
	apologyListAfter   = named("apology_list_after")
	apologyListEnd     = named("apology_list_end")
	apologySum         = named("apology_sum")
	apologyLock        = named("apology_lock")
	apologyAck         = named("apology_ack")
	sheetPut           = named("sheet_put")
	sheetHeads         = named("sheet_heads")
	sheetRead          = named("sheet_read")
	sheetOld           = named("sheet_old")
	sheetPrune         = named("sheet_prune")
	tallySave          = named("tally_save")
	tallyRead          = named("tally_read")
	tallyPrune         = named("tally_prune")
	trendFirst         = named("trend_first")
	trendCoverage      = named("trend_coverage")
	trendFindings      = named("trend_findings")
	auditRead          = named("audit_read")
	auditMake          = named("audit_make")
	auditTake          = named("audit_take")
	auditKeep          = named("audit_keep")
	auditBegin         = named("audit_begin")
	auditGoOn          = named("audit_go_on")
	auditEnd           = named("audit_end")
	auditDrop          = named("audit_drop")
	auditFail          = named("audit_fail")
)

// named gives a statement of the embedded files. It is for package variables: a name that is not
// there stops the program when it starts.
func named(name string) statement {
	_, text, ok := strings.Cut(findingsText+apologiesText+talliesText+auditsText, "-- name: "+name+"\n")
	if !ok {
		panic("mysqlfindings: no statement is called " + name)
	}
	text, _, _ = strings.Cut(text, "-- name: ")
	var lines []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "--") {
			lines = append(lines, strings.TrimRight(line, "\n"))
		}
	}
	text = strings.TrimRight(strings.Join(lines, "\n"), "; \n")
	head, rest, repeats := strings.Cut(text, "[[")
	if !repeats {
		return statement{head: text}
	}
	part, tail, _ := strings.Cut(rest, "]]")
	i := strings.LastIndexByte(part, '|')
	return statement{head: head, part: part[:i], sep: part[i+1:], tail: tail}
}

// times is the text with its part n times; n is at least 1.
func (s statement) times(n int) string {
	if s.part == "" {
		return s.head
	}
	return s.head + strings.Repeat(s.part+s.sep, n-1) + s.part + s.tail
}
