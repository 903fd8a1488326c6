package engine

// A pipeline is the calls on a connection, in the order in which they were
// sent and will be answered. It is a ring, and no more than that: it grows to
// the depth that is used.
type pipeline struct {
	ring []place // length is a power of two, or 0
	head int     // index of the first in line
	n    int

	unsent int // how many are written in full: position of the first that is not
	off    int // bytes of that one that are written
}

// A place in the line has what is needed to write the request: the call itself,
// of which thousands may be in flight, is not in the CPU's cache then.
type place struct {
	*call
	p *prepared
}

func (p *pipeline) place(i int) *place { return &p.ring[(p.head+i)&(len(p.ring)-1)] }

func (p *pipeline) at(i int) *call { return p.place(i).call }

func (p *pipeline) set(i int, k *call) { *p.place(i) = place{k, k.p} }

// first returns the call whose response comes next, or nil.
func (p *pipeline) first() *call {
	if p.n == 0 {
		return nil
	}
	return p.ring[p.head].call
}

func (p *pipeline) push(k *call) {
	if p.n == len(p.ring) {
		p.grow()
	}
	p.set(p.n, k)
	p.n++
}

func (p *pipeline) grow() {
	ring := make([]place, max(1, 2*len(p.ring)))
	for i := range p.n {
		ring[i] = *p.place(i)
	}
	p.ring, p.head = ring, 0
}

// pop takes out the first in line, which may not have been written in full.
func (p *pipeline) pop() *call {
	k := p.first()
	p.ring[p.head] = place{}
	p.head = (p.head + 1) & (len(p.ring) - 1)
	p.n--
	if p.unsent > 0 {
		p.unsent--
	} else {
		p.off = 0
	}
	return k
}

// index returns the place in line of k, which is in the pipeline.
func (p *pipeline) index(k *call) int {
	for i := range p.n {
		if p.at(i) == k {
			return i
		}
	}
	panic("engine: internal error: call is not in its connection's pipeline")
}

// removeUnsent takes out the call at i, of which nothing was written.
func (p *pipeline) removeUnsent(i int) {
	for ; i < p.n-1; i++ {
		*p.place(i) = *p.place(i + 1)
	}
	p.n--
	*p.place(p.n) = place{}
}

// wrote says whether any byte of the call at i was written.
func (p *pipeline) wrote(i int) bool {
	return i < p.unsent || i == p.unsent && p.off > 0
}

// allSent says whether every call was written in full.
func (p *pipeline) allSent() bool { return p.unsent == p.n }

// advance reports that n more bytes were written at now.
func (p *pipeline) advance(n int, now int64) {
	for n > 0 {
		k := p.place(p.unsent)
		rest := k.p.size() - p.off
		if n < rest {
			p.off += n
			return
		}
		k.written = now
		n -= rest
		p.unsent++
		p.off = 0
	}
}

// gather returns the next bytes to write, using buf where they come from
// several places.
func (p *pipeline) gather(buf []byte) []byte {
	r := p.place(p.unsent).p
	first := r.chunk(p.off)
	if p.unsent == p.n-1 && p.off+len(first) == r.size() {
		return first
	}
	buf = append(buf[:0], first[:min(len(first), cap(buf))]...)
	off := p.off + len(first)
	for i := p.unsent; i < p.n && len(buf) < cap(buf); {
		r = p.place(i).p
		if off == r.size() {
			i, off = i+1, 0
			continue
		}
		b := r.chunk(off)
		b = b[:min(len(b), cap(buf)-len(buf))]
		buf = append(buf, b...)
		off += len(b)
	}
	return buf
}
