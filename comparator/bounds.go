package comparator

import "time"

// Bounds and defaults. Each is there so that comparing can hurt neither checkout nor the stores.
const (
	// DefaultQueue bounds the observations that wait for the judge. At some 500 bytes each it is
	// a few MB, and seconds of a busy proxy's decisions.
	DefaultQueue = 8192
	// DefaultMaxSettling bounds the settle queue: diverged decisions keep their whole cart.
	DefaultMaxSettling = 10_000
	// DefaultSettleWindow is how long a diverged decision waits for a quiescent moment: far longer
	// than a sweep (seconds) and than the bursts of a flash sale on one item, short enough that
	// a report says something soon.
	DefaultSettleWindow = 2 * time.Minute
	// DefaultFlushEvery is how much of the account a crash can lose.
	DefaultFlushEvery = time.Second
	// spoolCoverageEvery is how often the account is spooled while the store is away: a day of
	// outage is then some MB.
	spoolCoverageEvery = 10 * time.Second

	// firstRecheck and maxRecheck bound the pause between two looks for one decision; it doubles
	// from one to the other, so that a window has some thirty looks.
	firstRecheck = 50 * time.Millisecond
	maxRecheck   = 5 * time.Second
	// lookEvery is the shortest time between two looks: each reads the whole outbox twice, and
	// checkout shares the stores. With maxCasesPerLook it is 5,000 decisions a second.
	lookEvery = 50 * time.Millisecond
	// longestBreath bounds the pause after a look that took long: it is as long as that.
	longestBreath = time.Second
	// searchFor is how long is searched after one look. The case that reaches it is searched to its end. The pause
	// that follows is as long.
	searchFor = 250 * time.Millisecond
	// maxAskedAnew and askFor bound the refusals about which the shadow is asked once more between two looks: each
	// is a read of the shadow, and all others wait for it.
	maxAskedAnew = 32
	askFor       = time.Second
	// maxEvidence bounds the looks for one decision: all of them are kept.
	maxEvidence = 64
	// momentsApart is how far apart two quiescent moments have to be to count as two: longer
	// than a mirror step takes.
	momentsApart = 100 * time.Millisecond
	// maxCasesPerLook and maxKeysPerLook bound one look at the stores.
	maxCasesPerLook = 256
	maxKeysPerLook  = 2000
	// lookTimeout bounds one look.
	lookTimeout = 10 * time.Second
	// pendingPage and MaxPendingScan bound what a look reads of the outbox. With more entries
	// than that waiting, the shadow is far behind and nothing is quiescent anyway.
	pendingPage    = 1000
	MaxPendingScan = 20_000
	// maxEntryRefs bounds the pending entries that are kept as the record of one decision,
	// maxLookRefs those of one look for many, maxRefKeys the keys of each.
	maxEntryRefs = 16
	maxLookRefs  = 1024
	maxRefKeys   = 8

	// maxSearchKeys, maxSearchInstants, maxSearchNodes and maxSearchWork bound the search for a legal order: half a
	// second at worst. A decision about more keys, with more instants to try, with more
	// sums to count up, or with an operation that may have stood in more than maxChoices ways, is too large
	// to be explained.
	maxSearchKeys     = 8
	maxSearchInstants = 4096
	maxSearchNodes    = 200_000
	maxSearchWork     = 6_000_000
	maxChoices        = 256
	// maxCartKeys is how many keys of a cart every store reads at one instant. A larger cart may be read
	// in parts, which no single instant has to fit.
	maxCartKeys = 64
	// maxSearchSteps bounds the recorded operations that one search is given.
	maxSearchSteps = 20_000
	// maxFollowed bounds the followed entries that wait to be recorded: a second of a very busy
	// proxy. maxRecorded bounds what is recorded, in keys touched: at some 80 bytes each it is 40 MB
	// for a pod at worst. recordFor is how long it is kept: a case is looked into within seconds, and
	// needs what was followed since its decision.
	maxFollowed = 16_384
	maxRecorded = 524_288
	recordFor   = 45 * time.Second
	// bornBefore is how much older than a decision a hold has to be for its first state to have been
	// decided before it for sure: MySQL reads its clock before it commits.
	bornBefore = 10 * time.Second
	// maxLookBack bounds how far behind those that may overlap the earlier states of the same holds are looked for.
	maxLookBack = 4096
	// maxOwnSteps bounds what is taken from a record for one case, before what does not overlap is left out.
	maxOwnSteps = 40_000
	// maxWants bounds the keys that one proxy asks the others about, maxSheetSteps and maxSheetUnits the
	// operations that it tells them in one sheet, and the keys that they touch: some 4 MB at worst. Keys with
	// few operations come first; where there is no room for all, the newest are told.
	maxWants      = 256
	maxSheetSteps = 4096
	maxSheetUnits = 4 * maxSheetSteps
	// sheetEvery is how often the sheets are exchanged while somebody asks something, sheetIdle how
	// often otherwise: the latter is what a decision waits for at most until all know of it.
	// sheetGone is when a proxy that has not written its sheet counts as gone.
	sheetEvery = 500 * time.Millisecond
	sheetIdle  = 5 * time.Second
	sheetGone  = time.Minute
	// keepSheets is how long a sheet is kept at least that is not written any more: far longer than anybody
	// reads it, see exchange.keep. Each proxy removes at most maxPruned of them every pruneSheets.
	keepSheets  = time.Hour
	pruneSheets = time.Minute
	maxPruned   = 100
	// restPatience is how long a decision that has its order waits for a moment at which its keys
	// are at rest in both stores, to compare the levels as well; and how long one that has none waits for
	// a proxy of which nobody has heard yet to tell of itself.
	restPatience = 10 * time.Second

	// saveBatch is how many findings or rows one call of the store carries.
	saveBatch = 100
	// saveTimeout bounds one call of the store; stopPatience the last sheet and the last flush together.
	saveTimeout  = 5 * time.Second
	stopPatience = 10 * time.Second
	// MaxUnsaved bounds the findings that wait in memory while store and spool both fail.
	MaxUnsaved = 10_000
	// maxDirtyRows bounds the unsaved minutes of the account: a day of one epoch.
	maxDirtyRows = 1440
	// keptPerMinute bounds how many explained, and how many undetermined, decisions are kept with
	// their proof in a minute. Beyond it they are only counted: in a flash sale there are
	// thousands, all alike. Confirmed findings are never left out.
	keptPerMinute = 60

	// auditPage is how many holds or levels an audit reads at a time at most, and how many differences it
	// re-checks together: what it has in memory.
	auditPage = 500
	// DefaultAuditRounds and DefaultAuditPause bound how often and how slowly a difference is looked
	// at again: half a minute, longer than a sweep of entries that a proxy left behind takes.
	DefaultAuditRounds = 30
	DefaultAuditPause  = time.Second
	// MaxAuditFindings bounds the findings, and MaxAuditOpen the undetermined differences, that a
	// result lists; the totals count all.
	MaxAuditFindings = 10_000
	MaxAuditOpen     = 100
	// maxEffects bounds the keys for which an audit keeps what the hold findings do to the levels: some 2 MB of what is
	// saved of it. Beyond it, differences of levels that follow from holds are found once more.
	maxEffects = 10_000

	// MaxFindingUnits bounds the keys that a finding lists; TotalUnits counts all.
	MaxFindingUnits = 100
	// MaxText bounds each text of a finding (diff, proof, reason), in bytes.
	MaxText = 4096
	// MaxWhy bounds the reason of a change by hand, in bytes; MaxHistory how many changes a finding keeps.
	// Together they are some 50 kB, beside the 60 kB that a finding has at most otherwise.
	MaxWhy     = 1000
	MaxHistory = 50
	// MaxLifeChanges bounds the findings that one call moves: all of their rows are locked meanwhile.
	MaxLifeChanges = 100
	// MaxList bounds what one call of ListFindings answers.
	MaxList = 10_000
)
