package main

import (
	"bufio"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// A stage is a server whose answers the test gives.
type stage struct {
	t    *testing.T
	url  string
	came chan asked
}

// asked is a request that has come and waits for its answer.
type asked struct {
	t    *testing.T
	path string
	c    net.Conn
}

func newStage(t *testing.T) *stage {
	l := listen(t)
	s := &stage{t: t, url: "http://" + l.Addr().String(), came: make(chan asked)}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	return s
}

// serve hands on the requests of a connection, until the other side closes it.
func (s *stage) serve(c net.Conn) {
	defer c.Close()
	for r := bufio.NewReader(c); ; {
		text, err := readRequest(r)
		if err != nil {
			return
		}
		select {
		case s.came <- asked{s.t, strings.Fields(text)[1], c}:
		case <-s.t.Context().Done():
			return
		}
	}
}

// await waits for requests with these paths, in any order, and returns them in
// the order of the paths.
func (s *stage) await(paths ...string) []asked {
	s.t.Helper()
	list, late := make([]asked, len(paths)), time.After(patience)
	for range paths {
		select {
		case a := <-s.came:
			at := slices.Index(paths, a.path)
			if at < 0 || list[at].c != nil {
				s.t.Fatalf("a request for %s, want %q", a.path, paths)
			}
			list[at] = a
		case <-late:
			s.t.Fatalf("no request: want %q", paths)
		}
	}
	return list
}

// answer sends a response, whose body is the path.
func (a asked) answer() {
	a.t.Helper()
	if _, err := fmt.Fprintf(a.c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(a.path), a.path); err != nil {
		a.t.Error(err)
	}
}
