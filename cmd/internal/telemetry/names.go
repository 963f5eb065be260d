package telemetry

// Names of all metrics, as Prometheus sees them. Dashboards are tested against this list.
const (
	OperationSeconds    = "crossfade_operation_seconds"     // histogram: pod, stage, op, outcome
	StoreCallSeconds    = "crossfade_store_call_seconds"    // histogram: pod, store, role, op, result
	GateWaitSeconds     = "crossfade_gate_wait_seconds"     // histogram: pod
	MirrorLagSeconds    = "crossfade_mirror_lag_seconds"    // histogram: pod
	MirroredTotal       = "crossfade_mirrored_total"        // counter: pod, by (owner, sweeper)
	LaneFullTotal       = "crossfade_lane_full_total"       // counter: pod, what
	ApologyUnitsTotal   = "crossfade_apology_units_total"   // counter: pod
	ResubmittedTotal    = "crossfade_resubmitted_total"     // counter: pod, op
	ConnectionSeconds   = "crossfade_connection_seconds"    // histogram: pod, tag, op
	OutboxEntries       = "crossfade_outbox_entries"        // gauge: pod, store
	OutboxOldestSeconds = "crossfade_outbox_oldest_seconds" // gauge: pod, store
	OutboxLost          = "crossfade_outbox_lost"           // gauge: pod, store; 1 when entries were dropped
	Stage               = "crossfade_stage"                 // gauge: pod, stage; 1 for the stage served
	Epoch               = "crossfade_epoch"                 // gauge: pod
	BreakerOpen         = "crossfade_breaker_open"          // gauge: pod
	LaneDepth           = "crossfade_lane_depth"            // gauge: pod
	Decisions           = "crossfade_decisions"             // gauge: pod, column; of the coverage account, this proxy
	FindingsTotal       = "crossfade_findings_total"        // counter: pod, class; confirmed by this proxy
	SpoolBytes          = "crossfade_spool_bytes"           // gauge: pod
	DebtUnits           = "crossfade_debt_units"            // gauge: pod, store; of the levels last read
	DoorConnections     = "crossfade_door_connections"      // gauge
)

// Names lists them all.
func Names() []string {
	return []string{
		OperationSeconds, StoreCallSeconds, GateWaitSeconds, MirrorLagSeconds, MirroredTotal, LaneFullTotal,
		ApologyUnitsTotal, ResubmittedTotal, ConnectionSeconds, OutboxEntries, OutboxOldestSeconds, OutboxLost,
		Stage, Epoch, BreakerOpen, LaneDepth, Decisions, FindingsTotal, SpoolBytes, DebtUnits, DoorConnections,
	}
}
