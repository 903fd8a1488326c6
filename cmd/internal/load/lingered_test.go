package load

import (
	"bufio"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"hotlap/ebpf"
	"hotlap/engine"
)

// A server that is asked to close connections and does not holds up those that
// want their places, which the verdict says.
func TestServerThatDoesNotClose(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answerAndStay(c)
		}
	}()
	e, err := engine.New(engine.Config{Connections: 1, PerHost: 1, MaxInFlight: 1, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	targets := &Targets{}
	if err := targets.Add(e, engine.Request{URL: "http://" + l.Addr().String() + "/", Header: []engine.Field{{Name: "Connection", Value: "close"}}}); err != nil {
		t.Fatal(err)
	}
	run := New(e, targets, Options{Count: 2, Loops: 1}, nil)
	run.Start()
	r, err := run.Do(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.Judge()
	if r.Responses != 2 || r.Client.Lingered != 1 {
		t.Errorf("%d responses, %d connections not closed: want 2 and, as the run ends with the last response, 1", r.Responses, r.Client.Lingered)
	}
	if !slices.ContainsFunc(r.Verdict.Findings, func(f ebpf.Finding) bool { return f.Code == "not_closed" && f.Spoils }) {
		t.Errorf("%+v", r.Verdict)
	}
}

// answerAndStay answers one request, and waits for the client's end.
func answerAndStay(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	if _, err := http.ReadRequest(in); err != nil {
		return
	}
	_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
	_, _ = in.ReadByte()
}
