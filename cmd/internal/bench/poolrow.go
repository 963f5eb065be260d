package bench

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
)

// lockHolds are the points of the curve: how much longer each transaction keeps its locks.
var lockHolds = []time.Duration{time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond}

func metricPoolVsRow() *metric {
	return &metric{
		name: "pool.vs_row", what: "combined over a single-row UPDATE and an INSERT in a transaction, one item, 128 in flight",
		a: oursIs,
		b: "insert the hold, UPDATE … SET qty = qty - 1 WHERE item = ? AND qty >= 1, COMMIT, in two packets, with the best number of connections of a sweep; " +
			"in the curve the COMMIT of each side is sent 1, 2 and 5 ms late, so that every transaction keeps its locks for so much longer",
		rows: []row{{figure: "rate", unit: "x", goal: target{atLeast, 6}}},
		run:  runPoolVsRow,
	}
}

func runPoolVsRow(ctx context.Context, e *env, m *metric) error {
	srv, err := e.mysql(ctx, "mysql")
	if err != nil {
		return err
	}
	a := newAssortment(1, false)
	ours, err := e.newPool(ctx, srv, nil)
	if err != nil {
		return err
	}
	defer ours.close()
	if err := ours.stock(ctx, a, plenty); err != nil {
		return err
	}
	r, err := e.newRaw(ctx, srv, a, 0)
	if err != nil {
		return err
	}
	defer r.drop()
	if err := r.tuned(ctx, e, "a single-row UPDATE", r.updateRow); err != nil {
		return err
	}
	sides := []side{ours.side(asDefault, inFlight, ours.reserving(a, 1, 1)), r.side("row", r.updateRow())}
	pairs, err := e.alternate(ctx, m, sides...)
	if err != nil {
		return err
	}
	e.sound(baseRow, medians(pairs, 1)["rate"])
	var curve []Side
	for _, hold := range lockHolds {
		point, err := e.heldLonger(ctx, ours, r, a, hold)
		if err != nil {
			return err
		}
		curve = append(curve, point)
	}
	e.rep.add(m.compared(m.rows[0], pairs, sides, curve...))
	return nil
}

// heldLonger is one point of the curve: one run of each side.
func (e *env) heldLonger(ctx context.Context, ours *pool, r *raw, a *assortment, hold time.Duration) (Side, error) {
	srv := r.server
	ours.shut()
	if err := ours.open(ctx, late(srv.DSN(ours.tag), hold), func(*mysqlstore.Config) {}); err != nil {
		return Side{}, err
	}
	f, err := e.once(ctx, ours.side(asDefault, inFlight, ours.reserving(a, 1, 1)), e.o.Duration)
	if err != nil {
		return Side{}, err
	}
	slow, drop, err := e.database(ctx, srv, rawConns)
	if err != nil {
		return Side{}, err
	}
	defer drop()
	if _, err := slow.ExecContext(ctx, rawTables); err != nil {
		return Side{}, err
	}
	lateDB, err := openSQL(late(srv.DSN(fmt.Sprintf("bench_%d", e.serial)), hold), r.db.Stats().MaxOpenConnections)
	if err != nil {
		return Side{}, err
	}
	defer lateDB.Close()
	lr := &raw{db: lateDB, items: a, server: srv}
	if err := lr.fill(ctx, 0); err != nil {
		return Side{}, err
	}
	g, err := e.once(ctx, lr.side("row", lr.updateRow()), e.o.Duration)
	if err != nil {
		return Side{}, err
	}
	return Side{What: fmt.Sprintf("locks kept %s longer", hold), Figures: figures{
		"combined": f["rate"], "row": g["rate"], "ratio": f["rate"] / g["rate"],
	}}, nil
}

// late makes a DSN whose connections send each packet that commits so much later.
func late(dsn string, hold time.Duration) string {
	name := fmt.Sprintf("bench-late-%d", hold.Microseconds())
	mysql.RegisterDialContext(name, func(ctx context.Context, addr string) (net.Conn, error) {
		nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		return &lateConn{Conn: nc, hold: hold}, nil
	})
	return strings.Replace(dsn, "@tcp(", "@"+name+"(", 1)
}

// lateConn holds back what commits.
type lateConn struct {
	net.Conn
	hold time.Duration
}

var commitWord = []byte("COMMIT")

// Write sends b; a COMMIT in it makes all of it late.
func (c *lateConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, commitWord) {
		nap(c.hold)
	}
	return c.Conn.Write(b)
}
