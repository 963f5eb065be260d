package comparator

import (
	"context"
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// MaxBroken bounds the levels out of balance that a result lists; BrokenTotal counts all.
const MaxBroken = 1000

// NamedStore is a store whose conservation is to be checked.
type NamedStore struct {
	Name  string // "redis", "mysql"
	Store backends.Inspector
}

// Conservation is the result of checking P2 in the stores of a pod.
type Conservation struct {
	Pod    backends.Pod        `json:"pod"`
	At     time.Time           `json:"at"`
	Stores []StoreConservation `json:"stores"`
}

// StoreConservation is the result for one store.
type StoreConservation struct {
	Store       string        `json:"store"`
	Checked     int           `json:"checked"` // keys
	BrokenTotal int           `json:"broken_total"`
	Broken      []BrokenLevel `json:"broken"`
	Error       string        `json:"error,omitempty"` // it could not be checked, or not to the end
	Took        int64         `json:"took_ms"`
}

// BrokenLevel is a level that breaks P2: on hand ≠ available + held + taken + unmaterialised.
type BrokenLevel struct {
	backends.Level
	Imbalance int64 `json:"imbalance"` // units on hand beyond what is accounted for
}

// Findings are the writes past Crossfade that the check shows, one a key: what Crossfade does keeps P2. They have the ids that an
// audit gives them. stage and epoch are the pod's present ones; Record fills in the times.
func (c *Conservation) Findings(stage backends.Stage, epoch uint64) []Finding {
	var out []Finding
	at := map[backends.Key]int{}
	for i := range c.Stores {
		s := &c.Stores[i]
		for _, l := range s.Broken {
			n, known := at[l.Key]
			if !known {
				n = len(out)
				at[l.Key] = n
				out = append(out, Finding{
					ID: FindingID(c.Pod, BypassWrite, "", l.Key), Pod: c.Pod, Epoch: epoch, Stage: stage, Class: BypassWrite, Source: "conservation",
					Shop: l.Key.Shop, Units: []backends.Units{{Key: l.Key}}, Truth: Facts{Level: &backends.Level{Key: l.Key}}, Shadow: Facts{Level: &backends.Level{Key: l.Key}},
				})
			}
			out[n].unbalanced(s.Store, l)
		}
	}
	return out
}

// unbalanced adds what one store has of the finding's key.
func (f *Finding) unbalanced(store string, l BrokenLevel) {
	level := l.Level
	if store == f.Stage.Truth().String() {
		f.Truth.Level = &level
	} else {
		f.Shadow.Level = &level
	}
	if f.Proof != "" {
		f.Proof += "; "
	}
	f.Proof += fmt.Sprintf("%s has %d units on hand beyond what is for sale, held, taken and unmaterialised there: somebody wrote to it past Crossfade", store, l.Imbalance)
	f.Units[0].Quantity += abs(l.Imbalance)
}

// Clean tells whether every store was checked and is in balance.
func (c *Conservation) Clean() bool {
	for i := range c.Stores {
		if c.Stores[i].Error != "" || c.Stores[i].BrokenTotal > 0 {
			return false
		}
	}
	return len(c.Stores) > 0
}

// CheckConservation checks each store against its own holds. A store that fails has its error in
// the result; the others are checked all the same.
func CheckConservation(ctx context.Context, pod backends.Pod, stores []NamedStore, now func() time.Time) *Conservation {
	c := &Conservation{Pod: pod, At: stamp(now()), Stores: []StoreConservation{}}
	for _, s := range stores {
		start := now()
		broken, checked, err := s.Store.Conservation(ctx)
		r := StoreConservation{Store: s.Name, Checked: checked, BrokenTotal: len(broken), Broken: []BrokenLevel{}}
		if err != nil {
			r.Error = clip(err.Error(), MaxText)
		}
		for _, l := range broken[:min(len(broken), MaxBroken)] {
			r.Broken = append(r.Broken, BrokenLevel{Level: l, Imbalance: l.Imbalance()})
		}
		r.Took = now().Sub(start).Milliseconds()
		c.Stores = append(c.Stores, r)
	}
	return c
}
