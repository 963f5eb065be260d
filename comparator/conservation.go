package comparator

import (
	"context"
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
