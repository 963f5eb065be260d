package redisstore

import (
	"context"
	"slices"
	"strconv"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// conservationRounds bounds how often keys under traffic are read again.
	conservationRounds = 5
	// atomicHolds is up to how many open holds one script sums, at some microseconds each, while
	// the server does nothing else.
	atomicHolds = 2000
	// conservationPage is how many holds or levels are read at once.
	conservationPage = 2000
)

// Conservation sums the holds themselves and compares with the levels. A scan takes a while, and
// holds move meanwhile: a difference counts only at a key whose held sum was not changed between
// a reading before the scan and one after it, which its count of changes tells. Keys that were
// changed are scanned for again; those that never rest are summed by one script at the end, if
// there are few enough holds, and else are left out of checked.
func (s *Store) Conservation(ctx context.Context) ([]backends.Level, int, error) {
	before, err := s.allLevels(ctx)
	if err != nil {
		return nil, 0, err
	}
	var broken []backends.Level
	checked := 0
	for round := 0; ; round++ {
		held, err := s.sumHolds(ctx)
		if err != nil {
			return nil, 0, err
		}
		if round == 0 { // holds at keys that have no level
			for k := range held {
				if _, ok := before[k]; !ok {
					before[k] = level{Level: backends.Level{Key: k}}
				}
			}
		}
		after, err := s.levelsAt(ctx, before)
		if err != nil {
			return nil, 0, err
		}
		restless := map[backends.Key]level{}
		for k, now := range after {
			out, settled := conserved(before[k], now, held[k])
			switch {
			case !settled:
				restless[k] = now
				continue
			case out != nil:
				broken = append(broken, *out)
			}
			checked++
		}
		if before = restless; len(before) == 0 || round == conservationRounds {
			break
		}
	}
	if len(before) > 0 {
		more, n, err := s.conserveAtOnce(ctx, before)
		if err != nil {
			return nil, 0, err
		}
		broken, checked = append(broken, more...), checked+n
	}
	slices.SortFunc(broken, func(a, b backends.Level) int { return a.Key.Compare(b.Key) })
	return broken, checked, nil
}

// conserved judges one key: was and now are its level before and after a scan of the holds, and
// held is what the scan found. A broken level is given with Held as its holds have it, unless only
// the running sum is wrong.
func conserved(was, now level, held int64) (broken *backends.Level, settled bool) {
	summed := now.Level
	summed.Held = held
	rested := was.changes == now.changes && was.Held == now.Held
	switch {
	case rested && summed.Imbalance() != 0:
		return &summed, true
	case now.Imbalance() != 0: // one reading, so no traffic explains it
		return &now.Level, true
	case rested || held == now.Held:
		return nil, true
	default:
		return nil, false
	}
}

// allLevels reads every level.
func (s *Store) allLevels(ctx context.Context) (map[backends.Key]level, error) {
	out := map[backends.Key]level{}
	for cursor := ""; ; {
		ls, next, err := s.scanLevels(ctx, cursor, conservationPage)
		if err != nil {
			return nil, err
		}
		for _, l := range ls {
			out[l.Key] = l
		}
		if cursor = next; cursor == "" {
			return out, nil
		}
	}
}

// levelsAt reads the levels of the keys again; one without a level is an empty one.
func (s *Store) levelsAt(ctx context.Context, at map[backends.Key]level) (map[backends.Key]level, error) {
	keys := make([]backends.Key, 0, len(at))
	out := make(map[backends.Key]level, len(at))
	for k := range at {
		keys = append(keys, k)
		out[k] = level{Level: backends.Level{Key: k}}
	}
	ls, err := s.readLevels(ctx, s.bulk, keys)
	if err != nil {
		return nil, err
	}
	for _, l := range ls {
		out[l.Key] = l
	}
	return out, nil
}

// sumHolds sums what open holds take, by key. All holds are scanned, not the index: the index may
// be what is broken.
func (s *Store) sumHolds(ctx context.Context) (map[backends.Key]int64, error) {
	open := map[backends.HoldID][]backends.Units{} // a scan may give a hold twice
	for cursor := ""; ; {
		hs, next, err := s.ScanHolds(ctx, cursor, conservationPage, false)
		if err != nil {
			return nil, err
		}
		for _, h := range hs {
			delete(open, h.ID)
			if h.State.Open() {
				open[h.ID] = h.Takes()
			}
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	out := map[backends.Key]int64{}
	for _, us := range open {
		for _, u := range us {
			out[u.Key] += u.Quantity
		}
	}
	return out, nil
}

// conserveAtOnce judges keys that never rest, at one instant. With too many holds for that it
// judges none.
func (s *Store) conserveAtOnce(ctx context.Context, at map[backends.Key]level) (broken []backends.Level, checked int, err error) {
	keys := make([]backends.Key, 0, len(at))
	for k := range at {
		keys = append(keys, k)
	}
	for part := range slices.Chunk(keys, readChunk) {
		args := []string{s.names.prefix + holdPart, strconv.Itoa(atomicHolds)}
		counters := make([]string, 0, len(part))
		for _, k := range part {
			counter, err := s.names.stock(k)
			if err != nil {
				return nil, 0, malformed("level "+k.String(), err)
			}
			counters, args = append(counters, counter), append(args, field(k))
		}
		v, err := s.one(ctx, s.bulk, s.script(sumHeldScript, backends.Token{}, counters, args...))
		if err != nil {
			return nil, 0, err
		}
		if v == int64(0) {
			return nil, 0, nil
		}
		p := replyOf(v)
		for i, k := range part {
			now, err := decodeLevel(k, p.text(2*i+1))
			if err != nil {
				return nil, 0, malformed("level "+k.String(), err)
			}
			if now == nil {
				now = &level{Level: backends.Level{Key: k}}
			}
			if out, _ := conserved(*now, *now, p.num(2*i)); out != nil {
				broken = append(broken, *out)
			}
			checked++
		}
		if err := p.err(); err != nil {
			return nil, 0, err
		}
	}
	return broken, checked, nil
}
