// Package mysqlfindings keeps findings, coverage, tallies, the book of apologies and the proxies' sheets in the pod's
// MySQL or MariaDB: it fills [comparator.Store], [comparator.ApologyBook] and [comparator.Sheets].
//
// The tables are made by migrations 0002 and 0004 to 0007 of backends/mysqlstore, which runs all migrations. The
// *sql.DB is the caller's: its pool is what bounds the connections used here (P8); one call uses one
// connection at a time.
//
// # Invariants
//
//   - A finding is joined with the one that is kept by [comparator.Merge] under its row's lock, so
//     that saving twice is once, whichever proxy does it.
//   - A coverage row, and a tally, is replaced only by one with a higher revision.
//   - No transaction here touches a table of stock. Rows are locked in the order of their keys.
//   - Every statement carries the tag conn_tag:crossfade.comparator.
//
// # Arrows
//
// The package imports comparator and backends. It knows no driver: errors are passed on as they
// are, since every caller does the same with all of them (the spool).
package mysqlfindings
