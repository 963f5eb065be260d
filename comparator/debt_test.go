package comparator_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// endless is a store with more levels than anybody reads; every second page has a debt.
type endless struct {
	backends.Inspector
	pages int
	away  int // the page at which it goes away; 0: never
}

func (e *endless) ScanLevels(context.Context, string, int) ([]backends.Level, string, error) {
	if e.pages++; e.pages == e.away {
		return nil, "", backends.ErrUnavailable
	}
	item := backends.Item(fmt.Sprint("i", e.pages))
	return []backends.Level{{Key: backends.Key{Shop: "s", Item: item, Location: "l"}, Unmaterialised: -int64(e.pages % 2)}}, "more", nil
}

// TestScanDebtIsBounded: it ends by its bound or with the store, and says which; what it lists is kept.
func TestScanDebtIsBounded(t *testing.T) {
	e := &endless{}
	lines, err := comparator.ScanDebt(t.Context(), backends.SideMySQL, e)
	if !errors.Is(err, comparator.ErrManyLevels) || len(lines) != e.pages/2 || lines[0].Store != "mysql" || lines[0].Units != 1 {
		t.Fatalf("%d lines of %d pages, %v", len(lines), e.pages, err)
	}
	lines, err = comparator.ScanDebt(t.Context(), backends.SideRedis, &endless{away: 4})
	if !errors.Is(err, backends.ErrUnavailable) || errors.Is(err, comparator.ErrManyLevels) || len(lines) != 2 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
}
