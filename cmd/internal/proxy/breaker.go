package proxy

import (
	"context"
	"errors"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/dualwrite"
)

const (
	// breakerTrips is how many mirror steps in a row have to fail before the shadow is left alone.
	breakerTrips = 5
	// breakerOpenFor is how long it is left alone before one step tries again.
	breakerOpenFor = time.Second
)

// breaker guards a shadow with sony/gobreaker. It fills dualwrite.Guard.
type breaker struct {
	cb *gobreaker.CircuitBreaker[struct{}]
}

func newBreaker(name string) *breaker {
	return &breaker{cb: gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Name:        name,
		Timeout:     breakerOpenFor,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= breakerTrips },
		// A refusal for a caller's own fault, a fence that has moved, a caller that went away: the
		// store is well.
		IsSuccessful: func(err error) bool {
			var fe *backends.FencedError
			return err == nil || backends.IsRejection(err) || errors.As(err, &fe) || errors.Is(err, context.Canceled)
		},
	})}
}

// NewBreaker is the guard that a proxy puts before a shadow, for what runs pods without a proxy.
func NewBreaker(name string) dualwrite.Guard { return newBreaker(name) }

// Do implements dualwrite.Guard.
func (b *breaker) Do(f func() error) error {
	_, err := b.cb.Execute(func() (struct{}, error) { return struct{}{}, f() })
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return errors.Join(backends.ErrUnavailable, err)
	}
	return err
}

// Open implements dualwrite.Guard.
func (b *breaker) Open() bool { return b.cb.State() == gobreaker.StateOpen }
