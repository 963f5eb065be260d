package backends

import "time"

// Bounds on what callers may send. Each is there so that one request cannot hurt another.
const (
	// MaxIDLen bounds every identifier, in bytes. It is the width of the columns in MySQL,
	// where five of them share one index entry (limit 3,072 bytes).
	MaxIDLen = 64
	// MaxLines bounds the lines of one reserve. The longest real cart that we know of has 675.
	MaxLines = 1000
	// MaxLocations bounds the locations that one line may name.
	MaxLocations = 16
	// MaxQuantity bounds the units of one line. The largest real one that we know of is 2,880
	// (the Online Retail extract); one row per unit makes a million a long transaction already.
	MaxQuantity = 1_000_000
	// MaxCartUnits bounds the units of one cart, over all of its lines: what one transaction
	// may delete from the unit pool and from unmaterialised stock together.
	MaxCartUnits = 2_000_000
	// MaxOnHand bounds the units of one level, and the size of one delta. It is far inside the
	// 2^53 at which Lua's numbers, which are doubles, stop being exact.
	MaxOnHand = 1_000_000_000_000
	// MinTTL and MaxTTL bound the life that a caller may ask for a hold.
	MinTTL = 10 * time.Millisecond
	MaxTTL = 24 * time.Hour
	// MaxCallerLen bounds the caller tag, in bytes.
	MaxCallerLen = 64
	// DefaultPoolCap is the most available unit rows that one item/location has.
	DefaultPoolCap = 1000
	// MaxPage bounds what one call of a paging method returns.
	MaxPage = 10_000
	// DefaultOutboxMax bounds the outbox. At about 1 kB an entry this is 1 GB of Redis memory
	// at worst: set it by the memory that the pod's Redis can spare.
	DefaultOutboxMax = 1_000_000
	// DefaultRetain is how long ended holds and operation ids are kept: the longest TTL plus
	// the longest outage of the shadow that a pod tolerates without a backfill.
	DefaultRetain = MaxTTL + 24*time.Hour
)
