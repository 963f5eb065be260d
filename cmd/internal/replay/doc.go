// Package replay plays a book of orders against RESP doors, as the shop's checkouts would: reserve,
// hold while the buyer pays, claim.
//
// # Words
//
//   - A client is one checkout: it plays one order at a time, to its end.
//   - A run is one call of [Run]. Its name begins every hold id ("<run>-<invoice>") and every
//     operation id ("<run>-<invoice>-<line>"), so that runs do not meet in the stores.
//   - An operation is unresolved when its verdict was not known within Options.Patience.
//   - The log is the player's own record of the answers that it was given: what a shop would know.
//
// # Orders
//
// Orders are begun in the order of the book; a cart is one XF.RESERVE, on a grant a wait about
// Options.Hold long (exponential, at most [HoldAtMost] times the mean), and one XF.CLAIM (or, for a
// configured share, XF.RELEASE). A restock is one XF.RESTOCK for each of its lines. Order i goes to
// address i modulo their number, and to the next address when that fails. Claims carry no lines: a
// hold that the truth has lost must show (as missing), and not be made up for.
//
// # Invariants
//
//   - Whatever is not an answer is sent again under its id: a broken connection, a time-out,
//     XFUNKNOWN, XFUNAVAILABLE, XFBUSY. So a proxy may be killed and restarted meanwhile.
//   - Nothing is given up silently: carts = granted + sold out + ended + refused + unresolved, and
//     granted = claimed + released + lapsed + missing + open ([Summary.Check]).
//   - An answer is in the log before the client acts upon it, and a claim or release is in the log before
//     it is sent, each line by one write: the log of a player that was killed is a prefix of what
//     happened, but for at most one torn line at its end. It is forced to disk four times a second.
//   - How long an order is held and how it ends depends on Options.Seed and its place in the book
//     only, however the clients share them out.
//
// # Arrows
//
// The package imports backends, for bounds and names, and orders. It speaks RESP by itself: a client
// library would resend by itself, and this one's business is to know what was sent how often.
package replay
