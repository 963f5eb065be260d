package respdoor

import (
	"context"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Service decides. The door checks requests before it hands them over. A method may be called by
// many goroutines; its context has a deadline (Config.RequestTimeout) and is not cancelled by the
// client's leaving. Pods are chosen by shop, inside. A shop that belongs to no pod is a
// *backends.FieldError. Errors are told apart by the sentinels of backends alone.
type Service interface {
	Reserve(ctx context.Context, r *backends.ReserveRequest) (*backends.Decision, error)
	// Claim may wait up to wait for the ledger: see Decision.LedgerPending.
	Claim(ctx context.Context, r *backends.ClaimRequest, wait time.Duration) (*backends.Decision, error)
	Release(ctx context.Context, shop backends.Shop, r *backends.ReleaseRequest) (*backends.Decision, error)
	Extend(ctx context.Context, shop backends.Shop, r *backends.ExtendRequest) (*backends.Decision, error)
	// Get answers nil when the truth of the shop's pod does not know the hold.
	Get(ctx context.Context, shop backends.Shop, id backends.HoldID) (*backends.Hold, error)
	// Now reads the clock of the truth of the shop's pod: what ExpiresAt is counted from.
	Now(ctx context.Context, shop backends.Shop) (backends.Instant, error)
	Restock(ctx context.Context, r *backends.RestockRequest) (*backends.Decision, error)
	Count(ctx context.Context, r *backends.CountRequest) (*backends.CountResult, error)
	// Levels answers one level for each key that exists, in any order. Keys may be of several
	// shops and pods, at most [backends.MaxPage], and distinct.
	Levels(ctx context.Context, keys []backends.Key) ([]backends.Level, error)
}

// BatchService is what a Service may offer besides: the counts that a connection has sent together, in
// their order, with one answer for each.
type BatchService interface {
	Counts(ctx context.Context, rs []*backends.CountRequest) []backends.CountAnswer
}

// Router tells stock keys from others. Its methods do no I/O.
type Router interface {
	// ParseKey tells whether key is a stock key, of which pod, and what it names.
	ParseKey(key string) (pod backends.Pod, k backends.Key, ok bool)
	// DefaultLocation is the constant location of the shop's pod; false when it has none.
	DefaultLocation(shop backends.Shop) (backends.Location, bool)
}

// Passthrough sends a command whose keys are no stock keys to the Redis that has the others. Do
// answers the raw RESP2 reply, whole and bounded ([MaxPassthroughReply]). Only commands that the
// door knows reach it: none that blocks, subscribes, scripts, or touches the server. An error of
// Redis is a reply (its first byte is '-'), not an err. The arguments are valid until Do returns.
type Passthrough interface {
	Do(ctx context.Context, args [][]byte) (reply []byte, err error)
}

// InfoField is one line of a section of INFO. Neither part may contain a line break.
type InfoField struct{ Name, Value string }

// InfoProvider gives the lines of INFO's section "Crossfade": pods, stages, epochs. It must not
// wait for a store.
type InfoProvider interface {
	CrossfadeInfo() []InfoField
}
