package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/admin"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// repairing is a proxy that can repair and nothing else: it answers res and err, and keeps what it was asked.
type repairing struct {
	admin.Backend
	res   *comparator.RepairResult
	err   error
	asked admin.RepairAsked
	calls int
}

func (r *repairing) Repair(_ context.Context, q admin.RepairAsked, progress func(comparator.RepairProgress)) (*comparator.RepairResult, error) {
	r.asked = q
	r.calls++
	progress(comparator.RepairProgress{Phase: "compare holds", Done: 3, Total: 9})
	return r.res, r.err
}

func (r *repairing) serve(t *testing.T) (addr string) {
	t.Helper()
	h, err := admin.Handler(r, nil, http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// repairOf is a result with one step that ended so.
func repairOf(o comparator.RepairOutcome, applied bool, problems ...string) *comparator.RepairResult {
	return &comparator.RepairResult{
		Pod: "p", Stage: backends.Shadow, Epoch: 7, Applied: applied, Problems: problems, Outcomes: map[comparator.RepairOutcome]int{o: 1},
		Steps: []comparator.RepairStep{{
			Findings: []string{strings.Repeat("a", 32)}, Class: comparator.MissingHold, Hold: "h-1", Action: comparator.RestateHold, Outcome: o,
			Why: "the shadow does not have it", Units: 2, Writes: []string{"XADD the hold's state"},
		}},
	}
}

// TestRepairTells: each end of a repair has its exit code and its words, and a plan says how to go on.
func TestRepairTells(t *testing.T) {
	for _, c := range []struct {
		name string
		res  *comparator.RepairResult
		err  error
		code int
		out  string
		errs string
	}{
		{"a plan", repairOf(comparator.RepairPlanned, false), nil, exitFound, "crossfade repair p --apply --why", "1 step of the repair of pod p left"},
		{"repaired", repairOf(comparator.RepairDone, true), nil, exitOK, "marked as repaired", ""},
		{"nothing was to be written", repairOf(comparator.RepairAgrees, true), nil, exitOK, "1 agrees", ""},
		{"it still differs", repairOf(comparator.RepairDiffers, true), nil, exitFound, "1 differs", "1 step of the repair"},
		{"by hand", repairOf(comparator.RepairByHand, true), nil, exitFound, "1 by hand", "1 step of the repair"},
		{"something could not be read", repairOf(comparator.RepairDone, true, "levels: mysql is away"), nil, exitFound, "PROBLEM: levels: mysql is away", "not complete"},
		{"the pod moved", repairOf(comparator.RepairPlanned, true), fmt.Errorf("after 1 of 2 steps: %w", comparator.ErrStageMoved), exitRefused, "1 planned", "after 1 of 2 steps"},
		{"a store went away", repairOf(comparator.RepairPlanned, true), fmt.Errorf("mysql: %w", backends.ErrUnavailable), exitAway, "1 planned", "mysql"},
		{"nothing could be planned", nil, comparator.ErrNoPair, exitRefused, "", comparator.ErrNoPair.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &repairing{res: c.res, err: c.err}
			code, out, errs := run(t, "--admin", p.serve(t), "--token", "x", "repair", "p", "--apply", "--why", "a lost write")
			if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.errs) {
				t.Errorf("exit code %d, %q, %q; want %d, %q, %q", code, out, errs, c.code, c.out, c.errs)
			}
			if !strings.Contains(errs, "compare holds: 3 of 9") {
				t.Errorf("no progress in %q", errs)
			}
		})
	}
}

// TestRepairAsks: what is asked for reaches the proxy, what it would refuse does not leave the command, and JSON is nothing else.
func TestRepairAsks(t *testing.T) {
	p := &repairing{res: repairOf(comparator.RepairDone, true)}
	addr := p.serve(t)
	a, b := strings.Repeat("a", 32), strings.Repeat("b", 32)
	code, out, errs := run(t, "--admin", addr, "--token", "x", "--json", "repair", "p", "--finding", b+","+a, "--finding", b, "--apply", "--why", "y", "--correct-ledger")
	var res comparator.RepairResult
	if err := json.Unmarshal([]byte(out), &res); code != exitOK || err != nil || errs != "" || res.Steps[0].Hold != "h-1" || res.Epoch != 7 {
		t.Fatalf("exit code %d, %v, %q, %q", code, err, out, errs)
	}
	if q := p.asked; q.Pod != "p" || !slices.Equal(q.IDs, []string{a, b}) || !q.Apply || q.Why != "y" || !q.CorrectLedger {
		t.Errorf("asked for %+v", q)
	}
	if code, out, _ := run(t, "--admin", addr, "--token", "x", "repair", "p", "--apply", "--why", "y", "--format", "csv"); code != exitOK || !strings.HasPrefix(out, "section,name,") || !strings.Contains(out, "\nstep,missing_hold,repaired,") {
		t.Errorf("as CSV: exit code %d, %q", code, out)
	}
	before := p.calls
	var many []string
	for i := range admin.MaxRepairIDs + 1 {
		many = append(many, fmt.Sprintf("%032x", i))
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no pod":            {nil, "--help"},
		"a finding of none": {[]string{"p", "--finding", "ABC"}, "32 hexadecimal digits"},
		"without a reason":  {[]string{"p", "--apply"}, "say why"},
		"too many":          {[]string{"p", "--finding", strings.Join(many, ",")}, "at most 1000"},
		"as a letter":       {[]string{"p", "--format", "letter"}, "table, json or csv"},
	} {
		if code, _, errs := run(t, append([]string{"--admin", addr, "--token", "x", "repair"}, c.args...)...); code != exitUsage || !strings.Contains(errs, c.want) {
			t.Errorf("%s: exit code %d, %q; want %d and %q", name, code, errs, exitUsage, c.want)
		}
	}
	if p.calls != before {
		t.Error("a proxy was asked for what is refused")
	}
}
