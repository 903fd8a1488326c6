package input

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// A cursor reads one JSON text (RFC 8259) from left to right. It is here for
// what encoding/json does not do: keep the order of fields, name the column of
// a mistake, and allocate only what the request keeps.
//
// The text is valid UTF-8: the caller has checked.
type cursor struct {
	text    []byte
	at      int
	scratch []byte // for strings with escapes
}

// A mistake is what is wrong with a line, and where.
type mistake struct {
	column int // in bytes, from 1
	what   string
}

func (m *mistake) Error() string { return fmt.Sprintf("column %d: %s", m.column, m.what) }

func (c *cursor) fail(at int, format string, args ...any) error {
	return &mistake{at + 1, fmt.Sprintf(format, args...)}
}

// peek skips space and returns the next byte, 0 at the end.
func (c *cursor) peek() byte {
	for ; c.at < len(c.text); c.at++ {
		switch b := c.text[c.at]; b {
		case ' ', '\t', '\r', '\n':
		default:
			return b
		}
	}
	return 0
}

// accept takes the next byte if it is b.
func (c *cursor) accept(b byte) bool {
	if c.peek() != b {
		return false
	}
	c.at++
	return true
}

func (c *cursor) expect(b byte, where string) error {
	if c.accept(b) {
		return nil
	}
	return c.fail(c.at, "want %q %s", b, where)
}

// null takes the literal null.
func (c *cursor) null() bool {
	if c.peek() != 'n' || !bytes.HasPrefix(c.text[c.at:], []byte("null")) {
		return false
	}
	c.at += len("null")
	return true
}

// object calls member for each member, with the cursor before its value. The
// name is valid until the next string is read.
func (c *cursor) object(member func(name []byte, at int) error) error {
	if err := c.expect('{', "to begin an object"); err != nil {
		return err
	}
	if c.accept('}') {
		return nil
	}
	for {
		c.peek()
		at := c.at
		name, err := c.string("a name in quotes")
		if err != nil {
			return err
		}
		if err := c.expect(':', "after a name"); err != nil {
			return err
		}
		c.peek()
		if err := member(name, at); err != nil {
			return err
		}
		if c.accept('}') {
			return nil
		}
		if err := c.expect(',', "or '}' after a member"); err != nil {
			return err
		}
	}
}

// array calls element before each value.
func (c *cursor) array(element func() error) error {
	if err := c.expect('[', "to begin a list"); err != nil {
		return err
	}
	if c.accept(']') {
		return nil
	}
	for {
		c.peek()
		if err := element(); err != nil {
			return err
		}
		if c.accept(']') {
			return nil
		}
		if err := c.expect(',', "or ']' in a list"); err != nil {
			return err
		}
	}
}

// string reads a string. What it returns is valid until the next one is read.
func (c *cursor) string(want string) ([]byte, error) {
	if !c.accept('"') {
		return nil, c.fail(c.at, "want %s", want)
	}
	from := c.at
	plain := func() []byte { return c.text[from:c.at] }
	out := c.scratch[:0]
	for c.at < len(c.text) {
		switch b := c.text[c.at]; {
		case b == '"':
			s := plain()
			if len(out) > 0 {
				out = append(out, s...)
				c.scratch, s = out, out
			}
			c.at++
			return s, nil
		case b == '\\':
			out = append(out, plain()...)
			var err error
			if out, err = c.escape(out); err != nil {
				return nil, err
			}
			from = c.at
		case b < ' ':
			return nil, c.fail(c.at, "control character in a string")
		default:
			c.at++
		}
	}
	return nil, c.fail(c.at, "the string does not end")
}

// escape reads one escape sequence and appends what it stands for.
func (c *cursor) escape(out []byte) ([]byte, error) {
	at := c.at
	if at+1 >= len(c.text) {
		return nil, c.fail(at, "the string does not end")
	}
	c.at += 2
	switch b := c.text[at+1]; b {
	case '"', '\\', '/':
		return append(out, b), nil
	case 'b':
		return append(out, '\b'), nil
	case 'f':
		return append(out, '\f'), nil
	case 'n':
		return append(out, '\n'), nil
	case 'r':
		return append(out, '\r'), nil
	case 't':
		return append(out, '\t'), nil
	case 'u':
		r, ok := c.hex4()
		if utf16.IsSurrogate(r) {
			ok = ok && bytes.HasPrefix(c.text[c.at:], []byte(`\u`))
			if ok {
				c.at += 2
				var low rune
				low, ok = c.hex4()
				r = utf16.DecodeRune(r, low)
				ok = ok && r != utf8.RuneError
			}
		}
		if ok {
			return utf8.AppendRune(out, r), nil
		}
	}
	return nil, c.fail(at, "bad escape in a string")
}

func (c *cursor) hex4() (r rune, ok bool) {
	if c.at+4 > len(c.text) {
		return 0, false
	}
	for _, b := range c.text[c.at : c.at+4] {
		switch {
		case '0' <= b && b <= '9':
			b -= '0'
		case 'a' <= b && b <= 'f':
			b -= 'a' - 10
		case 'A' <= b && b <= 'F':
			b -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(b)
	}
	c.at += 4
	return r, true
}

// raw reads any value and returns its text, without space between tokens. It
// allocates: the text outlives the line.
func (c *cursor) raw() ([]byte, error) {
	c.peek()
	from := c.at
	if err := c.skip(); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Compact(&out, c.text[from:c.at]); err != nil {
		return nil, c.fail(from, "no JSON value: %v", err)
	}
	return out.Bytes(), nil
}

// skip moves behind the next value. What is inside it need not be valid.
func (c *cursor) skip() error {
	depth := 0
	for {
		switch c.peek() {
		case 0:
			return c.fail(c.at, "the line ends in the middle")
		case '"':
			if _, err := c.string("a string"); err != nil {
				return err
			}
		case '{', '[':
			depth++
			c.at++
		case '}', ']':
			depth--
			c.at++
		case ',', ':':
			c.at++
		default:
			n := bytes.IndexAny(c.text[c.at:], " \t\r\n,:\"{}[]")
			if n < 0 {
				n = len(c.text) - c.at
			}
			c.at += n
		}
		if depth <= 0 {
			return nil
		}
	}
}
