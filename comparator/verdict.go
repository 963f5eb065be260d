package comparator

import "fmt"

// ReportState says in a word what a report comes to.
type ReportState string

// The states.
const (
	ReportStop ReportState = "stop" // something stands against the pod
	ReportWait ReportState = "wait" // nothing stands against it, and there is not enough to say so
	ReportGo   ReportState = "go"   // the evidence is enough
	// ReportUnsure: something could not be read, and silence is no proof.
	ReportUnsure ReportState = "unsure"
	// ReportNone: the pod's stage compares nothing.
	ReportNone ReportState = "none"
)

// ReportVerdict is what a release manager reads first. The gates of a move check by themselves what may
// have changed since.
type ReportVerdict struct {
	State ReportState `json:"state"`
	Why   string      `json:"why"`
}

// verdictOf judges a report that is filled in; what was found comes before what could not be read.
func verdictOf(r *Report) ReportVerdict {
	is := func(s ReportState, format string, args ...any) ReportVerdict {
		return ReportVerdict{State: s, Why: fmt.Sprintf(format, args...)}
	}
	switch {
	case r.Coverage.Check() != nil:
		return is(ReportStop, "the account of decisions is out of balance, which is a bug of Crossfade")
	case r.Open > 0:
		return is(ReportStop, "%s open, of %s", are(r.Open, "finding"), count(r.OpenUnits, "unit"))
	case r.Outbox != nil && r.Outbox.Lost:
		return is(ReportStop, "the shadow is not complete: the outbox has dropped entries")
	case r.DebtUnits > 0:
		return is(ReportStop, "%s promised that are not there", count(r.DebtUnits, "unit"))
	case !r.Stage.Dual():
		return is(ReportNone, "in %s no decision is compared: there is no shadow", r.Stage)
	case r.Incomplete:
		return is(ReportUnsure, "something could not be read, and what is not known is no proof; see the problems")
	case !r.Readiness.Ready:
		return is(ReportWait, "no finding is open, and evidence is short in %s: %s", count(int64(len(r.Readiness.Missing)), "point"), readinessNames(r))
	case r.Parity.Share == nil || *r.Parity.Share < goodShare:
		return is(ReportWait, "only %s of the decisions were compared", percent(r.Parity.Compared, r.Parity.Decisions))
	case r.Audit != nil && !r.Audit.Current:
		return is(ReportWait, "no finding is open, and no audit of all holds and levels is complete and of today, in this stage and epoch")
	default:
		return is(ReportGo, "no finding is open, and there is evidence enough for each kind of decision and for the load")
	}
}
