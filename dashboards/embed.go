package dashboards

import _ "embed"

//go:embed crossfade.json
var grafana string

//go:embed alerts.yaml
var alerts string

// Grafana is the dashboard, as Grafana imports it.
func Grafana() string { return grafana }

// Alerts are the rules, as Prometheus reads them.
func Alerts() string { return alerts }
