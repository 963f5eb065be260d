package replay

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/orders"
)

const (
	// checkPage is how many holds are asked for at a time.
	checkPage = 500
	// MaxViolations bounds those that a check lists; ViolationsTotal counts all.
	MaxViolations = 100
	// maxLogLine bounds a line of a log.
	maxLogLine = 64 << 10
)

// LogCheck is what a check of a log against a store found.
type LogCheck struct {
	Run string `json:"run"`
	// Holds are those that the log knows.
	Holds int `json:"holds"`
	// By the log: Granted, and of them Claimed and Released; SoldOut; Unresolved have no verdict.
	Granted    int `json:"granted"`
	Claimed    int `json:"claimed"`
	Released   int `json:"released"`
	SoldOut    int `json:"sold_out"`
	Unresolved int `json:"unresolved"`
	// Torn: the last line is not whole, as a killed player leaves it.
	Torn            bool     `json:"torn"`
	ViolationsTotal int      `json:"violations_total"`
	Violations      []string `json:"violations"`
}

// Ok tells whether the store agrees with all that the log says.
func (c *LogCheck) Ok() bool { return c.ViolationsTotal == 0 }

// Getter answers the known ones of at most 500 holds. [backends.Inspector] has it as GetMany.
type Getter func(context.Context, []backends.HoldID) (map[backends.HoldID]*backends.Hold, error)

// CheckLog checks a player's log against a store that is at rest: every answer that the player was given
// still stands. It holds for the truth, and once the outbox is empty for the shadow as well, as long
// as ended holds are kept (the pod's retain). Where a verdict was not known to the player, whatever the
// unanswered command may have done is allowed, and nothing else.
func CheckLog(ctx context.Context, log io.Reader, get Getter) (LogCheck, error) {
	c := LogCheck{Violations: []string{}}
	recs, err := readLog(log, &c)
	if err != nil {
		return c, err
	}
	ids := make([]backends.HoldID, 0, len(recs))
	for id := range recs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for page := range slices.Chunk(ids, checkPage) {
		have, err := get(ctx, page)
		if err != nil {
			return c, fmt.Errorf("checking the log of run %s: %w", c.Run, err)
		}
		for _, id := range page {
			if wrong := judge(recs[id], have[id]); wrong != "" {
				c.violation("hold %s: %s", id, wrong)
			}
		}
	}
	return c, nil
}

func (c *LogCheck) violation(format string, args ...any) {
	if c.ViolationsTotal++; len(c.Violations) < MaxViolations {
		c.Violations = append(c.Violations, fmt.Sprintf(format, args...))
	}
}

// record is what a log says of one hold.
type record struct {
	reserve   string // verdict; empty: none was had
	uncertain bool   // an earlier try of the reserve may have had an effect
	units     int64
	claimSent bool
	freeSent  bool   // a release was sent
	end       string // verdict of claim or release; empty: none was had
}

// readLog reads a log line by line. A line that is not whole is an error, but for the last one.
func readLog(r io.Reader, c *LogCheck) (map[backends.HoldID]*record, error) {
	recs := map[backends.HoldID]*record{}
	br := bufio.NewReaderSize(r, maxLogLine)
	for n := 1; ; n++ {
		line, err := br.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			c.Torn = len(line) > 0
			break
		}
		if err != nil {
			return nil, fmt.Errorf("replay log, line %d: %w", n, err)
		}
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("replay log, line %d: %w", n, err)
		}
		if n == 1 && e.Event != eventRun {
			return nil, fmt.Errorf("replay log, line 1: it does not begin with the run; is it the log of a replay?")
		}
		if e.Event == eventRun {
			c.Run = e.Run
		}
		if e.Hold != "" {
			rec := recs[e.Hold]
			if rec == nil {
				rec = &record{}
				recs[e.Hold] = rec
			}
			rec.take(&e)
		}
	}
	c.Holds = len(recs)
	for _, rec := range recs {
		c.count(rec)
	}
	return recs, nil
}

func (rec *record) take(e *event) {
	switch {
	case e.Op == "reserve":
		rec.reserve, rec.uncertain, rec.units = e.Verdict, e.Uncertain, e.Units
	case e.Event == eventSent && e.Op == "claim":
		rec.claimSent = true
	case e.Event == eventSent && e.Op == "release":
		rec.freeSent = true
	default:
		rec.end = e.Verdict
	}
}

func (c *LogCheck) count(rec *record) {
	switch rec.reserve {
	case granted.String():
		c.Granted++
	case soldOut.String():
		c.SoldOut++
	case "":
		c.Unresolved++
	}
	switch rec.end {
	case claimed.String():
		c.Claimed++
	case released.String():
		c.Released++
	}
}

// judge says in words what the store has against the log; nothing when it agrees.
func judge(rec *record, h *backends.Hold) string {
	state := backends.StateUnknown
	if h != nil {
		state = h.State
	}
	if rec.end == notFound.String() {
		return "it was granted, and its end was answered not_found"
	}
	allowed, why := rec.allowed()
	if !slices.Contains(allowed, state) {
		return fmt.Sprintf("%s, and the store has it as %s", why, state)
	}
	if !state.Takes() || rec.reserve != granted.String() {
		return ""
	}
	var units int64
	for _, u := range h.Takes() {
		units += u.Quantity
	}
	if units != rec.units {
		return fmt.Sprintf("%d units were granted, and the store has it with %d", rec.units, units)
	}
	return ""
}

// allowed are the states that a hold may be in after what its player knows, and that in words.
func (rec *record) allowed() (states []backends.State, why string) {
	const unknown, held, claimed_, released_, expired = backends.StateUnknown, backends.Held, backends.Claimed, backends.Released, backends.Expired
	type list = []backends.State
	switch {
	case rec.end == claimed.String():
		return list{claimed_}, "it was claimed"
	case rec.end == released.String():
		return list{released_}, "it was released"
	case rec.end == ended.String():
		return list{expired, released_, claimed_}, "it had ended"
	case rec.claimSent:
		return list{held, expired, claimed_}, "it was granted, and a claim was sent"
	case rec.freeSent:
		return list{held, expired, released_}, "it was granted, and a release was sent"
	case rec.reserve == granted.String():
		return list{held, expired}, "it was granted"
	case rec.reserve == ended.String():
		return list{expired, released_}, "it had ended when its reserve was answered"
	case rec.reserve == soldOut.String() && !rec.uncertain, rec.reserve == refused.String() && !rec.uncertain:
		// Released without lines is how a store voids a hold that nobody was told of.
		return list{unknown, released_}, "it was answered " + rec.reserve
	default:
		return list{unknown, held, expired, released_}, "nobody has claimed it"
	}
}

// ThroughDoor gets holds by XF.GET from the first address that answers: the truth's view of them. The
// options are those of the run whose log is checked; close it when done.
func ThroughDoor(o Options) (get Getter, closeAll func(), err error) {
	if o.Orders == nil {
		o.Orders = &orders.Book{} // none are played
	}
	if o, err = o.withDefaults(); err != nil {
		return nil, nil, err
	}
	c := o.newClient(func(string) {})
	return func(ctx context.Context, ids []backends.HoldID) (map[backends.HoldID]*backends.Hold, error) {
		have := make(map[backends.HoldID]*backends.Hold, len(ids))
		for i, id := range ids {
			h, err := c.getHold(ctx, i, id)
			if err != nil {
				return nil, fmt.Errorf("hold %s: %w", id, err)
			}
			if h != nil {
				have[id] = h
			}
		}
		return have, nil
	}, c.close, nil
}
