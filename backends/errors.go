package backends

import (
	"errors"
	"fmt"
)

// Sentinels of the port. Test with errors.Is.
var (
	// ErrHoldConflict: the hold id is in use with a different body.
	ErrHoldConflict = errors.New("hold id is in use with a different shop or different lines; use a new id for a new cart")
	// ErrOutboxFull: a count that would have to be mirrored before it is answered (live, filled) finds no
	// room in the outbox. Nothing was changed. It is a case of ErrUnavailable: the other store is behind,
	// or away, and the caller may try again when it has caught up.
	ErrOutboxFull = fmt.Errorf("%w: its outbox is full, since the other store has not confirmed what waits there; nothing was changed, try again", ErrUnavailable)
	// ErrBusy: a lock could not be had in time. Nothing was changed; the answer is unknown,
	// never sold out, and the caller may retry under the same id.
	ErrBusy = errors.New("store is busy: a lock could not be had in time; retry under the same id")
	// ErrUnavailable: the store could not be reached, and nothing was sent to it; or it did nothing, for a
	// reason that time cures.
	ErrUnavailable = errors.New("store is unavailable")
	// ErrAmbiguous: the connection or the deadline broke after the step was sent.
	ErrAmbiguous = errors.New("outcome unknown: the step may or may not have taken effect; retry under the same id")
	// ErrStaleAttempt: the mirror attempt is older than half the receiver's retain time.
	ErrStaleAttempt = errors.New("mirror attempt is too old to be applied safely; read the store's time again and retry")
	// ErrOutOfOrder: a take's entry came before an earlier one of its key. Takes travel as the sum
	// that they leave, so the later entry would bring the earlier take's effect without its operation
	// id; after a kill that take, sent again to Redis under its id, would be taken twice. So in live,
	// where answers wait for Redis, the entries of a key are applied in their order: mirror the
	// earlier one first.
	ErrOutOfOrder = errors.New("an earlier take of the same key has to be mirrored first")
	// ErrVoid: a kill voided the operation before anybody was told of it. Nothing was done under its
	// id and nothing ever will be; use a new id.
	ErrVoid = errors.New("the operation was voided by a kill; nothing was done under its id; use a new id")
	// ErrDamaged: a record or key in the store is not what the store itself writes.
	ErrDamaged = errors.New("stored data is damaged")
	// ErrSameStore: what was given as the shadow is the truth itself. It would always agree.
	ErrSameStore = errors.New("truth and shadow are one and the same store, which always agrees with itself; point one of them at another server or database")
	// ErrSetup: the server cannot be used as it is configured (see the text for the next step).
	ErrSetup = errors.New("server is not usable")
)

// FieldError says what is wrong with an input, and what to do.
type FieldError struct {
	Field string // which field
	Value string // what it was (quoted and shortened)
	Bound string // what is allowed
	Next  string // what to do
}

func (e *FieldError) Error() string {
	return fmt.Sprintf("%s is %s; allowed: %s; %s", e.Field, e.Value, e.Bound, e.Next)
}

// UnknownStockError: none of the locations that a line names has a level for its item.
type UnknownStockError struct {
	Key  Key
	Line int // index of the line; -1 when it is not about a line
}

func (e *UnknownStockError) Error() string {
	return fmt.Sprintf("no stock is known for shop %q item %q location %q; load it with 'crossfade stock load' or a restock", e.Key.Shop, e.Key.Item, e.Key.Location)
}

// FencedError: the store refused a write since its fence does not admit the token. Nothing was
// changed. Have is the fence as the store has it: when its epoch is higher than the sender's, the
// sender is stale and should adopt it.
type FencedError struct {
	Side Side
	Have Fence
	Want Token
}

func (e *FencedError) Error() string {
	return fmt.Sprintf("%s fence is at %s and refuses epoch %d", e.Side, e.Have, e.Want.Epoch)
}

// IsAmbiguous tells whether the step that answered err may have taken effect.
func IsAmbiguous(err error) bool { return errors.Is(err, ErrAmbiguous) }

// IsRejection tells whether err is the caller's own fault: the store works, and a retry of the same
// request would be refused again. For a breaker it is not a failure.
func IsRejection(err error) bool {
	var fe *FieldError
	var ue *UnknownStockError
	return errors.As(err, &fe) || errors.As(err, &ue) || errors.Is(err, ErrHoldConflict) || errors.Is(err, ErrVoid)
}
