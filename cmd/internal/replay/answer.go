package replay

import (
	"strings"

	"github.com/crossfade-proxy/crossfade/backends"
)

// verdict is what an answer means to a client.
type verdict uint8

// The verdicts. The zero value is unknown: send it again.
const (
	verdictUnknown verdict = iota
	granted
	soldOut
	claimed
	released
	ended
	notFound
	restocked
	refused // the request is wrong as it stands, and would be again
)

var verdictNames = [...]string{"unknown", "granted", "sold_out", "claimed", "released", "ended", "not_found", "restocked", "refused"}

func (v verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return "unknown"
}

// answer is a reply as a client understands it.
type answer struct {
	verdict  verdict
	replayed bool
	// state of the hold, where the answer is about one.
	state string
	// short lines of a refusal, and the units missing in them.
	short, shortUnits int64
	// apologies: units sold that were not there.
	apologies int64
	// code and text of an error.
	code, text string
	// nothing: the door vouches that nothing was changed.
	nothing bool
}

// The first words of errors that may be over when the command is sent again. XFBUSY and
// XFUNAVAILABLE vouch that nothing was changed.
const (
	codeUnknown     = "XFUNKNOWN"
	codeUnavailable = "XFUNAVAILABLE"
	codeBusy        = "XFBUSY"
	codeLoading     = "LOADING"
)

// understand reads a reply of an XF command.
func understand(v value) answer {
	if v.kind == '-' {
		return understandError(v.text)
	}
	a := answer{replayed: v.numberOf("replayed") == 1, state: v.textOf("state")}
	status := v.textOf("status")
	for i := granted; i < refused; i++ {
		if verdictNames[i] == status {
			a.verdict = i
		}
	}
	if a.verdict == verdictUnknown {
		// Something answers that is no door, or a newer one: no reason to go on for ever.
		a.verdict, a.code, a.text = refused, "XF?", "an answer without a status that is known"
		return a
	}
	if short := v.field("short"); short != nil {
		for i := range short.items {
			a.short++
			a.shortUnits += short.items[i].numberOf("wanted") - short.items[i].numberOf("available")
		}
	}
	if as := v.field("apologies"); as != nil {
		for i := range as.items {
			a.apologies += as.items[i].numberOf("qty")
		}
	}
	return a
}

func understandError(text string) answer {
	code, _, _ := strings.Cut(text, " ")
	a := answer{code: code, text: text}
	switch {
	case code == codeUnavailable, code == codeBusy, code == codeLoading:
		a.nothing = true
	case code == codeUnknown:
	case strings.HasPrefix(text, "ERR max number of clients"):
		a.nothing = true
	default:
		a.verdict = refused
	}
	return a
}

// understandHold reads a reply of XF.GET: state and allocations, each as a line of its own.
func understandHold(v value) (*backends.Hold, answer) {
	if v.kind == '_' {
		return nil, answer{verdict: notFound}
	}
	h := &backends.Hold{ID: backends.HoldID(v.textOf("hold")), Shop: backends.Shop(v.textOf("shop"))}
	allocs := v.field("allocations")
	if h.State.UnmarshalText([]byte(v.textOf("state"))) != nil || h.State == backends.StateUnknown || allocs == nil {
		return nil, answer{verdict: refused, code: "XF?", text: "an answer that is no hold"}
	}
	for i := range allocs.items {
		a := &allocs.items[i]
		n, loc := a.numberOf("qty"), backends.Location(a.textOf("location"))
		h.Lines = append(h.Lines, backends.Line{Item: backends.Item(a.textOf("item")), Quantity: n, Locations: []backends.Location{loc}})
		h.Allocs = append(h.Allocs, backends.Allocation{Line: i, Location: loc, Quantity: n})
	}
	return h, answer{verdict: granted}
}
