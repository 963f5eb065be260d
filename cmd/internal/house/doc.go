// Package house keeps the rules of the house: it has no code of its own, only tests that read
// the rest of the module.
//
// # Rules
//
//   - arrows: which package may import which of ours, and which may know a driver, each with
//     its reason (arrows_test.go);
//   - tests: none is skipped, none waits by sleeping (tests_test.go);
//   - text: no file is too long, nothing is left to be done, every package says what it is,
//     every link in the docs leads somewhere (text_test.go, links_test.go);
//   - dependencies: each has its reason in docs/dependencies.md (dependencies_test.go).
//
// Each rule is a pure function over what was read, and has a table of its own in which it
// fails: a rule that nothing breaks may be a rule that checks nothing.
//
// The runner of `make test` is the program in the folder testrun.
package house
