package respdoor

import (
	"errors"
	"strings"

	"github.com/crossfade-proxy/crossfade/backends"
)

// The first words of error replies that are the door's own. They are stable: callers switch on them.
const (
	// CodeInvalid: the request is wrong as it stands; the text names the field and its bound.
	CodeInvalid = "XFINVALID"
	// CodeNoStock: no level is known for what a line names.
	CodeNoStock = "XFNOSTOCK"
	// CodeConflict: the hold id is in use with a different body.
	CodeConflict = "XFCONFLICT"
	// CodeBusy: a lock could not be had in time. Nothing was changed; the verdict is unknown.
	CodeBusy = "XFBUSY"
	// CodeUnavailable: the store could not be asked. Nothing was changed; the verdict is unknown.
	CodeUnavailable = "XFUNAVAILABLE"
	// CodeUnknown: the operation may or may not have taken effect. Send it again under the same id.
	CodeUnknown = "XFUNKNOWN"
)

// Redis's own words. The parity test holds them against a real server.
const (
	errUnknownCommand    = "ERR unknown command '"
	errUnknownSubcommand = "ERR unknown subcommand '"
	errArity             = "ERR wrong number of arguments for '"
	errNotInteger        = "ERR value is not an integer or out of range"
	errNotInt32          = "ERR value is out of range, value must between -2147483648 and 2147483647"
	errDecrOverflow      = "ERR decrement would overflow"
	errSyntax            = "ERR syntax error"
	errNoAuth            = "NOAUTH Authentication required."
	errWrongPass         = "WRONGPASS invalid username-password pair or user is disabled."
	errNoPassword        = "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?"
	errHelloNoAuth       = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time"
	errNoProto           = "NOPROTO unsupported protocol version"
	errProtoNumber       = "ERR Protocol version is not an integer or out of range"
	errHelloOption       = "ERR Syntax error in HELLO option '"
	errClientName        = "ERR Client names cannot contain spaces, newlines or special characters."
	errDBIndex           = "ERR DB index is out of range"
	errMaxClients        = "ERR max number of clients reached"
	errExecAlone         = "ERR EXEC without MULTI"
	errDiscardAlone      = "ERR DISCARD without MULTI"
)

// The door's words where Redis has none.
const (
	errHalfFrame     = "ERR Protocol error: a command was begun and not completed in time"
	errBuffers       = "ERR the proxy has no buffer memory left for a command of this size; try again"
	errNameTooLong   = "ERR Client names and attributes are at most 256 bytes long here"
	errOtherKey      = "ERR no stock key, and this proxy passes other keys on to no Redis: "
	errKeyless       = "ERR this proxy passes commands on to no Redis: "
	errReservedKey   = "ERR the key belongs to the proxy itself: "
	errBlocking      = "ERR commands that block are not passed through; leave out BLOCK"
	errReplyTooLong  = "ERR the reply is longer than this proxy passes through"
	errConfigRefused = "ERR the proxy is configured by its file, not by CONFIG; see crossfade.yaml"
	errTracking      = "ERR client-side caching is not available through this proxy"
	errTooManyKeys   = "ERR at most 10000 stock keys in one command"
)

// refusals are commands that Redis has and the door has not, with the way out.
var refusals = map[string]string{
	"multi":        "a transaction cannot span two stores; reserve a whole cart with one XF.RESERVE",
	"watch":        "a transaction cannot span two stores; reserve a whole cart with one XF.RESERVE",
	"eval":         "scripts would bypass the proxy; use the XF. commands (XF.HELP) or counters",
	"evalsha":      "scripts would bypass the proxy; use the XF. commands (XF.HELP) or counters",
	"eval_ro":      "scripts would bypass the proxy; use the XF. commands (XF.HELP) or counters",
	"evalsha_ro":   "scripts would bypass the proxy; use the XF. commands (XF.HELP) or counters",
	"fcall":        "functions would bypass the proxy; use the XF. commands (XF.HELP) or counters",
	"fcall_ro":     "functions would bypass the proxy; use the XF. commands (XF.HELP) or counters",
	"script":       "scripts would bypass the proxy; use the XF. commands (XF.HELP) or counters",
	"function":     "functions would bypass the proxy; use the XF. commands (XF.HELP) or counters",
	"subscribe":    "subscribe at Redis itself",
	"psubscribe":   "subscribe at Redis itself",
	"ssubscribe":   "subscribe at Redis itself",
	"unsubscribe":  "subscribe at Redis itself",
	"punsubscribe": "subscribe at Redis itself",
	"sunsubscribe": "subscribe at Redis itself",
	"publish":      "publish at Redis itself",
	"spublish":     "publish at Redis itself",
	"pubsub":       "ask Redis itself",
	"monitor":      "monitor Redis itself",
	"blpop":        "commands that block are not passed through",
	"brpop":        "commands that block are not passed through",
	"blmove":       "commands that block are not passed through",
	"blmpop":       "commands that block are not passed through",
	"brpoplpush":   "commands that block are not passed through",
	"bzpopmin":     "commands that block are not passed through",
	"bzpopmax":     "commands that block are not passed through",
	"bzmpop":       "commands that block are not passed through",
	"wait":         "the proxy waits for replicas itself where it has to",
	"waitaof":      "the proxy waits for replicas itself where it has to",
	"flushall":     "it would remove the stock; do it at Redis itself if that is meant",
	"flushdb":      "it would remove the stock; do it at Redis itself if that is meant",
	"swapdb":       "the proxy has one database",
	"move":         "the proxy has one database",
	"migrate":      "it would remove keys behind the proxy",
	"shutdown":     "stop the proxy by a signal, and Redis at Redis itself",
	"save":         "it is for Redis itself",
	"bgsave":       "it is for Redis itself",
	"replicaof":    "it is for Redis itself",
	"slaveof":      "it is for Redis itself",
	"cluster":      "the proxy is not a cluster node",
}

// asked is what a call was for: it decides what its failure means to the client.
type asked uint8

const (
	// byID: a hold or a restock, that can be sent again under its id.
	byID asked = iota
	// byCommand: a counter, or a command passed through, that would count again.
	byCommand
	// reading: there is no outcome that could be unknown: it was not had, and that is all.
	reading
)

// replyTo puts an error of the service into a reply.
func replyTo(err error, a asked) string {
	code := codeOf(err, a)
	switch {
	case code == CodeUnknown && a == byCommand:
		return code + " the command may or may not have taken effect, and would count again if it were repeated; holds (XF.HELP) can be repeated safely"
	case code == CodeBusy && a != byID:
		return code + " a lock could not be had in time; nothing was changed, try again"
	}
	text := err.Error()
	if code == CodeUnknown && !strings.Contains(text, "retry") {
		text += "; the outcome is unknown, retry under the same id"
	}
	return code + " " + shorten(text)
}

func codeOf(err error, a asked) string {
	var field *backends.FieldError
	var stock *backends.UnknownStockError
	var fenced *backends.FencedError
	var syntax *syntaxError
	switch {
	case backends.IsAmbiguous(err) && a != reading:
		return CodeUnknown
	case errors.As(err, &field), errors.As(err, &syntax):
		return CodeInvalid
	case errors.As(err, &stock):
		return CodeNoStock
	case errors.Is(err, backends.ErrHoldConflict):
		return CodeConflict
	case errors.Is(err, backends.ErrBusy):
		return CodeBusy
	case errors.Is(err, backends.ErrUnavailable), errors.As(err, &fenced), a == reading:
		return CodeUnavailable
	default:
		return CodeUnknown // nothing is known about this error, so nothing about the outcome
	}
}

// shorten bounds a text that quotes input or comes from elsewhere.
func shorten(s string) string {
	const most = 500
	if len(s) > most {
		s = s[:most] + "..."
	}
	return s
}
