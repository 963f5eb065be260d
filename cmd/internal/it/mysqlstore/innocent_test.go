package mysqlstore_test

import (
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// TestRaiseSparesReaders: a fence that has to kill who blocks it leaves those alone who only read, whom
// MariaDB calls by the same transaction id.
func TestRaiseSparesReaders(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		r := live(t, dsn)
		db := raw(t, dsn)
		readers := make([]person, 8) // some before the blocker in any order
		for i := range readers {
			readers[i] = enter(t, db)
			readers[i].say(t, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
		}
		blocker := enter(t, db)
		blocker.say(t, "START TRANSACTION")
		blocker.say(t, "SELECT epoch FROM crossfade_fence WHERE pod = 'pod-1' LOCK IN SHARE MODE")
		if _, err := r.s.Raise(r.ctx, backends.Fence{Epoch: epoch + 1, Stage: backends.Shadow, Open: true}, 0); err != nil {
			t.Fatal(err)
		}
		for i, p := range readers {
			if _, err := p.ExecContext(r.ctx, "DO 1"); err != nil {
				t.Errorf("reader %d was killed: %v", i, err)
			}
		}
		if _, err := blocker.ExecContext(r.ctx, "DO 1"); err == nil {
			t.Error("the blocker was not killed")
		}
	})
}
