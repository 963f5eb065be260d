package respdoor

import (
	"strconv"

	"github.com/tidwall/redcon"
)

// The replies, in the protocol that the connection speaks.

func (c *conn) fail(text string) { c.out = redcon.AppendError(c.out, text) }
func (c *conn) ok()              { c.out = redcon.AppendOK(c.out) }
func (c *conn) simple(s string)  { c.out = redcon.AppendString(c.out, s) }
func (c *conn) integer(n int64)  { c.out = redcon.AppendInt(c.out, n) }
func (c *conn) text(s string)    { c.out = redcon.AppendBulkString(c.out, s) }
func (c *conn) bytes(b []byte)   { c.out = redcon.AppendBulk(c.out, b) }
func (c *conn) array(n int)      { c.out = redcon.AppendArray(c.out, n) }
func (c *conn) raw(reply []byte) { c.out = append(c.out, reply...) }
func (c *conn) header(b byte, n int) {
	c.out = append(c.out, b)
	c.out = strconv.AppendInt(c.out, int64(n), 10)
	c.out = append(c.out, '\r', '\n')
}

// fields begins a map of n pairs.
func (c *conn) fields(n int) {
	if c.proto == 3 {
		c.header('%', n)
		return
	}
	c.array(2 * n)
}

// set begins an unordered collection.
func (c *conn) set(n int) {
	if c.proto == 3 {
		c.header('~', n)
		return
	}
	c.array(n)
}

func (c *conn) null() {
	if c.proto == 3 {
		c.raw([]byte("_\r\n"))
		return
	}
	c.out = redcon.AppendNull(c.out)
}

// number is a number as a string: how Redis answers the value of a counter.
func (c *conn) number(n int64) {
	var b [20]byte
	c.bytes(strconv.AppendInt(b[:0], n, 10))
}

// plain is a text for people to read.
func (c *conn) plain(s string) {
	if c.proto == 3 {
		c.header('=', len(s)+4)
		c.raw([]byte("txt:"))
		c.out = append(c.out, s...)
		c.raw([]byte("\r\n"))
		return
	}
	c.text(s)
}

func (c *conn) textField(name, value string)          { c.text(name); c.text(value) }
func (c *conn) integerField(name string, value int64) { c.text(name); c.integer(value) }
func (c *conn) optionalField(name string, value *int64) {
	c.text(name)
	if value == nil {
		c.null()
		return
	}
	c.integer(*value)
}

// lines is an array of simple strings, as HELP answers.
func (c *conn) lines(ls []string) {
	c.array(len(ls))
	for _, l := range ls {
		c.simple(l)
	}
}
