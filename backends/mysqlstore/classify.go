package mysqlstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/go-sql-driver/mysql"

	"github.com/crossfade-proxy/crossfade/backends"
)

// fault is what an error of the driver says about the statement.
type fault uint8

const (
	// faultOther: the statement failed, the session lives.
	faultOther fault = iota
	// faultUnavailable: it was not sent, or the server does not take statements now.
	faultUnavailable
	// faultBroken: the connection ended after it was sent.
	faultBroken
	// faultContext: the caller's context ended.
	faultContext
	// faultBusy: a lock was not had in time. Only the statement is undone.
	faultBusy
	// faultDeadlock: the transaction is undone.
	faultDeadlock
	// faultDuplicate: a key is taken.
	faultDuplicate
	// faultSetup: rights, database, table or column are missing.
	faultSetup
)

// Error numbers of the servers.
const (
	erDupEntry           = 1062
	erLockWaitTimeout    = 1205
	erLockDeadlock       = 1213
	erCheckread          = 1020 // MariaDB: the row changed since it was read
	erNoSuchThread       = 1094
	erOutOfRange         = 1690
	erDBAccessDenied     = 1044
	erAccessDenied       = 1045
	erBadDB              = 1049
	erTableaccessDenied  = 1142
	erColumnaccessDenied = 1143
	erNoSuchTable        = 1146
	erBadField           = 1054
	erSpecificAccess     = 1227
	erConCount           = 1040
	erTooManyUserConns   = 1203
	erUserLimit          = 1226
	erServerShutdown     = 1053
	erNormalShutdown     = 1077
	erOptionPrevents     = 1290 // read-only
	erReadOnlyMode       = 1836
	erReadOnlyTrx        = 1792
	erQueryInterrupted   = 1317
	erConnectionKilled   = 1927
	erQueryTimeout       = 3024
	erLockNowait         = 3572
	erClientInteraction  = 4031
	erCannotConvert      = 3854
)

// isUnreadable tells whether InnoDB's list of transactions could not be shown since somebody's statement has bytes that are no text: MySQL
// 9.7 refuses the whole list then. It is readable again when that statement has ended.
func isUnreadable(err error) bool {
	var me *mysql.MySQLError
	return errors.As(err, &me) && me.Number == erCannotConvert
}

// classify is the one place where a driver's error is read.
func classify(err error) fault {
	var me *mysql.MySQLError
	var ne net.Error
	var oe *net.OpError
	switch {
	case err == nil:
		return faultOther
	case errors.As(err, &me):
		return classifyNumber(me.Number)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return faultContext
	case errors.As(err, &oe) && oe.Op == "dial", errors.Is(err, driver.ErrBadConn):
		return faultUnavailable
	case errors.Is(err, mysql.ErrInvalidConn), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &ne):
		return faultBroken
	default:
		return faultOther
	}
}

func classifyNumber(n uint16) fault {
	switch n {
	case erDupEntry:
		return faultDuplicate
	case erLockWaitTimeout, erLockNowait, erQueryTimeout:
		return faultBusy
	case erLockDeadlock, erCheckread:
		return faultDeadlock
	case erConCount, erTooManyUserConns, erUserLimit, erOptionPrevents, erReadOnlyMode, erReadOnlyTrx:
		return faultUnavailable
	case erServerShutdown, erNormalShutdown, erQueryInterrupted, erConnectionKilled, erClientInteraction:
		return faultBroken
	case erDBAccessDenied, erAccessDenied, erBadDB, erTableaccessDenied, erColumnaccessDenied, erNoSuchTable, erBadField, erSpecificAccess:
		return faultSetup
	default:
		return faultOther
	}
}

// undone is the port's error for a statement that failed before any COMMIT was sent: nothing was
// changed.
func undone(err error) error {
	switch classify(err) {
	case faultBusy, faultDeadlock:
		return fmt.Errorf("%w: %w", backends.ErrBusy, err)
	case faultUnavailable, faultBroken, faultContext:
		return fmt.Errorf("%w: %w", backends.ErrUnavailable, err)
	case faultSetup:
		return fmt.Errorf("%w: %w; run setup with a user that may create tables, and see its errors", backends.ErrSetup, err)
	default:
		return err
	}
}
