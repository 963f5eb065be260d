package backends

import (
	"context"
	"fmt"
)

// Identified is who can name the data that he leads to; see [Inspector.Identity].
type Identified interface {
	Identity(ctx context.Context) (string, error)
}

// Apart answers nil when two handles lead to two stores, and ErrSameStore when they lead to one: a
// comparison of a store with itself finds nothing for ever.
func Apart(ctx context.Context, a, b Identified) error {
	one, err := a.Identity(ctx)
	if err != nil {
		return fmt.Errorf("which store the one is: %w", err)
	}
	other, err := b.Identity(ctx)
	if err != nil {
		return fmt.Errorf("which store the other is: %w", err)
	}
	if one == other {
		return fmt.Errorf("%w; both are %s", ErrSameStore, one)
	}
	return nil
}
