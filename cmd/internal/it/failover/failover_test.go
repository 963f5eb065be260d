package failover_test

import (
	"strings"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
)

// In shadow, a replica without the last writes is promoted. What MySQL has comes back from there, what only the proxies
// have in memory comes back from them, and nobody decides before.
func TestReplacedInShadow(t *testing.T) {
	r := newRig(t)
	r.stage("shadow")
	r.restock(0, "op-a", "a", 20)
	r.restock(0, "op-b", "b", 10)
	for _, id := range []string{"old", "freed", "paid", "paid-late"} {
		r.reserve(0, id, "a", 1)
	}
	r.settled()
	r.drained()
	r.detach()
	// In MySQL as well.
	r.reserve(0, "mirrored", "a", 2)
	r.reserve(1, "begun-and-freed", "a", 1)
	r.do(1, "released", "XF.RELEASE", shop, "begun-and-freed")
	r.do(1, "released", "XF.RELEASE", shop, "freed")
	r.do(1, "claimed", "XF.CLAIM", shop, "paid")
	r.restock(1, "op-c", "b", 5)
	r.drained()
	// In the memory of the proxies, and nowhere else that outlives the primary.
	r.ok(r.sql.Pause())
	r.reserve(0, "kept-1", "a", 3)
	r.reserve(1, "kept-2", "b", 4)
	r.do(1, "claimed", "XF.CLAIM", shop, "paid-late")
	r.restock(1, "op-d", "b", 7)
	r.promote()
	r.silent("a", "XFUNAVAILABLE")
	r.ok(r.sql.Resume())
	note := r.reissue(1)
	if !strings.Contains(note, "given back from MySQL") || strings.Contains(note, "left") {
		t.Errorf("the step says %q", note)
	}
	r.settled()
	r.have(map[backends.HoldID]backends.State{
		"old": backends.Held, "mirrored": backends.Held, "kept-1": backends.Held, "kept-2": backends.Held,
		"freed": backends.Released, "begun-and-freed": backends.Released, "paid": backends.Claimed, "paid-late": backends.Claimed,
	}, map[backends.Item][3]int64{"a": {18, 6, 12}, "b": {22, 4, 18}})
	// Ids are what they were: a buyer who sends again gets the same.
	r.do(0, "released", "XF.RELEASE", shop, "begun-and-freed")
	r.reserve(0, "kept-1", "a", 3)
	r.reserve(1, "after", "b", 18)
	if l, err := r.admins[0].Apologies(t.Context(), podName, nil, 10, ""); err != nil || len(l.Apologies) != 0 {
		t.Errorf("apologies: %+v, %v", l, err)
	}
}

// The same while MySQL does not answer: the pod goes on, and what comes back too late, because its units were sold again, is
// listed.
func TestReplacedWhileMySQLIsAway(t *testing.T) {
	r := newRig(t)
	r.stage("shadow")
	r.restock(0, "op-a", "a", 10)
	r.restock(0, "op-b", "b", 10)
	r.reserve(0, "old", "a", 1)
	r.drained()
	r.detach()
	r.reserve(0, "mirrored", "a", 9)
	r.drained()
	r.ok(r.sql.Pause())
	r.reserve(1, "kept", "b", 10)
	r.promote()
	r.silent("a", "XFUNAVAILABLE")
	if note := r.reissue(0); !strings.Contains(note, "left for later") {
		t.Errorf("the step says %q", note)
	}
	r.reserve(0, "sold-again", "a", 8)
	// What proxies keep came back without MySQL, before anybody could buy.
	r.do(1, "sold_out", "XF.RESERVE", shop, "refused", "TTL", longTTL, "LINE", "b", 1)
	r.ok(r.sql.Resume())
	r.settled()
	r.have(map[backends.HoldID]backends.State{
		"old": backends.Held, "mirrored": backends.Held, "kept": backends.Held, "sold-again": backends.Held,
	}, map[backends.Item][3]int64{"a": {10, 18, -8}, "b": {10, 10, 0}})
	l, err := r.admins[0].Apologies(t.Context(), podName, nil, 10, "")
	if err != nil || len(l.Apologies) != 1 || l.Apologies[0].Hold != "mirrored" || l.Apologies[0].Quantity != 8 {
		t.Errorf("apologies: %+v, %v; want 8 units of the hold \"mirrored\"", l, err)
	}
}

// In live MySQL is the truth, and Redis is filled again from it.
func TestReplacedInLive(t *testing.T) {
	r := newRig(t)
	r.stage("shadow")
	r.stage("live")
	r.restock(0, "op-a", "a", 20)
	r.restock(0, "op-u", "unsure", 5)
	for _, id := range []string{"old", "freed", "paid"} {
		r.reserve(0, id, "a", 1)
	}
	r.drained()
	r.detach()
	r.reserve(0, "lost", "a", 2)
	r.reserve(1, "begun-and-paid", "a", 1)
	r.do(1, "claimed", "XF.CLAIM", shop, "begun-and-paid")
	r.do(1, "released", "XF.RELEASE", shop, "freed")
	r.do(1, "claimed", "XF.CLAIM", shop, "paid")
	r.restock(0, "op-b", "a", 7)
	r.promote()
	r.silent("unsure", "XFUNAVAILABLE", "XFUNKNOWN") // what MySQL has committed meanwhile was not acknowledged, and may be asked for again
	if note := r.reissue(1); strings.Contains(note, "left") {
		t.Errorf("the step says %q", note)
	}
	r.settled()
	r.have(map[backends.HoldID]backends.State{
		"old": backends.Held, "lost": backends.Held, "freed": backends.Released, "paid": backends.Claimed, "begun-and-paid": backends.Claimed,
	}, map[backends.Item][3]int64{"a": {25, 3, 22}})
	r.reserve(0, "after", "a", 22)
	if _, err := r.admins[0].Kill(t.Context(), podName, "test", backends.StageUnknown, false, func(backends.Fence) {}); err != nil {
		t.Errorf("a kill of a pod whose Redis is complete again: %v", err)
	}
	r.settled()
	r.do(1, "sold_out", "XF.RESERVE", shop, "refused", "TTL", longTTL, "LINE", "a", 1)
}
