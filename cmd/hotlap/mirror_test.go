package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// listen opens a listener on loopback for the length of the test.
func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// refusingAddress is one where nobody listens.
func refusingAddress(t *testing.T) string {
	l := listen(t)
	l.Close()
	return l.Addr().String()
}

// startMirror runs a server that answers each request with the bytes that it
// was: what is on the wire is what counts.
func startMirror(t *testing.T) string {
	l := listen(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go mirror(c)
		}
	}()
	return l.Addr().String()
}

func mirror(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		text, err := readRequest(r)
		if err != nil {
			return
		}
		if _, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text); err != nil {
			return
		}
	}
}

// readRequest reads a request and returns its bytes.
func readRequest(r *bufio.Reader) (string, error) {
	var text strings.Builder
	length := 0
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		text.WriteString(line)
		if line == "\r\n" {
			break
		}
		if name, value, ok := strings.Cut(line, ":"); ok && http.CanonicalHeaderKey(name) == "Content-Length" {
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return "", err
			}
		}
	}
	_, err := io.CopyN(&text, r, int64(length))
	return text.String(), err
}
