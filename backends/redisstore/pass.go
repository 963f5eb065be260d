package redisstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/crossfade-proxy/crossfade/backends"
)

// MaxPassReply bounds the reply of a command that is passed through, in bytes.
const MaxPassReply = 64 << 20

// errPassReply: the reply was larger than MaxPassReply.
var errPassReply = errors.New("the reply is larger than pass-through allows")

// statefulCommands change the connection, which is shared, or hold it: they are never passed on.
// Which others may be is for the door to say.
var statefulCommands = map[string]bool{
	"AUTH": true, "HELLO": true, "RESET": true, "QUIT": true, "SELECT": true, "CLIENT": true, "MONITOR": true,
	"MULTI": true, "EXEC": true, "DISCARD": true, "WATCH": true, "UNWATCH": true,
	"SUBSCRIBE": true, "PSUBSCRIBE": true, "SSUBSCRIBE": true, "UNSUBSCRIBE": true, "PUNSUBSCRIBE": true, "SUNSUBSCRIBE": true,
	"BLPOP": true, "BRPOP": true, "BLMOVE": true, "BRPOPLPUSH": true, "BLMPOP": true, "BZPOPMIN": true, "BZPOPMAX": true, "BZMPOP": true,
	"XREAD": true, "XREADGROUP": true, "WAIT": true, "WAITAOF": true, "SYNC": true, "PSYNC": true, "REPLCONF": true,
	"READONLY": true, "READWRITE": true, "ASKING": true,
}

// PassThrough sends a command that has nothing to do with stock to the pod's Redis, and answers
// the raw RESP2 reply. An error of Redis is a reply that begins with '-'. The command is sent
// once: ErrUnavailable says that it was not, ErrAmbiguous that it may have been done. Commands
// that would change the shared connection, and keys under the pod's own prefix, are refused with
// a *backends.FieldError.
func (s *Store) PassThrough(ctx context.Context, args [][]byte) ([]byte, error) {
	if err := s.mayPass(args); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, unavailable(err)
	}
	c := &command{args: make([]any, len(args))}
	for i, a := range args {
		c.args[i] = a
	}
	c.args[0] = string(args[0])
	if len(args) > 1 {
		c.args[len(args)-1] = sentMark{c: c, value: string(args[len(args)-1])}
	}
	var reply bounded
	err := s.pass.Process(ctx, redis.NewRawWriteToCmd(ctx, &reply, c.args...))
	switch {
	case err == nil:
		return reply.buf.Bytes(), nil
	case errors.Is(err, errPassReply):
		return nil, fmt.Errorf("%w: %w", backends.ErrAmbiguous, err)
	default:
		return nil, classify(err, c.sent.Load(), backends.Token{})
	}
}

func (s *Store) mayPass(args [][]byte) error {
	if len(args) == 0 {
		return &backends.FieldError{Field: "command", Value: "empty", Bound: "a command", Next: "send one"}
	}
	if name := strings.ToUpper(string(args[0])); statefulCommands[name] {
		return &backends.FieldError{Field: "command", Value: abbreviate(name), Bound: "commands that leave the connection as it is", Next: "send it to Redis itself"}
	}
	for _, a := range args[1:] {
		if bytes.HasPrefix(a, []byte(s.names.prefix)) {
			return &backends.FieldError{Field: "key", Value: abbreviate(string(a)), Bound: "keys outside " + abbreviate(s.names.prefix), Next: "use another key: these are Crossfade's own"}
		}
	}
	return nil
}

// bounded keeps a reply up to its bound. It has no method but Write, so that no copy goes past it.
type bounded struct{ buf bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.buf.Len()+len(p) > MaxPassReply {
		return 0, errPassReply
	}
	return b.buf.Write(p)
}
