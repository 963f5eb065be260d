// Package lab runs private, throw-away, real servers (MySQL, MariaDB, Redis,
// Valkey) for tests, the demo and the benchmark, and for `crossfade lab`.
//
// # Words
//
//   - kind: one of the four servers. A binary's name says nothing about its
//     kind (a mysqld may be a MariaDB, a redis-server may be a Valkey); what it
//     prints for --version, or answers over the wire, does.
//   - address: a server that somebody else runs and that was given to us, by an
//     option or by an environment variable. We use it, and never signal it.
//   - install: a runnable server program: found on the machine, or unpacked in
//     the cache (a tree).
//   - tree: a server package with its shared libraries and its own libc,
//     unpacked in the cache and started through its own dynamic loader, so that
//     it does not care how old the machine's libc is.
//   - template: an initialised, cleanly stopped data folder in the cache, copied
//     for every new server, because initialising takes seconds.
//   - attached: a server that dies with this process, whatever ends it.
//     detached: a server of `lab up`, that outlives the command.
//
// # Ways
//
// A server is had in this order: a given address, an install found on the
// machine, a tree in the cache, a tree fetched now with apt (on the Debian
// family; the machine's own suites first, then, on Debian, the unstable suite of
// the same mirror). Each way that fails says why, and the next one is tried;
// when none is left the error is an [UnavailableError] that names every way that
// was tried and what to install. Nothing is ever skipped silently.
//
// # Invariants
//
//   - The system is not touched: apt runs with its own lists, cache, status and
//     source list, and without the machine's hooks; packages are unpacked, never
//     installed; no maintainer script runs.
//   - A tree or template is visible under its final name only when it is
//     complete: it is built beside it and renamed, under a file lock, so that any
//     number of test processes may start on a cold cache.
//   - Package names of libraries and versions are not in this code: the closure
//     comes from apt's dependency data, by the rule in [closure].
//   - No attached server outlives its parent, even when that is killed with
//     SIGKILL: the kernel sends the server SIGKILL when the thread that started
//     it ends, so that thread is locked until the server has been waited for.
//   - A signal is sent only to a process whose pid, start time and boot are the
//     ones recorded when we started it.
//   - Servers listen on 127.0.0.1 only, and on no unix socket (whose path is
//     limited to 108 bytes). Ports are outside the ephemeral range, so that no
//     outgoing connection can take a server's port while it is restarted.
//   - A throw-away folder is held by a file lock; those whose holder is gone are
//     removed by the next start.
//
// Root has no password, on loopback: these servers are for test data only.
//
// # Arrows
//
// The package imports nothing of ours, and not package testing: the helpers take
// the few methods of testing.TB that they need.
package lab
