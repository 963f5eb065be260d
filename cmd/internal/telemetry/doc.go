// Package telemetry is Crossfade's metrics: their names in one file, the instruments, and the page
// that Prometheus reads. It fills dualwrite.Observer. A decision function neither logs nor counts;
// what is counted here is reported by the steps that call them.
package telemetry
