package comparator

import (
	"context"
	"errors"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Bounds of ScanDebt.
const (
	// debtPage is how many levels are read at a time, debtPages how many pages: what a report can wait for.
	debtPage  = 1000
	debtPages = 100
)

// ErrManyLevels: a list of debts ends where it does by its bound. What it lists is true.
var ErrManyLevels = errors.New("more levels than a report reads; run the audit for all of them")

// ScanDebt reads a store's levels page by page and lists those that are below zero. With an error the list is
// what was found until then.
func ScanDebt(ctx context.Context, side backends.Side, s backends.Inspector) (lines []DebtLine, err error) {
	cursor := ""
	for range debtPages {
		ls, next, err := s.ScanLevels(ctx, cursor, debtPage)
		if err != nil {
			return lines, err
		}
		for i := range ls {
			if n := ls[i].Debt(); n > 0 {
				lines = append(lines, DebtLine{Store: side.String(), Key: ls[i].Key, Units: n})
			}
		}
		if next == "" {
			return lines, nil
		}
		cursor = next
	}
	return lines, ErrManyLevels
}
