// Package respdoor is the front door that speaks the Redis protocol (RESP): a drop-in for a
// checkout that already keeps its stock in Redis counters, and the place where any Redis client
// can make holds.
//
// # Words
//
//   - A stock key is a Redis key that the [Router] maps to a level: the legacy counter of one item
//     at one location. Every other key is passed through to Redis, if that is configured.
//   - A frame is one command as it travels: an array of bulk strings, or an inline line.
//   - A batch is what was complete in the input buffer when the connection looked: its commands run
//     in order, and their replies leave in one write. Counts that stand one behind the other are
//     handed over together ([BatchService]), and are done in their order.
//   - The caller tag of an operation is the CALLER that the command gives, else the connection's
//     CLIENT SETNAME name where that is a legal tag, else the configured default.
//
// # Holds
//
// Every argument is a plain string; keywords are case-insensitive and stand at fixed places, so
// that no identifier (which may contain spaces and commas) can be taken for one.
//
//	XF.RESERVE shop hold TTL ms [CALLER tag] LINE item qty [LOC n loc…] [SPLIT] [LINE …]
//	XF.CLAIM   shop hold [WAIT ms] [CALLER tag] [LINE item qty [LOC n loc…] [SPLIT] …]
//	XF.RELEASE shop hold [CALLER tag]
//	XF.EXTEND  shop hold TTL ms [CALLER tag]
//	XF.GET     shop hold
//	XF.STOCK   shop item [LOC n loc…]
//	XF.RESTOCK shop item qty OPID id [LOC 1 loc] [MODE ADD|ONHAND|SELLABLE] [CALLER tag]
//	XF.HELP
//
// The shop comes first since it chooses the pod. LOC may be left out where the pod has a constant
// location. Replies are maps (RESP2: flat arrays of name and value). A verdict is a reply: status
// granted, sold_out, claimed, released, extended, ended, not_found or restocked. Whatever leaves
// the verdict unknown is an error reply whose first word is one of the Code constants; a retry
// under the same hold or operation id is then always safe. Times are relative (expires_in_ms),
// since the clocks of client and store may differ.
//
// # Counters
//
// DECR, DECRBY, INCR, INCRBY, GET, MGET, EXISTS, TOUCH, TYPE, STRLEN, TTL and PTTL on stock keys
// answer as Redis does, byte for byte, errors included (the parity test in cmd/internal/clienttest
// sends the same streams to both, and lists each relaxation). Each count gets an operation id before
// it is first sent, so that no retry behind the door takes twice; a retry by the client itself is
// a new command, as it is in Redis. SET is an absolute restock where that is configured, else
// refused; whatever else would change a stock key is refused with what to use instead.
//
// What is passed through is answered in RESP2's types also to a client of RESP3, but for null: a
// client reads both. Commands that block, subscribe, script or span several keys in a transaction
// are refused in words.
//
// # Invariants
//
//   - Replies come in the order of the commands, and a command takes effect only after the one before
//     it on the same connection. So what stands behind a command to a pod that does not answer waits
//     with it; other connections do not.
//   - What was handed to the service runs to its end on a bounded context of its own: a client
//     that disconnects cancels nothing.
//   - Memory follows what a client has sent, never what it has announced: lengths over a bound are
//     refused before anything is kept for them, and large buffers of all connections together come
//     out of one budget.
//   - Nothing waits for ever: half a frame, a client that does not read, a request, a
//     connection limit, a stop, each has its bound.
//   - A verdict that is not known is never a granted or sold_out reply.
//
// # Arrows
//
// The package imports backends, and of redcon the functions that write RESP. Its own parser
// replaces redcon's, which starts a frame anew at every read, has no limits and indexes with
// negative lengths. What it needs of the Writer it declares itself: [Service], [Router],
// [Passthrough], [InfoProvider].
package respdoor
