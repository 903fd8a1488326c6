package pipe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"hotlap/engine"
)

// A request is the engine's, with what the session knows of it. They are used
// again.
type request struct {
	engine.Request
	id   uint64
	size int // what it counts in the window's bytes
}

// The entry of a request, little-endian; all entries of a frame come first,
// then for each of them method, URL, header lines and body.
//
//	 0 u64 id
//	 8 u32 timeout, ms; 0 is none
//	12 u32 length of the URL
//	16 u32 length of the header lines
//	20 u32 length of the body
//	24 u16 length of the method; 0 is GET
//	26 u16 flags
const requestEntry = 28

const flagHasBody = 1 // a body, perhaps an empty one

// keptFields is for how many header fields a request keeps its place.
const keptFields = 32

// requestOverhead is what a request counts besides its bytes.
const requestOverhead = 256

// forget lets go of what the client sent: the window no longer counts it.
func (q *request) forget() {
	header := q.Header
	if cap(header) > keptFields {
		header = nil
	}
	clear(header)
	*q = request{Request: engine.Request{Header: header[:0]}}
}

// A requestFrame is a frame of requests that is being taken apart.
type requestFrame struct {
	left    int
	entries []byte
	rest    []byte
}

// splitRequests checks that the lengths in a frame add up.
func splitRequests(f frame) (requestFrame, error) {
	if len(f.payload) < f.count*requestEntry {
		return requestFrame{}, fmt.Errorf("a frame of %d requests has %d bytes", f.count, len(f.payload))
	}
	d := requestFrame{f.count, f.payload[:f.count*requestEntry], f.payload[f.count*requestEntry:]}
	total := 0
	for i := range f.count {
		total += d.sizeAt(i)
	}
	if total != len(d.rest) {
		return d, fmt.Errorf("the requests of a frame say that they have %d bytes, there are %d", total, len(d.rest))
	}
	return d, nil
}

// sizeAt is how many bytes the i-th of the requests that are left has.
func (d *requestFrame) sizeAt(i int) int {
	e := d.entries[i*requestEntry:]
	u32 := binary.LittleEndian.Uint32
	return int(u32(e[12:])) + int(u32(e[16:])) + int(u32(e[20:])) + int(binary.LittleEndian.Uint16(e[24:]))
}

// next decodes the next request into q. What is wrong with it, other than
// lengths, becomes its result.
func (d *requestFrame) next(q *request) {
	e, u32 := d.entries, binary.LittleEndian.Uint32
	header := q.Header[:0]
	*q = request{id: binary.LittleEndian.Uint64(e), size: d.sizeAt(0) + requestOverhead}
	q.Tag = q
	q.Timeout = time.Duration(u32(e[8:])) * time.Millisecond
	q.Method = method(d.cut(uint32(binary.LittleEndian.Uint16(e[24:]))))
	q.URL = string(d.cut(u32(e[12:])))
	q.Header = header
	if lines := d.cut(u32(e[16:])); len(lines) > 0 {
		q.Err = q.readHeader(string(lines))
	}
	if body := d.cut(u32(e[20:])); binary.LittleEndian.Uint16(e[26:])&flagHasBody != 0 {
		q.Body = append([]byte{}, body...)
	} else if len(body) > 0 {
		q.Err = errors.New("a body without its flag")
	}
	d.left--
	d.entries = d.entries[requestEntry:]
}

func (d *requestFrame) cut(n uint32) []byte {
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

// method makes a string without allocating for the usual ones.
func method(b []byte) string {
	switch {
	case len(b) == 0:
		return ""
	case bytes.Equal(b, []byte("GET")):
		return "GET"
	case bytes.Equal(b, []byte("POST")):
		return "POST"
	}
	return string(b)
}

// readHeader reads lines of "Name: value", each ended by CR LF. A line without
// a colon leaves the default field of that name out. The engine checks names and values.
func (q *request) readHeader(lines string) error {
	for lines != "" {
		line, rest, ended := strings.Cut(lines, "\r\n")
		if !ended {
			return errors.New("a header line does not end in CR LF")
		}
		if len(q.Header)+len(q.Omit) == maxFields {
			return fmt.Errorf("more than %d header lines", maxFields)
		}
		lines = rest
		name, value, named := strings.Cut(line, ":")
		if named {
			q.Header = append(q.Header, engine.Field{Name: name, Value: strings.Trim(value, " \t")})
		} else {
			q.Omit = append(q.Omit, name)
		}
	}
	return nil
}
