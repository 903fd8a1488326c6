package engine_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hotlap/engine"
)

// Memory is measured in a process that holds the engine and nothing else; the
// server is another one. Both are this test binary, run again as TestChild
// with a role.

const roleVar = "HOTLAP_TEST_ROLE"

// job is what a child is to do.
type job struct {
	Role        string // server, flat, bodies, idle
	Addr        string
	Requests    int
	Connections int
	Pipeline    int
	BodyBytes   int
	MaxMemory   int64
	TLS         bool
}

// figures is what a measuring child reports.
type figures struct {
	Early, Late int64 // resident bytes after 100,000 requests, and the most after that
	Peak        int64 // the most resident bytes at all
	PerConn     int64 // resident bytes per idle connection
	Wrong       int   // requests that did not end well
}

// TestChild is the children's entry; in a normal run it does nothing.
func TestChild(t *testing.T) {
	spec := os.Getenv(roleVar)
	if spec == "" {
		t.Skip("a part of the memory tests")
	}
	var j job
	if err := json.Unmarshal([]byte(spec), &j); err != nil {
		t.Fatal(err)
	}
	role := map[string]func(*testing.T, job) figures{
		"server": serveAnswers, "flat": measureFlat, "bodies": measureBodies, "idle": measureIdle,
	}[j.Role]
	b, _ := json.Marshal(role(t, j))
	fmt.Printf("figures %s\n", b)
}

// child starts this binary again. It ends when its standard input does, or by
// itself, and its output lines are read from the result.
func child(t *testing.T, j job) *bufio.Scanner {
	spec, _ := json.Marshal(j)
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.timeout=0")
	cmd.Env = append(os.Environ(), roleVar+"="+string(spec), "GORACE=", "GOCOVERDIR="+t.TempDir())
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	cmd.Stderr = os.Stderr
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", j.Role, err)
		}
	})
	return bufio.NewScanner(out)
}

// answerServer starts a server of j.BodyBytes per answer and returns its
// address.
func answerServer(t *testing.T, j job) string {
	j.Role = "server"
	lines := child(t, j)
	if !lines.Scan() {
		t.Fatalf("the server says nothing: %v", lines.Err())
	}
	return lines.Text()
}

// measure runs a measuring child and returns what it reports.
func measure(t *testing.T, j job) figures {
	var f figures
	lines := child(t, j)
	for lines.Scan() {
		text, ok := strings.CutPrefix(lines.Text(), "figures ")
		if !ok {
			t.Log(lines.Text())
			continue
		}
		if err := json.Unmarshal([]byte(text), &f); err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", f)
		if f.Wrong > 0 {
			t.Errorf("%d requests did not end well", f.Wrong)
		}
		return f
	}
	t.Fatalf("%s reports nothing: %v", j.Role, lines.Err())
	return f
}

// serveAnswers answers every request alike, as long as standard input is open.
// With j.Requests it holds all answers back until so many requests are there.
func serveAnswers(t *testing.T, j job) figures {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(l.Addr())
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", j.BodyBytes)
	answer = append(answer, make([]byte, j.BodyBytes)...)
	var waiting atomic.Int64
	all := make(chan int)
	if j.Requests == 0 {
		close(all)
	}
	go acceptAll(l, func(c net.Conn) {
		answerAlike(c, answer, func(n int) {
			if j.Requests > 0 && waiting.Add(int64(n)) == int64(j.Requests) {
				close(all)
			}
			<-all
		})
	})
	io.Copy(io.Discard, os.Stdin)
	l.Close()
	return figures{}
}

// acceptAll serves each connection in a goroutine of its own.
func acceptAll(l net.Listener, serve func(c net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go serve(c)
	}
}

func answerAlike(c net.Conn, answer []byte, hold func(n int)) {
	defer c.Close()
	in := make([]byte, 4<<10)
	end, have := []byte("\r\n\r\n"), 0
	for {
		n, err := c.Read(in[have:])
		if err != nil {
			return
		}
		have += n
		requests := bytes.Count(in[:have], end)
		if requests == 0 {
			continue
		}
		hold(requests)
		have = copy(in, in[bytes.LastIndex(in[:have], end)+len(end):have])
		if len(answer) < 4<<10 {
			if _, err := c.Write(bytes.Repeat(answer, requests)); err != nil {
				return
			}
			continue
		}
		for range requests {
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	}
}

var statm = sync.OnceValues(func() (*os.File, error) { return os.Open("/proc/self/statm") })

// rss is this process's resident set. It is asked for often, and leaves no
// garbage that would count.
func rss(t testing.TB) int64 {
	f, err := statm()
	if err != nil {
		t.Fatal(err)
	}
	var b [128]byte
	n, err := f.ReadAt(b[:], 0)
	if err != nil && err != io.EOF {
		t.Fatal(err)
	}
	pages, field := int64(0), 0
	for _, c := range b[:n] {
		switch {
		case c == ' ':
			field++
		case field == 1: // proc(5): resident
			pages = 10*pages + int64(c-'0')
		}
	}
	return pages * int64(os.Getpagesize())
}

// sameRequest is a Source of n requests for one URL, made afresh each.
func sameRequest(url string, n int) engine.Source {
	return engine.SourceFunc(func(ctx context.Context, batch []*engine.Request) (int, error) {
		k := min(n, len(batch))
		for i := range k {
			batch[i] = &engine.Request{URL: url}
		}
		if n -= k; n == 0 {
			return k, io.EOF
		}
		return k, nil
	})
}

func wrongOnes(results []*engine.Result, bytes int) (n int) {
	for _, r := range results {
		if r.Err != nil || r.Status != 200 || r.Bytes != int64(bytes) {
			n++
		}
	}
	return n
}

const earlyRequests = 100_000

// measureFlat watches the resident set while many requests without kept bodies
// pass.
func measureFlat(t *testing.T, j job) figures {
	var f figures
	done := 0
	runEngine(t, engine.Config{Connections: j.Connections, PerHost: j.Connections, Pipeline: j.Pipeline},
		sameRequest("http://"+j.Addr+"/", j.Requests),
		engine.SinkFunc(func(results []*engine.Result) error {
			f.Wrong += wrongOnes(results, j.BodyBytes)
			before := done
			done += len(results)
			if before/10_000 == done/10_000 {
				return nil
			}
			now := rss(t)
			f.Peak = max(f.Peak, now)
			if done <= earlyRequests+10_000 {
				f.Early = f.Peak
			} else {
				f.Late = max(f.Late, now)
			}
			return nil
		}))
	return f
}

// measureBodies keeps large bodies for a sink that takes none until memory
// grows no more, and is slow afterwards.
func measureBodies(t *testing.T, j job) figures {
	var f figures
	full := sync.OnceFunc(func() { f.Peak = untilFull(t) })
	runEngine(t, engine.Config{Connections: j.Connections, PerHost: j.Connections, Pipeline: j.Pipeline,
		KeepBody: true, MaxMemory: j.MaxMemory, ReadTimeout: time.Hour, Timeout: time.Hour},
		sameRequest("http://"+j.Addr+"/", j.Requests),
		engine.SinkFunc(func(results []*engine.Result) error {
			full()
			for _, r := range results {
				f.Wrong += wrongOnes([]*engine.Result{r}, j.BodyBytes)
				if r.Err == nil && len(r.Body) != j.BodyBytes {
					f.Wrong++
				}
				wait(time.Millisecond)
			}
			f.Peak = max(f.Peak, rss(t))
			return nil
		}))
	return f
}

// untilFull returns the most memory the process comes to hold by itself.
func untilFull(t testing.TB) (peak int64) {
	still := 0
	for range 200 {
		now := rss(t)
		if still++; now > peak+1<<20 {
			peak, still = now, 0
		}
		if still == 10 {
			break
		}
		wait(100 * time.Millisecond)
	}
	return peak
}

// measureIdle opens connections, all at once because the server answers nobody
// before the last is there, and weighs them when they are idle.
func measureIdle(t *testing.T, j job) figures {
	e, err := engine.New(engine.Config{Connections: j.Connections, PerHost: j.Connections,
		MaxInFlight: j.Connections, ConnectTimeout: time.Hour, Timeout: time.Hour, ReadTimeout: time.Hour, IdleTimeout: time.Hour,
		TLS: &tls.Config{InsecureSkipVerify: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	url := "http://" + j.Addr + "/"
	if j.TLS {
		url = "https://" + j.Addr + "/"
	}
	before := settledRSS(t)
	var f figures
	stats, err := e.Run(context.Background(), sameRequest(url, j.Connections),
		engine.SinkFunc(func(results []*engine.Result) error {
			f.Wrong += wrongOnes(results, j.BodyBytes)
			return nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	after := settledRSS(t)
	if stats.Connects != int64(j.Connections) || openFDs(t) < j.Connections {
		t.Errorf("%d connections were opened and %d descriptors are open, want %d idle connections",
			stats.Connects, openFDs(t), j.Connections)
	}
	f.PerConn = (after - before) / int64(j.Connections)
	return f
}

// settledRSS is the resident set without garbage.
func settledRSS(t testing.TB) int64 {
	runtime.GC()
	debug.FreeOSMemory()
	return rss(t)
}

func needRealMemory(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector's shadow memory is not the engine's")
	}
}

const mib = 1 << 20

// The resident set neither grows with the number of requests nor is large.
func TestMemoryFlat(t *testing.T) {
	needRealMemory(t)
	for _, depth := range []int{1, 16} {
		t.Run(depthName(depth), func(t *testing.T) {
			j := job{Role: "flat", Connections: 64, Pipeline: depth, Requests: size(400_000, 5_000_000), BodyBytes: 13}
			j.Addr = answerServer(t, job{BodyBytes: j.BodyBytes})
			f := measure(t, j)
			if f.Late > f.Early*12/10 {
				t.Errorf("%d MiB resident after %d requests, %d MiB later", f.Early/mib, earlyRequests, f.Late/mib)
			}
			if f.Peak > 150e6 {
				t.Errorf("%d MB resident, want below 150", f.Peak/1e6)
			}
		})
	}
}

// Kept bodies stay within their budget, however slow the sink.
func TestMemoryOfBodies(t *testing.T) {
	needRealMemory(t)
	j := job{Role: "bodies", Connections: 256, Pipeline: 16, Requests: size(1000, 20_000), BodyBytes: mib, MaxMemory: 256 * mib}
	j.Addr = answerServer(t, job{BodyBytes: j.BodyBytes})
	if f := measure(t, j); f.Peak > j.MaxMemory+100e6 {
		t.Errorf("%d MB resident, want below the budget of %d plus 100", f.Peak/1e6, j.MaxMemory/1e6)
	}
}

// An idle connection holds no buffers.
func TestMemoryOfIdleConnections(t *testing.T) {
	needRealMemory(t)
	j := job{Role: "idle", Connections: 10_000, BodyBytes: 13}
	j.Addr = answerServer(t, job{BodyBytes: j.BodyBytes, Requests: j.Connections})
	if f := measure(t, j); f.PerConn > 4<<10 {
		t.Errorf("%d bytes per idle connection, want below 4 KiB", f.PerConn)
	}
}

// A budget smaller than one body: one at a time, it still goes on.
func TestBudgetBelowOneBody(t *testing.T) {
	srv := startFaulty(t, seed(t), 4, weather{})
	l := newLedger(t, srv, 7, 1000, rightAnswers)
	cfg := ledgerConfig(4)
	cfg.MaxMemory = 1 << 10
	stats := runEngine(t, cfg, l, l)
	srv.stop()
	l.settle(stats)
}
