package httpcodec

import "bytes"

// Body decodes a body. It is a small value without pointers; Reset before use.
type Body struct {
	kind  FramingKind
	state chunkState
	left  int64 // of a Length body, or of the current chunk

	digits     int32 // of the chunk size
	line       int32 // bytes of the current chunk line, or trailer line
	extensions int32 // bytes of all chunk extensions
	trailer    int32 // bytes of the trailer section
}

// Reset prepares for a body of framing f.
func (d *Body) Reset(f Framing) { *d = Body{kind: f.Kind, left: f.Length} }

// Done says whether the body is complete, as it is from the start if there is
// none. A body of kind UntilClose is never done.
func (d *Body) Done() bool {
	switch d.kind {
	case NoBody:
		return true
	case Length:
		return d.left == 0
	}
	return d.state == chunkDone
}

// UntilClose says whether the end of the connection is the end of the body.
func (d *Body) UntilClose() bool { return d.kind == UntilClose }

// Next takes n bytes of b, of which data, a part of b, is content. When done,
// the body is complete and what follows b[:n] belongs to the next message.
// Else call it again with the rest of b, and with what is received after.
// Without an error or the end it takes at least one byte of a b that has any.
func (d *Body) Next(b []byte) (data []byte, n int, done bool, err error) {
	switch d.kind {
	case NoBody:
		return nil, 0, true, nil
	case Length:
		n = int(min(int64(len(b)), d.left))
		d.left -= int64(n)
		return b[:n], n, d.left == 0, nil
	case UntilClose:
		return b, len(b), false, nil
	}
	return d.nextChunked(b)
}

// chunkState is where in a chunked body (RFC 9112 section 7.1) the decoder is.
type chunkState uint8

const (
	chunkSize      chunkState = iota // in the digits of the size
	chunkSpace                       // in white space behind the size
	chunkExtension                   // in the extensions
	chunkLineEnd                     // behind the CR of the size line
	chunkData                        // in the data
	chunkDataCR                      // behind the data
	chunkDataLF                      // behind the CR that follows it
	trailerStart                     // at the start of a trailer line
	trailerName                      // in the name of a trailer field
	trailerLine                      // behind its colon
	trailerLineEnd                   // behind the CR of one
	trailerEnd                       // behind the CR of the last, empty line
	chunkDone                        // behind the end
)

func (d *Body) nextChunked(b []byte) (data []byte, n int, done bool, err error) {
	for n < len(b) {
		if d.state == chunkData {
			size := int(min(int64(len(b)-n), d.left))
			if d.left -= int64(size); d.left == 0 {
				d.state = chunkDataCR
			}
			return b[n : n+size], n + size, false, nil
		}
		if d.state == trailerLine || d.state == chunkExtension {
			skipped, err := d.skip(b[n:])
			if n += skipped; err != nil {
				return nil, n, false, err
			}
			continue
		}
		c := b[n]
		n++
		if err = d.step(c); err != nil {
			return nil, n, false, err
		}
		if d.state == chunkDone {
			return nil, n, true, nil
		}
	}
	return nil, n, d.state == chunkDone, nil
}

// skip passes over the rest of a line of which nothing is kept, up to its CR.
func (d *Body) skip(b []byte) (int, error) {
	end := bytes.IndexByte(b, '\r')
	n := end + 1
	if end < 0 {
		end, n = len(b), len(b)
	}
	fault, next := ErrTrailer, trailerLineEnd
	if d.state == chunkExtension {
		fault, next = ErrChunkSize, chunkLineEnd
		d.extensions += int32(end)
		d.line += int32(end)
		if d.line > MaxChunkLineBytes || d.extensions > MaxExtensionBytes {
			return n, ErrChunkLine
		}
	} else if d.trailer += int32(n); d.trailer > MaxTrailerBytes {
		return n, ErrTrailerTooLarge
	}
	if !validValue(b[:end]) {
		return n, fault
	}
	if n > end {
		d.state = next
	}
	return n, nil
}

// step takes one byte of what is not data.
func (d *Body) step(c byte) error {
	switch d.state {
	case chunkSize:
		return d.sizeByte(c)
	case chunkSpace:
		return d.afterSize(c)
	case chunkLineEnd:
		if c != '\n' {
			return ErrChunkSize
		}
		d.line, d.digits = 0, 0
		d.state = chunkData
		if d.left == 0 {
			d.state = trailerStart
		}
	case chunkDataCR:
		if c != '\r' {
			return ErrChunkData
		}
		d.state = chunkDataLF
	case chunkDataLF:
		if c != '\n' {
			return ErrChunkData
		}
		d.state = chunkSize
	case trailerStart:
		switch {
		case c == '\r':
			d.state = trailerEnd
		case !tokens[c]:
			return ErrTrailer
		default:
			d.trailer++
			d.state = trailerName
		}
	case trailerName:
		if d.trailer++; d.trailer > MaxTrailerBytes {
			return ErrTrailerTooLarge
		}
		switch {
		case c == ':':
			d.state = trailerLine
		case !tokens[c]:
			return ErrTrailer
		}
	case trailerLineEnd:
		if c != '\n' {
			return ErrTrailer
		}
		d.state = trailerStart
	case trailerEnd:
		if c != '\n' {
			return ErrTrailer
		}
		d.state = chunkDone
	}
	return nil
}

func (d *Body) sizeByte(c byte) error {
	digit := hexDigit(c)
	if digit < 0 {
		if d.digits == 0 {
			return ErrChunkSize
		}
		return d.afterSize(c)
	}
	if d.digits++; d.digits > maxChunkSizeDigits {
		return ErrChunkSize
	}
	d.left = d.left<<4 | int64(digit)
	return nil
}

// afterSize takes what may follow a size: white space, extensions, the end.
func (d *Body) afterSize(c byte) error {
	d.line++
	switch {
	case c == '\r':
		d.state = chunkLineEnd
	case c == ';':
		d.state = chunkExtension
	case (c == ' ' || c == '\t') && d.line <= MaxChunkLineBytes:
		d.state = chunkSpace
	default:
		return ErrChunkSize
	}
	return nil
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
