package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

const (
	// auditTemplates of the holds are made by checkouts, the others are copies. Copies of one template expire at the same
	// moment, so that there should not be too many.
	auditTemplates = 1000
	// auditWithin bounds the rest of the audit, after the pairs.
	auditWithin = 20 * time.Minute
	// copyTemplates is how many templates one statement copies.
	copyTemplates = 20
)

// auditSize says how much there is to audit.
type auditSize struct {
	holds int // open in both stores
	// warm is how long the audit has been running when a run begins: a pacer begins slowly.
	warm time.Duration
	// least is the least length of a run: the audit has many pages in it.
	least time.Duration
}

func metricAudit() *metric {
	return &metric{
		name: "audit.p99", what: "p99 of reserve in shadow while the pod is audited over while it is not, 1,000,000 open holds in both stores; time and memory of the audit",
		a: "XF.RESERVE through a proxy process, pod in shadow, open loop at half of the rate at which the shadow keeps up, while the same process audits the pod (crossfade audit --resume, at the default share); the " +
			"audit has run for 4 s when a run begins, is interrupted at its end and gone on with in the next",
		b: "the same without an audit",
		rows: []row{
			{figure: "p99_ms", unit: "x", goal: target{atMost, 1.3}},
			{suffix: ".seconds", figure: "seconds", unit: "s"},
			{suffix: ".memory", figure: "peak_mib", unit: "MiB", goal: target{atMost, 64}},
		},
		run: func(ctx context.Context, e *env, m *metric) error {
			size := auditSize{holds: manyHolds, warm: 4 * time.Second, least: 8 * time.Second}
			if e.o.Quick {
				size.holds /= quickShare
			}
			return e.runAudit(ctx, m, size)
		},
	}
}

func (e *env) runAudit(ctx context.Context, m *metric, size auditSize) error {
	const pod = "audited"
	d, err := e.newDoor(ctx, pod)
	if err != nil {
		return err
	}
	defer func() { _ = d.close() }() // it is ended by force
	if err := d.restock(ctx, pod, plenty); err != nil {
		return err
	}
	if err := d.move(ctx, pod, backends.Shadow); err != nil {
		return err
	}
	if err := e.openHolds(ctx, d, pod, size.holds); err != nil {
		return err
	}
	e.say("%-18s %d holds are open in both stores", m.name, size.holds)
	clean := func(ctx context.Context) error { return d.drained(ctx, pod) }
	mk := d.reserves(ctx, pod, e.numbers())
	carried, err := e.carried(ctx, clean, mk)
	if err != nil {
		return err
	}
	rate := carried / halfOf
	e.say("%-18s the shadow keeps up with %.0f/s; at %.0f/s", m.name, carried, rate)
	a := &auditing{d: d, pod: pod, warm: size.warm}
	idle := d.peaking(atRate("without an audit", &rate, clean, mk))
	beside := d.peaking(atRate("while it is audited", &rate, clean, mk))
	load := beside.run
	beside.run = func(ctx context.Context, d time.Duration) (f figures, err error) {
		return f, errors.Join(a.beside(ctx, func() error { f, err = load(ctx, d); return err }))
	}
	longer := *e
	longer.o.Duration = max(e.o.Duration, size.least)
	pairs, err := longer.alternate(ctx, m, beside, idle)
	if err != nil {
		return err
	}
	e.rep.add(m.compared(m.rows[0], pairs, []side{beside, idle}))
	if err := a.finish(ctx); err != nil {
		return err
	}
	return e.judgeAudit(m, a, pairs, size.holds)
}

// judgeAudit adds what the audit itself came to.
func (e *env) judgeAudit(m *metric, a *auditing, pairs []pair, holds int) error {
	res := a.result
	if res.HoldsTruth < int64(holds) || !res.Clean() {
		return fmt.Errorf("of %d holds the audit read %d, with %d findings and %d undetermined: %+v", holds, res.HoldsTruth, res.FindingsTotal, res.UndeterminedTotal, res.Undetermined)
	}
	s := Side{What: fmt.Sprintf("%d holds of the truth, %d of the shadow, interrupted %d times", res.HoldsTruth, res.HoldsShadow, res.Resumed), Figures: figures{
		"seconds": a.took.Seconds(), "holds_a_second": float64(res.HoldsTruth+res.HoldsShadow) / a.took.Seconds(), "passing": float64(res.Passing),
	}}
	e.rep.add(m.plain(m.rows[1], []float64{a.took.Seconds()}, s))
	var grown []float64
	for _, p := range pairs {
		grown = append(grown, p[0]["peak_mib"]-p[1]["peak_mib"])
	}
	peak := func(i int) figures { return figures{"peak_mib": medians(pairs, i)["peak_mib"]} }
	e.rep.add(m.plain(m.rows[2], grown, Side{What: "proxy while it audits", Figures: peak(0)}, Side{What: "proxy while it does not", Figures: peak(1)}))
	return nil
}

// carried is the rate with which the shadow keeps up: what a closed loop did for a while, over that and the time until
// the shadow had all of it.
func (e *env) carried(ctx context.Context, clean func(context.Context) error, mk maker) (float64, error) {
	const runs = 3
	var rates []float64
	for range runs {
		if err := clean(ctx); err != nil {
			return 0, err
		}
		began := time.Now()
		s, err := closed(ctx, respConns, e.o.Duration/warmShare, mk)
		if err != nil {
			return 0, err
		}
		if err := clean(ctx); err != nil {
			return 0, err
		}
		rates = append(rates, float64(s.done)/time.Since(began).Seconds())
	}
	return median(rates), nil
}

// peaking adds the peak of the proxy's memory in each run.
func (d *door) peaking(s side) side {
	run := s.run
	s.run = func(ctx context.Context, length time.Duration) (figures, error) {
		forgetPeak(d.proc.PID())
		f, err := run(ctx, length)
		if err != nil {
			return nil, err
		}
		f["peak_mib"], err = residentMiB(d.proc.PID(), "VmHWM")
		return f, err
	}
	return s
}

// auditing is an audit that goes on and is interrupted.
type auditing struct {
	d      *door
	pod    string
	warm   time.Duration
	took   time.Duration           // of the first complete one, without interruptions
	result *comparator.AuditResult // of that
}

// beside audits while f runs; f begins when the audit has got going. What is complete begins anew.
func (a *auditing) beside(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		for {
			if err := a.audit(ctx); err != nil || ctx.Err() != nil {
				ended <- err
				return
			}
		}
	}()
	var err error
	select {
	case err = <-ended:
		cancel()
		return fmt.Errorf("the audit has ended: %w", err)
	case <-time.After(a.warm):
		err = f()
	}
	select {
	case early := <-ended:
		cancel()
		return errors.Join(err, fmt.Errorf("the audit has ended before its load: %w", early))
	default:
	}
	cancel()
	if late := <-ended; late != nil && !errors.Is(late, context.Canceled) {
		err = errors.Join(err, late)
	}
	return errors.Join(err, a.free(context.WithoutCancel(ctx)))
}

// audit goes on until the audit is complete, or ctx ends.
func (a *auditing) audit(ctx context.Context) error {
	began := time.Now()
	res, err := a.d.admin.ResumeAudit(ctx, a.pod, func(string, int64, int64) {})
	if a.result == nil {
		a.took += time.Since(began)
		a.result = res
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// free waits until the proxy has given the audit back.
func (a *auditing) free(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, serveWithin)
	defer cancel()
	for {
		rep, err := a.d.admin.Report(ctx, a.pod, 0)
		if err == nil && rep.Audit != nil && (rep.Audit.Present == nil || !rep.Audit.Present.Running) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the audit of pod %s does not end: %w", a.pod, errors.Join(err, ctx.Err()))
		case <-time.After(drainPoll):
		}
	}
}

// finish lets the first audit come to its end, without a load.
func (a *auditing) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, auditWithin)
	defer cancel()
	for a.result == nil {
		if err := a.audit(ctx); err != nil {
			return fmt.Errorf("the rest of the audit: %w", err)
		}
	}
	return nil
}

// openHolds has n holds open in both stores: some are reserved, the rest are copies of their records, byte for
// byte. The levels know nothing of the copies, alike in both stores.
func (e *env) openHolds(ctx context.Context, d *door, pod string, n int) error {
	templates := min(auditTemplates, n)
	mk := d.reserves(ctx, pod, e.numbers())
	reserve, end, err := mk(0)
	if err != nil {
		return err
	}
	defer end()
	for range templates {
		if _, err := reserve(ctx); err != nil {
			return err
		}
	}
	if err := d.drained(ctx, pod); err != nil {
		return err
	}
	db, err := openSQL(d.dsn, 1)
	if err != nil {
		return err
	}
	defer db.Close()
	ids, err := openIDs(ctx, db)
	if err != nil {
		return err
	}
	if len(ids) != templates {
		return fmt.Errorf("%d holds were reserved, and %d are open in MySQL", templates, len(ids))
	}
	return errors.Join(e.copyInRedis(ctx, d, pod, ids, n/templates), copyInSQL(ctx, db, ids, n/templates))
}

func openIDs(ctx context.Context, db *sql.DB) (ids []any, err error) {
	rows, err := db.QueryContext(ctx, "SELECT id FROM crossfade_holds WHERE state = 1")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// copyScript makes copies of one open hold: KEYS 1 the index of open holds; ARGV 1 the prefix of holds, 2 its id, 3 how many.
const copyScript = `local record, at = redis.call('GET', ARGV[1] .. ARGV[2]), redis.call('ZSCORE', KEYS[1], ARGV[2])
for i = 2, tonumber(ARGV[3]) do
  local id = 'c' .. i .. '-' .. ARGV[2]
  redis.call('SET', ARGV[1] .. id, record)
  redis.call('ZADD', KEYS[1], at, id)
end
return #record`

func (e *env) copyInRedis(ctx context.Context, d *door, pod string, ids []any, copies int) error {
	c, err := dialRESP(ctx, e.servers["redis"].Addr())
	if err != nil {
		return err
	}
	defer c.close()
	prefix := "xf:" + d.tag + ":" + pod + ":"
	for _, id := range ids {
		if _, err := c.ask("EVAL", copyScript, "1", prefix+"exp", prefix+"h:", fmt.Sprint(id), fmt.Sprint(copies)); err != nil {
			return fmt.Errorf("copying a hold in Redis: %w", err)
		}
	}
	return nil
}

// copyInSQL makes the same copies in MySQL, some templates in one statement.
func copyInSQL(ctx context.Context, db *sql.DB, ids []any, copies int) error {
	const columns = "shop, state, epoch, n, stamp, digest, body, allocs, caller, created, expires, ended, ledger_owed, own, due"
	for len(ids) > 0 {
		k := min(len(ids), copyTemplates)
		text := "INSERT INTO crossfade_holds (pod, id, " + columns + ") WITH RECURSIVE c (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM c WHERE i < ?) " + //nolint:gosec // of constants
			"SELECT pod, CONCAT('c', i, '-', id), " + columns + " FROM crossfade_holds, c WHERE id IN (?" + strings.Repeat(", ?", k-1) + ")"
		if _, err := db.ExecContext(ctx, text, append([]any{copies}, ids[:k]...)...); err != nil {
			return fmt.Errorf("copying holds in MySQL: %w", err)
		}
		ids = ids[k:]
	}
	return nil
}

// forgetPeak has the kernel begin anew with the peak of a process's memory. Where it cannot, the peak is an upper bound.
func forgetPeak(pid int) {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0) // as said above
}
