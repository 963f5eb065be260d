// Package findingstest is the suite that every adapter of [comparator.Store] passes. It imports
// comparator and backends.
package findingstest
