package main

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"hotlap/engine"
)

// The floor is a floor only if it sends what the engine sends.
func TestFloorSendsTheSameBytes(t *testing.T) {
	addr, requests := recordingServer(t)
	if err := run(options{addr: addr, connections: 1, depth: 1, requests: 1, loops: 1}); err != nil {
		t.Fatal(err)
	}
	ours := <-requests

	floor := buildFloor(t)
	runtime.LockOSThread() // the floor dies with the thread that started it
	defer runtime.UnlockOSThread()
	out, err := exec.Command(floor, "-c", "1", "-n", "1", "-u", "hotlap/"+engine.Version, addr.String()).CombinedOutput()
	if err != nil {
		t.Fatalf("floor: %v\n%s", err, out)
	}
	for range 2 { // it measures the response first
		if theirs := <-requests; !bytes.Equal(theirs, ours) {
			t.Errorf("floor sends\n%q\nthe engine sends\n%q", theirs, ours)
		}
	}
}

func buildFloor(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("cc"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("cc is needed")
		}
		t.Skip("cc is not installed")
	}
	floor := filepath.Join(t.TempDir(), "floor")
	if out, err := exec.Command("cc", "-std=gnu11", "-o", floor, "../floor/floor.c").CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, out)
	}
	return floor
}

// recordingServer answers every request and hands out its bytes.
func recordingServer(t *testing.T) (netip.AddrPort, <-chan []byte) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	requests := make(chan []byte, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go record(c, requests)
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String()), requests
}

func record(c net.Conn, requests chan<- []byte) {
	defer c.Close()
	var have []byte
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		have = append(have, buf[:n]...)
		if end := bytes.Index(have, []byte("\r\n\r\n")); end >= 0 {
			requests <- bytes.Clone(have[:end+4])
			have = have[end+4:]
			if _, err := c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")); err != nil {
				return
			}
		}
	}
}

func TestOnlyLoopbackIsLoaded(t *testing.T) {
	for _, addr := range []string{"192.0.2.1:80", "[2001:db8::1]:80", "0.0.0.0:80", "localhost:80", ""} {
		if _, err := parse([]string{addr}); err == nil {
			t.Errorf("%q was accepted", addr)
		}
	}
	for _, addr := range []string{"127.0.0.1:80", "127.1.2.3:80", "[::1]:80"} {
		if _, err := parse([]string{addr}); err != nil {
			t.Errorf("%q: %v", addr, err)
		}
	}
}

func TestFeedSharesItsCount(t *testing.T) {
	f := newFeed(&engine.Request{}, 10)
	var sum int
	batch := make([]*engine.Request, 3)
	for loop := range 4 {
		part := f.OnLoop(loop, 4)
		for {
			n, err := part.Next(t.Context(), batch)
			sum += n
			if err != nil {
				break
			}
		}
	}
	if sum != 10 {
		t.Errorf("four loops were given %d requests, want 10", sum)
	}
	f.stop()
	if n, err := f.OnLoop(0, 1).Next(t.Context(), batch); n != 0 || err == nil {
		t.Errorf("a stopped feed gave %d, %v", n, err)
	}
}

func TestFailuresEndTheRun(t *testing.T) {
	l := newLatencies(1)
	bad := &engine.Result{Response: engine.Response{Status: 503}}
	if err := l.OnLoop(0, 1).Put([]*engine.Result{bad}); err == nil || !strings.Contains(err.Error(), "200") {
		t.Errorf("a 503 was recorded: %v", err)
	}
}
