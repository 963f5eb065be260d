package telemetry

// Names of all metrics, as Prometheus sees them. Dashboards are tested against this list.
const (
	OperationSeconds     = "crossfade_operation_seconds"       // histogram: pod, stage, op, outcome
	StoreCallSeconds     = "crossfade_store_call_seconds"      // histogram: pod, store, role, op, result
	GateWaitSeconds      = "crossfade_gate_wait_seconds"       // histogram: pod
	MirrorLagSeconds     = "crossfade_mirror_lag_seconds"      // histogram: pod
	MirroredTotal        = "crossfade_mirrored_total"          // counter: pod, by (owner, sweeper)
	LaneFullTotal        = "crossfade_lane_full_total"         // counter: pod, what
	ApologyUnitsTotal    = "crossfade_apology_units_total"     // counter: pod
	ResubmittedTotal     = "crossfade_resubmitted_total"       // counter: pod, op
	ConnectionSeconds    = "crossfade_connection_seconds"      // histogram: pod, tag, op; at most MaxTags tags a pod
	PoolConnections      = "crossfade_pool_connections"        // gauge: pod, state (in_use, idle); of this proxy to MySQL
	PoolMax              = "crossfade_pool_connections_max"    // gauge: pod
	PoolWaitsTotal       = "crossfade_pool_waits_total"        // counter: pod; for a free connection
	PoolWaitSecondsTotal = "crossfade_pool_wait_seconds_total" // counter: pod; the time of those waits
	OutboxEntries        = "crossfade_outbox_entries"          // gauge: pod, store
	OutboxOldestSeconds  = "crossfade_outbox_oldest_seconds"   // gauge: pod, store
	OutboxLost           = "crossfade_outbox_lost"             // gauge: pod, store; 1 when entries were dropped
	Stage                = "crossfade_stage"                   // gauge: pod, stage; 1 for the stage served
	Epoch                = "crossfade_epoch"                   // gauge: pod
	BreakerOpen          = "crossfade_breaker_open"            // gauge: pod
	RedisBehind          = "crossfade_redis_behind"            // gauge: pod; 1 while the pod is marked so, by what this proxy last read
	AloneTotal           = "crossfade_answers_alone_total"     // counter: pod; given without Redis
	LaneDepth            = "crossfade_lane_depth"              // gauge: pod
	Decisions            = "crossfade_decisions"               // gauge: pod, column; of the coverage account, this proxy
	FindingsTotal        = "crossfade_findings_total"          // counter: pod, class; confirmed by this proxy
	SpoolBytes           = "crossfade_spool_bytes"             // gauge: pod
	DebtUnits            = "crossfade_debt_units"              // gauge: pod, store; of the levels last read
	AuditAgeSeconds      = "crossfade_audit_age_seconds"       // gauge: pod; since the end of the last complete audit
	AuditFindings        = "crossfade_audit_findings"          // gauge: pod; of the last complete audit
	AuditUndetermined    = "crossfade_audit_undetermined"      // gauge: pod; of the last complete audit
	AuditRunning         = "crossfade_audit_running"           // gauge: pod; 1 while any proxy is at it
	AuditFailures        = "crossfade_audit_failures"          // gauge: pod; since the last complete audit
	DoorConnections      = "crossfade_door_connections"        // gauge
)

// Names lists them all.
func Names() []string {
	return []string{
		OperationSeconds, StoreCallSeconds, GateWaitSeconds, MirrorLagSeconds, MirroredTotal, LaneFullTotal,
		ApologyUnitsTotal, ResubmittedTotal, ConnectionSeconds, PoolConnections, PoolMax, PoolWaitsTotal,
		PoolWaitSecondsTotal, OutboxEntries, OutboxOldestSeconds, OutboxLost,
		Stage, Epoch, BreakerOpen, RedisBehind, AloneTotal, LaneDepth, Decisions, FindingsTotal, SpoolBytes, DebtUnits,
		AuditAgeSeconds, AuditFindings, AuditUndetermined, AuditRunning, AuditFailures, DoorConnections,
	}
}

const (
	// MaxTags bounds the caller tags of a pod in ConnectionSeconds: each is a set of series for each
	// operation, and a checkout that puts an order number there must not fill the page. Those beyond it
	// share OtherTag until the proxy is restarted.
	MaxTags = 32
	// OtherTag is the tag of those.
	OtherTag = "other"
)
