package respdoor

import (
	"crypto/rand"
	"encoding/binary"
	"sync/atomic"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// opIDs makes operation ids: 48 bits of milliseconds, 60 random bits of this server, 35 bits of a
// counter, written so that byte order is time order. They are unique without any store's help
// unless one server makes 2^35 of them in a millisecond.
type opIDs struct {
	server uint64
	last   atomic.Uint64
}

const (
	idDigits  = "0123456789abcdefghjkmnpqrstvwxyz" // 5 bits each, in byte order
	idTime    = 10
	idServer  = 12
	idCounter = 7
)

func newOpIDs() (*opIDs, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, err
	}
	return &opIDs{server: binary.BigEndian.Uint64(b[:])}, nil
}

func (o *opIDs) next(now time.Time) backends.OpID {
	var b [idTime + idServer + idCounter]byte
	put := func(from, n int, v uint64) {
		for i := from + n - 1; i >= from; i-- {
			b[i] = idDigits[v&31]
			v >>= 5
		}
	}
	put(0, idTime, uint64(max(0, now.UnixMilli()))) //nolint:gosec // not negative
	put(idTime, idServer, o.server)
	put(idTime+idServer, idCounter, o.last.Add(1))
	return backends.OpID(b[:])
}
