package comparator

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// paced is a pacer in a time of its own, over two stores of which a read takes as long as it is told.
type paced struct {
	*Pacer
	at     time.Time
	rested time.Duration
	store  *slowStore
}

func newPaced(share float64) *paced {
	p := &paced{at: time.Unix(1, 0)}
	p.store = &slowStore{clock: &p.at}
	p.Pacer = NewPacer(share, func() time.Time { return p.at }, func(_ context.Context, d time.Duration) error {
		p.at, p.rested = p.at.Add(d), p.rested+d
		return nil
	})
	return p
}

// slowStore takes as long as it is told.
type slowStore struct {
	backends.Store
	clock       *time.Time
	point, page time.Duration
	err         error
}

func (s *slowStore) Get(context.Context, backends.HoldID) (*backends.Hold, error) {
	*s.clock = s.clock.Add(s.point)
	return nil, s.err
}

func (s *slowStore) GetMany(context.Context, []backends.HoldID) (map[backends.HoldID]*backends.Hold, error) {
	*s.clock = s.clock.Add(s.page)
	return nil, nil
}

// pages reads so many, each with one read of each store.
func (p *paced) pages(t *testing.T, n int) {
	t.Helper()
	pair := Pair{Truth: p.store, Shadow: p.store}
	w := p.watch(pair)
	for range n {
		for _, s := range []backends.Inspector{w.Truth, w.Shadow} {
			if _, err := s.GetMany(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.rest(t.Context(), pair); err != nil {
			t.Fatal(err)
		}
	}
}

// Calm stores: the share grows to what was asked for and no further, and pages to their bound.
func TestPacerGrowsToItsShare(t *testing.T) {
	p := newPaced(0.1)
	p.store.point, p.store.page = 200*time.Microsecond, time.Millisecond
	p.pages(t, 100)
	if p.share != 0.1 || p.size != auditPage || p.total.BackOffs != 0 {
		t.Errorf("share %g, pages of %d, %+v", p.share, p.size, p.total)
	}
	began, busy := p.at, p.total.Busy
	p.pages(t, 100)
	if got := float64(p.total.Busy-busy) / float64(p.at.Sub(began)); got > 0.101 || got < 0.09 {
		t.Errorf("it reads %g of the time", got)
	}
}

// A store that is slower than it was lately is asked less at once; when it is calm again, or has been so slow for long,
// the share comes back.
func TestPacerBacksOff(t *testing.T) {
	p := newPaced(0.1)
	p.store.point, p.store.page = 200*time.Microsecond, time.Millisecond
	p.pages(t, 100)
	p.store.point = 5 * time.Millisecond
	p.pages(t, 8)
	if p.share > 0.02 || p.total.BackOffs < 4 {
		t.Errorf("after eight slow canaries the share is %g, %+v", p.share, p.total)
	}
	p.pages(t, 10)
	if p.share != LeastAuditShare {
		t.Errorf("the share is %g", p.share)
	}
	p.store.point = 200 * time.Microsecond
	p.pages(t, 30)
	if p.share != 0.1 {
		t.Errorf("when it is calm again the share is %g", p.share)
	}
	p.store.point = 5 * time.Millisecond
	before := p.total.BackOffs
	p.pages(t, canaries)
	if p.share != 0.1 || p.total.BackOffs-before < 50 {
		t.Errorf("a load that stays is the new baseline: share %g, %d times slower", p.share, p.total.BackOffs-before)
	}
}

// A page that occupies a store for long is halved; a pause is never longer than its bound.
func TestPacerHalvesLongPages(t *testing.T) {
	p := newPaced(0.1)
	p.store.page = 2 * longRead
	p.pages(t, 1)
	if p.size != startPage/2 {
		t.Errorf("pages of %d", p.size)
	}
	p.store.page = time.Minute
	p.rested = 0
	p.pages(t, 10)
	if p.size != minPage || p.rested != 10*longestRest {
		t.Errorf("pages of %d, rested %s", p.size, p.rested)
	}
}

// Whatever the stores do, both outputs stay within their bounds.
func TestPacerStaysWithinItsBounds(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, asked := range []float64{-1, 0, 0.001, 0.05, 0.5, 7} {
		p := newPaced(asked)
		for range 300 {
			p.store.point = time.Duration(rnd.Int64N(int64(20 * time.Millisecond)))
			p.store.page = time.Duration(rnd.Int64N(int64(20 * time.Millisecond)))
			before := p.rested
			p.pages(t, 1)
			if p.share < LeastAuditShare || p.share > MaxAuditShare || p.size < minPage || p.size > auditPage || p.rested-before > longestRest {
				t.Fatalf("asked for %g: share %g, pages of %d, rested %s", asked, p.share, p.size, p.rested-before)
			}
		}
		if asked == 0 && p.most != DefaultAuditShare {
			t.Errorf("the default is %g", p.most)
		}
	}
}

func TestPacerPassesErrorsOn(t *testing.T) {
	p := newPaced(0)
	p.store.err = errors.New("away")
	if err := p.rest(t.Context(), Pair{Truth: p.store, Shadow: p.store}); !errors.Is(err, p.store.err) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	real := NewPacer(0, nil, nil)
	if err := real.rest(ctx, Pair{Truth: p.store, Shadow: p.store}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
