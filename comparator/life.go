package comparator

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Life is where a finding is in its life. The zero value is unknown.
type Life uint8

// The lives. Open, repaired and acknowledged ones are confirmed divergences; explained and
// undetermined ones are kept apart, as the record of a decision that was looked into, and so are
// excused ones: divergences that a named excuse covers.
const (
	LifeUnknown Life = iota
	LifeOpen
	LifeExplained
	LifeRepaired
	LifeAcknowledged
	LifeUndetermined
	LifeExcused
	lives // how many there are
)

var lifeNames = [lives]string{"unknown", "open", "explained", "repaired", "acknowledged", "undetermined", "excused"}

// String gives the word used in reports.
func (l Life) String() string {
	if l < lives {
		return lifeNames[l]
	}
	return "unknown"
}

// ParseLife reads a life by its name.
func ParseLife(name string) (Life, error) {
	for i := 1; i < len(lifeNames); i++ {
		if lifeNames[i] == name {
			return Life(i), nil //nolint:gosec // an index of lifeNames
		}
	}
	return LifeUnknown, &backends.FieldError{Field: "state", Value: fmt.Sprintf("%q", clip(name, 80)), Bound: "one of " + strings.Join(lifeNames[1:], ", "), Next: "choose one of them"}
}

// MarshalText carries a life by its name.
func (l Life) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (l *Life) UnmarshalText(b []byte) error {
	if string(b) == lifeNames[LifeUnknown] {
		*l = LifeUnknown
		return nil
	}
	p, err := ParseLife(string(b))
	if err == nil {
		*l = p
	}
	return err
}

// Confirmed tells whether the finding counts against the stores.
func (l Life) Confirmed() bool {
	return l == LifeOpen || l == LifeRepaired || l == LifeAcknowledged
}

// ConfirmedLives are those of findings that count against the stores.
func ConfirmedLives() []Life { return []Life{LifeOpen, LifeRepaired, LifeAcknowledged} }

// real tells whether the stores did differ: confirmed, or excused.
func (l Life) real() bool { return l.Confirmed() || l == LifeExcused }

// MayBecome tells whether a finding may be moved by hand (or by a repair) from l to n.
func (l Life) MayBecome(n Life) bool {
	switch n {
	case LifeExplained, LifeRepaired, LifeAcknowledged:
		return l == LifeOpen || l == LifeUndetermined
	case LifeOpen:
		return l == LifeExplained || l == LifeRepaired || l == LifeAcknowledged || l == LifeExcused
	default:
		return false
	}
}

// LifeEvent is one change of a finding's life, as its history keeps it.
type LifeEvent struct {
	// At is when: by the clock of the proxy that made the change, or of the one whose sight did.
	At   time.Time `json:"at"`
	From Life      `json:"from"`
	To   Life      `json:"to"`
	By   string    `json:"by,omitempty"` // who; empty when a sight did it
	Why  string    `json:"why"`
	// Units and Sights are the finding's at that moment.
	Units  int64 `json:"units"`
	Sights int64 `json:"sights"`
}

// LifeChange is a change of findings' lives by hand or by a repair.
type LifeChange struct {
	To  Life
	By  string // who; required
	Why string // required, at most MaxWhy bytes
	At  time.Time
}

// Moved is a finding after a change that was asked for.
type Moved struct {
	Finding Finding
	// Changed is false where the finding was there already: nothing was recorded.
	Changed bool
}

// LifeError: a finding cannot be moved to that life from where it is.
type LifeError struct {
	ID       string
	From, To Life
}

func (e *LifeError) Error() string {
	return fmt.Sprintf("finding %s is %s and cannot become %s", e.ID, e.From, e.To)
}

// Check gives a *backends.FieldError when By or Why is missing or too long.
func (c LifeChange) Check() error {
	if err := backends.CheckID("by", c.By); err != nil {
		return err
	}
	return CheckWhy(c.Why)
}

// CheckWhy gives a *backends.FieldError for a reason that is missing, too long or no text.
func CheckWhy(why string) error {
	switch {
	case strings.TrimSpace(why) == "":
		return &backends.FieldError{Field: "why", Value: fmt.Sprintf("%q", clip(why, 40)), Bound: fmt.Sprintf("1 to %d bytes", MaxWhy), Next: "say why; it is kept in the history"}
	case len(why) > MaxWhy:
		return &backends.FieldError{Field: "why", Value: strconv.Itoa(len(why)) + " bytes", Bound: fmt.Sprintf("1 to %d bytes", MaxWhy), Next: "shorten it"}
	case !utf8.ValidString(why):
		return &backends.FieldError{Field: "why", Value: fmt.Sprintf("%.80q", why), Bound: "UTF-8 text", Next: "write it in UTF-8"}
	}
	return nil
}

// Apply moves f. A finding that is there already is left as it is, with the name of who moved it first.
// Errors: a *LifeError, and those of Check.
func (c LifeChange) Apply(f Finding) (Moved, error) {
	if err := c.Check(); err != nil {
		return Moved{Finding: f}, err
	}
	if f.Life == c.To && (c.To == LifeOpen || c.To == LifeAcknowledged) {
		return Moved{Finding: f}, nil
	}
	if !f.Life.MayBecome(c.To) {
		return Moved{Finding: f}, &LifeError{ID: f.ID, From: f.Life, To: c.To}
	}
	f.move(LifeEvent{At: stamp(c.At), To: c.To, By: c.By, Why: c.Why})
	return Moved{Finding: f, Changed: true}, nil
}

// move changes the life and records it.
func (f *Finding) move(e LifeEvent) {
	e.From, e.Units, e.Sights = f.Life, f.TotalUnits, f.Count
	f.Life, f.By, f.Why = e.To, e.By, ""
	if e.By != "" {
		f.Why = e.Why
	}
	// A copy: other findings may share what is behind the slice.
	h := append(f.History[:len(f.History):len(f.History)], e)
	if over := len(h) - MaxHistory; over > 0 {
		h = append(h[:1:1], h[1+over:]...) // how it began says more than what came next
		f.HistoryDropped += int64(over)
	}
	f.History = h
}

// CheckFindingID gives a *backends.FieldError for what cannot be a finding's id.
func CheckFindingID(id string) error {
	const digits = 32
	if _, err := hex.DecodeString(id); err != nil || len(id) != digits || strings.ToLower(id) != id {
		return &backends.FieldError{Field: "id", Value: fmt.Sprintf("%.80q", id), Bound: fmt.Sprintf("%d hexadecimal digits, in lower case", digits), Next: "copy it from 'crossfade findings <pod>'"}
	}
	return nil
}

// CheckFindingIDs checks the ids of one change, and answers each once, in their order.
func CheckFindingIDs(ids []string) ([]string, error) {
	if len(ids) < 1 || len(ids) > MaxLifeChanges {
		return nil, &backends.FieldError{Field: "ids", Value: strconv.Itoa(len(ids)), Bound: fmt.Sprintf("1 to %d a call", MaxLifeChanges), Next: "name at least one finding; more than that in several calls"}
	}
	seen := make(map[string]bool, len(ids))
	out := make([]string, 0, len(ids))
	for _, id := range ids {
		if err := CheckFindingID(id); err != nil {
			return nil, err
		}
		if !seen[id] {
			seen[id] = true
			out = append(out, id)
		}
	}
	return out, nil
}

// Merge joins two sights of one finding as a store does: the account that every Store keeps. old is
// what is kept, f the one that comes in; the result is what is kept from then on.
//
//   - first seen is the earlier, last seen the later; a sight that is not later than what is kept is
//     known already and counts nothing, so saving twice is once;
//   - an open one reopens what was explained or undetermined; what somebody has moved by hand
//     (acknowledged, explained, repaired) only by a later sight: a person vouches for what had been
//     seen then, and for nothing that is seen afterwards. The history says so, with the units;
//   - an excused sight takes the place of an explained, undetermined or repaired finding and closes no
//     open one: an excuse is for what is found from then on, what is open is closed by a person;
//   - facts are those of the later sight, but an explained or undetermined one never covers a
//     difference.
//
// Later is by LastSeen, of the clocks of the proxies that saw it: of what a proxy whose clock is
// behind sees, so much of the time is taken for known.
func Merge(old, f Finding) Finding {
	out := old
	later := f.LastSeen.After(old.LastSeen)
	life := nextLife(&old, &f, later)
	if later && !(old.Life.real() && !f.Life.real()) || life != old.Life {
		out = f
		out.Life, out.By, out.Why, out.Count = old.Life, old.By, old.Why, old.Count
		out.History, out.HistoryDropped = old.History, old.HistoryDropped
	}
	if f.FirstSeen.Before(old.FirstSeen) {
		out.FirstSeen = f.FirstSeen
	} else {
		out.FirstSeen = old.FirstSeen
	}
	out.LastSeen = old.LastSeen
	if later {
		out.LastSeen = f.LastSeen
		out.Count = old.Count + f.Count
	}
	if life != old.Life {
		out.move(LifeEvent{At: f.LastSeen, To: life, Why: seenAgain(&old, &out)})
	}
	return out
}

// nextLife is what a sight makes of a finding's life.
func nextLife(old, f *Finding, later bool) Life {
	byHand := old.By != "" || old.Life == LifeRepaired || old.Life == LifeAcknowledged
	switch {
	case old.Life == LifeOpen, byHand && !later:
		return old.Life
	case f.Life == LifeOpen:
		return LifeOpen
	case f.Life == LifeExcused && old.Life != LifeAcknowledged:
		return LifeExcused
	default:
		return old.Life
	}
}

// seenAgain says for the history why a sight moved a finding.
func seenAgain(old, now *Finding) string {
	why := "seen again after it was " + old.Life.String()
	if old.By != "" {
		why += " by " + old.By
	}
	if old.Life == LifeExcused {
		why += " (" + old.Excuse + ")"
	}
	if now.Excuse != "" {
		why += ", and covered by the excuse " + now.Excuse
	}
	switch {
	case len(old.History) == 0: // the comparator's own record, of which the units are no claim
		return why
	case now.TotalUnits == old.TotalUnits:
		return fmt.Sprintf("%s, with the same %s", why, count(now.TotalUnits, "unit"))
	default:
		return fmt.Sprintf("%s, with %s instead of %s", why, count(now.TotalUnits, "unit"), group(old.TotalUnits))
	}
}
