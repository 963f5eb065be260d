package mysqlstore

import (
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// TestEmitWithoutRoom: what a transaction leaves in a full outbox. That a count found room says nothing of
// the moment at which it is written: others write meanwhile.
func TestEmitWithoutRoom(t *testing.T) {
	filled := backends.Fence{Epoch: 1, Stage: backends.Live, Open: true, Filled: true}
	filling := backends.Fence{Epoch: 1, Stage: backends.Live, Open: true}
	level := func(op backends.Op, ch backends.LevelChange) backends.Entry {
		return backends.Entry{Op: op, Level: &ch}
	}
	take := level(backends.OpCount, backends.LevelChange{OpID: "take", Taken: 1})
	for name, c := range map[string]struct {
		fence backends.Fence
		entry backends.Entry
		kept  bool
	}{
		"a count that Redis waits for":         {filled, take, true},
		"a count while Redis is being filled":  {filling, take, false},
		"a count that moves the ledger":        {filling, level(backends.OpCount, backends.LevelChange{OpID: "more", OnHandDelta: 1}), true},
		"a reserve":                            {filled, backends.Entry{Op: backends.OpReserve, Hold: &backends.Hold{ID: "h"}}, false},
		"a claim":                              {filled, backends.Entry{Op: backends.OpClaim, Hold: &backends.Hold{ID: "h"}}, true},
		"a level that a backfill emits":        {filled, level(backends.OpReemit, backends.LevelChange{Taken: 1}), false},
		"what became of an operation":          {filled, level(backends.OpReemit, backends.LevelChange{OpID: "known"}), true},
		"an operation that nobody has decided": {filled, level(backends.OpReemit, backends.LevelChange{OpID: "void", Void: true}), true},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Store{room: &room{now: time.Now, max: 1}, ids: newIDSource(time.Now)}
			s.room.counted(1, 0)
			x := &txn{s: s, fence: c.fence}
			if e, dropped := x.emit(c.entry); (e != nil) != c.kept || dropped == c.kept || (x.dropped == 0) != c.kept {
				t.Errorf("entry %+v, dropped %v (%d); want it kept: %v", e, dropped, x.dropped, c.kept)
			}
		})
	}
}
