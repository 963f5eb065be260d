package comparator

// maxReached bounds the table of a search, at four bytes a sum.
const maxReached = 1 << 17

// sumSet is a set of sums, one layer at a time: a table by place where all that can be reached is few enough, as it
// nearly always is, else a map. It is where most of a search's time would go.
type sumSet struct {
	low    vec
	stride vec
	keys   int // that vary
	at     [maxSearchKeys]int
	marks  []uint32 // by place: the last layer in which it was reached; nil: others is used
	n      uint32   // of the layer
	others map[vec]struct{}
}

// begin makes room for all that can be reached from a sum by the moves of groups.
func (r *sumSet) begin(from vec, groups []alike) {
	low, high := from, from
	for i := range groups {
		var least, most vec // in the layers before it the group has not moved yet
		for _, m := range groups[i].moves {
			for k := range m {
				least[k], most[k] = min(least[k], m[k]), max(most[k], m[k])
			}
		}
		low, high = low.plus(least), high.plus(most)
	}
	r.low, r.keys, r.n = low, 0, 0
	size := int64(1)
	for k := range low {
		n := high[k] - low[k] + 1
		if n == 1 {
			continue
		}
		r.at[r.keys], r.stride[r.keys] = k, size
		r.keys++
		if size *= min(n, maxReached+1); size > maxReached {
			r.marks = nil
			return
		}
	}
	if int64(cap(r.marks)) < size {
		r.marks = make([]uint32, size)
	}
	r.marks = r.marks[:size]
	clear(r.marks)
}

// layer begins the next layer.
func (r *sumSet) layer() {
	if r.n++; r.marks == nil {
		r.others = map[vec]struct{}{}
	}
}

// add answers false when the sum has been reached in this layer before.
func (r *sumSet) add(sum *vec) bool {
	if r.marks == nil {
		if _, there := r.others[*sum]; there {
			return false
		}
		r.others[*sum] = struct{}{}
		return true
	}
	place := int64(0)
	for i := range r.keys {
		k := r.at[i]
		place += (sum[k] - r.low[k]) * r.stride[i]
	}
	if r.marks[place] == r.n {
		return false
	}
	r.marks[place] = r.n
	return true
}
