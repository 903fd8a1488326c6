package output

import (
	"encoding/base64"
	"encoding/binary"
	"math/bits"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// appendString appends s as a JSON string. What is not UTF-8 becomes U+FFFD.
func appendString(dst []byte, s string) []byte {
	text := unsafe.Slice(unsafe.StringData(s), len(s)) // only read
	dst = append(dst, '"')
	if plainPrefix(text, highs) == len(text) { // the usual: one look, one copy
		dst = append(dst, s...)
		return append(dst, '"')
	}
	if !utf8.Valid(text) {
		text = []byte(strings.ToValidUTF8(s, "\ufffd"))
	}
	dst = appendEscaped(dst, text)
	return append(dst, '"')
}

// appendEscaped appends valid UTF-8 as the inside of a JSON string (RFC 8259
// section 7: '"', '\' and what is below U+0020 must be escaped, nothing else).
func appendEscaped(dst, text []byte) []byte {
	for {
		n := plainPrefix(text, 0)
		dst = append(dst, text[:n]...)
		if n == len(text) {
			return dst
		}
		dst = appendEscape(dst, text[n])
		text = text[n+1:]
	}
}

func mustEscape(b byte) bool { return b < ' ' || b == '"' || b == '\\' }

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// plainPrefix is how many bytes of text need no escape. It looks at eight at a
// time: three times as fast as one by one on an ordinary body (BenchmarkEscape).
//
// With stop = highs it ends before the first byte that is not ASCII, too.
//
// (x-n*ones) &^ x & highs marks bytes of x below n. A borrow can mark a byte
// above one that is marked rightly; the lowest mark is always right.
func plainPrefix(text []byte, stop uint64) int {
	n := 0
	for ; n+8 <= len(text); n += 8 {
		x := binary.LittleEndian.Uint64(text[n:])
		quote, backslash := x^'"'*ones, x^'\\'*ones
		mark := ((x-' '*ones)&^x|(quote-ones)&^quote|(backslash-ones)&^backslash)&highs | x&stop
		if mark != 0 {
			return n + bits.TrailingZeros64(mark)/8
		}
	}
	for n < len(text) && !mustEscape(text[n]) && uint64(text[n])&stop == 0 {
		n++
	}
	return n
}

func appendEscape(dst []byte, b byte) []byte {
	const hex = "0123456789abcdef"
	switch b {
	case '"', '\\':
		return append(dst, '\\', b)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hex[b>>4], hex[b&15])
}

// appendLatin1 appends a field value: as it is if it is UTF-8, else each byte
// as the character of that number.
func appendLatin1(dst, value []byte) []byte {
	dst = append(dst, '"')
	if utf8.Valid(value) {
		dst = appendEscaped(dst, value)
		return append(dst, '"')
	}
	for _, b := range value {
		switch {
		case mustEscape(b):
			dst = appendEscape(dst, b)
		default:
			dst = utf8.AppendRune(dst, rune(b))
		}
	}
	return append(dst, '"')
}

// Bodies are encoded in pieces, so that a large one is never in memory twice.
const (
	textPiece   = 16 << 10
	base64Piece = 3 * (4 << 10) // a multiple of 3: padding only at the end
)

// body appends "body" or "body_base64", and writes whenever the buffer is full.
func (w *Writer) body(body []byte) {
	if len(body) <= textPiece && plainPrefix(body, highs) == len(body) {
		w.buf = append(w.buf, `,"body":"`...)
		w.buf = append(w.buf, body...)
		w.buf = append(w.buf, '"')
		return
	}
	key, size, encode := `,"body":"`, textPiece, appendEscaped
	if !utf8.Valid(body) {
		key, size, encode = `,"body_base64":"`, base64Piece, base64.StdEncoding.AppendEncode
	}
	w.buf = append(w.buf, key...)
	for len(body) > size {
		w.buf = encode(w.buf, body[:size])
		body = body[size:]
		w.writeIfFull()
	}
	w.buf = encode(w.buf, body)
	w.buf = append(w.buf, '"')
}
