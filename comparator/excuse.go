package comparator

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// MaxExcuses bounds the excuses of a file, and what one of them lists of each kind.
	MaxExcuses = 1000
	// MaxExcuseDays bounds how long an excuse lasts: whoever needs it for longer says so again each year.
	MaxExcuseDays = 366
)

// Excuse is a named, dated and owned exemption: somebody has said beforehand that such differences are
// known, and until when. It covers a finding when each of its lists that is not empty names the finding's
// class, pod, shop, item and caller; of a finding with several keys all have to be named.
type Excuse struct {
	Name  string // unique in its file
	Owner string
	Why   string
	// From is the first instant at which it holds, Until the first at which it does not any more.
	From, Until time.Time
	Classes     []Class
	Pods        []backends.Pod
	Shops       []backends.Shop
	Items       []backends.Item
	Callers     []string
}

// Excuses are those of a file. The first that covers a finding counts.
type Excuses []Excuse

// Find gives the excuse that covers a finding at its last sight; nil for none. It is pure.
func (es Excuses) Find(f *Finding) *Excuse {
	for i := range es {
		if es[i].Covers(f) {
			return &es[i]
		}
	}
	return nil
}

// Covers tells whether e covers a finding at its last sight. It is pure.
func (e *Excuse) Covers(f *Finding) bool {
	return !f.LastSeen.Before(e.From) && f.LastSeen.Before(e.Until) &&
		named(e.Classes, f.Class) && named(e.Pods, f.Pod) && named(e.Callers, f.Caller) && e.coversKeys(f)
}

func named[T comparable](list []T, v T) bool { return len(list) == 0 || slices.Contains(list, v) }

// coversKeys: an excuse for one item is none for the others of the same cart, and none for keys that the
// finding does not list any more.
func (e *Excuse) coversKeys(f *Finding) bool {
	var listed int64
	for _, u := range f.Units {
		if !named(e.Shops, u.Key.Shop) || !named(e.Items, u.Key.Item) {
			return false
		}
		listed += u.Quantity
	}
	if len(e.Items) > 0 && (len(f.Units) == 0 || listed != f.TotalUnits) {
		return false
	}
	return len(e.Shops) == 0 || slices.Contains(e.Shops, f.Shop) || f.Shop == "" && len(f.Units) > 0 && listed == f.TotalUnits
}

// ExcuseState is where an excuse is in its time.
type ExcuseState string

// The states of an excuse.
const (
	ExcuseToCome  ExcuseState = "to come"
	ExcuseHolds   ExcuseState = "holds"
	ExcuseRunOut  ExcuseState = "run out"
	ExcuseRemoved ExcuseState = "removed" // findings name it, the file does not
)

// StateAt says where it is.
func (e *Excuse) StateAt(now time.Time) ExcuseState {
	switch {
	case now.Before(e.From):
		return ExcuseToCome
	case now.Before(e.Until):
		return ExcuseHolds
	default:
		return ExcuseRunOut
	}
}

// Check gives a *backends.FieldError when something is missing or out of its bounds.
func (e *Excuse) Check() error {
	if err := backends.CheckID("name", e.Name); err != nil {
		return err
	}
	if err := backends.CheckID("owner", e.Owner); err != nil {
		return err
	}
	if err := CheckWhy(e.Why); err != nil {
		return err
	}
	switch {
	case e.From.IsZero():
		return &backends.FieldError{Field: "from", Value: "empty", Bound: "a date", Next: "say from when it holds, like 2026-05-01"}
	case e.Until.IsZero():
		return &backends.FieldError{Field: "until", Value: "empty", Bound: "a date", Next: "say until when it holds, like 2026-06-01; an excuse always ends"}
	case !e.Until.After(e.From):
		return &backends.FieldError{Field: "until", Value: e.Until.Format(time.RFC3339), Bound: "later than from, " + e.From.Format(time.RFC3339), Next: "give the first instant at which it does not hold any more"}
	case e.Until.Sub(e.From) > MaxExcuseDays*24*time.Hour:
		return &backends.FieldError{Field: "until", Value: e.Until.Format(time.RFC3339), Bound: fmt.Sprintf("at most %d days after from", MaxExcuseDays), Next: "choose an earlier day, and renew it then if it is still right"}
	}
	return e.checkLists()
}

func (e *Excuse) checkLists() error {
	all := 0
	for _, l := range []struct {
		name   string
		n      int
		values func(int) string
	}{
		{"classes", len(e.Classes), func(i int) string { return e.Classes[i].String() }},
		{"pods", len(e.Pods), func(i int) string { return string(e.Pods[i]) }},
		{"shops", len(e.Shops), func(i int) string { return string(e.Shops[i]) }},
		{"items", len(e.Items), func(i int) string { return string(e.Items[i]) }},
		{"callers", len(e.Callers), func(i int) string { return e.Callers[i] }},
	} {
		if l.n > MaxExcuses {
			return &backends.FieldError{Field: l.name, Value: strconv.Itoa(l.n), Bound: fmt.Sprintf("at most %d", MaxExcuses), Next: "split the excuse"}
		}
		for i := range l.n {
			if err := backends.CheckID(fmt.Sprintf("%s[%d]", l.name, i), l.values(i)); err != nil {
				return err
			}
		}
		all += l.n
	}
	if all == 0 {
		return &backends.FieldError{Field: "classes, pods, shops, items and callers", Value: "empty", Bound: "at least one of them", Next: "say what it covers; an excuse for everything would hide everything"}
	}
	return nil
}

// Of tells whether the excuse may cover findings of a pod.
func (e *Excuse) Of(pod backends.Pod) bool { return named(e.Pods, pod) }

// ExcuseUse is what of a pod's findings an excuse covered at their last sight.
type ExcuseUse struct {
	Name     string    `json:"name"`
	Findings int64     `json:"findings"`
	Units    int64     `json:"units"`
	LastSeen time.Time `json:"last_seen"`
}

// excuse marks a confirmed finding that an excuse covers.
func (c *Comparator) excuse(f *Finding) {
	if c.cfg.Excuses == nil || f.Life != LifeOpen {
		return
	}
	defer c.recovered("excuses") // then it is a finding like any other
	if e := c.cfg.Excuses().Find(f); e != nil {
		f.Life, f.Excuse = LifeExcused, e.Name
	}
}

// confirm puts a decision that no order explains into its column, and files its findings. at is as in judged.
func (c *Comparator) confirm(oc *openCase, s *Settlement, now time.Time, at *Column) {
	o := &oc.Observation
	f := decisionFinding(&oc.Case, s, LifeOpen, now)
	c.excuse(&f)
	if f.Life == LifeExcused {
		c.acct.move(o.Epoch, Settling, Excused, 1, now)
		*at = ColumnUnknown
		c.keepExample(f, now)
	} else {
		c.acct.move(o.Epoch, Settling, Confirmed, 1, now)
		*at = ColumnUnknown
		c.put(f)
		c.compared(o, true)
	}
	for _, d := range s.Drift {
		df := driftFinding(o.Pod, o.Epoch, o.Stage, o.How.String(), d, s.Proof, now)
		c.excuse(&df)
		c.put(df)
	}
}

// keepExample keeps a finding of which so many a minute are enough; the account counts all.
func (c *Comparator) keepExample(f Finding, now time.Time) {
	if !c.keep.room(f.Life, now) {
		c.stats.notKept.Add(1)
		return
	}
	c.put(f)
}
