// Package httpcodec turns HTTP/1.x messages into bytes and bytes into
// messages, for both sides. It has no I/O and no clock.
//
// One contract for partial input holds everywhere: a parser takes the bytes
// received so far and returns (n, err). n is how many bytes it used; n == 0 and
// a nil err means that more are needed. The head parser keeps no state: call it
// again from the start of the head when more bytes have come. Only the body
// decoder keeps some, a few words, and it takes all bytes it is given.
//
// Nothing is copied: a parsed head holds offsets into the bytes it was parsed
// from.
//
// A client reads: Head.ParseResponse, Head.ResponseFraming, Body.Next. A server
// reads: Head.ParseRequest, Head.RequestFraming, Body.Next. Both write with the
// Append functions.
package httpcodec

import (
	"bytes"
	"encoding/binary"
)

// Span is a range of the bytes that were parsed.
type Span struct{ Start, End uint32 }

// Of returns the range of b, which must hold the bytes that were parsed.
func (s Span) Of(b []byte) []byte { return b[s.Start:s.End] }

// Len is the length of the range.
func (s Span) Len() int { return int(s.End - s.Start) }

// FieldSpan is a field line. Value has no white space around it. In a response
// it may hold a line folding: see AppendValue.
type FieldSpan struct{ Name, Value Span }

// Head is a parsed message head. Parsing again reuses Fields.
type Head struct {
	Minor          int  // of HTTP/1.Minor
	Status         int  // of a response
	Reason         Span // of a response; may be empty
	Method, Target Span // of a request
	Fields         []FieldSpan

	// ContentLength is the field's value, -1 if there is none.
	ContentLength int64

	facts        facts
	keepAliveMax int
	hosts        int
}

// facts are what framing and persistence ask of the fields.
type facts uint16

const (
	badLength    facts = 1 << iota // Content-Length is malformed or repeated
	coded                          // there is a Transfer-Encoding
	chunkedLast                    // it is exactly "chunked"
	saysClose                      // Connection: close
	saysKeep                       // Connection: keep-alive
	saysContinue                   // Expect: 100-continue
	folded                         // some value is folded
)

// Persistent says whether the connection stays open after this message (RFC
// 9112 section 9.3).
func (h *Head) Persistent() bool {
	if h.facts&saysClose != 0 {
		return false
	}
	return h.Minor > 0 || h.facts&saysKeep != 0
}

// Close says whether the message has Connection: close.
func (h *Head) Close() bool { return h.facts&saysClose != 0 }

// KeepAliveMax is N of Keep-Alive: max=N, how many more requests the server
// takes on the connection; -1 if it does not say.
func (h *Head) KeepAliveMax() int { return h.keepAliveMax }

// Expect100 says whether a request has Expect: 100-continue.
func (h *Head) Expect100() bool { return h.facts&saysContinue != 0 }

// Get returns the value of the first field of that name, in any case. b is what
// was parsed.
func (h *Head) Get(b []byte, name string) ([]byte, bool) {
	for _, f := range h.Fields {
		if EqualFold(f.Name.Of(b), name) {
			return h.Value(b, f), true
		}
	}
	return nil, false
}

// Value returns the value of f, a part of b unless it is folded.
func (h *Head) Value(b []byte, f FieldSpan) []byte {
	if h.facts&folded == 0 || bytes.IndexByte(f.Value.Of(b), '\n') < 0 {
		return f.Value.Of(b)
	}
	return h.AppendValue(nil, b, f)
}

// AppendValue appends the value of f to dst, with each folding replaced by a
// space (RFC 9112 section 5.2).
func (h *Head) AppendValue(dst, b []byte, f FieldSpan) []byte {
	v := f.Value.Of(b)
	for {
		i := bytes.IndexByte(v, '\r')
		if h.facts&folded == 0 || i < 0 {
			return append(dst, v...)
		}
		dst = append(bytes.TrimRight(append(dst, v[:i]...), " \t"), ' ')
		v = bytes.TrimLeft(v[i:], "\r\n \t")
	}
}

// ParseResponse parses a response head at the start of b: status line, fields,
// empty line. n is its length.
func (h *Head) ParseResponse(b []byte, lim *Limits) (n int, err error) {
	h.begin()
	pos, err := h.statusLine(b)
	if pos == 0 || err != nil {
		return needMore(b, 0, err, lim)
	}
	return h.fields(b, pos, lim, false)
}

// ParseRequest parses a request head at the start of b. One empty line before
// it is ignored (RFC 9112 section 2.2).
func (h *Head) ParseRequest(b []byte, lim *Limits) (n int, err error) {
	h.begin()
	pos, err := h.requestLine(b)
	if pos == 0 || err != nil {
		return needMore(b, 0, err, lim)
	}
	n, err = h.fields(b, pos, lim, true)
	// RFC 9112 section 3.2: "A server MUST respond with a 400 (Bad Request)
	// status code to any HTTP/1.1 request message that lacks a Host header
	// field and to any request message that contains more than one".
	if n > 0 && (h.hosts > 1 || h.hosts == 0 && h.Minor > 0) {
		return 0, ErrHost
	}
	return n, err
}

func (h *Head) begin() {
	*h = Head{Fields: h.Fields[:0], ContentLength: -1, keepAliveMax: -1}
}

// needMore is the answer to a head that is not complete.
func needMore(b []byte, n int, err error, lim *Limits) (int, error) {
	if lim == nil {
		lim = &DefaultLimits
	}
	if err == nil && len(b) >= lim.HeadBytes {
		err = ErrHeadTooLarge
	}
	return n, err
}

// statusLine parses "HTTP/1.x SP 3DIGIT [SP reason]". It returns the length of
// the line with its end.
func (h *Head) statusLine(b []byte) (int, error) {
	const start = "HTTP/1."
	if n := min(len(b), len(start)); string(b[:n]) != start[:n] {
		if n > 5 && string(b[:5]) == start[:5] {
			return 0, ErrVersion
		}
		return 0, ErrStatusLine
	}
	if len(b) < len("HTTP/1.1 200\r\n") {
		return 0, nil
	}
	h.Minor = int(b[7] - '0')
	d1, d2, d3 := b[9]-'0', b[10]-'0', b[11]-'0'
	switch {
	case h.Minor < 0 || h.Minor > 9:
		return 0, ErrVersion
	case b[8] != ' ' || d1 < 1 || d1 > 9 || d2 > 9 || d3 > 9:
		return 0, ErrStatusLine
	}
	h.Status = int(d1)*100 + int(d2)*10 + int(d3)
	end, err := lineEnd(b, 12)
	if end == 0 || err != nil {
		return 0, err
	}
	if reason := b[12:end]; len(reason) > 0 {
		// The space belongs there even without a reason; servers that leave it
		// out are understood all the same.
		if reason[0] != ' ' || !validValue(reason) {
			return 0, ErrStatusLine
		}
		h.Reason = Span{13, uint32(end)}
	}
	return end + 2, nil
}

// requestLine parses "method SP target SP HTTP/1.x".
func (h *Head) requestLine(b []byte) (int, error) {
	start := 0
	if len(b) >= 2 && b[0] == '\r' && b[1] == '\n' {
		start = 2
	}
	end, err := lineEnd(b, start)
	if err != nil {
		return 0, err
	}
	line := b[start:]
	if end > 0 {
		line = b[start:end]
	}
	method := bytes.IndexByte(line, ' ')
	if end == 0 {
		if method < 0 {
			method = len(line)
		}
		if !isToken(line[:method]) && len(line) > 0 && line[0] != '\r' {
			return 0, ErrMethod
		}
		return 0, nil
	}
	const version = " HTTP/1.x"
	rest := len(line) - len(version)
	switch {
	case method <= 0 || !isToken(line[:method]):
		return 0, ErrMethod
	case rest <= method:
		return 0, ErrRequestLine
	case string(line[rest:rest+6]) != version[:6]:
		return 0, ErrRequestLine
	case line[rest+6] != '1' || line[rest+7] != '.' || line[rest+8] < '0' || line[rest+8] > '9':
		return 0, ErrVersion
	case !validTarget(line[method+1 : rest]):
		return 0, ErrTarget
	}
	h.Minor = int(line[rest+8] - '0')
	h.Method = Span{uint32(start), uint32(start + method)}
	h.Target = Span{uint32(start + method + 1), uint32(start + rest)}
	return end + 2, nil
}

// lineEnd returns where the line at pos ends: the offset of its CRLF; 0 if that
// has not come.
func lineEnd(b []byte, pos int) (int, error) {
	i := bytes.IndexByte(b[pos:], '\n')
	if i < 0 {
		return 0, nil
	}
	if i == 0 || b[pos+i-1] != '\r' {
		return 0, ErrBareLF
	}
	return pos + i - 1, nil
}

// fields parses field lines from pos to the empty line.
func (h *Head) fields(b []byte, pos int, lim *Limits, request bool) (int, error) {
	if lim == nil {
		lim = &DefaultLimits
	}
	for {
		if pos < len(b) && b[pos] == '\r' {
			return headEnd(b, pos, lim)
		}
		if len(h.Fields) >= lim.Fields {
			return 0, ErrTooManyFields
		}
		next, err := h.field(b, pos, request)
		if next == 0 || err != nil {
			return needMore(b, 0, err, lim)
		}
		pos = next
	}
}

// headEnd takes the empty line at pos.
func headEnd(b []byte, pos int, lim *Limits) (int, error) {
	switch {
	case pos+1 == len(b):
		return needMore(b, 0, nil, lim)
	case b[pos+1] != '\n':
		return 0, ErrBareCR
	case pos+2 > lim.HeadBytes:
		return 0, ErrHeadTooLarge
	}
	return pos + 2, nil
}

// field parses the field line at pos and returns where the next line begins.
func (h *Head) field(b []byte, pos int, request bool) (int, error) {
	i := pos
	for i < len(b) && tokens[b[i]] {
		i++
	}
	if i == len(b) {
		return 0, nil
	}
	if b[i] != ':' || i == pos {
		return 0, nameFault(b, pos, i)
	}
	end, err := lineEnd(b, i+1)
	if end == 0 || err != nil {
		return 0, err
	}
	// Only the byte after the line tells whether it goes on.
	if end+2 >= len(b) {
		return 0, nil
	}
	value := b[i+1 : end]
	if !validValue(value) {
		return 0, valueFault(value)
	}
	for b[end+2] == ' ' || b[end+2] == '\t' {
		// RFC 9112 section 5.2: a server must refuse a folded line, or, as a
		// user agent must, replace the folding by spaces.
		if request {
			return 0, ErrObsFold
		}
		more, err := lineEnd(b, end+2)
		if more == 0 || err != nil {
			return 0, err
		}
		if more+2 >= len(b) {
			return 0, nil
		}
		if part := b[end+2 : more]; !validValue(part) {
			return 0, valueFault(part)
		}
		end = more
		h.facts |= folded
	}
	from, to := i+1, end
	for from < to && space(b[from]) {
		from++
	}
	for to > from && space(b[to-1]) {
		to--
	}
	f := FieldSpan{Span{uint32(pos), uint32(i)}, Span{uint32(from), uint32(to)}}
	h.Fields = append(h.Fields, f)
	h.note(b[pos:i], b, f)
	return end + 2, nil
}

func space(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// nameFault says what is wrong where a name is not followed by a colon.
func nameFault(b []byte, pos, i int) error {
	switch {
	case b[i] == '\n':
		return ErrBareLF
	case i > pos && (b[i] == ' ' || b[i] == '\t'):
		return ErrSpaceBeforeColon
	case i == pos && (b[i] == ' ' || b[i] == '\t'):
		return ErrObsFold
	}
	return ErrFieldName
}

func valueFault(value []byte) error {
	if bytes.IndexByte(value, '\r') >= 0 {
		return ErrBareCR
	}
	return ErrFieldValue
}

// note takes in the fields that framing and persistence depend on.
func (h *Head) note(name, b []byte, f FieldSpan) {
	switch len(name) {
	case len("Host"):
		if EqualFold(name, "Host") {
			h.hosts++
		}
	case len("Expect"):
		if EqualFold(name, "Expect") && EqualFold(h.Value(b, f), "100-continue") {
			h.facts |= saysContinue
		}
	case len("Connection"): // and Keep-Alive
		if EqualFold(name, "Connection") {
			h.noteConnection(h.Value(b, f))
		} else if EqualFold(name, "Keep-Alive") {
			h.noteKeepAlive(h.Value(b, f))
		}
	case len("Content-Length"):
		if EqualFold(name, "Content-Length") {
			h.noteLength(f.Value.Of(b))
		}
	case len("Transfer-Encoding"):
		if EqualFold(name, "Transfer-Encoding") {
			if h.facts&coded == 0 && EqualFold(h.Value(b, f), "chunked") {
				h.facts |= chunkedLast
			} else {
				h.facts &^= chunkedLast
			}
			h.facts |= coded
		}
	}
}

func (h *Head) noteConnection(value []byte) {
	if EqualFold(value, "keep-alive") { // nearly always
		h.facts |= saysKeep
		return
	}
	for option := range bytes.SplitSeq(value, []byte(",")) {
		switch option = bytes.Trim(option, " \t"); {
		case EqualFold(option, "close"):
			h.facts |= saysClose
		case EqualFold(option, "keep-alive"):
			h.facts |= saysKeep
		}
	}
}

func (h *Head) noteKeepAlive(value []byte) {
	for p := range bytes.SplitSeq(value, []byte(",")) {
		p = bytes.Trim(p, " \t")
		if len(p) > 4 && EqualFold(p[:4], "max=") {
			if n := parseLength(p[4:]); n >= 0 {
				h.keepAliveMax = int(min(n, 1<<30))
			}
		}
	}
}

// noteLength takes one Content-Length. RFC 9110 section 8.6 allows a repeated
// equal value to be accepted; it is refused here: it comes from a broken
// intermediary or from somebody who tries.
func (h *Head) noteLength(value []byte) {
	n := parseLength(value)
	if n < 0 || h.ContentLength >= 0 {
		h.facts |= badLength
	}
	h.ContentLength = max(n, 0)
}

// parseLength reads 1*DIGIT; -1 if it is not that, or too large.
func parseLength(b []byte) int64 {
	for len(b) > 1 && b[0] == '0' {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > maxLengthDigits {
		return -1
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

// tokens are the characters of a token (RFC 9110 section 5.6.2).
var tokens = func() (t [256]bool) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		t[c] = true
	}
	return t
}()

func isToken[T string | []byte](s T) bool {
	for i := 0; i < len(s); i++ {
		if !tokens[s[i]] {
			return false
		}
	}
	return len(s) > 0
}

// ValidToken says whether s is a token, as methods and field names must be.
func ValidToken(s string) bool { return isToken(s) }

// ValidFieldValue says whether s may be the value of a field: no control
// characters but HTAB, no white space around it is asked for.
func ValidFieldValue(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// validValue is ValidFieldValue for received bytes, eight at a time: a word is
// looked at byte by byte only if it may have a control character in it.
func validValue(b []byte) bool {
	const ones = 0x0101010101010101
	const highs = 0x8080808080808080
	i := 0
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		low := (w - ones*' ') & ^w & highs // a byte under 0x20 (or one behind such a byte)
		del := w ^ ones*0x7f
		del = (del - ones) & ^del & highs // a byte that is 0x7f
		if low|del != 0 && !validBytes(b[i:i+8]) {
			return false
		}
	}
	return validBytes(b[i:])
}

func validBytes(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func validTarget[T string | []byte](s T) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return len(s) > 0
}

// EqualFold says whether b is s but for the case of ASCII letters.
func EqualFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range len(b) {
		if x, y := b[i], s[i]; x != y {
			if x |= 0x20; x != y|0x20 || x < 'a' || x > 'z' {
				return false
			}
		}
	}
	return true
}
