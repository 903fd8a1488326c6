package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/diag"
)

// Here is what an experiment with a setting needs beyond an injector: small
// steps, of which it makes its own load.

// File is where the namespace can be entered from, while it is not closed.
func (ns *Namespace) File() (file string, err error) {
	err = ns.Do(func() error {
		file = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
		return nil
	})
	return file, err
}

// Sockets is a snapshot of the namespace's sockets that the filter chooses.
func (ns *Namespace) Sockets(f diag.Filter) ([]diag.Socket, error) { return ns.sockets(f) }

// Drops is how many segments a listener of the namespace has refused (sk_drops).
func (ns *Namespace) Drops(listener *Socket) (drops uint64, err error) {
	cookie, err := listener.Cookie()
	if err != nil {
		return 0, err
	}
	err = ns.Do(func() error {
		c, err := diag.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		all, err := c.Listeners(nil)
		for _, l := range all {
			if l.Cookie == cookie {
				drops = uint64(l.Memory.Drops)
				return err
			}
		}
		return errors.Join(err, fmt.Errorf("lab: no listener has the cookie %d", cookie))
	})
	return drops, err
}

// Queue is how many connections wait in a listener's accept queue.
func (s *Socket) Queue() (uint32, error) { return s.queue() }

// Relisten changes a listener's backlog. What is in its queues stays there.
func (s *Socket) Relisten(backlog int) error {
	if err := unix.Listen(s.fd, backlog); err != nil {
		return fmt.Errorf("lab: listen: %w", err)
	}
	return nil
}

// Congestion chooses the socket's congestion control.
func (s *Socket) Congestion(name string) error {
	if err := unix.SetsockoptString(s.fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, name); err != nil {
		return fmt.Errorf("lab: TCP_CONGESTION %s: %w", name, err)
	}
	return nil
}

// NoDelay makes each write a segment.
func (s *Socket) NoDelay() error { return s.setInt(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) }

// Shutdown sends a FIN: no more will be written.
func (s *Socket) Shutdown() error { return unix.Shutdown(s.fd, unix.SHUT_WR) }

// Abort closes with an RST, so that the connection leaves no TIME_WAIT.
func (s *Socket) Abort() error { return errors.Join(s.Reset(), s.Close()) }

// TryConnected says whether a connection that was begun is made; its error is
// that of the connection, unwrapped.
func (s *Socket) TryConnected() (ok bool, err error) {
	p := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(p, 0)
	switch {
	case err == unix.EINTR, n == 0:
		return false, nil
	case err == nil:
		err = s.Err()
	}
	return err == nil, err
}

// TryAccept takes a connection from the queue, or nil where none is there.
func (s *Socket) TryAccept() (*Socket, error) {
	fd, _, err := unix.Accept4(s.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	switch err {
	case nil:
		return &Socket{fd: fd}, nil
	case unix.EAGAIN, unix.EINTR:
		return nil, nil
	}
	return nil, fmt.Errorf("lab: accept: %w", err)
}

// TryRead reads what is there: ok is false where nothing is. The end is (0, true).
func (s *Socket) TryRead(b []byte) (n int, ok bool, err error) {
	switch n, err = unix.Read(s.fd, b); err {
	case unix.EAGAIN, unix.EINTR:
		return 0, false, nil
	}
	return max(n, 0), err == nil, err
}

// AwaitPassed waits until n packets have come through.
func (g *Gate) AwaitPassed(n int) error {
	_, err := g.awaitPassed(n)
	return err
}

// EnterUser makes cmd run in a user namespace of its own, as root there, and in
// the network namespace of its caller, whose settings it can read. It can do what
// Enter says.
func EnterUser(cmd *exec.Cmd) {
	Enter(cmd)
	cmd.SysProcAttr.Cloneflags &^= unix.CLONE_NEWNET
}
