package comparator

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Finding is a recorded divergence. Times are local, in UTC, to the microsecond.
type Finding struct {
	ID     string           `json:"id"` // see FindingID
	Pod    backends.Pod     `json:"pod"`
	Epoch  uint64           `json:"epoch"`
	Stage  backends.Stage   `json:"stage,omitzero"`
	Class  Class            `json:"class"`
	Source string           `json:"source"` // what found it: "mirror", "probe", "audit"
	Hold   backends.HoldID  `json:"hold,omitempty"`
	Shop   backends.Shop    `json:"shop,omitempty"`
	Units  []backends.Units `json:"units"` // by key, at most MaxFindingUnits
	// TotalUnits is the severity: the sum over all keys, also those beyond MaxFindingUnits.
	TotalUnits int64 `json:"total_units"`
	// Severity says the same in shop terms, of a confirmed one: what the units stand for.
	Severity string `json:"severity,omitempty"`
	Caller   string `json:"caller,omitempty"`
	Truth    Facts  `json:"truth"`
	Shadow   Facts  `json:"shadow"`
	Diff     string `json:"diff"`
	Proof    string `json:"proof"` // why it is what it is
	// Order lists the operations that stand between the two decisions in the order that explains it (see
	// EntryRef.Place), or entries that were seen on their way.
	Order           []EntryRef `json:"order,omitempty"`
	TruthLatencyUS  int64      `json:"truth_latency_us"` // 0 when not known
	ShadowLatencyUS int64      `json:"shadow_latency_us"`
	TraceID         string     `json:"trace_id,omitempty"`
	FirstSeen       time.Time  `json:"first_seen"`
	LastSeen        time.Time  `json:"last_seen"`
	// Count is how often it was seen, at least: a sight that reaches the store after a later one
	// is not counted.
	Count int64  `json:"count"`
	Life  Life   `json:"life"`
	By    string `json:"by,omitempty"`  // who changed the life last; empty when a sight did
	Why   string `json:"why,omitempty"` // and why
	// Excuse names the excuse that covered the last sight.
	Excuse string `json:"excuse,omitempty"`
	// History is every change of the life, oldest first, at most MaxHistory of them.
	History []LifeEvent `json:"history,omitempty"`
	// HistoryDropped counts changes that are left out of History, after its first.
	HistoryDropped int64 `json:"history_dropped,omitempty"`
}

// FindingID is the same for the same thing wherever it is found: pod, class and hold; or the key
// when there is no hold. 32 hexadecimal digits.
func FindingID(pod backends.Pod, c Class, hold backends.HoldID, key backends.Key) string {
	if hold != "" {
		key = backends.Key{}
	}
	return hashID(string(pod), c.String(), string(hold), string(key.Shop), string(key.Item), string(key.Location))
}

// hashID is 32 hexadecimal digits that follow from parts.
func hashID(parts ...string) string {
	h := sha256.New()
	for _, s := range parts {
		fmt.Fprintf(h, "%d:%s", len(s), s) // the length keeps neighbours apart
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// stamp is the precision in which findings are kept.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// limit sums up and bounds a finding's units and texts.
func (f *Finding) limit() {
	f.TotalUnits = 0
	for _, u := range f.Units {
		f.TotalUnits += u.Quantity
	}
	f.weigh()
	if len(f.Units) > MaxFindingUnits {
		f.Units = f.Units[:MaxFindingUnits:MaxFindingUnits]
	}
	f.Diff, f.Proof, f.Why = clip(f.Diff, MaxText), clip(f.Proof, MaxText), clip(f.Why, MaxText)
	f.By, f.TraceID = clip(f.By, backends.MaxIDLen), clip(f.TraceID, backends.MaxIDLen)
}

// weigh says in words what the units of a confirmed one stand for.
func (f *Finding) weigh() {
	if f.Severity = ""; f.Life.Confirmed() {
		f.Severity = f.Class.severity(f.TotalUnits)
	}
}

// boundAnswer keeps of an answer what concerns at most MaxFindingUnits entries of each list: a
// finding must not grow with the largest cart.
func boundAnswer(a Answer) *Answer {
	const most = MaxFindingUnits
	a.Allocs, a.Short, a.Seen = a.Allocs[:min(len(a.Allocs), most):min(len(a.Allocs), most)],
		a.Short[:min(len(a.Short), most):min(len(a.Short), most)], a.Seen[:min(len(a.Seen), most):min(len(a.Seen), most)]
	return &a
}

// boundHold likewise; lines that the kept allocations name stay.
func boundHold(h *backends.Hold) *backends.Hold {
	if h == nil || len(h.Allocs) <= MaxFindingUnits && len(h.Lines) <= MaxFindingUnits {
		return h
	}
	c := *h
	c.Lines = c.Lines[:min(len(c.Lines), MaxFindingUnits)]
	c.Allocs = c.Allocs[:min(len(c.Allocs), MaxFindingUnits)]
	return &c
}

// decisionFinding makes the finding of a diverged decision.
func decisionFinding(c *Case, s *Settlement, life Life, now time.Time) Finding {
	o, j := &c.Observation, &c.Judgement
	truth, shadow := Facts{Answer: &o.Truth}, Facts{}
	if o.Shadow != nil {
		a := o.ShadowAnswer()
		shadow.Answer = &a
	}
	f := Finding{
		ID: FindingID(o.Pod, j.Class, o.Hold, backends.Key{}), Pod: o.Pod, Epoch: o.Epoch, Stage: o.Stage,
		Class: j.Class, Source: o.How.String(), Hold: o.Hold, Shop: o.Shop, Units: j.Units, Caller: o.Caller,
		Diff: Diff(o.Shop, o.Lines, truth, shadow), Proof: j.Why + ": " + s.Proof, Order: s.Order,
		TruthLatencyUS: o.TruthLatency.Microseconds(), ShadowLatencyUS: o.ShadowLatency.Microseconds(), TraceID: o.TraceID,
		FirstSeen: stamp(o.At), LastSeen: stamp(now), Count: 1, Life: life,
	}
	if j.AtOnce {
		f.Proof = j.Why
	}
	f.Truth.Answer = boundAnswer(o.Truth)
	if shadow.Answer != nil {
		f.Shadow.Answer = boundAnswer(*shadow.Answer)
	}
	f.limit()
	return f
}

// driftFinding makes the level_drift finding of a key, or bypass_write where one reading shows it.
func driftFinding(pod backends.Pod, epoch uint64, stage backends.Stage, source string, d Drift, proof string, now time.Time) Finding {
	truth, shadow := Facts{Level: orEmpty(d.Truth, d.Key)}, Facts{Level: orEmpty(d.Shadow, d.Key)}
	class := LevelDrift
	if truth.Level.Imbalance() != 0 || shadow.Level.Imbalance() != 0 {
		class = BypassWrite // a level that is out of balance by itself; only Redis's tells at once
	}
	f := Finding{
		ID: FindingID(pod, class, "", d.Key), Pod: pod, Epoch: epoch, Stage: stage, Class: class, Source: source,
		Shop: d.Key.Shop, Units: []backends.Units{{Key: d.Key, Quantity: d.Gap.Units()}}, Truth: truth, Shadow: shadow,
		Diff: Diff(d.Key.Shop, nil, truth, shadow), Proof: proof,
		FirstSeen: stamp(now), LastSeen: stamp(now), Count: 1, Life: LifeOpen,
	}
	f.limit()
	return f
}

func orEmpty(l *backends.Level, k backends.Key) *backends.Level {
	if l == nil {
		return &backends.Level{Key: k}
	}
	return l
}
