// Package netlink is the little of netlink(7) that the observer needs: requests
// that are acknowledged, and dumps.
//
// A Conn belongs to the network namespace of the thread that opened it, and
// keeps speaking for it from whatever thread it is used later. One goroutine
// uses a Conn at a time.
package netlink

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	// recvBufferBytes: the kernel builds dumps in pieces of at most 32 KiB,
	// however large the buffer they are read into.
	recvBufferBytes = 64 << 10
	// answerTimeout_s bounds a wait. The kernel answers at once; only a lost
	// answer (its memory was short) is ever waited for.
	answerTimeout_s = 5
	headerBytes     = unix.SizeofNlMsghdr
	// typeMask takes NLA_F_NESTED and NLA_F_NET_BYTEORDER off.
	typeMask = 1<<14 - 1
)

var (
	// ErrInterrupted: what was dumped changed meanwhile, so that it may miss
	// or repeat something. What was delivered is of use, but not a snapshot.
	ErrInterrupted = errors.New("netlink: the dump was interrupted by a change")
	// ErrMalformed: an answer that does not keep to netlink's own format.
	ErrMalformed = errors.New("netlink: malformed message")
)

// Conn is a netlink socket.
type Conn struct {
	fd       int
	sequence uint32
	request  []byte
	answer   []byte
}

// Open opens a socket of a netlink family (unix.NETLINK_ROUTE, ...) in the
// network namespace of the calling thread.
func Open(family int) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, family)
	if err != nil {
		return nil, fmt.Errorf("netlink: socket of family %d: %w", family, err)
	}
	c := &Conn{fd: fd, answer: make([]byte, recvBufferBytes)}
	// So that requests are checked, and what they ask for is not passed over. Linux
	// before 4.20 does not know it, and then nothing is lost but the check.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: answerTimeout_s}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink: SO_RCVTIMEO: %w", err)
	}
	return c, nil
}

// Close closes the socket.
func (c *Conn) Close() error { return unix.Close(c.fd) }

// Do sends one request and waits until the kernel has done it.
func (c *Conn) Do(kind, flags uint16, body []byte) error {
	if err := c.send(kind, flags|unix.NLM_F_ACK, body); err != nil {
		return err
	}
	return c.receive(nil)
}

// Dump sends a request for a dump and calls each for every message of the
// answer. body is valid until each returns. An error of each ends the calls;
// the rest of the answer is read and dropped, so the Conn stays usable.
func (c *Conn) Dump(kind uint16, body []byte, each func(kind uint16, body []byte) error) error {
	if err := c.send(kind, unix.NLM_F_DUMP, body); err != nil {
		return err
	}
	return c.receive(each)
}

func (c *Conn) send(kind, flags uint16, body []byte) error {
	c.sequence++
	h := binary.NativeEndian.AppendUint32(c.request[:0], uint32(headerBytes+len(body)))
	h = binary.NativeEndian.AppendUint16(h, kind)
	h = binary.NativeEndian.AppendUint16(h, flags|unix.NLM_F_REQUEST)
	h = binary.NativeEndian.AppendUint32(h, c.sequence)
	h = binary.NativeEndian.AppendUint32(h, 0) // the kernel fills in the port
	c.request = append(h, body...)
	if err := unix.Sendto(c.fd, c.request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("netlink: send: %w", err)
	}
	return nil
}

// receive reads until the request is done.
func (c *Conn) receive(each func(kind uint16, body []byte) error) error {
	a := answer{sequence: c.sequence, each: each}
	for !a.done {
		n, from, err := c.read()
		if err != nil {
			return err
		}
		if from != 0 { // only the kernel is believed
			continue
		}
		if err := a.take(c.answer[:n]); err != nil {
			return err
		}
	}
	return a.err
}

// read reads one datagram, and says which port sent it: the kernel's is 0.
func (c *Conn) read() (n int, from uint32, err error) {
	for {
		n, _, flags, sender, err := unix.Recvmsg(c.fd, c.answer, nil, 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return 0, 0, fmt.Errorf("netlink: the kernel gave no answer in %d s", answerTimeout_s)
		case err != nil:
			return 0, 0, fmt.Errorf("netlink: receive: %w", err)
		case flags&unix.MSG_TRUNC != 0:
			return 0, 0, fmt.Errorf("netlink: an answer of more than %d bytes", recvBufferBytes)
		}
		if s, ok := sender.(*unix.SockaddrNetlink); ok {
			from = s.Pid
		}
		return n, from, nil
	}
}

// answer follows the messages that answer one request.
type answer struct {
	sequence uint32
	each     func(kind uint16, body []byte) error
	done     bool
	err      error // the first of the caller's, the kernel's, ErrInterrupted
}

func (a *answer) fail(err error) {
	if a.err == nil {
		a.err = err
	}
}

// take takes one datagram.
func (a *answer) take(b []byte) error {
	for len(b) > 0 {
		if len(b) < headerBytes {
			return ErrMalformed
		}
		size := int(binary.NativeEndian.Uint32(b))
		kind := binary.NativeEndian.Uint16(b[4:])
		flags := binary.NativeEndian.Uint16(b[6:])
		sequence := binary.NativeEndian.Uint32(b[8:])
		if size < headerBytes || size > len(b) {
			return ErrMalformed
		}
		body := b[headerBytes:size]
		b = b[min(align(size), len(b)):]
		if sequence != a.sequence { // left of a request that was given up
			continue
		}
		if err := a.message(kind, flags, body); err != nil {
			return err
		}
	}
	return nil
}

func (a *answer) message(kind, flags uint16, body []byte) error {
	switch kind {
	case unix.NLMSG_NOOP:
		return nil
	case unix.NLMSG_DONE, unix.NLMSG_ERROR:
		a.done = true
		if len(body) < 4 {
			if kind == unix.NLMSG_ERROR {
				return ErrMalformed
			}
			break
		}
		if errno := int32(binary.NativeEndian.Uint32(body)); errno < 0 {
			a.fail(unix.Errno(-errno))
		}
	default:
		if a.each != nil && (a.err == nil || a.err == ErrInterrupted) {
			if err := a.each(kind, body); err != nil {
				a.err = err
			}
		}
	}
	if flags&unix.NLM_F_DUMP_INTR != 0 {
		a.fail(ErrInterrupted)
	}
	return nil
}

// Attributes calls each for every attribute in b, which follows a message's
// fixed part. The flags in the type (nested, byte order) are taken off.
func Attributes(b []byte, each func(kind uint16, value []byte)) error {
	for len(b) > 0 {
		if len(b) < unix.SizeofNlAttr {
			return ErrMalformed
		}
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofNlAttr || size > len(b) {
			return ErrMalformed
		}
		each(binary.NativeEndian.Uint16(b[2:])&typeMask, b[unix.SizeofNlAttr:size])
		b = b[min(align(size), len(b)):]
	}
	return nil
}

// AppendAttribute appends an attribute to a message.
func AppendAttribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofNlAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, align(len(value))-len(value))...)
}

func align(n int) int { return (n + 3) &^ 3 }
