package lab

import (
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// SendBufferFull holds a client up by its own send buffer: it would send more, and the
// buffer is full with what was sent and is not acknowledged. It lasts until TCP_INFO says
// that it was so for long enough. Events are the connections, which is one.
func (ns *Namespace) SendBufferFull(on netip.Addr, enough func(held time.Duration) bool) (result *Provoked, err error) {
	p := &Provoked{}
	defer p.end("send buffer full", &result, &err)
	if err := p.calm(ns); err != nil {
		return nil, err
	}
	l, err := p.listen(ns, on, 1)
	if err != nil {
		return nil, err
	}
	if err := l.setInt(unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<10); err != nil {
		return nil, err
	}
	client, server, err := p.pair(ns, l, p.At)
	if err != nil {
		return nil, err
	}
	acks, err := p.gate(ns, Match{FromPort: p.At.Port(), Empty: true}, Forever, 0)
	if err != nil {
		return nil, err
	}
	sent, err := client.fillBuffer()
	if err != nil {
		return nil, err
	}
	// All that waits now fits in the window that opens when the server has read, and
	// is not acknowledged.
	if err := acks.Set(1, Forever); err != nil {
		return nil, err
	}
	if n, err := server.Read(make([]byte, sent)); n == 0 || err != nil {
		return nil, errors.Join(err, errors.New("the server read nothing"))
	}
	err = await(func() (bool, error) {
		info, err := client.Info()
		return err == nil && enough(time.Duration(info.Sndbuf_limited)*time.Microsecond), err
	})
	p.Events, p.Connections, p.Cookie = 1, 1, 0
	return p, err
}

// fillBuffer sends more than the other end's window takes, by half, and as much as
// the send buffer holds then, which is the least that the kernel allows.
func (s *Socket) fillBuffer() (sent int, err error) {
	info, err := s.Info()
	if err != nil {
		return 0, err
	}
	sent = int(info.Snd_wnd) * 3 / 2
	if _, err := s.Write(make([]byte, sent)); err != nil {
		return sent, err
	}
	err = await(func() (bool, error) {
		info, err := s.Info()
		return err == nil && info.Unacked == 0 && info.Snd_wnd == 0, err
	})
	if err != nil {
		return sent, errors.Join(errors.New("the receive window did not close"), err)
	}
	if err := s.setInt(unix.SOL_SOCKET, unix.SO_SNDBUF, 1); err != nil {
		return sent, err
	}
	for {
		n, err := unix.Write(s.fd, make([]byte, sent))
		switch err {
		case nil:
			sent += n
		case unix.EINTR:
		case unix.EAGAIN:
			return sent, nil
		default:
			return sent, err
		}
	}
}
