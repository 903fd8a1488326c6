package engine

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// A budget bounds the bytes of kept bodies, from the moment they are received
// until the sink has consumed them. When it is spent, sockets are not read.
// All loops and sinks share it.
type budget struct {
	most   int64
	small  int          // up to this size a body lives in its call, and counts its length
	used   atomic.Int64 // by bodies being received and by results
	handed atomic.Int64 // of these, in results that no sink has consumed yet
}

func (b *budget) spent() bool { return b.used.Load() >= b.most }

// stuck says that only bodies that are being received hold the budget: nothing
// that a sink does will free any of it, so one of them has to go on.
func (b *budget) stuck() bool { return b.handed.Load() == 0 }

// consumed gives back bytes of results that a sink has consumed.
func (b *budget) consumed(n int64) {
	b.handed.Add(-n)
	b.used.Add(-n)
}

// Body buffers come in powers of two. What is released is kept for the next
// body, as far as it and the bodies in use stay within the budget: left to the
// garbage collector, a batch of consumed bodies would lie beside the next until
// the heap has grown to twice the budget.
const (
	smallBodyMost = 4 << 10 // see smallBodies
	smallBodyMin  = 64
	bufferMin     = 8 << 10
	bufferMinBits = 13
	bufferClasses = 20
	bufferKeepMin = 1 << 20 // bytes of released buffers that are kept in any case
	firstBuffer   = 1 << 20 // most that a Content-Length alone makes us allocate
)

type bufferPool struct {
	budget *budget

	mu   sync.Mutex
	free [bufferClasses][][]byte
	kept int64
}

func bufferClass(n int) int {
	return max(0, bits.Len(uint(n-1))-bufferMinBits)
}

// get returns an empty buffer with room for n bytes.
func (p *bufferPool) get(n int) []byte {
	c := bufferClass(max(n, bufferMin))
	if c >= bufferClasses {
		return make([]byte, 0, n)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if b := p.pop(c); b != nil {
		return b
	}
	for other := bufferClasses - 1; other >= 0 && p.kept > p.most()-bufferMin<<c; {
		if p.pop(other) == nil {
			other--
		}
	}
	return make([]byte, 0, bufferMin<<c)
}

// pop takes a released buffer of class c, if there is one.
func (p *bufferPool) pop(c int) []byte {
	last := len(p.free[c]) - 1
	if last < 0 {
		return nil
	}
	b := p.free[c][last]
	p.free[c][last] = nil
	p.free[c] = p.free[c][:last]
	p.kept -= int64(cap(b))
	return b
}

// most is how many bytes of released buffers may be kept now.
func (p *bufferPool) most() int64 {
	return max(p.budget.most-p.budget.used.Load(), bufferKeepMin)
}

// put keeps a buffer for later. Small bodies, which live in their calls, are
// left alone.
func (p *bufferPool) put(b []byte) {
	c := bufferClass(max(cap(b), 1))
	if c >= bufferClasses || cap(b) != bufferMin<<c {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kept+int64(cap(b)) <= p.most() {
		p.free[c] = append(p.free[c], b[:0])
		p.kept += int64(cap(b))
	}
}

// smallBodies is up to which size a body lives in its call, whose memory for it
// stays: all of it together is a quarter of the budget at the most.
func smallBodies(c *Config) int {
	size := smallBodyMost
	for size > smallBodyMin && int64(size)*int64(c.MaxInFlight) > c.MaxMemory/4 {
		size /= 2
	}
	return size
}

// cost is what a body counts in the budget.
func (b *budget) cost(body []byte) int64 {
	if cap(body) <= b.small {
		return int64(len(body))
	}
	return int64(cap(body))
}
