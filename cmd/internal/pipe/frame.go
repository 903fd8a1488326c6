// Package pipe is the engine as a co-process: it reads frames of requests from
// one stream and writes frames of results to another. cmd/hotlap/python/PROTOCOL.md
// is what a client has to know; here is how it is kept:
//
//  1. The reader, a goroutine, reads frames, and decodes their requests as far
//     as the window has room. It waits for nothing else: not for the results to
//     be read.
//  2. The engine's feeder takes requests from the queue (Next). A cancel is
//     passed on when the feeder has come past the requests that it followed.
//  3. The engine's drain gives results (Put): they are encoded in batches,
//     written, and then their places in the window are free again.
//
// Window and bytes of requests, and the engine's own bounds, are all that a
// session holds, whatever a client does.
package pipe

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"hotlap/engine"
)

// Protocol is the version of the protocol, in HELLO. A change that an old
// client would misread has another number.
const Protocol = 1

// Types of frames.
const (
	frameHello    = 1 // to the client: first
	frameRequests = 2 // from the client
	frameResults  = 3 // to the client
	frameCancel   = 4 // from the client: ids
	frameStats    = 5 // both: a question, its answer
	frameBye      = 6 // to the client: last, all is answered
	frameFatal    = 7 // to the client: last, the client broke the protocol
)

// A frame is a header of three little-endian u32 (type, count of entries,
// length of the payload) and the payload.
const frameHeader = 12

// Bounds of what a client may send.
const (
	MaxFrame   = 64 << 20 // payload of a frame
	maxEntries = 1 << 16  // of a frame
	maxFields  = 1 << 10  // header fields of a request
)

// A hello tells the client what it speaks with. Names stand where the numbers
// of results point.
type hello struct {
	Protocol   int      `json:"protocol"`
	Version    string   `json:"version"`
	Window     int      `json:"window"`
	WindowSize int64    `json:"window_bytes"`
	MaxFrame   int      `json:"max_frame"`
	Kinds      []string `json:"kinds"`
	Phases     []string `json:"phases"`
}

func (s *Session) hello() hello {
	h := hello{
		Protocol: Protocol, Version: engine.Version, Window: s.window, WindowSize: windowBytes, MaxFrame: MaxFrame,
		Kinds: []string{""}, Phases: []string{""},
	}
	for k := engine.InvalidRequest; k < engine.NumKinds; k++ {
		h.Kinds = append(h.Kinds, k.String())
	}
	for p := engine.PhaseQueue; p <= engine.PhaseBody; p++ {
		h.Phases = append(h.Phases, p.String())
	}
	return h
}

// statistics are what STATS and BYE carry.
type statistics struct {
	Requests  int64            `json:"requests"`
	Responses int64            `json:"responses"`
	InFlight  int64            `json:"in_flight"`
	Errors    map[string]int64 `json:"errors"`
	Retries   int64            `json:"retries"`
	Replays   int64            `json:"replays"`
	BytesIn   int64            `json:"bytes_in"`
	Connects  int64            `json:"connects"`
	ElapsedUS int64            `json:"elapsed_us"`
}

func statisticsOf(s engine.Stats) statistics {
	errors := make(map[string]int64)
	for kind, n := range s.Errors {
		if n > 0 {
			errors[engine.Kind(kind).String()] = n
		}
	}
	return statistics{
		Requests: s.Requests, Responses: s.Responses, InFlight: s.InFlight, Errors: errors, Retries: s.Retries,
		Replays: s.Replays, BytesIn: s.BytesIn, Connects: s.Connects, ElapsedUS: s.Elapsed.Microseconds(),
	}
}

func appendFrame(dst []byte, kind, count, length int) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(kind))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(count))
	return binary.LittleEndian.AppendUint32(dst, uint32(length))
}

// jsonFrame is a frame whose payload is an object.
func jsonFrame(kind int, v any) []byte {
	payload, err := json.Marshal(v)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return append(appendFrame(nil, kind, 0, len(payload)), payload...)
}

// A frame as it was read. Its payload is valid until the next is read.
type frame struct {
	kind, count int
	payload     []byte
}

// A frameReader reads frames into one buffer.
type frameReader struct {
	from io.Reader
	buf  []byte
}

// keptFrame is how large a buffer is kept for the next frame.
const keptFrame = 1 << 20

// next reads a frame; io.EOF is the end, between frames.
func (r *frameReader) next() (frame, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r.from, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("the input ended inside the header of a frame")
		}
		return frame{}, err
	}
	f := frame{
		kind:  int(binary.LittleEndian.Uint32(head[0:])),
		count: int(binary.LittleEndian.Uint32(head[4:])),
	}
	n := int(binary.LittleEndian.Uint32(head[8:]))
	if n > MaxFrame {
		return f, fmt.Errorf("a frame of %d bytes, at most %d", n, MaxFrame)
	}
	if f.count > maxEntries {
		return f, fmt.Errorf("a frame of %d entries, at most %d", f.count, maxEntries)
	}
	if n > cap(r.buf) || cap(r.buf) > keptFrame {
		r.buf = make([]byte, max(n, 4<<10))
	}
	f.payload = r.buf[:n]
	if _, err := io.ReadFull(r.from, f.payload); err != nil {
		return f, errors.New("the input ended inside a frame")
	}
	return f, nil
}
