package backends

import (
	"fmt"
	"strconv"
)

// The identifiers: opaque, 1 to [MaxIDLen] bytes of printable ASCII (0x20 to 0x7E), compared
// byte for byte. A code with a space inside is legal ("BANK CHARGES" is a real stock code).
type (
	// Pod names a namespace of shops: the unit of routing, rollout and kill.
	Pod string
	// Shop names a shop within a pod.
	Shop string
	// Item names what is sold.
	Item string
	// Location names where it is stocked.
	Location string
	// HoldID is chosen by the caller and is the idempotency key of its hold.
	HoldID string
	// OpID identifies one restock or one take, so that it can be sent twice and done once.
	OpID string
)

// Key is what stock belongs to.
type Key struct {
	Shop     Shop     `json:"shop"`
	Item     Item     `json:"item"`
	Location Location `json:"location"`
}

// String is for people. It is not unique: identifiers may contain slashes.
func (k Key) String() string {
	return string(k.Shop) + "/" + string(k.Item) + "@" + string(k.Location)
}

// Compare orders keys byte-wise by shop, item, location: the order in which rows are locked.
func (k Key) Compare(o Key) int {
	switch {
	case k.Shop != o.Shop:
		return cmpString(string(k.Shop), string(o.Shop))
	case k.Item != o.Item:
		return cmpString(string(k.Item), string(o.Item))
	default:
		return cmpString(string(k.Location), string(o.Location))
	}
}

func cmpString(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}

// CheckID tells whether s is a legal identifier; field names it in the error.
func CheckID(field, s string) error {
	if s == "" {
		return &FieldError{Field: field, Value: `""`, Bound: fmt.Sprintf("1 to %d bytes of printable ASCII", MaxIDLen), Next: "give it a value"}
	}
	if len(s) > MaxIDLen {
		return &FieldError{Field: field, Value: abbreviate(s), Bound: fmt.Sprintf("at most %d bytes, has %d", MaxIDLen, len(s)), Next: "shorten it, or use a hash of it"}
	}
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] > 0x7e {
			return &FieldError{Field: field, Value: abbreviate(s), Bound: fmt.Sprintf("printable ASCII only; byte %d is 0x%02x", i, s[i]), Next: "encode it, for example as hex"}
		}
	}
	return nil
}

// CheckCaller tells whether s is a legal caller tag. It is narrower than an identifier since the
// tag is written into SQL comments: letters, digits and any of "._:/-", or empty.
func CheckCaller(s string) error {
	if len(s) > MaxCallerLen {
		return &FieldError{Field: "caller", Value: abbreviate(s), Bound: fmt.Sprintf("at most %d bytes, has %d", MaxCallerLen, len(s)), Next: "shorten it"}
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
			c == '.' || c == '_' || c == ':' || c == '/' || c == '-'
		if !ok {
			return &FieldError{Field: "caller", Value: abbreviate(s), Bound: `letters, digits and "._:/-"`, Next: "rename the caller tag"}
		}
	}
	return nil
}

func abbreviate(s string) string {
	const most = 80
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + "…"
	}
	return strconv.QuoteToASCII(s)
}
