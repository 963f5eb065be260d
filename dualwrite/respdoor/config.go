package respdoor

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Bounds of the protocol. A cart at its limits has to fit: MaxLines lines of LINE, item, qty, LOC,
// n, MaxLocations locations and SPLIT, after at most seven leading arguments.
const (
	cartLineArgs = 6 + backends.MaxLocations
	cartHeadArgs = 7
	// cartArgs is 22,007 at the present bounds.
	cartArgs = cartHeadArgs + backends.MaxLines*cartLineArgs
	// cartBytes is what such a cart takes on the wire at worst, about 1.3 MB: an identifier of
	// 64 bytes travels as $64\r\n…\r\n, and the five short words of a line in at most 60 bytes.
	cartBytes = 1024 + backends.MaxLines*((1+backends.MaxLocations)*(backends.MaxIDLen+7)+60)

	// DefaultMaxArgs bounds the arguments of one command: the largest cart, and some room.
	DefaultMaxArgs = 24_000
	// DefaultMaxBulk bounds one argument, in bytes. Stock needs 64; values that are passed through
	// need more.
	DefaultMaxBulk = 64 << 10
	// DefaultMaxFrame bounds one command with its framing, in bytes.
	DefaultMaxFrame = 2 << 20
	// DefaultMaxOutput bounds the replies that wait for a client which sends without reading.
	// A pipeline of half a million DECRs fits.
	DefaultMaxOutput = 4 << 20
	// DefaultMaxBuffers bounds what all connections together keep beyond their base buffers.
	DefaultMaxBuffers = 512 << 20
	// DefaultMaxConns is Redis's own default.
	DefaultMaxConns = 10_000
	// DefaultFrameTimeout is for a frame of two megabytes over a slow line, and for TLS handshakes.
	DefaultFrameTimeout = 30 * time.Second
	// DefaultWriteTimeout is how long a client may take 64 KiB of replies.
	DefaultWriteTimeout = 30 * time.Second
	// DefaultRequestTimeout bounds one operation behind the door. A switch holds operations at
	// the gate for less than that.
	DefaultRequestTimeout = 10 * time.Second
	// MaxPassthroughReply bounds the reply to one command that was passed through, in bytes.
	MaxPassthroughReply = 64 << 20
	// MaxWait bounds XF.CLAIM … WAIT: it has to end within the request's time.
	MaxWait = time.Minute
	// MaxClientName bounds CLIENT SETNAME and SETINFO, in bytes.
	MaxClientName = 256
	// DefaultVersion is the redis_version that HELLO and INFO report: the level of the commands
	// that the door knows. Clients choose features by it.
	DefaultVersion = "7.2.0"
)

const (
	// baseBuffer is the input buffer of a connection at rest; a pipeline of hundreds of DECRs.
	baseBuffer = 16 << 10
	// flushAt is when replies are written although the batch is not done.
	flushAt = 64 << 10
	// keepOutput is the largest reply buffer that a connection keeps for the next batch.
	keepOutput = 64 << 10
)

// Config of the door. The zero value serves without TLS and AUTH, with all defaults.
type Config struct {
	// User and Password: clients must AUTH. An empty Password asks for none. An empty User is
	// "default", as in Redis.
	User, Password string
	// TLS, when set, is what connections must speak.
	TLS *tls.Config
	// Caller is the tag of operations whose connection has no legal name.
	Caller string
	// SetRestocks tells whether SET on a stock key of the pod is an absolute restock of what is
	// sellable. Nil: in no pod.
	SetRestocks func(backends.Pod) bool
	// Passthrough takes other keys; nil: they are refused.
	Passthrough Passthrough
	// Reserved are the prefixes of keys that clients must not reach by pass-through, since they
	// are the proxy's own.
	Reserved []string
	// Info adds to INFO; may be nil.
	Info InfoProvider
	// Version is the redis_version reported.
	Version string
	// Log takes what an operator should see: refused connections, panics. Nil discards.
	Log *slog.Logger

	// Bounds; zero means the Default of the same name.
	MaxConns, MaxArgs, MaxBulk, MaxFrame, MaxOutput int
	MaxBuffers                                      int64
	FrameTimeout, WriteTimeout, RequestTimeout      time.Duration
	// IdleTimeout closes connections that send nothing. Zero never does: pools keep connections.
	IdleTimeout time.Duration
}

func (c Config) withDefaults() (Config, error) {
	ints := []struct {
		name    string
		v       *int
		def, lo int
	}{
		{"max connections", &c.MaxConns, DefaultMaxConns, 1},
		{"max arguments", &c.MaxArgs, DefaultMaxArgs, 16},
		{"max argument bytes", &c.MaxBulk, DefaultMaxBulk, backends.MaxIDLen},
		{"max frame bytes", &c.MaxFrame, DefaultMaxFrame, baseBuffer},
		{"max output bytes", &c.MaxOutput, DefaultMaxOutput, baseBuffer},
	}
	const most = 1 << 30
	for _, i := range ints {
		if *i.v == 0 {
			*i.v = i.def
		}
		if *i.v < i.lo || *i.v > most {
			return c, &backends.FieldError{Field: "resp " + i.name, Value: strconv.Itoa(*i.v), Bound: fmt.Sprintf("%d to %d", i.lo, most), Next: "leave it out for the default"}
		}
	}
	if c.MaxBuffers == 0 {
		c.MaxBuffers = DefaultMaxBuffers
	}
	if c.MaxBuffers < int64(c.MaxFrame) {
		return c, &backends.FieldError{Field: "resp max buffers", Value: strconv.FormatInt(c.MaxBuffers, 10), Bound: "at least the largest frame", Next: "leave it out for the default"}
	}
	times := []struct {
		name string
		v    *time.Duration
		def  time.Duration
	}{
		{"frame timeout", &c.FrameTimeout, DefaultFrameTimeout},
		{"write timeout", &c.WriteTimeout, DefaultWriteTimeout},
		{"request timeout", &c.RequestTimeout, DefaultRequestTimeout},
		{"idle timeout", &c.IdleTimeout, 0},
	}
	for _, t := range times {
		if *t.v == 0 {
			*t.v = t.def
		}
		if *t.v < 0 {
			return c, &backends.FieldError{Field: "resp " + t.name, Value: t.v.String(), Bound: "above zero", Next: "leave it out for the default"}
		}
	}
	if c.Version == "" {
		c.Version = DefaultVersion
	}
	if c.User == "" {
		c.User = "default"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.SetRestocks == nil {
		c.SetRestocks = func(backends.Pod) bool { return false }
	}
	return c, backends.CheckCaller(c.Caller)
}
