package input

import (
	"encoding/base64"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"hotlap/engine"
)

// timeoutMost bounds timeout_ms: about a year.
const timeoutMost = 365 * 24 * time.Hour

// parse reads a request from a line that is a JSON object. Nothing of the line
// is kept: it is about to be overwritten.
func (it *Item) parse(line []byte) error {
	if !utf8.Valid(line) {
		return &mistake{validUTF8(line) + 1, "not UTF-8"}
	}
	c := cursor{text: line}
	var seen fields
	err := c.object(func(name []byte, at int) error {
		f := fieldOf(name)
		if f == 0 {
			return c.fail(at, "unknown key %q", name)
		}
		if seen&f != 0 {
			return c.fail(at, "%q is given twice", name)
		}
		seen |= f
		if f != fieldMeta && c.null() {
			return nil
		}
		return it.member(&c, f, at)
	})
	switch {
	case err != nil:
		return err
	case c.peek() != 0 || c.at < len(line):
		return c.fail(c.at, "more text after the object")
	case it.URL == "":
		return c.fail(0, "url is missing")
	}
	return nil
}

// validUTF8 is how many bytes at the start of b are valid.
func validUTF8(b []byte) int {
	n := 0
	for n < len(b) {
		r, size := utf8.DecodeRune(b[n:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		n += size
	}
	return n
}

// fields is a set of the keys of a line.
type fields uint

const (
	fieldID fields = 1 << iota
	fieldURL
	fieldMethod
	fieldHeaders
	fieldBody
	fieldBase64
	fieldTimeout
	fieldMeta
)

func fieldOf(name []byte) fields {
	switch string(name) {
	case "id":
		return fieldID
	case "url":
		return fieldURL
	case "method":
		return fieldMethod
	case "headers":
		return fieldHeaders
	case "body":
		return fieldBody
	case "body_base64":
		return fieldBase64
	case "timeout_ms":
		return fieldTimeout
	case "meta":
		return fieldMeta
	}
	return 0
}

// member reads the value of one key.
func (it *Item) member(c *cursor, f fields, at int) (err error) {
	switch f {
	case fieldID:
		err = it.readID(c)
	case fieldURL:
		it.URL, err = text(c, "url to be a string")
	case fieldMethod:
		it.Method, err = method(c)
	case fieldHeaders:
		err = it.readHeaders(c)
	case fieldBody, fieldBase64:
		if it.Body != nil {
			return c.fail(at, "body and body_base64 exclude each other")
		}
		it.Body, err = body(c, f == fieldBase64)
	case fieldTimeout:
		it.Timeout, err = timeout(c)
	case fieldMeta:
		it.Meta, err = c.raw()
	}
	return err
}

func text(c *cursor, want string) (string, error) {
	s, err := c.string(want)
	return string(s), err
}

// method reads a method; the usual ones are not allocated.
func method(c *cursor) (string, error) {
	at := c.at
	s, err := c.string("method to be a string")
	if err != nil {
		return "", err
	}
	switch string(s) {
	case "":
		return "", c.fail(at, "method is empty")
	case "GET":
		return "GET", nil
	case "HEAD":
		return "HEAD", nil
	case "POST":
		return "POST", nil
	case "PUT":
		return "PUT", nil
	}
	return string(s), nil
}

// readID takes a string or a number, which is echoed as it is written.
func (it *Item) readID(c *cursor) (err error) {
	at := c.at
	switch b := c.peek(); {
	case b == '"' || b == '-' || '0' <= b && b <= '9':
		it.ID, err = c.raw()
		return err
	}
	return c.fail(at, "want id to be a string or a number")
}

// readHeaders reads an object of strings and lists of strings. A name with an
// empty list goes without the default of that name.
func (it *Item) readHeaders(c *cursor) error {
	it.Header = it.own[:0]
	err := c.object(func(name []byte, _ int) error {
		n := string(name)
		if c.peek() != '[' {
			v, err := text(c, "header values to be a string or a list of strings")
			it.Header = append(it.Header, engine.Field{Name: n, Value: v})
			return err
		}
		before := len(it.Header)
		err := c.array(func() error {
			v, err := text(c, "a list of header values to be of strings")
			it.Header = append(it.Header, engine.Field{Name: n, Value: v})
			return err
		})
		if len(it.Header) == before {
			it.Omit = append(it.Omit, n)
		}
		return err
	})
	it.own = it.Header
	return err
}

// body reads a body. It is never nil: an empty one is sent as such.
func body(c *cursor, isBase64 bool) ([]byte, error) {
	at := c.at
	if !isBase64 {
		s, err := c.string("body to be a string")
		return append([]byte{}, s...), err
	}
	s, err := c.string("body_base64 to be a string")
	if err != nil {
		return nil, err
	}
	b := make([]byte, base64.StdEncoding.DecodedLen(len(s)))
	n, err := base64.StdEncoding.Decode(b, s)
	if err != nil {
		return nil, c.fail(at, "body_base64: %v", err)
	}
	return slices.Clip(b[:n]), nil
}

// timeout reads a number of milliseconds.
func timeout(c *cursor) (time.Duration, error) {
	at := c.at
	raw, err := c.raw()
	if err != nil {
		return 0, err
	}
	ms, err := strconv.ParseFloat(string(raw), 64)
	ns := math.Ceil(ms * float64(time.Millisecond))
	if err != nil || !(ns > 0) || ns > float64(timeoutMost) {
		return 0, c.fail(at, "want timeout_ms to be a number above 0, at most %d", timeoutMost.Milliseconds())
	}
	return time.Duration(ns), nil
}
