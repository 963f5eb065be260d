package respdoor

// summaries are for COMMAND DOCS: what the door adds, and what it does differently. Other commands
// are Redis's own.
var summaries = map[string]string{
	"xf.reserve": "Reserve a cart, whole or not at all.",
	"xf.claim":   "Tell that a hold was paid for.",
	"xf.release": "Give a hold's units back.",
	"xf.extend":  "Move a hold's expiry.",
	"xf.get":     "Read a hold.",
	"xf.stock":   "Read the stock of an item.",
	"xf.restock": "Change the units on hand, once per operation id.",
	"xf.help":    "Explain the XF commands.",
	"decr":       "Take one unit of a stock key without a hold.",
	"decrby":     "Take units of a stock key without a hold.",
	"incr":       "Give one unit back to a stock key.",
	"incrby":     "Give units back to a stock key; what was not taken is a restock.",
	"get":        "Read what is sellable of a stock key.",
	"mget":       "Read what is sellable of stock keys.",
	"set":        "An absolute restock of a stock key, where the pod is configured so.",
}
