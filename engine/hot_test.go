package engine

import (
	"context"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// What the tricks of the hot path gain.

// A head that is the one before is compared, not parsed.
func BenchmarkHeadMemo(b *testing.B) {
	e := testEngine(b, Config{})
	head := []byte("HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\n" +
		"Content-Type: text/plain\r\nContent-Length: 13\r\nConnection: keep-alive\r\n\r\n")
	for name, forget := range map[string]bool{"the same head": false, "another head": true} {
		b.Run(name, func(b *testing.B) {
			c := &conn{l: e.loops[0], o: &origin{}}
			k := &call{journey: journey{p: &prepared{}}}
			b.ReportAllocs()
			for b.Loop() {
				if forget {
					c.o.memo.bytes = c.o.memo.bytes[:0]
				}
				if _, n, err := c.parseHead(k, head); n != len(head) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}

// A system call that never waits is not announced to the scheduler.
func BenchmarkSocketWrite(b *testing.B) {
	fd, err := unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	data := make([]byte, 100)
	for name, write := range map[string]func([]byte) (int, error){
		"unannounced": (&socket{fd: fd}).write,
		"announced":   func(p []byte) (int, error) { return unix.Write(fd, p) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if n, err := write(data); n != len(data) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}

// What a request costs the engine in pipelines of 32 on 64 connections, the
// kernel left out: taken from a source on the loop, written, answered, given to
// the sink.
func BenchmarkPipelines(b *testing.B) {
	const connections, depth = 64, 32
	e := testEngine(b, Config{Connections: connections, PerHost: connections, Pipeline: depth, MaxInFlight: connections * depth, Loops: 1})
	req := &Request{URL: "http://127.0.0.1/"}
	if err := e.Prepare(req); err != nil {
		b.Fatal(err)
	}
	l := e.loops[0]
	servers := &echoes{request: req.prepared.size(), answer: []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Length: 13\r\n\r\nHello, World!")}
	l.net = servers
	p := &part{run: e.newRun(b.Context(), nil, nil), l: l}
	p.run.parting = 1
	var got int
	p.begin(always{req}, SinkFunc(func(results []*Result) error {
		for _, r := range results {
			if r.Err != nil || r.Status != 200 {
				b.Fatal(r.Err, r.Status)
			}
		}
		got += len(results)
		return nil
	}), connections*depth, l.now())
	l.endTurn()
	b.ReportAllocs()
	for got = 0; b.Loop(); {
		for i := 0; i < depth; {
			before := got
			for _, s := range servers.all {
				l.connEvent(s.c, unix.EPOLLIN)
			}
			l.endTurn()
			i += (got - before) / connections
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(got), "ns/request")
}

// always gives the same request.
type always struct{ *Request }

func (a always) Next(_ context.Context, batch []*Request) (int, error) {
	for i := range batch {
		batch[i] = a.Request
	}
	return len(batch), nil
}

// echoes is a network of servers that answer whatever is written, once for each
// request.
type echoes struct {
	request int // bytes of each
	answer  []byte
	all     []*echo
}

type echo struct {
	of      *echoes
	c       *conn
	pending int // requests
}

func (n *echoes) connect(c *conn, to netip.AddrPort) error {
	s := &echo{of: n, c: c}
	n.all = append(n.all, s)
	c.t = s
	return nil
}
func (n *echoes) connected(*conn) bool     { return true }
func (n *echoes) connectError(*conn) error { return nil }
func (n *echoes) release(*conn)            {}
func (n *echoes) wakeAt(int64)             {}
func (n *echoes) wake()                    {}

func (s *echo) flush() error    { return nil }
func (s *echo) truncated() bool { return false }

func (s *echo) write(b []byte) (int, error) {
	s.pending += len(b) / s.of.request
	return len(b), nil
}

func (s *echo) read(b []byte) (n int, err error) {
	if s.pending == 0 {
		return 0, unix.EAGAIN
	}
	for ; s.pending > 0; s.pending-- {
		n += copy(b[n:], s.of.answer)
	}
	return n, nil
}
