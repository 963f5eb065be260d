package comparator

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Facts is one store's side of a finding. Which parts are set depends on the class.
type Facts struct {
	Answer *Answer         `json:"answer,omitempty"`
	Hold   *backends.Hold  `json:"hold,omitempty"`
	Level  *backends.Level `json:"level,omitempty"`
}

// Diff lists the fields in which truth and shadow differ, one a line: "field: truth → shadow". Order
// of allocations and shortages does not count. At most MaxText bytes; "" when nothing differs.
func Diff(shop backends.Shop, lines []backends.Line, truth, shadow Facts) string {
	var r fieldLines
	cmp.Equal(view(shop, lines, truth), view(shop, lines, shadow), cmp.Reporter(&r))
	slices.Sort(r.lines)
	return clip(strings.Join(r.lines, "\n"), MaxText)
}

// facts in the form that is compared: units by key, so that a difference names the key.
type factsView struct {
	Outcome  string
	Hold     string // "none" when there should be one
	State    string
	Version  string
	Expires  string
	Units    map[string]int64
	Short    map[string]string
	Seen     map[string]int64
	OnHand   string
	Sellable string
	Held     string
	Taken    string
	Owed     string
}

func view(shop backends.Shop, lines []backends.Line, f Facts) factsView {
	v := factsView{Units: map[string]int64{}, Short: map[string]string{}, Seen: map[string]int64{}}
	if a := f.Answer; a != nil {
		v.Outcome = a.Outcome.String()
		o := Observation{Shop: shop, Lines: lines}
		for _, al := range a.Allocs {
			v.Units[keyOf(&o, al.Line, al.Location).String()] += al.Quantity
		}
		for _, sh := range a.Short {
			v.Short[fmt.Sprintf("line %d %s", sh.Line+1, sh.Item)] = fmt.Sprintf("wants %d has %d", sh.Wanted, sh.Available)
		}
		for _, u := range a.Seen {
			v.Seen[u.Key.String()] = u.Quantity
		}
	}
	if h := f.Hold; h != nil {
		v.Hold, v.State, v.Version = "known", h.State.String(), h.Version.String()
		v.Expires = fmt.Sprint(int64(h.ExpiresAt))
		for _, u := range h.Takes() {
			v.Units[u.Key.String()] += u.Quantity
		}
	}
	if l := f.Level; l != nil {
		v.OnHand, v.Sellable, v.Held = fmt.Sprint(l.OnHand), fmt.Sprint(l.Sellable()), fmt.Sprint(l.Held)
		v.Taken, v.Owed = fmt.Sprint(l.Taken), fmt.Sprint(l.Owed)
	}
	return v
}

// fieldLines is a cmp.Reporter that keeps one line per field that differs.
type fieldLines struct {
	path  cmp.Path
	lines []string
}

// PushStep implements the reporter.
func (r *fieldLines) PushStep(ps cmp.PathStep) { r.path = append(r.path, ps) }

// PopStep implements the reporter.
func (r *fieldLines) PopStep() { r.path = r.path[:len(r.path)-1] }

// Report implements the reporter.
func (r *fieldLines) Report(rs cmp.Result) {
	if rs.Equal() {
		return
	}
	t, s := r.path.Last().Values()
	show := func(ok bool, v any) string {
		if !ok || v == "" {
			return "none"
		}
		return fmt.Sprint(v)
	}
	text := func(valid bool, f func() any) string {
		if !valid {
			return "none"
		}
		return show(true, f())
	}
	r.lines = append(r.lines, fmt.Sprintf("%s: %s → %s", r.field(), text(t.IsValid(), t.Interface), text(s.IsValid(), s.Interface)))
}

// field names the present path: "units[shop/item@loc]".
func (r *fieldLines) field() string {
	var b strings.Builder
	for _, ps := range r.path {
		switch p := ps.(type) {
		case cmp.StructField:
			b.WriteString(strings.ToLower(p.Name()))
		case cmp.MapIndex:
			fmt.Fprintf(&b, "[%v]", p.Key())
		}
	}
	return b.String()
}
