// Command mutants breaks the project's promises on purpose, one at a time, and sees that the
// tests notice (`make mutants`).
//
// # Words
//
//   - A mutant is a patch in testdata/mutants, named <promise>-<slug>.patch, whose header says
//     which promise it breaks, how, and which tests must fail. There may be several lines of
//     tests; each of them must fail. With `sim: yes` the simulation must fail as well, within the
//     schedules that -schedules gives.
//   - The baseline is the same tests on the tree as it is. They must pass, or their failure
//     under a mutant would mean nothing.
//   - A slot is a copy of the tree in which one mutant at a time is applied, built and tested.
//
// A header, which a unified diff follows:
//
//	# promise: P3
//	# breaks: a reserve that finds no free row says sold out without confirming it
//	# tests: ./backends/memstore ./dualwrite -run 'TestConfirmed|TestRollback'
//	# sim: yes
//
// # Invariants
//
//   - The tree itself is never changed.
//   - A mutant is killed only when a test has run and failed. A patch that does not apply, does
//     not build, or makes tests hang until they are stopped has shown nothing, and counts as an
//     error.
//   - Each promise has at least [perPromise] mutants.
//   - Every child process has a deadline.
package main
