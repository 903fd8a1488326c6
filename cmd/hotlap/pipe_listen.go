package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hotlap/cmd/internal/pipe"
)

// A pipeServer serves clients on a unix socket.
type pipeServer struct {
	o        *pipeOptions
	std      *stdio
	listener *net.UnixListener
	places   chan struct{} // one for each client
	serving  sync.WaitGroup

	mu       sync.Mutex
	sessions map[*pipe.Session]bool
	stopping bool
}

// listenPipe serves until a signal comes, and then lets the clients finish for
// a while.
func listenPipe(ctx context.Context, std *stdio, o *pipeOptions) int {
	listener, err := listenPrivately(o.listen)
	if err != nil {
		std.complain("pipe", "%v", err)
		return exitFailed
	}
	defer listener.Close()
	s := &pipeServer{
		o: o, std: std, listener: listener,
		places: make(chan struct{}, o.clients), sessions: make(map[*pipe.Session]bool),
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	fmt.Fprintf(std.err, "listening on %s\n", o.listen)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	accepting := make(chan error, 1)
	go func() { accepting <- s.accept(ctx) }()
	select {
	case err := <-accepting:
		std.complain("pipe", "%v", err)
		return exitFailed
	case sig := <-signals:
		s.stop()
		s.drain(accepting, signals, cancel)
		return 128 + int(sig.(syscall.Signal))
	}
}

// listenPrivately makes a socket that nobody else may use, at any moment. One
// that is left over from a process that is gone is replaced.
func listenPrivately(path string) (*net.UnixListener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		if c, err := net.Dial("unix", path); err == nil {
			_ = c.Close()
			return nil, fmt.Errorf("--listen %s: another process listens there", path)
		} else if errors.Is(err, syscall.ECONNREFUSED) {
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("--listen: %w", err)
			}
		}
	}
	if strings.HasPrefix(path, "@") { // package net would take an abstract socket, which has no mode: anybody may connect
		path = "./" + path
	}
	defer unix.Umask(unix.Umask(0o177))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	return l, nil
}

// acceptPause is how long accept waits for others to give descriptors back.
const acceptPause = 100 * time.Millisecond

// accept takes clients, as many as there are places. Without a descriptor for
// one it waits: those that it has would end with it.
func (s *pipeServer) accept(ctx context.Context) error {
	for told := false; ; {
		s.places <- struct{}{}
		c, err := s.listener.AcceptUnix()
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			if !told {
				s.std.complain("pipe", "a client has to wait: %v", err)
			}
			told = true
			<-s.places
			time.Sleep(acceptPause)
			continue
		}
		if err != nil {
			return err
		}
		told = false
		s.serving.Go(func() {
			defer func() { <-s.places }()
			err := s.serve(ctx, c)
			if err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) { // those who go need not explain
				s.std.complain("pipe", "a client: %v", err)
			}
		})
	}
}

// serve serves one client, with an engine of its own.
func (s *pipeServer) serve(ctx context.Context, c *net.UnixConn) error {
	defer c.Close()
	e, session, err := s.o.newSession(c, c)
	if err != nil {
		return err
	}
	defer e.Close()
	if !s.enter(session) {
		return nil
	}
	defer s.leave(session)
	s.o.limitPipeMemory(cap(s.places), e.MaxInFlight())
	fd, err := duplicate(c) // for poll
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	gone, ended := make(chan struct{}), make(chan error, 1)
	if err := watchClient(fd, 0, gone); err != nil {
		return err
	}
	serving, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { ended <- session.Serve(serving) }()
	over, err := s.await(ctx, session, gone, ended)
	if !over { // no result goes anywhere, and no write waits
		_ = c.Close()
		cancel()
		<-ended
	}
	_ = unix.Shutdown(fd, unix.SHUT_RDWR) // ends the reader and the watch
	session.Wait()
	<-gone
	return err
}

// duplicate returns another descriptor of a connection.
func duplicate(c *net.UnixConn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	err2 := raw.Control(func(conn uintptr) { fd, err = unix.FcntlInt(conn, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(err, err2)
}

// await waits until a session is over, or has to be ended: its client is gone, or
// stuck, or the server ends.
func (s *pipeServer) await(ctx context.Context, session *pipe.Session, gone <-chan struct{}, ended <-chan error) (over bool, err error) {
	stuck := time.NewTicker(s.o.stall / 4)
	defer stuck.Stop()
	for {
		select {
		case err := <-ended:
			return true, err
		case <-gone:
			return false, nil
		case <-ctx.Done():
			return false, nil
		case now := <-stuck.C:
			if session.Stuck(now) > s.o.stall {
				return false, errors.New(stuckMessage)
			}
		}
	}
}

// enter notes a session that stop has to stop; false is too late.
func (s *pipeServer) enter(session *pipe.Session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return false
	}
	s.sessions[session] = true
	return true
}

func (s *pipeServer) leave(session *pipe.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, session)
}

// stop takes no more clients, and no more requests. The socket is removed.
func (s *pipeServer) stop() {
	_ = s.listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	for session := range s.sessions {
		session.Stop()
	}
}

// drain waits until all is answered, but not for ever.
func (s *pipeServer) drain(accepting <-chan error, signals <-chan os.Signal, cancel func()) {
	done := make(chan struct{})
	go func() {
		<-accepting // no client comes any more
		s.serving.Wait()
		close(done)
	}()
	select {
	case <-done:
		return
	case <-signals:
	case <-time.After(interruptGrace):
	}
	cancel()
	<-done
}
