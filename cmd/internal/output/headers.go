package output

import (
	"bytes"
	"iter"
)

// headers encodes fields as an object of lists, the names in lower case, in
// the order of their first occurrence.
type headers struct {
	names  []byte // lower case, one after the other
	fields []field
}

type field struct {
	from, to int // of its name in names
	value    []byte
	done     bool
}

func (h *headers) append(dst []byte, fields iter.Seq2[[]byte, []byte]) []byte {
	h.collect(fields)
	dst = append(dst, `,"headers":{`...)
	first := true
	for i := range h.fields {
		if h.fields[i].done {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = h.appendName(dst, i)
	}
	return append(dst, '}')
}

func (h *headers) collect(fields iter.Seq2[[]byte, []byte]) {
	h.names, h.fields = h.names[:0], h.fields[:0]
	for name, value := range fields {
		from := len(h.names)
		for _, b := range name {
			if 'A' <= b && b <= 'Z' {
				b += 'a' - 'A'
			}
			h.names = append(h.names, b)
		}
		h.fields = append(h.fields, field{from: from, to: len(h.names), value: value})
	}
}

func (h *headers) name(i int) []byte { return h.names[h.fields[i].from:h.fields[i].to] }

// appendName appends the name of field i and all values that it has. A name is
// a token (RFC 9110 section 5.6.2): nothing in it needs an escape.
func (h *headers) appendName(dst []byte, i int) []byte {
	dst = append(dst, '"')
	dst = append(dst, h.name(i)...)
	dst = append(dst, `":[`...)
	dst = appendLatin1(dst, h.fields[i].value)
	for j := i + 1; j < len(h.fields); j++ {
		if f := &h.fields[j]; !f.done && bytes.Equal(h.name(i), h.name(j)) {
			f.done = true
			dst = append(dst, ',')
			dst = appendLatin1(dst, f.value)
		}
	}
	return append(dst, ']')
}
