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
	used   atomic.Int64 // by bodies being received and by results
	handed atomic.Int64 // of these, in results that no sink has consumed yet
}

func (b *budget) spent() bool { return b.used.Load() >= b.most }

// stuck says that only bodies that are being received hold the budget: nothing
// that a sink does will free any of it, so one of them has to go on.
func (b *budget) stuck() bool { return b.handed.Load() == 0 }

// Body buffers come in powers of two. What is released is kept for the next
// body up to a bound: at a full budget the garbage collector would otherwise
// let the heap grow to twice the budget before it looks.
const (
	smallBody     = 4 << 10 // up to here a body lives in its call
	bufferMin     = 8 << 10
	bufferMinBits = 13
	bufferClasses = 20
	bufferKeep    = 32 << 20 // bytes of released buffers
	firstBuffer   = 1 << 20  // most that a Content-Length alone makes us allocate
)

type bufferPool struct {
	mu   sync.Mutex
	free [bufferClasses][][]byte
	kept int
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
	if l := len(p.free[c]); l > 0 {
		b := p.free[c][l-1]
		p.free[c] = p.free[c][:l-1]
		p.kept -= cap(b)
		return b
	}
	return make([]byte, 0, bufferMin<<c)
}

func (p *bufferPool) put(b []byte) {
	c := bufferClass(cap(b))
	if c >= bufferClasses || cap(b) != bufferMin<<c {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kept+cap(b) <= bufferKeep {
		p.free[c] = append(p.free[c], b[:0])
		p.kept += cap(b)
	}
}

// bodyCost is what a body counts in the budget.
func bodyCost(body []byte) int64 {
	if cap(body) <= smallBody {
		return int64(len(body))
	}
	return int64(cap(body))
}
