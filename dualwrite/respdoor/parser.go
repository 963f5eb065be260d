package respdoor

import (
	"bytes"
	"fmt"
)

// maxLine bounds an inline command and a length line, as Redis does (PROTO_INLINE_MAX_SIZE).
const maxLine = 64 << 10

// What a client that has not authenticated yet may announce, as in Redis.
const (
	maxArgsBeforeAuth = 10
	maxBulkBeforeAuth = 16384
)

// protocolError ends a connection: the stream cannot be understood any more. Its text follows
// "-ERR Protocol error: ". An empty text closes without a reply.
type protocolError struct{ text string }

func (e *protocolError) Error() string { return "protocol error: " + e.text }

// parser cuts a byte stream into commands exactly as Redis 7 does. It goes on where it stopped
// when more bytes come, so that a frame that arrives in small pieces is read once. It keeps bytes
// that have arrived, and nothing for bytes that were only announced.
type parser struct {
	maxArgs, maxBulk, maxFrame int
	// locked: the client has to authenticate first.
	locked bool

	buf []byte
	// gone counts the bytes that were before buf.
	gone int64
	pos  int // next byte to look at
	// start is where the frame that is being read begins; before it everything is done with.
	start int
	// sought is how many bytes from pos on are known to hold no end of a line.
	sought int
	multi  int    // arguments still to come; 0 between frames
	bulk   int    // bytes of the argument that is coming; -1 while its length is
	spans  []span // arguments so far, relative to start
	args   [][]byte
	line   []byte // arguments of an inline command, unquoted
}

type span struct{ from, to int }

// next gives the next complete command; nil when more bytes are needed. The arguments are valid
// until the buffer is touched again. Empty frames are skipped.
func (p *parser) next() ([][]byte, *protocolError) {
	for {
		if p.multi == 0 {
			p.start = p.pos
			if p.pos == len(p.buf) {
				return nil, nil
			}
			if p.buf[p.pos] != '*' {
				done, err := p.inline()
				if err != nil || !done {
					return nil, err
				}
				if len(p.args) > 0 {
					return p.args, nil
				}
				continue
			}
			if done, err := p.header(); err != nil || !done {
				return nil, err
			}
			if p.multi == 0 {
				continue
			}
		}
		if done, err := p.arguments(); err != nil || !done {
			return nil, err
		}
		p.args = p.args[:0]
		for _, s := range p.spans {
			p.args = append(p.args, p.buf[p.start+s.from:p.start+s.to])
		}
		return p.args, nil
	}
}

// partial tells whether a frame has begun that is not complete.
func (p *parser) partial() bool { return p.pos < len(p.buf) || p.multi > 0 }

// offset is where the frame that is being read begins in all that was received.
func (p *parser) offset() int64 { return p.gone + int64(p.start) }

// header reads "*<count>\r\n".
func (p *parser) header() (bool, *protocolError) {
	n, done, err := p.length("too big mbulk count string")
	if err != nil || !done {
		return false, err
	}
	switch {
	case !n.ok || n.value > int64(p.maxArgs):
		return false, &protocolError{"invalid multibulk length"}
	case p.locked && n.value > maxArgsBeforeAuth:
		return false, &protocolError{"unauthenticated multibulk length"}
	}
	p.multi, p.bulk, p.spans = max(0, int(n.value)), -1, p.spans[:0]
	return true, nil
}

// arguments reads "$<len>\r\n<bytes>\r\n" until the frame is complete. Redis does not look at the
// two bytes after an argument, and neither does this.
func (p *parser) arguments() (bool, *protocolError) {
	for p.multi > 0 {
		if p.bulk < 0 {
			if done, err := p.bulkHeader(); err != nil || !done {
				return false, err
			}
		}
		if len(p.buf)-p.pos < p.bulk+2 {
			return false, nil
		}
		p.spans = append(p.spans, span{p.pos - p.start, p.pos - p.start + p.bulk})
		p.pos += p.bulk + 2
		p.bulk = -1
		p.multi--
	}
	return true, nil
}

func (p *parser) bulkHeader() (bool, *protocolError) {
	first := p.pos
	n, done, err := p.length("too big bulk count string")
	if err != nil || !done {
		return false, err
	}
	if c := p.buf[first]; c != '$' {
		return false, &protocolError{"expected '$', got '" + printed(c)}
	}
	switch {
	case !n.ok || n.value < 0 || n.value > int64(p.maxBulk):
		return false, &protocolError{"invalid bulk length"}
	case p.locked && n.value > maxBulkBeforeAuth:
		return false, &protocolError{"unauthenticated bulk length"}
	case p.pos-p.start+int(n.value)+2 > p.maxFrame:
		return false, &protocolError{fmt.Sprintf("frame is longer than %d bytes", p.maxFrame)}
	}
	p.bulk = int(n.value)
	return true, nil
}

// printed is the byte and the closing quote as they come out of Redis's printf: a NUL ends the
// text, and line breaks, which would end the reply, become blanks.
func printed(c byte) string {
	switch c {
	case 0:
		return ""
	case '\r', '\n':
		return " '"
	default:
		return string([]byte{c, '\''})
	}
}

type number struct {
	value int64
	ok    bool
}

// length reads a line of one byte and a number; the byte is the caller's to check.
func (p *parser) length(tooLong string) (number, bool, *protocolError) {
	rest := p.buf[p.pos:]
	cr := p.seek(rest, '\r')
	if cr < 0 {
		if len(rest) > maxLine {
			return number{}, false, &protocolError{tooLong}
		}
		return number{}, false, nil
	}
	if cr+1 >= len(rest) {
		return number{}, false, nil
	}
	p.pos += cr + 2
	p.sought = 0
	if cr == 0 {
		return number{}, true, nil
	}
	v, ok := parseInt64(rest[1:cr])
	return number{v, ok}, true, nil
}

// inline reads one line of words.
func (p *parser) inline() (bool, *protocolError) {
	rest := p.buf[p.pos:]
	nl := p.seek(rest, '\n')
	if nl < 0 {
		if len(rest) > maxLine {
			return false, &protocolError{"too big inline request"}
		}
		return false, nil
	}
	line := rest[:nl]
	if nl > 0 && line[nl-1] == '\r' {
		line = line[:nl-1]
	}
	var ok bool
	if p.args, p.line, ok = splitWords(line, p.args[:0], p.line[:0]); !ok {
		return false, &protocolError{"unbalanced quotes in request"}
	}
	if len(p.args) > 0 && (foldEq(p.args[0], "post") || foldEq(p.args[0], "host:")) {
		return false, &protocolError{} // a browser that was tricked into posting here
	}
	p.pos += nl + 1
	p.sought = 0
	return true, nil
}

// seek finds the end of a line, and does not look twice at bytes where it was not.
func (p *parser) seek(rest []byte, end byte) int {
	i := bytes.IndexByte(rest[p.sought:], end)
	if i < 0 {
		p.sought = len(rest)
		return -1
	}
	p.sought += i
	return p.sought
}

// makeRoom moves what is left to the front of the buffer, and grows it when that is not enough.
// It answers by how many bytes the buffer wants to grow; grow then does it.
func (p *parser) makeRoom() (more int) {
	if p.start > 0 {
		n := copy(p.buf, p.buf[p.start:])
		p.gone += int64(p.start)
		p.buf = p.buf[:n]
		p.pos -= p.start
		p.start = 0
	}
	if len(p.buf) < cap(p.buf) {
		return 0
	}
	return max(cap(p.buf), baseBuffer)
}

func (p *parser) grow(more int) {
	b := make([]byte, len(p.buf), cap(p.buf)+more)
	copy(b, p.buf)
	p.buf = b
}

// idle frees what an unusually large frame has left behind, and answers how much that was.
func (p *parser) idle() (less int) {
	if p.partial() {
		return 0
	}
	p.gone += int64(len(p.buf))
	p.buf, p.pos, p.start = p.buf[:0], 0, 0
	if less = cap(p.buf) - baseBuffer; less <= 0 {
		return 0
	}
	p.buf = make([]byte, 0, baseBuffer)
	p.spans, p.args, p.line = nil, nil, nil
	return less
}
