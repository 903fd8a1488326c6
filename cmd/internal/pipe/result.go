package pipe

import (
	"encoding/binary"
	"math"
	"time"

	"hotlap/engine"
)

// The entry of a result, little-endian; all entries of a frame come first, then
// for each of them head, message, remote address and body.
//
//	 0 u64 id
//	 8 u16 status; 0 is none
//	10 u8  kind of the error; 0 is none
//	11 u8  phase of the error
//	12 u32 length of the head
//	16 u32 length of the body
//	20 u16 length of the message
//	22 u8  length of the remote address
//	23 u8  flags
//	24 u64 start, us since 1970
//	32 u64 time queued, us
//	40 u64 time in total, us
//	48 u64 bytes of the body as received
//	56 u32 time connecting, us; this and the next two saturate
//	60 u32 time in the TLS handshake, us
//	64 u32 time to the first byte, us
//	68 u32 attempts
const resultEntry = 72

const flagTruncated = 1

// A batch is a frame of results that is being made.
type batch struct {
	entries []byte // behind room for the frame's header
	rest    []byte
	count   int
}

// A frame of results is ended at this size; a larger result has one of its own.
const batchBytes = 256 << 10

// keptBatch is how large a buffer is kept for the next frames.
const keptBatch = 1 << 20

func (b *batch) size() int { return len(b.entries) + len(b.rest) }

func (b *batch) reset() {
	if cap(b.rest) > keptBatch {
		b.rest = nil
	}
	b.entries, b.rest, b.count = append(b.entries[:0], make([]byte, frameHeader)...), b.rest[:0], 0
}

// frame returns the frame, in as many parts as it is worth to write.
func (b *batch) frame() [][]byte {
	length := len(b.entries) - frameHeader + len(b.rest)
	appendFrame(b.entries[:0], frameResults, b.count, length)
	if len(b.rest) > batchBytes {
		return [][]byte{b.entries, b.rest}
	}
	b.entries = append(b.entries, b.rest...)
	return [][]byte{b.entries}
}

func (b *batch) add(r *engine.Result) {
	head, message, flags := r.Head(), "", byte(0)
	if r.Truncated {
		flags |= flagTruncated
	}
	var kind engine.Kind
	var phase engine.Phase
	if r.Err != nil {
		kind, phase, message = r.Err.Kind, r.Err.Phase, r.Err.Message
		message = message[:min(len(message), math.MaxUint16)]
	}
	b.rest = append(append(b.rest, head...), message...)
	before := len(b.rest)
	if r.Remote.IsValid() {
		b.rest = r.Remote.AppendTo(b.rest)
	}
	remote := len(b.rest) - before
	b.rest = append(b.rest, r.Body...)
	e, le := b.entries, binary.LittleEndian
	e = le.AppendUint64(e, r.Request.Tag.(*request).id)
	e = le.AppendUint16(e, uint16(r.Status))
	e = append(e, byte(kind), byte(phase))
	e = le.AppendUint32(e, uint32(len(head)))
	e = le.AppendUint32(e, uint32(len(r.Body)))
	e = le.AppendUint16(e, uint16(len(message)))
	e = append(e, byte(remote), flags)
	e = le.AppendUint64(e, uint64(r.Start.UnixMicro()))
	e = le.AppendUint64(e, uint64(r.Time.Queued.Microseconds()))
	e = le.AppendUint64(e, uint64(r.Time.Total.Microseconds()))
	e = le.AppendUint64(e, uint64(r.Bytes))
	e = le.AppendUint32(e, microseconds(r.Time.Connect))
	e = le.AppendUint32(e, microseconds(r.Time.TLS))
	e = le.AppendUint32(e, microseconds(r.Time.TTFB))
	b.entries = le.AppendUint32(e, uint32(min(r.Attempts, math.MaxUint32)))
	b.count++
}

func microseconds(d time.Duration) uint32 {
	return uint32(min(d.Microseconds(), math.MaxUint32))
}
