package engine_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hotlap/engine"
)

const tlsJobVar = "HOTLAP_TEST_TLS_JOB"

// TestTLSIdleChild holds the engine that TestTLSMemoryOfIdleConnections
// weighs, in a process of its own; in a normal run it does nothing.
func TestTLSIdleChild(t *testing.T) {
	spec := os.Getenv(tlsJobVar)
	if spec == "" {
		t.Skip("a part of the memory tests")
	}
	var j job
	if err := json.Unmarshal([]byte(spec), &j); err != nil {
		t.Fatal(err)
	}
	e, err := engine.New(engine.Config{Connections: j.Connections, PerHost: j.Connections,
		MaxInFlight: j.Connections, ConnectTimeout: time.Hour, Timeout: time.Hour, ReadTimeout: time.Hour, IdleTimeout: time.Hour,
		TLS: &tls.Config{InsecureSkipVerify: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	before := settledRSS(t)
	var f figures
	stats, err := e.Run(context.Background(), sameRequest("https://"+j.Addr+"/", j.Connections),
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
	b, _ := json.Marshal(f)
	fmt.Printf("figures %s\n", b)
}

// An idle TLS connection costs what crypto/tls keeps of it and little more,
// also when what came last was large records.
func TestTLSMemoryOfIdleConnections(t *testing.T) {
	needRealMemory(t)
	for _, version := range tlsVersions {
		for _, bytes := range []int{13, 64 << 10} {
			t.Run(fmt.Sprintf("%s/%d", tls.VersionName(version), bytes), func(t *testing.T) {
				j := job{Connections: size(2000, 10_000), BodyBytes: bytes}
				j.Addr = answerTLS(t, version, j)
				f := measureTLSIdle(t, j)
				if f.PerConn > 16<<10 {
					t.Errorf("%d bytes per idle connection, want at most 16 KiB", f.PerConn)
				}
			})
		}
	}
}

// answerTLS answers every request alike, once so many are there as there are
// to be connections.
func answerTLS(t *testing.T, version uint16, j job) string {
	ca := newAuthority(t, "Test CA")
	l, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{ca.issue(t, nil)}, MinVersion: version, MaxVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", j.BodyBytes)
	answer = append(answer, make([]byte, j.BodyBytes)...)
	var waiting atomic.Int64
	all := make(chan int)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answerAlike(c, answer, func(n int) {
				if waiting.Add(int64(n)) == int64(j.Connections) {
					close(all)
				}
				<-all
			})
		}
	}()
	return l.Addr().(*net.TCPAddr).String()
}

// measureTLSIdle runs TestTLSIdleChild and returns what it reports.
func measureTLSIdle(t *testing.T, j job) (f figures) {
	spec, _ := json.Marshal(j)
	cmd := exec.Command(os.Args[0], "-test.run=^TestTLSIdleChild$", "-test.timeout=0")
	cmd.Env = append(os.Environ(), tlsJobVar+"="+string(spec), "GOCOVERDIR="+t.TempDir())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reported := false
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		text, ok := strings.CutPrefix(lines.Text(), "figures ")
		if !ok {
			continue
		}
		if err := json.Unmarshal([]byte(text), &f); err != nil {
			t.Error(err)
		}
		reported = true
	}
	io.Copy(io.Discard, out)
	if err := cmd.Wait(); err != nil || !reported || f.Wrong > 0 {
		t.Fatalf("the measuring process: %v; %+v", err, f)
	}
	t.Logf("%d bytes per idle connection", f.PerConn)
	return f
}
