// Package redisstore fills backends.Store on Redis 7 (or newer) and Valkey, through go-redis.
//
// # Data
//
// A pod's own keys begin with its prefix, "xf:<pod>:" unless configured:
//
//	fence      hash    epoch, stage, open, filled, alone; run (of the server at which it was raised)
//	levels     hash    "shop<tab>item<tab>location" → "onhand held taken taken-epoch taken-n changes";
//	                   it is also the index of the keys that exist
//	h:<id>     string  one hold with its whole state (see codec.go); ended ones live for retain
//	exp        zset    open holds by the millisecond of their expiry
//	out        stream  the outbox; an entry is the whole state, so reading it needs nothing else
//	box        hash    lost and dropped of the outbox
//	op:<id>    string  "delta answer" of a restock, for retain, or of a take, for TakeRetain;
//	                   "0 0 void" where nobody decided it and nobody ever will
//	call:<id>  string  operation ids of the takes of one call, and what each was answered, for
//	                   TakeRetain
//	apologies  stream  bounded
//
// What is for sale at a level is the counter that an existing checkout has already, named by
// backends.KeyTemplate ("stock:{shop}:{item}"); it goes below zero for debt by nature. Held is a
// running sum, so one reading of a field and a counter checks P2 at a key; Conservation sums the
// holds themselves. changes counts the changes of held, which is how Conservation knows that
// nothing moved while it was reading.
//
// A counter that holds a number and has no level is adopted at its first use: what it has is on
// hand, and what it lacks has been taken. Adopt does so for all of them. A counter that is missing
// where there is a level counts as zero, as in Redis; Conservation reports it.
//
// # Steps
//
// Each truth or mirror write is one script (lua/*.lua, with a shared prelude before each), and a
// script reads and checks everything before its first write, since Lua has no rollback: a key of a
// wrong type, a number that is none, or a record that cannot be read is backends.ErrDamaged,
// names the key, and nothing is changed. "#!lua" on the first line has a server that is out of
// memory refuse a writing script as a whole. Scripts are called by their SHA-1; a call whose
// script the server does not know has done nothing, and is sent again after the script's text.
//
// # Sharing calls
//
// What a call costs the server is mostly the call. So operations that wait at the same time are
// members of one (fold.lua), under one look at the fence; levels are read once and written once.
// Members are done one after the other, and each sees what those before it have done. Each has its
// own verdict: a member plans its changes, checks them, writes its hold or operation id, and
// commits; if anything is wrong before that, what it had planned is dropped and it is told. Members of
// different epochs are never in one call. A call does what takes about a millisecond, and leaves the
// rest to the next one; nobody waits for others to come, and a lone operation is a call of one. Looks
// at the fence are shared likewise: one that begins after all who wait for it have asked serves them all.
//
// Counts under operation ids that have never been sent (backends.CountRequest.Fresh) have a script of
// their own, counts.lua: nothing is looked up, and one record keeps what the whole call was answered. An
// attempt without an answer notes the call in the request, and the next attempt looks there; a call that has
// not come by then is given up, and does nothing when it comes. A caller who leaves before his counts
// were put into a call takes them with him.
//
// # Sending
//
// Callers hand their jobs to a lane. Its few writers each take what waits, up to a bound, put it into
// calls, send these in one pipeline and answer: under load many requests share a call and a round
// trip, and without load nobody waits for a timer. Decisions have one lane; scans, the outbox and
// fences another.
//
// Nothing is ever sent twice, neither by the driver (its retries are off) nor by this package (but
// for scripts that were unknown). A failure before the command was written is ErrUnavailable; one
// after that is ErrAmbiguous for a write, and ErrUnavailable for a read, which has no effect to be
// unknown. What was written is known exactly: an argument of each write notes when the driver
// asks for its bytes.
//
// # Restarts
//
// A server that was restarted, restored or promoted may have lost acknowledged writes, and its
// fence with them. Raise writes the run id of the server into the fence. Every new connection reads
// both before anything else is sent on it, and where they differ no write is sent any more: the
// answer is a [*RestartedError] (an ErrUnavailable) until the fence is raised under a new epoch,
// by whichever proxy. That is enough, though it is not looked at with every write: a restart
// breaks all connections, so a connection belongs to one run of one server. (So nothing that speaks
// Redis may stand between, and whoever turns a primary into a replica and back without a restart has
// to cut its clients off, as Sentinel does.) Until then Fence answers the fence as closed.
//
// Raise counts when WAIT has shown it at every connected replica; else it is a
// [*ReplicationError].
//
// # Arrows
//
// The package imports backends and go-redis.
package redisstore
