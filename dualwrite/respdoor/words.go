package respdoor

import "math"

// parseInt64 reads a decimal number as Redis's string2ll does: no blanks, no plus sign, no
// leading zeros, no "-0".
func parseInt64(b []byte) (int64, bool) {
	const most = 20 // of math.MinInt64
	if len(b) == 0 || len(b) > most {
		return 0, false
	}
	if len(b) == 1 && b[0] == '0' {
		return 0, true
	}
	neg := b[0] == '-'
	if neg {
		b = b[1:]
	}
	if len(b) == 0 || b[0] < '1' || b[0] > '9' {
		return 0, false
	}
	var v uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		d := uint64(c - '0')
		if v > (math.MaxUint64-d)/10 {
			return 0, false
		}
		v = v*10 + d
	}
	switch {
	case neg && v <= 1<<63:
		return -int64(v-1) - 1, true //nolint:gosec // v ≥ 1, and v-1 fits
	case !neg && v <= math.MaxInt64:
		return int64(v), true //nolint:gosec // checked
	}
	return 0, false
}

// splitWords cuts an inline command into its words as Redis's sdssplitargs does. Words without
// quotes are parts of line; the others are written to scratch.
func splitWords(line []byte, words [][]byte, scratch []byte) ([][]byte, []byte, bool) {
	// Words point into scratch, which must not move while they do: unquoting never lengthens.
	if cap(scratch) < len(line) {
		scratch = make([]byte, 0, len(line))
	}
	for i := 0; ; {
		for i < len(line) && isSpace(line[i]) {
			i++
		}
		if i == len(line) || line[i] == 0 {
			return words, scratch, true
		}
		from := len(scratch)
		var ok bool
		if scratch, i, ok = unquoteWord(line, i, scratch); !ok {
			return nil, scratch, false
		}
		words = append(words, scratch[from:len(scratch):len(scratch)])
	}
}

// unquoteWord appends the word that begins at i, and answers where it ends.
func unquoteWord(line []byte, i int, out []byte) ([]byte, int, bool) {
	at := func(j int) byte { // a NUL ends the line, in Redis's C strings
		if j < len(line) {
			return line[j]
		}
		return 0
	}
	var quote byte
	for {
		c := at(i)
		switch {
		case quote == 0 && c == 0:
			return out, i, true
		case quote == 0 && (c == ' ' || c == '\n' || c == '\r' || c == '\t'):
			return out, i + 1, true
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote == 0:
			out = append(out, c)
		case c == 0:
			return out, i, false // the quote is not closed
		case c == quote:
			if n := at(i + 1); n != 0 && !isSpace(n) {
				return out, i, false // a closing quote ends the word
			}
			return out, i + 1, true
		case quote == '"' && c == '\\' && at(i+1) == 'x' && isHex(at(i+2)) && isHex(at(i+3)):
			out = append(out, unhex(at(i+2))<<4|unhex(at(i+3)))
			i += 3
		case quote == '"' && c == '\\' && at(i+1) != 0:
			i++
			out = append(out, unescape(at(i)))
		case quote == '\'' && c == '\\' && at(i+1) == '\'':
			i++
			out = append(out, '\'')
		default:
			out = append(out, c)
		}
		i++
	}
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	default:
		return c - 'a' + 10
	}
}

func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case 'a':
		return '\a'
	default:
		return c
	}
}

// foldEq compares a word with a lower-case one, ignoring the case of ASCII letters.
func foldEq(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i := range b {
		if toLower(b[i]) != lower[i] {
			return false
		}
	}
	return true
}

func toLower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
