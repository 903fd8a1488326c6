package engine

import "golang.org/x/sys/unix"

// write sends what the pipeline holds unwritten, many requests in one write(2),
// until all is written or the socket takes no more. It returns the time of the
// last write, for which the clock is read after each: "written" is the write
// that took a request's last byte.
func (c *conn) write(now int64) int64 {
	for !c.pipe.allSent() {
		b := c.pipe.gather(c.l.wbuf)
		b = b[:min(len(b), writeBuffer)] // TLS would encrypt all of it at once
		n, err := c.t.write(b)
		now = c.l.now()
		if n > 0 {
			c.lastWrite = now
			c.pipe.advance(n, now)
			if n == len(b) {
				continue
			}
		}
		switch err {
		case nil, unix.EAGAIN:
			c.blocked = true
			for i := c.pipe.unsent; i < c.pipe.n; i++ {
				c.pipe.at(i).stuck = true
			}
			return now
		case unix.EINTR:
		default:
			// After an RST a write fails, yet answers may lie in the receive
			// buffer: the connection ends when that is read dry.
			c.sockErr, c.gone = err, true
			c.readable()
			if c.state == connOpen && c.stalled == 0 {
				c.broken(now, err)
			}
			return now
		}
	}
	return now
}

// writable is called when the socket takes bytes again.
func (c *conn) writable() {
	c.blocked = false
	_ = c.t.flush() // what fails here fails again in write
}
