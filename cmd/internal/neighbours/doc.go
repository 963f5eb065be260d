// Package neighbours tells who uses a pod's MySQL and how: all sessions of the server, Crossfade's and
// those of everybody else, each under the business process (conn_tag) that its statement names, else under
// user and host. It is what 'crossfade connections' and 'crossfade locks' show.
//
// # Model
//
// The server is asked again and again for its sessions (mysqlstore.Watcher). A session is held while it is
// in a transaction or runs a statement; the mean number of held sessions is the connection time that
// is used for each second. Fold is pure: it turns samples into shares. Render is pure as well.
//
// Samples say little about what lasts much shorter than their interval, and nothing of how often: a share
// of n samples is right to about 1/√n. What counts each operation is the metric
// crossfade_connection_seconds; it knows this proxy's connections alone.
//
// # Arrows
//
// The package imports mysqlstore (what a sample is), backends and the standard library.
package neighbours
