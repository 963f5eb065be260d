package comparator

import (
	"context"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Bounds of a pacer. Each step is small and each bound near: an audit has hours, a checkout has milliseconds.
const (
	// DefaultAuditShare is the share of the time that an audit reads at most. Whatever it slows down then is
	// less than that share of a checkout's requests.
	DefaultAuditShare = 0.1
	// MaxAuditShare is what may be asked for: beyond it there is nothing left to throttle.
	MaxAuditShare = 0.5
	// LeastAuditShare is what remains however slow the stores are, so that an audit ends.
	LeastAuditShare = 0.005
	// startShare is where a pacer begins, and shareStep what each calm page adds; a store that is slower than
	// usual halves the share.
	startShare, shareStep = 0.02, 0.005
	// longestRest bounds the pause after a page, so that one slow read costs seconds, not minutes.
	longestRest = 5 * time.Second
	// minPage and startPage bound the pages from below: smaller ones are all round trips. auditPage is the largest.
	minPage, startPage = 50, 100
	// longRead is how long one read may occupy a store: others wait behind it (Redis does one thing at a time). A
	// page with a longer one is followed by one of half the size.
	longRead = 5 * time.Millisecond
	// canaries are how many latencies the baseline of a store is taken from: at some twenty pages a second the
	// last seconds, at the slowest the last ten minutes. recentCanaries are those that are compared with it, and
	// fewCanaries how many there have to be before anything is compared.
	canaries, recentCanaries, fewCanaries = 128, 5, 16
	// slowerThan: a store is slower than usual when the median of the recent canaries is above so many times its
	// baseline and canarySlack: below that, loopback and schedulers wobble by themselves.
	slowerThan, canarySlack = 2, 500 * time.Microsecond
)

// canaryHold is looked up by canaries; whether it is there does not matter.
const canaryHold backends.HoldID = "audit.canary"

// Pacer decides how large the pages of an audit are and how long it rests between them, such that neither store
// suffers. It is a controller with two outputs:
//
//   - The share of the time that is read at all (additive increase, multiplicative decrease). After each rest a canary,
//     one point read of each store by the way that checkout's own reads take, is timed. When the median of the last
//     five is above twice the store's baseline (the lower quartile of the last 128) and half a millisecond, the
//     share is halved, else it grows by 0.5 %, up to the share that was asked for, and never below 0.5 %.
//   - The size of a page: halved when one of its reads took longer than 5 ms, else a tenth larger, within 50 and 500.
//
// The rest after a page of duration d is d × (1 − share) ÷ share, at most 5 s: a store that answers slowly is asked less
// often even before a canary says so. A load that stays is the new baseline after some minutes, so that an audit
// never stops for good. A Pacer is one audit's; it is not safe for concurrent use.
type Pacer struct {
	most  float64
	share float64
	size  int
	wait  func(context.Context, time.Duration) error
	now   func() time.Time
	of    [2]canaryLog // truth and shadow
	// Of the page since the last rest.
	busy, longest time.Duration
	// Of all.
	total PaceSum
}

// PaceSum is what a pacer has done so far.
type PaceSum struct {
	Pages    int64         `json:"pages"`
	BackOffs int64         `json:"back_offs"` // how often a store was slower than usual
	Busy     time.Duration `json:"busy"`      // reading
	Rested   time.Duration `json:"rested"`
}

// NewPacer makes a pacer that reads at most that share of the time; 0 means DefaultAuditShare, and what is out of
// bounds the nearest bound. now is the local clock and wait waits by it; nil means the real ones.
func NewPacer(share float64, now func() time.Time, wait func(context.Context, time.Duration) error) *Pacer {
	if share == 0 {
		share = DefaultAuditShare
	}
	share = max(LeastAuditShare, min(share, MaxAuditShare))
	if now == nil {
		now = time.Now
	}
	if wait == nil {
		wait = waitFor
	}
	return &Pacer{most: share, share: min(startShare, share), size: startPage, now: now, wait: wait}
}

// Sum is what it has done so far.
func (p *Pacer) Sum() PaceSum { return p.total }

// watch gives the stores of a pair with every read timed.
func (p *Pacer) watch(pair Pair) Pair {
	pair.Truth = timedTruth{pair.Truth, timed{pair.Truth, p}}
	pair.Shadow = timed{pair.Shadow, p}
	return pair
}

// took notes one read.
func (p *Pacer) took(d time.Duration) {
	p.busy += d
	p.longest = max(p.longest, d)
}

// rest ends a page: it rests, asks both stores a canary, and decides about the next page.
func (p *Pacer) rest(ctx context.Context, pair Pair) error {
	pause := restAfter(p.busy, p.share)
	p.total.Pages++
	p.total.Busy += p.busy
	p.total.Rested += pause
	p.size = nextSize(p.size, p.longest)
	p.busy, p.longest = 0, 0
	if err := p.wait(ctx, pause); err != nil {
		return err
	}
	slower := false
	for i, s := range []backends.Inspector{pair.Truth, pair.Shadow} {
		began := p.now()
		if _, err := s.Get(ctx, canaryHold); err != nil {
			return err
		}
		p.of[i].add(p.now().Sub(began))
		slower = p.of[i].slower() || slower
	}
	if slower {
		p.total.BackOffs++
	}
	p.share = nextShare(p.share, p.most, slower)
	return nil
}

// afterLook is the least pause after a look at differences that took so long: looks are within the share as well.
func (p *Pacer) afterLook(d time.Duration) time.Duration {
	p.total.Busy += d
	return restAfter(d, p.share)
}

// restAfter is the pause after having read for so long.
func restAfter(busy time.Duration, share float64) time.Duration {
	return min(longestRest, time.Duration(float64(busy)*(1-share)/share))
}

// nextShare is additive increase, multiplicative decrease.
func nextShare(share, most float64, slower bool) float64 {
	if slower {
		return max(min(LeastAuditShare, most), share/2)
	}
	return min(most, share+shareStep)
}

// nextSize halves the page of which one read took too long, and lets others grow by a tenth.
func nextSize(size int, longest time.Duration) int {
	if longest > longRead {
		return max(minPage, size/2)
	}
	return min(auditPage, size+max(1, size/10))
}

// canaryLog are the last canaries of a store, the oldest overwritten first.
type canaryLog struct {
	kept [canaries]time.Duration
	n    int // ever
}

func (l *canaryLog) add(d time.Duration) {
	l.kept[l.n%canaries] = d
	l.n++
}

// slower tells whether the store is slower than usual.
func (l *canaryLog) slower() bool {
	if l.n < fewCanaries {
		return false
	}
	all := slices.Clone(l.kept[:min(l.n, canaries)])
	recent := make([]time.Duration, recentCanaries)
	for i := range recent {
		recent[i] = l.kept[(l.n-1-i)%canaries]
	}
	slices.Sort(all)
	slices.Sort(recent)
	return recent[recentCanaries/2] > slowerThan*all[len(all)/4]+canarySlack
}

// timed is a store whose reads by an audit are timed.
type timed struct {
	backends.Inspector
	p *Pacer
}

func (t timed) since(began time.Time) { t.p.took(t.p.now().Sub(began)) }

// GetMany implements [backends.Inspector].
func (t timed) GetMany(ctx context.Context, ids []backends.HoldID) (map[backends.HoldID]*backends.Hold, error) {
	defer t.since(t.p.now())
	return t.Inspector.GetMany(ctx, ids)
}

// Levels implements [backends.Inspector].
func (t timed) Levels(ctx context.Context, keys []backends.Key) ([]backends.Level, error) {
	defer t.since(t.p.now())
	return t.Inspector.Levels(ctx, keys)
}

// ScanHolds implements [backends.Inspector].
func (t timed) ScanHolds(ctx context.Context, cursor string, limit int, openOnly bool) ([]*backends.Hold, string, error) {
	defer t.since(t.p.now())
	return t.Inspector.ScanHolds(ctx, cursor, limit, openOnly)
}

// ScanLevels implements [backends.Inspector].
func (t timed) ScanLevels(ctx context.Context, cursor string, limit int) ([]backends.Level, string, error) {
	defer t.since(t.p.now())
	return t.Inspector.ScanLevels(ctx, cursor, limit)
}

// timedTruth adds what only a truth has.
type timedTruth struct {
	TruthReader
	by timed
}

// GetMany implements [backends.Inspector].
func (t timedTruth) GetMany(ctx context.Context, ids []backends.HoldID) (map[backends.HoldID]*backends.Hold, error) {
	return t.by.GetMany(ctx, ids)
}

// Levels implements [backends.Inspector].
func (t timedTruth) Levels(ctx context.Context, keys []backends.Key) ([]backends.Level, error) {
	return t.by.Levels(ctx, keys)
}

// ScanHolds implements [backends.Inspector].
func (t timedTruth) ScanHolds(ctx context.Context, cursor string, limit int, openOnly bool) ([]*backends.Hold, string, error) {
	return t.by.ScanHolds(ctx, cursor, limit, openOnly)
}

// ScanLevels implements [backends.Inspector].
func (t timedTruth) ScanLevels(ctx context.Context, cursor string, limit int) ([]backends.Level, string, error) {
	return t.by.ScanLevels(ctx, cursor, limit)
}
