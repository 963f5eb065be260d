package comparator

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// Clusters is into how many groups the items of a pod are put, by a hash, for intervals that are
	// resampled by item. An item is never split. More groups would be finer, and every stratum of every
	// slot would have a longer row.
	Clusters = 64
	// SlotMinutes is how long a slot of tallies is. A report counts whole slots.
	SlotMinutes = 10
	// MaxTallies bounds what one report reads: with four proxies, some three weeks. The newest
	// slots come first.
	MaxTallies = 100_000
	// maxDirtyTallies bounds the unsaved rows: half a day of a pod, some MB at most.
	maxDirtyTallies = 72 * 10
	// tallyEvery is how often they are saved: they are a dozen rows of some 200 bytes, not one of 100.
	tallyEvery = 10 * time.Second
	// maxCells bounds the cells of a tally: the steps of a histogram of latencies.
	maxCells = 64 * 16
)

// Names of the tallies that are no stratum.
const (
	tallyTruth  = "latency_truth"
	tallyShadow = "latency_shadow"
	// tallyNotSeen counts grants that are in neither plentiful nor last_units.
	tallyNotSeen = "stock_not_seen"
)

// Cell is one part of a tally: a cluster of items, or a step of a histogram.
type Cell struct {
	At int   `json:"i"`
	N  int64 `json:"n"`
	K  int64 `json:"k,omitempty"`
}

// Cells are the parts of a tally that are not zero, by At, which is unique.
type Cells []Cell

// MarshalBinary is a chain of varints: for each cell its distance to the one before, N and K.
func (cs Cells) MarshalBinary() ([]byte, error) {
	var b []byte
	last := 0
	for _, c := range cs {
		b = binary.AppendUvarint(b, uint64(max(0, c.At-last))) //nolint:gosec // not below zero
		b = binary.AppendVarint(binary.AppendVarint(b, c.N), c.K)
		last = c.At
	}
	return b, nil
}

// UnmarshalBinary reads what MarshalBinary writes.
func (cs *Cells) UnmarshalBinary(b []byte) error {
	var out Cells
	at := uint64(0)
	for len(b) > 0 {
		step, n := binary.Uvarint(b)
		if n <= 0 || step >= maxCells || at+step >= maxCells {
			return fmt.Errorf("%w: the cells of a tally, after %d of them", backends.ErrDamaged, len(out))
		}
		at += step
		b = b[n:]
		var v [2]int64
		for i := range v {
			if v[i], n = binary.Varint(b); n <= 0 {
				return fmt.Errorf("%w: the cells of a tally, after %d of them", backends.ErrDamaged, len(out))
			}
			b = b[n:]
		}
		out = append(out, Cell{At: int(at), N: v[0], K: v[1]}) //nolint:gosec // below maxCells
	}
	*cs = out
	return nil
}

// TallyRow counts for one run of one proxy, in one epoch and slot, one thing: a stratum's decisions, by cluster
// of items, of which K are findings; or a store's latencies, by step. A row with a higher Rev replaces
// one with a lower; a lower one changes nothing.
type TallyRow struct {
	Pod   backends.Pod `json:"pod"`
	Proxy string       `json:"proxy"`
	Run   string       `json:"run"`
	Epoch uint64       `json:"epoch"`
	Slot  int64        `json:"slot"` // its first minute since 1970, by the proxy's clock; a multiple of SlotMinutes
	Name  string       `json:"name"` // of a stratum, or of a latency
	Rev   uint64       `json:"rev"`
	N     int64        `json:"n"`
	K     int64        `json:"k"`
	Cells Cells        `json:"cells"`
}

// SinceSlot is the first slot that ends after since: what Store.Tallies ends with.
func SinceSlot(since time.Time) int64 {
	m := SinceMinute(since)
	return m - m%SlotMinutes
}

// tallies are the unsaved counts of this run. It is used off checkout's path only.
type tallies struct {
	pod        backends.Pod
	proxy, run string

	mu      sync.Mutex
	rev     uint64
	slot    int64 // never runs backwards, see account
	rows    map[tallyKey]*tally
	dropped int64 // rows given up for want of room; what they counted is missing from the evidence
}

type tallyKey struct {
	epoch uint64
	slot  int64
	name  string
}

type tally struct {
	rev, kept uint64
	n, k      int64
	cells     []Cell // by place
}

func newTallies(pod backends.Pod, proxy, run string) *tallies {
	return &tallies{pod: pod, proxy: proxy, run: run, rows: map[tallyKey]*tally{}}
}

// add counts one thing in a cell; found counts it as a finding too.
func (t *tallies) add(epoch uint64, name string, cell int, found bool, now time.Time) {
	size := Clusters
	if name == tallyTruth || name == tallyShadow {
		size = maxCells
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.slot = max(t.slot, SinceSlot(now))
	k := tallyKey{epoch, t.slot, name}
	r := t.rows[k]
	if r == nil {
		t.bound()
		r = &tally{cells: make([]Cell, size)}
		t.rows[k] = r
	}
	t.rev++
	r.rev = t.rev
	r.n++
	r.cells[cell].N++
	if found {
		r.k++
		r.cells[cell].K++
	}
}

// bound gives up the oldest row when there is no room for one more, and one with findings only when all have some: what is
// missing is not to look better than what happened. The lock is held.
func (t *tallies) bound() {
	if len(t.rows) < maxDirtyTallies {
		return
	}
	var give tallyKey
	var row *tally
	for k, r := range t.rows {
		if found := r.k > 0; row == nil || found != (row.k > 0) && !found || found == (row.k > 0) && k.slot < give.slot {
			give, row = k, r
		}
	}
	delete(t.rows, give)
	t.dropped++
}

// unsaved copies the rows that have changed since they were saved; with over set, only those of slots
// that are over.
func (t *tallies) unsaved(over bool) []TallyRow {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []TallyRow
	for k, r := range t.rows {
		if r.rev == r.kept || over && k.slot == t.slot {
			continue
		}
		row := TallyRow{Pod: t.pod, Proxy: t.proxy, Run: t.run, Epoch: k.epoch, Slot: k.slot, Name: k.name, Rev: r.rev, N: r.n, K: r.k}
		for i, c := range r.cells {
			if c.N != 0 || c.K != 0 {
				row.Cells = append(row.Cells, Cell{At: i, N: c.N, K: c.K})
			}
		}
		out = append(out, row)
	}
	return out
}

// saved notes what a store or spool has taken, and forgets slots that are over.
func (t *tallies) saved(rows []TallyRow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range rows {
		if r := t.rows[tallyKey{rows[i].Epoch, rows[i].Slot, rows[i].Name}]; r != nil {
			r.kept = max(r.kept, rows[i].Rev)
		}
	}
	for k, r := range t.rows {
		if k.slot < t.slot && r.kept == r.rev {
			delete(t.rows, k)
		}
	}
}

// compared counts a decision in each of its strata. A decision that an excuse covers, and one that was not
// determined, is counted in none.
func (c *Comparator) compared(o *Observation, found bool) {
	now, cluster := c.cfg.Now(), clusterOf(o)
	placed := false
	for _, s := range StrataOf(o) {
		c.tally.add(o.Epoch, s.String(), cluster, found, now)
		placed = placed || s != SeveralLocations && s != SeveralLines
	}
	if !placed {
		c.tally.add(o.Epoch, tallyNotSeen, cluster, found, now)
	}
}

// took counts the latencies of a decision; 0 is not known.
func (c *Comparator) took(o *Observation) {
	c.tookTruth(o)
	c.tookShadow(o)
}

func (c *Comparator) tookShadow(o *Observation) {
	if c.shadow.add(o.ShadowLatency); o.ShadowLatency > 0 {
		c.tally.add(o.Epoch, tallyShadow, slot(int64(o.ShadowLatency)), false, c.cfg.Now())
	}
}

func (c *Comparator) tookTruth(o *Observation) {
	if c.truth.add(o.TruthLatency); o.TruthLatency > 0 {
		c.tally.add(o.Epoch, tallyTruth, slot(int64(o.TruthLatency)), false, c.cfg.Now())
	}
}
