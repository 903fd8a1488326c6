package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/panjf2000/gnet/v2/pkg/netpoll"
	"golang.org/x/sys/unix"
)

// A talk is a conversation between one loop and the servers it connects to,
// without sockets and without a clock: the test says what the peer sends and
// what time it is, and looks at what was written and how requests ended.
type talk struct {
	t      *testing.T
	e      *Engine
	l      *loop
	p      *part
	time   int64
	peers  []*peer
	ended  []string // "id status body" or "id kind phase", in order of completion
	calls  map[string]*call
	got    map[string]*Response // of the requests that have ended
	refuse []error              // what the next connects say
	woken  bool
	wakes  int64 // when the timer fires; 0 is never
}

// peer is the other end of one connection.
type peer struct {
	c       *conn
	written strings.Builder
	to      []string // what the client will read, one read each
	eof     bool
	err     error
	wlimit  int // bytes the next writes take; -1 is all
	werr    error
	closed  bool
}

func newTalk(t *testing.T, cfg Config) *talk {
	cfg.KeepBody = true
	if cfg.Connections == 0 {
		cfg.Connections = 1
	}
	cfg.Loops = 1
	e := testEngine(t, cfg)
	k := &talk{t: t, e: e, l: e.loops[0], time: 1000, calls: make(map[string]*call), got: make(map[string]*Response)}
	k.l.clock = func() int64 { return k.time }
	k.l.net = k
	k.p = &part{run: e.newRun(t.Context(), nil, nil), l: k.l, sink: SinkFunc(k.put)}
	return k
}

func (k *talk) put(results []*Result) error {
	for _, r := range results {
		id := strings.TrimPrefix(r.Request.URL, "http://127.0.0.1/")
		s := fmt.Sprintf("%s %d %s", id, r.Status, r.Body)
		if r.Err != nil {
			s = fmt.Sprintf("%s %s %s", id, r.Err.Kind, r.Err.Phase)
		}
		k.ended = append(k.ended, s)
		delete(k.calls, id)
		k.got[id] = r.Response.Clone()
	}
	return nil
}

// network, as the loop sees it.

func (k *talk) connect(c *conn, to netip.AddrPort) error {
	if len(k.refuse) > 0 {
		err := k.refuse[0]
		k.refuse = k.refuse[1:]
		if err != nil {
			return err
		}
	}
	p := &peer{c: c, wlimit: -1}
	k.peers = append(k.peers, p)
	c.t = p
	return nil
}
func (k *talk) connected(*conn) bool       { return false }
func (k *talk) connectError(c *conn) error { return c.t.(*peer).err }
func (k *talk) release(c *conn)            { c.t.(*peer).closed = true }
func (k *talk) wakeAt(at int64)            { k.wakes = at }
func (k *talk) wake()                      { k.woken = true }

func (p *peer) flush() error    { return nil }
func (p *peer) truncated() bool { return false }

func (p *peer) read(b []byte) (int, error) {
	if len(p.to) > 0 {
		n := copy(b, p.to[0])
		if p.to[0] = p.to[0][n:]; p.to[0] == "" {
			p.to = p.to[1:]
		}
		return n, nil
	}
	if p.err != nil {
		return 0, p.err
	}
	if p.eof {
		return 0, nil
	}
	return 0, unix.EAGAIN
}

func (p *peer) write(b []byte) (int, error) {
	if p.werr != nil {
		return 0, p.werr
	}
	if p.wlimit >= 0 && len(b) > p.wlimit {
		b = b[:p.wlimit]
		p.wlimit = 0
		p.written.Write(b)
		if len(b) == 0 {
			return 0, unix.EAGAIN
		}
		return len(b), nil
	}
	p.written.Write(b)
	return len(b), nil
}

// What a test says.

// ask sends requests by id; "POST x" has that method.
func (k *talk) ask(ids ...string) {
	k.t.Helper()
	for _, id := range ids {
		k.askFor(&Request{URL: "http://127.0.0.1/" + id})
	}
	k.settle()
}

func (k *talk) askFor(r *Request) {
	c := new(call)
	c.reset(k.p, k.time)
	if err := k.e.fillIn(c, r, k.time); err != nil {
		k.t.Fatalf("%s: %v", r.URL, err)
	}
	k.calls[strings.TrimPrefix(r.URL, "http://127.0.0.1/")] = c
	k.l.admit(c)
}

// settle runs what the loop has left for the end of its turn.
func (k *talk) settle() {
	for again := true; again; again = k.l.more || k.woken {
		if k.woken {
			k.woken = false
			k.l.onMail()
		}
		if k.wakes != 0 && k.wakes <= k.time {
			k.wakes = 0
			k.l.onTimer()
		}
		k.l.endTurn()
	}
}

// accept ends the handshake of the n-th connection.
func (k *talk) accept(n int) *peer {
	k.t.Helper()
	p := k.peer(n)
	k.l.connEvent(p.c, unix.EPOLLOUT)
	k.settle()
	return p
}

func (k *talk) peer(n int) *peer {
	k.t.Helper()
	if n >= len(k.peers) {
		k.t.Fatalf("connection %d was not made, there are %d", n, len(k.peers))
	}
	return k.peers[n]
}

// says has the peer send each part as one segment.
func (k *talk) says(p *peer, parts ...string) {
	for _, part := range parts {
		p.to = append(p.to, part)
		k.event(p, unix.EPOLLIN)
	}
}

// hangsUp has the peer close, after sending the parts, in one event.
func (k *talk) hangsUp(p *peer, parts ...string) {
	p.to = append(p.to, parts...)
	p.eof = true
	k.event(p, unix.EPOLLIN|unix.EPOLLRDHUP)
}

// resets has the peer reset the connection.
func (k *talk) resets(p *peer, parts ...string) {
	p.to = append(p.to, parts...)
	p.err = unix.ECONNRESET
	k.event(p, unix.EPOLLIN|unix.EPOLLRDHUP)
}

func (k *talk) event(p *peer, ev netpoll.IOEvent) {
	if p.c.state != connOpen {
		return
	}
	k.l.connEvent(p.c, unix.EPOLLOUT|ev)
	k.settle()
}

// passes lets time go by and timers expire.
func (k *talk) passes(d time.Duration) {
	k.time += int64(d)
	k.l.onTimer()
	k.settle()
}

// wrote checks the ids of the requests that p has received since the last look.
func (k *talk) wrote(p *peer, want ...string) {
	k.t.Helper()
	var got []string
	for _, line := range strings.Split(p.written.String(), "\r\n") {
		if target, ok := strings.CutSuffix(line, " HTTP/1.1"); ok {
			got = append(got, strings.TrimPrefix(strings.TrimPrefix(target, "GET "), "/"))
		}
	}
	p.written.Reset()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		k.t.Errorf("received %q, want %q", got, want)
	}
}

// results checks how requests ended since the last look.
func (k *talk) results(want ...string) {
	k.t.Helper()
	if fmt.Sprintf("%q", k.ended) != fmt.Sprintf("%q", want) {
		k.t.Errorf("ended %q\n want %q", k.ended, want)
	}
	k.ended = nil
}

// answer is a whole response.
func answer(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

func lastAnswer(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

func TestOneRequestOneResponse(t *testing.T) {
	k := newTalk(t, Config{})
	k.ask("a")
	p := k.accept(0)
	k.wrote(p, "a")
	k.says(p, answer("A"))
	k.results("a 200 A")
	k.ask("b") // on the same connection
	k.wrote(p, "b")
	k.says(p, answer("B"))
	k.results("b 200 B")
}

func TestResponseAtEverySplit(t *testing.T) {
	for _, c := range []struct{ name, wire, want string }{
		{"length", answer("hello"), "a 200 hello"},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nT: v\r\n\r\n", "a 200 hello"},
		{"interim", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "a 200 hi"},
		{"no content", "HTTP/1.1 204 No Content\r\n\r\n", "a 204 "},
		{"not modified with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "a 304 "},
		{"empty", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "a 200 "},
	} {
		for i := 1; i < len(c.wire); i++ {
			k := newTalk(t, Config{})
			k.ask("a")
			p := k.accept(0)
			k.says(p, c.wire[:i], c.wire[i:])
			k.results(c.want)
			if p.c.state != connOpen || p.c.in.partial != nil {
				t.Fatalf("%s at %d: the connection is not clean", c.name, i)
			}
		}
		k := newTalk(t, Config{})
		k.ask("a")
		k.says(k.accept(0), strings.Split(c.wire, "")...)
		k.results(c.want)
	}
}

func TestPipelineDepthIsEarned(t *testing.T) {
	k := newTalk(t, Config{Pipeline: PipelineAuto})
	k.ask("a", "b", "c", "d", "e", "f", "g")
	p := k.accept(0)
	k.wrote(p, "a")
	k.says(p, answer("A"))
	k.wrote(p, "b", "c")
	k.says(p, answer("B"), answer("C"))
	k.wrote(p, "d", "e", "f", "g")
	k.says(p, answer("D")+answer("E")+answer("F")+answer("G"))
	k.results("a 200 A", "b 200 B", "c 200 C", "d 200 D", "e 200 E", "f 200 F", "g 200 G")
}

func TestCloseBehindAnAnswerReplaysTheRest(t *testing.T) {
	k := newTalk(t, Config{Pipeline: 4})
	k.ask("a", "b", "c", "d")
	p := k.accept(0)
	k.wrote(p, "a", "b", "c", "d")
	k.hangsUp(p, answer("A")+lastAnswer("B"))
	k.results("a 200 A", "b 200 B")
	q := k.accept(1)
	k.wrote(q, "c") // the first of them alone until it is answered
	k.says(q, answer("C"))
	k.wrote(q, "d")
	k.says(q, answer("D"))
	k.results("c 200 C", "d 200 D")
}

func TestResetInAPipelineChargesTheFirstAlone(t *testing.T) {
	k := newTalk(t, Config{Pipeline: 4})
	k.ask("a", "b", "c")
	p := k.accept(0)
	k.resets(p, answer("A")+"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal")
	k.results("a 200 A", "b closed body")
	q := k.accept(1)
	k.wrote(q, "c")
	k.says(q, answer("C"))
	k.results("c 200 C")
}

func TestRetriesAfterABackOff(t *testing.T) {
	k := newTalk(t, Config{Retries: 1})
	k.ask("a")
	k.hangsUp(k.accept(0))
	k.results()
	k.passes(time.Second)
	k.hangsUp(k.accept(1))
	k.results("a closed head")
}

func TestPostIsAloneAndNeverRepeated(t *testing.T) {
	k := newTalk(t, Config{Pipeline: 8, Retries: 5})
	k.ask("a")
	p := k.accept(0)
	k.askFor(&Request{Method: "POST", URL: "http://127.0.0.1/post"})
	k.ask("b", "c")
	k.wrote(p, "a")
	k.says(p, answer("A"))
	k.wrote(p, "POST /post")
	k.hangsUp(p)
	k.results("a 200 A", "post closed head")
	q := k.accept(1)
	k.wrote(q, "b", "c")
}

func TestKeptConnectionThatDiedCostsNothing(t *testing.T) {
	k := newTalk(t, Config{})
	k.ask("a")
	p := k.accept(0)
	k.says(p, answer("A"))
	k.ask("b")
	k.hangsUp(p)
	q := k.accept(1)
	k.says(q, answer("B"))
	k.results("a 200 A", "b 200 B")
}

// Where one kept connection had died others may have: what was lost on one is
// not risked on a second.
func TestLostOnAKeptConnectionGoesToAFreshOne(t *testing.T) {
	k := newTalk(t, Config{Connections: 2})
	k.ask("a", "b")
	p, q := k.accept(0), k.accept(1)
	k.says(p, answer("A"))
	k.says(q, answer("B"))
	k.ask("c")
	k.wrote(q, "b", "c") // the one used last
	k.hangsUp(q)
	k.wrote(p, "a")
	k.says(k.accept(2), answer("C"))
	k.results("a 200 A", "b 200 B", "c 200 C")
}

func TestIdleConnectionIsClosedByThePeer(t *testing.T) {
	k := newTalk(t, Config{})
	k.ask("a")
	p := k.accept(0)
	k.says(p, answer("A"))
	k.hangsUp(p)
	if !p.closed || k.l.open != 0 {
		t.Error("the connection is still held")
	}
	k.results("a 200 A")
}

func TestUnaskedBytesCloseTheConnection(t *testing.T) {
	k := newTalk(t, Config{})
	k.ask("a")
	p := k.accept(0)
	k.says(p, answer("A")+answer("what?"))
	k.results("a 200 A")
	if !p.closed {
		t.Error("the connection is kept")
	}
}

func TestFaultsOfTheHead(t *testing.T) {
	for _, c := range []struct{ name, wire, want string }{
		{"not HTTP", "SSH-2.0-OpenSSH\r\n\r\n", "a protocol head"},
		{"length and chunked", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "a protocol head"},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "a protocol head"},
		{"huge length", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", "a protocol head"},
		{"unasked switch", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "a protocol head"},
		{"endless interim", strings.Repeat("HTTP/1.1 102 P\r\n\r\n", MaxInterim+1), "a protocol head"},
		{"head too large", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 70<<10), "a too_large head"},
		{"bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "a protocol body"},
		{"until close", "HTTP/1.1 200 OK\r\n\r\nall of it", "a 200 all of it"},
	} {
		k := newTalk(t, Config{})
		k.ask("a")
		p := k.accept(0)
		k.hangsUp(p, c.wire)
		if got := fmt.Sprint(k.ended); got != "["+c.want+"]" {
			t.Errorf("%s: ended %q, want %q", c.name, got, c.want)
		}
		if !p.closed {
			t.Errorf("%s: the connection is kept", c.name)
		}
	}
}

func TestUntilCloseWithAResetIsNotComplete(t *testing.T) {
	k := newTalk(t, Config{})
	k.ask("a")
	k.resets(k.accept(0), "HTTP/1.1 200 OK\r\n\r\nsome of it")
	k.results("a closed body")
}

func TestFailedWriteIsNotTheEndBeforeAllIsRead(t *testing.T) {
	k := newTalk(t, Config{Pipeline: 2})
	k.ask("a")
	p := k.accept(0)
	p.werr = unix.EPIPE
	p.to, p.eof = []string{lastAnswer("A")}, true
	k.ask("b")
	k.results("a 200 A")
	k.says(k.accept(1), answer("B"))
	k.results("b 200 B")
}

func TestTimeoutOfTheFirstClosesAndTheOthersMove(t *testing.T) {
	k := newTalk(t, Config{Pipeline: 3, Timeout: 5 * time.Second})
	k.ask("a", "b", "c")
	p := k.accept(0)
	k.passes(4 * time.Second)
	k.says(p, answer("A")) // b is first in line from here on
	k.passes(4 * time.Second)
	k.results("a 200 A")
	k.passes(2 * time.Second)
	k.results("b timeout head")
	if !p.closed {
		t.Error("the connection is kept")
	}
	q := k.accept(1)
	k.wrote(q, "c")
	k.says(q, answer("C"))
	k.results("c 200 C")
}

func TestReadTimeoutIsSilenceBetweenBytes(t *testing.T) {
	k := newTalk(t, Config{ReadTimeout: time.Second})
	k.ask("a")
	p := k.accept(0)
	k.passes(3 * time.Second) // no byte yet: that is what Timeout is for
	k.says(p, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
	for _, b := range []string{"h", "e"} {
		k.passes(800 * time.Millisecond)
		k.says(p, b)
	}
	k.results()
	k.passes(1100 * time.Millisecond)
	k.results("a timeout body")
}

func TestOwnDeadlineBehindOthersKeepsTheConnection(t *testing.T) {
	k := newTalk(t, Config{Pipeline: 3})
	k.askFor(&Request{URL: "http://127.0.0.1/a"})
	k.askFor(&Request{URL: "http://127.0.0.1/b", Timeout: time.Second})
	k.askFor(&Request{URL: "http://127.0.0.1/c"})
	k.settle()
	p := k.accept(0)
	k.wrote(p, "a", "b", "c")
	k.passes(1100 * time.Millisecond)
	k.results("b timeout head")
	k.says(p, answer("A")+answer("late")+answer("C"))
	k.results("a 200 A", "c 200 C")
	if p.closed {
		t.Error("the connection was closed")
	}
	k.ask("d")
	k.wrote(p, "d")
}

func TestOwnDeadlineInTheQueue(t *testing.T) {
	k := newTalk(t, Config{})
	k.ask("a")
	p := k.accept(0)
	k.askFor(&Request{URL: "http://127.0.0.1/b", Timeout: time.Second})
	k.passes(1100 * time.Millisecond)
	k.results("b timeout queue")
	k.says(p, answer("A"))
	k.wrote(p, "a")
	k.results("a 200 A")
}

func TestOwnDeadlineOfTheFirstClosesTheConnection(t *testing.T) {
	k := newTalk(t, Config{Pipeline: 2})
	k.askFor(&Request{URL: "http://127.0.0.1/a", Timeout: time.Second})
	k.askFor(&Request{URL: "http://127.0.0.1/b"})
	k.settle()
	p := k.accept(0)
	k.passes(1100 * time.Millisecond)
	k.results("a timeout head")
	if !p.closed {
		t.Error("the connection is kept")
	}
	k.says(k.accept(1), answer("B"))
	k.results("b 200 B")
}

func TestOwnDeadlineOfARequestHalfWritten(t *testing.T) {
	k := newTalk(t, Config{Pipeline: 2})
	k.ask("first")
	p := k.accept(0)
	k.wrote(p, "first")
	p.wlimit = 10
	k.askFor(&Request{Method: "PUT", URL: "http://127.0.0.1/half", Body: []byte("body"), Timeout: time.Second})
	k.settle()
	k.passes(1100 * time.Millisecond)
	k.results("half timeout write")
	p.wlimit = -1
	k.event(p, unix.EPOLLIN)
	if got := p.written.String(); !strings.HasPrefix(got, "PUT /half") || !strings.HasSuffix(got, "\r\n\r\nbody") {
		t.Errorf("the request was not sent to its end: %q", got)
	}
	p.written.Reset()
	k.says(p, answer("F")+answer("late"))
	k.results("first 200 F")
	k.ask("next")
	k.wrote(p, "next")
}

func TestPartialWritesGoOn(t *testing.T) {
	k := newTalk(t, Config{Pipeline: 3})
	k.refuse = []error{nil}
	k.ask("a", "b", "c")
	k.peer(0).wlimit = 7
	p := k.accept(0)
	for range 200 {
		p.wlimit = 1
		k.event(p, unix.EPOLLIN)
	}
	p.wlimit = -1
	k.event(p, unix.EPOLLIN)
	k.wrote(p, "a", "b", "c")
	k.says(p, answer("A")+answer("B")+answer("C"))
	k.results("a 200 A", "b 200 B", "c 200 C")
}

func TestConnectErrors(t *testing.T) {
	k := newTalk(t, Config{Retries: 1})
	k.refuse = []error{unix.ECONNREFUSED}
	k.ask("a")
	k.passes(time.Second)
	k.peer(0).err = unix.ECONNREFUSED
	k.accept(0)
	k.results("a connect connect")
}

func TestAddressesAreTriedInTurn(t *testing.T) {
	k := newTalk(t, Config{ConnectTimeout: 4 * time.Second})
	k.ask("a")
	c := k.peer(0).c
	c.addrs = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("::1")}
	k.peer(0).err = unix.ECONNREFUSED
	k.accept(0)
	k.passes(2100 * time.Millisecond) // half of the time is for the second
	p := k.accept(2)
	if p.c.remote.String() != "[::1]:80" {
		t.Errorf("connected to %v", p.c.remote)
	}
	k.says(p, answer("A"))
	k.results("a 200 A")
}

func TestConnectTimeout(t *testing.T) {
	k := newTalk(t, Config{ConnectTimeout: time.Second})
	k.ask("a")
	k.passes(1100 * time.Millisecond)
	k.results("a timeout connect")
	if !k.peer(0).closed || k.l.open != 0 {
		t.Error("the connection is still held")
	}
}

func TestKeepAliveLimitIsNotSentPast(t *testing.T) {
	k := newTalk(t, Config{Pipeline: 4})
	ids := strings.Split("abcdefghijklmnopqrst", "")
	k.ask(ids...)
	conns := 0
	replays := 0
	for n := 0; len(k.ended) < len(ids); n++ {
		p := k.accept(n)
		conns++
		answered := 0
		for !p.closed && conns < 20 {
			got := strings.Count(p.written.String(), "\r\n\r\n") - answered
			if got == 0 {
				break
			}
			var wire string
			for range got {
				if answered++; answered == 5 {
					wire += lastAnswer("x")
					replays += got - 1
					break
				}
				wire += answer("x")
				got--
			}
			k.says(p, wire)
		}
	}
	// Two connections learn the limit, then nothing is sent past it.
	late := k.peers[2]
	if n := strings.Count(late.written.String(), " HTTP/1.1\r\n"); n != 5 {
		t.Errorf("the third connection was sent %d requests, want 5", n)
	}
}

func TestCancelEndsAll(t *testing.T) {
	k := newTalk(t, Config{Pipeline: 2, Connections: 2, PerHost: 2})
	k.ask("a", "b", "c", "d", "e", "f")
	k.accept(0)
	k.l.cancel(k.p, k.time, "enough")
	k.settle()
	if len(k.ended) != 6 {
		t.Fatalf("%d of 6 ended: %q", len(k.ended), k.ended)
	}
	for _, e := range k.ended {
		if !strings.Contains(e, "canceled") {
			t.Errorf("ended %q", e)
		}
	}
	if !errors.Is(&Error{Kind: Canceled}, Canceled) {
		t.Error("a Kind does not match its Error")
	}
}

func TestConnectionsGiveWayToOtherOrigins(t *testing.T) {
	k := newTalk(t, Config{Connections: 1})
	k.ask("a")
	p := k.accept(0)
	k.says(p, answer("A"))
	k.askFor(&Request{URL: "http://127.0.0.2/x"})
	k.settle()
	if !p.closed {
		t.Error("an idle connection keeps the only place")
	}
	k.says(k.accept(1), answer("X"))
	k.results("a 200 A", "http://127.0.0.2/x 200 X")
}

func TestBudgetStopsReading(t *testing.T) {
	k := newTalk(t, Config{MaxMemory: 8, Connections: 2, PerHost: 2})
	k.ask("a")
	p := k.accept(0)
	k.e.budget.used.Add(8) // results that a sink holds
	k.e.budget.handed.Add(8)
	k.says(p, answer("A"))
	k.results()
	k.passes(time.Hour) // the wait is ours: it counts against no limit
	k.results()
	k.e.budget.used.Add(-8)
	k.e.budget.handed.Add(-8)
	k.l.unstall(k.time)
	k.results("a 200 A")
	if u := k.e.budget.used.Load(); u != 0 {
		t.Errorf("%d bytes of the budget are still taken", u)
	}
}

func TestBudgetLetsOneBodyProceed(t *testing.T) {
	k := newTalk(t, Config{MaxMemory: 4, Connections: 2, PerHost: 2})
	k.ask("a", "b")
	p, q := k.accept(0), k.accept(1)
	k.says(p, "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nabcd") // spends it all
	k.says(q, answer("B"))
	k.says(p, "efgh")
	if len(k.ended) != 2 {
		t.Errorf("ended %q: the bodies wait for each other", k.ended)
	}
	if u := k.e.budget.used.Load(); u != 0 {
		t.Errorf("%d bytes of the budget are still taken", u)
	}
}

// The event that says that the connection is made may say too that the peer
// has hung up. No other event will.
func TestHangUpInTheConnectEvent(t *testing.T) {
	k := newTalk(t, Config{})
	k.ask("a")
	p := k.peer(0)
	p.eof = true
	k.l.connEvent(p.c, unix.EPOLLOUT|unix.EPOLLIN|unix.EPOLLRDHUP)
	k.settle()
	k.results("a closed head")
}

// A hang-up that comes while the budget is spent is read when it is not.
func TestHangUpWhileTheBudgetIsSpent(t *testing.T) {
	k := newTalk(t, Config{MaxMemory: 10})
	k.ask("a")
	p := k.accept(0)
	k.e.budget.used.Add(100)
	k.e.budget.handed.Add(100)
	k.hangsUp(p, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal")
	k.results()
	k.e.budget.consumed(100)
	k.l.unstall(k.time)
	k.settle()
	k.results("a closed body")
}

// However a body arrives, what it counted is given back.
func TestBudgetIsBalanced(t *testing.T) {
	big := strings.Repeat("x", 100_000)
	for name, wire := range map[string]string{
		"length":  answer(big),
		"small":   answer("x"),
		"chunked": fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", 2000, big[:2000], len(big), big),
		"cut":     answer(big)[:50_000],
	} {
		k := newTalk(t, Config{})
		k.ask("a")
		p := k.accept(0)
		for len(wire) > 3000 {
			k.says(p, wire[:3000])
			wire = wire[3000:]
		}
		k.hangsUp(p, wire)
		if used, handed := k.e.budget.used.Load(), k.e.budget.handed.Load(); used != 0 || handed != 0 {
			t.Errorf("%s: %d bytes are still counted, %d of them as handed over", name, used, handed)
		}
	}
}

// Waiting behind others counts as queueing, also when nothing comes of it.
func TestTimeInLineIsQueueing(t *testing.T) {
	k := newTalk(t, Config{Pipeline: 4})
	k.ask("a", "b")
	k.askFor(&Request{URL: "http://127.0.0.1/c", Timeout: 500 * time.Millisecond})
	p := k.accept(0)
	k.wrote(p, "a", "b", "c")
	k.passes(600 * time.Millisecond)
	k.results("c timeout head")
	if q := k.got["c"].Time.Queued; q < 500*time.Millisecond || q > k.got["c"].Time.Total {
		t.Errorf("c was queued for %v", q)
	}
	k.hangsUp(p, lastAnswer("A"))
	k.says(k.accept(1), answer("B"))
	k.results("a 200 A", "b 200 B")
	if q := k.got["b"].Time.Queued; q < 600*time.Millisecond || q > k.got["b"].Time.Total {
		t.Errorf("b was queued for %v", q)
	}
}

// RFC 8305: an address that does not answer soon gets company; who answers
// first serves.
func TestAddressesRace(t *testing.T) {
	for winner := range 3 {
		k := newTalk(t, Config{Resolve: map[HostPort][]netip.Addr{
			{"127.0.0.1", 80}: {netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::2")},
		}})
		k.ask("a")
		for n := 1; n <= 3; n++ {
			if len(k.peers) != n {
				t.Fatalf("%d connections, want %d", len(k.peers), n)
			}
			k.passes(nextAddressAfter + 2*wheelTick)
		}
		if winner == 2 { // the others have failed
			for _, p := range k.peers[:2] {
				p.err = unix.ECONNREFUSED
				k.choose(p)
				k.l.connEvent(p.c, unix.EPOLLOUT|unix.EPOLLERR)
				k.settle()
			}
			k.results()
		}
		p := k.peers[winner]
		k.choose(p)
		k.l.connEvent(p.c, unix.EPOLLOUT)
		k.settle()
		k.wrote(p, "a")
		for i, q := range k.peers {
			if q.closed != (i != winner) {
				t.Errorf("winner %d: connection %d closed: %v", winner, i, q.closed)
			}
		}
		k.says(p, answer("A"))
		k.results("a 200 A")
		if n := k.l.open; n != 1 {
			t.Errorf("%d connections are counted", n)
		}
	}
}

// choose does what onEvent does with a descriptor.
func (k *talk) choose(p *peer) {
	c := p.c
	for i := range c.races {
		if c.t != transport(p) && c.races[i].t == transport(p) {
			c.swap(i)
		}
	}
}
