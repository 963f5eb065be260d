package backends

import "context"

// Store is one store of one pod. Its parts are declared apart since few users need them all.
// Every method may be called by many goroutines; every method honours its context; a method that
// fails because of it after something was sent answers ErrAmbiguous.
type Store interface {
	Truth
	Mirror
	Outbox
	Fencer
	Refiller
	Repairer
	Inspector
	Keeper
	// Side tells which role rules of stages apply to this store.
	Side() Side
	// Close frees what the store holds; twice is once.
	Close() error
}

// Truth decides. Each method is one atomic step: fence check, stock, hold state, outbox entry.
// Requests have been checked by their Check methods; a store may rely on the bounds.
type Truth interface {
	// Reserve grants the whole cart or refuses it (P3: a refusal was true at some instant within
	// the call). An id that is held with the same digest answers Granted, Replayed; an id that has
	// ended answers Ended; another digest is ErrHoldConflict. A line none of whose locations
	// has a level is an *UnknownStockError; a location without a level counts as empty.
	Reserve(ctx context.Context, t Token, r *ReserveRequest) (*Decision, error)
	// Claim: held → claimed. Released and expired → claimed as well: the units are retaken at the
	// same allocations, below zero if need be, and what was not there is filed as an Apology.
	// Claimed answers Claimed, Replayed. Unknown: with lines, they are allocated (by Allocate if
	// it serves them, else each line whole from its first location, below zero) and claimed, with
	// Apologies for what was missing; without lines, NotFound.
	Claim(ctx context.Context, t Token, r *ClaimRequest) (*Decision, error)
	// Release: held → released. Ended: released answers Released, Replayed; claimed and expired
	// answer Ended. Unknown answers NotFound.
	Release(ctx context.Context, t Token, r *ReleaseRequest) (*Decision, error)
	// Extend sets ExpiresAt to now+TTL while held (also after expiry, before the sweep).
	Extend(ctx context.Context, t Token, r *ExtendRequest) (*Decision, error)
	// Restock answers OutcomeRestocked with an Entry for a Level. Sent again it answers Replayed and
	// changes nothing, but writes the operation's id and delta, as this store has them, to the outbox
	// once more, as OpReemit and in every stage that has an outbox: it is how an operation that
	// both stores have decided, each in its own way, is brought to one delta after a kill.
	Restock(ctx context.Context, t Token, r *RestockRequest) (*Decision, error)
	// Count answers as Redis does; sent again, what it answered then, Replayed. A voided id is ErrVoid. In live,
	// once filled, ErrOutboxFull: its entry finds no room, and nothing was changed.
	Count(ctx context.Context, t Token, r *CountRequest) (*CountResult, error)
	// Expire ends at most limit holds whose ExpiresAt has passed by the store's clock.
	Expire(ctx context.Context, t Token, limit int) ([]*Decision, error)
	// Admitted answers nil when the fence admits t at some instant within the call, else a
	// *FencedError. It is how a refusal by one store is tied to an epoch of the other.
	Admitted(ctx context.Context, t Token, asMirror bool) error
}

// Mirror follows. It never refuses for want of stock.
type Mirror interface {
	// Now reads the store's clock.
	Now(ctx context.Context) (Instant, error)
	// Apply applies entries of the other store, each atomically, in the order given; asOf is a
	// Now of this store read before the attempt; older than half of retain is ErrStaleAttempt.
	// The result has one element per entry. The error is for the whole batch (fence, connection,
	// stale attempt): then no result is given and any of the entries may have been applied.
	Apply(ctx context.Context, t Token, asOf Instant, entries []Entry) ([]Applied, error)
	// Probe decides a reserve by a read without locks and takes nothing. It needs no token.
	Probe(ctx context.Context, r *ReserveRequest) (*OwnDecision, error)
}

// BatchCounter is what a store may offer besides Truth: counts of one caller in one step. They are done in
// their order, each with its own answer, as if by Count one after the other. An answer with neither
// result nor error was not tried.
type BatchCounter interface {
	Counts(ctx context.Context, t Token, rs []*CountRequest) []CountAnswer
}

// Outbox is the truth's list of states that the other store has not confirmed.
type Outbox interface {
	// Pending lists at most limit entries in their order, after the given Seq ("" = from the
	// start), that are at least minAgeMillis old by the store's clock.
	Pending(ctx context.Context, after string, minAgeMillis int64, limit int) ([]Entry, error)
	// Done removes entries and answers which of them were still there: of several callers
	// exactly one is told so for each entry.
	Done(ctx context.Context, seqs []string) (removed []string, err error)
	// OutboxStats counts.
	OutboxStats(ctx context.Context) (OutboxStats, error)
}

// Fencer keeps the fence.
type Fencer interface {
	// Fence reads it; a missing one is the zero Fence.
	Fence(ctx context.Context) (Fence, error)
	// Raise installs f if it outranks the present one and answers the fence after it. Raising to
	// what is there already changes nothing. Otherwise it answers the present fence and a
	// *FencedError. When it returns, no write of a lower rank can still commit. With ifEpoch not
	// zero it does so only if the present epoch is ifEpoch, at the server where that was raised: the compare-and-set
	// of a kill. A server that was restarted or replaced since answers ErrRestarted to it, and to any f of
	// its present epoch: a fence is re-issued by a higher epoch and without condition.
	Raise(ctx context.Context, f Fence, ifEpoch uint64) (Fence, error)
}

// Refiller is what backfill needs of a truth.
type Refiller interface {
	// EndBackfill clears the outbox's Lost flag, unless more entries have been dropped than dropped, the count when the backfill
	// began: a backfill that was broken off, or outrun, leaves the flag as it is.
	EndBackfill(ctx context.Context, t Token, dropped int64) error
	// Reemit writes the present state of each hold to the outbox, under version (epoch, n). A
	// hold that the store does not have is written as Released, version (epoch, 0), no lines: it
	// ends the hold in the other store. Atomic per hold; it answers how many were written.
	Reemit(ctx context.Context, t Token, ids []HoldID) (int, error)
	// ReemitLevels writes for each key its taken sum under version (epoch, n), and what is Owed
	// as a delta under a fresh operation id, setting Owed to zero. A key whose level has nothing
	// to say is written too: it must exist in the other store.
	ReemitLevels(ctx context.Context, t Token, keys []Key) (int, error)
	// SettleOp settles a count that the other store decided and that nobody may have been told of.
	// If this store knows the id, it was: the entry that is written, as OpReemit, carries its delta
	// and answer as they are here. Else the id becomes void in this store for good, and the entry tells
	// the other one (see [LevelChange].Void). Either way it carries the taken sum, as ReemitLevels
	// writes it. A key without a level is made. It answers whether the id is void.
	SettleOp(ctx context.Context, t Token, k Key, id OpID) (void bool, err error)
}

// Inspector reads.
type Inspector interface {
	// Identity names the data that this handle leads to: server, database and pod, as the server itself
	// tells them, whatever address was dialled. Two handles with one identity are one store.
	Identity(ctx context.Context) (string, error)
	// Get answers nil when the hold is not known.
	Get(ctx context.Context, id HoldID) (*Hold, error)
	// KnowsOp tells whether an operation id has been decided here, mirrored, corrected under or voided, and is not forgotten yet.
	KnowsOp(ctx context.Context, id OpID) (bool, error)
	// GetMany answers the known ones among ids.
	GetMany(ctx context.Context, ids []HoldID) (map[HoldID]*Hold, error)
	// Levels answers one level per key that exists.
	Levels(ctx context.Context, keys []Key) ([]Level, error)
	// ScanHolds pages through holds: all, or only open ones. It starts at cursor "" and ends
	// when next is "". What changes meanwhile may be missed or come twice.
	ScanHolds(ctx context.Context, cursor string, limit int, openOnly bool) (holds []*Hold, next string, err error)
	// ScanLevels pages through keys and their levels likewise.
	ScanLevels(ctx context.Context, cursor string, limit int) (levels []Level, next string, err error)
	// Apologies pages through what was filed, oldest first: it starts at cursor "" and ends when next is
	// "". Of what is filed at the same moment by several proxies MySQL may show the later one first.
	Apologies(ctx context.Context, cursor string, limit int) (as []Apology, next string, err error)
	// Conservation checks P2 at every key against the holds themselves, not against running
	// sums. Keys under traffic are read again until they are consistent. It answers the levels
	// that are out of balance, and how many keys it checked.
	Conservation(ctx context.Context) (broken []Level, checked int, err error)
}

// Keeper is the upkeep of a store.
type Keeper interface {
	// Setup creates what is missing (schema) and checks that the server is fit: errors are
	// ErrSetup with the next step in their text. It changes no stock and no fence.
	Setup(ctx context.Context) error
	// Maintain does one bounded round of upkeep: pools that have next to nothing refilled, debt
	// paid, holds and operation ids older than retain removed. More says that there was more to
	// do than one round. It needs the token of an epoch at which the store is truth or mirror.
	Maintain(ctx context.Context, t Token) (more bool, err error)
	// Ping answers nil when the server answers.
	Ping(ctx context.Context) error
}
