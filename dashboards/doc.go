// Package dashboards holds what people look at: a Grafana dashboard and Prometheus alert rules for the
// metrics of package cmd/internal/telemetry.
//
// # Words
//
//   - The dashboard has two variables: datasource (a Prometheus) and pod (one, many or all).
//   - An alert has a severity: page (somebody is to look now) or ticket (somebody is to look), and
//     an anchor of docs/operations.md that says what to do.
//
// # Invariants
//
// Each query names only metrics that telemetry has, with labels that they carry, and each metric of
// telemetry is on the dashboard. The tests are in cmd/internal/telemetry, since nothing here may
// import it.
//
// # Arrows
//
// The package imports the standard library. It never imports dualwrite, and dualwrite never imports it.
package dashboards
