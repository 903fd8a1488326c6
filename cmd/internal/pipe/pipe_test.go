package pipe

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hotlap/engine"
)

// patience is how long a test waits for what must come.
const patience = 2 * time.Minute

// A client is a test's side of a session, over pipes.
type client struct {
	t       *testing.T
	session *Session
	in      *os.File // to the session
	out     *frameReader
	outFile *os.File
	hello   hello
	ended   chan error
}

// connect starts a session with a window.
func connect(t *testing.T, cfg engine.Config, window int) *client {
	t.Helper()
	e, err := engine.New(Config(cfg, window))
	if err != nil {
		t.Fatal(err)
	}
	theirIn, in := newPipe(t)
	out, theirOut := newPipe(t)
	c := &client{t: t, in: in, outFile: out, out: &frameReader{from: bufio.NewReader(out)}, ended: make(chan error, 1)}
	c.session = NewSession(e, theirIn, theirOut)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		c.ended <- c.session.Serve(ctx)
		theirOut.Close()
	}()
	t.Cleanup(func() {
		cancel()
		in.Close()
		out.Close()
		c.session.Wait()
		e.Close()
	})
	f := c.frame()
	if f.kind != frameHello {
		t.Fatalf("the first frame is of type %d", f.kind)
	}
	if err := json.Unmarshal(f.payload, &c.hello); err != nil {
		t.Fatal(err)
	}
	return c
}

func newPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []*os.File{r, w} {
		if err := f.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
	}
	return r, w
}

func (c *client) frame() frame {
	c.t.Helper()
	f, err := c.out.next()
	if err != nil {
		c.t.Fatalf("no frame: %v", err)
	}
	return f
}

// ask is a request to be sent.
type ask struct {
	id                  uint64
	timeout             uint32
	method, url, header string
	body                []byte
}

func requestsFrame(asks ...ask) []byte {
	var entries, rest []byte
	le := binary.LittleEndian
	for _, a := range asks {
		entries = le.AppendUint64(entries, a.id)
		for _, n := range []uint32{a.timeout, uint32(len(a.url)), uint32(len(a.header)), uint32(len(a.body))} {
			entries = le.AppendUint32(entries, n)
		}
		entries = le.AppendUint16(entries, uint16(len(a.method)))
		flags := uint16(0)
		if a.body != nil {
			flags = flagHasBody
		}
		entries = le.AppendUint16(entries, flags)
		rest = append(rest, a.method+a.url+a.header...)
		rest = append(rest, a.body...)
	}
	f := appendFrame(nil, frameRequests, len(asks), len(entries)+len(rest))
	return append(append(f, entries...), rest...)
}

func (c *client) write(frame []byte) {
	c.t.Helper()
	if _, err := c.in.Write(frame); err != nil {
		c.t.Fatal(err)
	}
}

// An answer is a result as the client reads it.
type answer struct {
	id                    uint64
	status                int
	kind, phase           string
	head, message, remote string
	body                  string
	flags                 byte
	total                 time.Duration
	bytes                 uint64
	attempts              uint32
}

func (c *client) answersIn(f frame) (list []answer) {
	c.t.Helper()
	rest := f.payload[f.count*resultEntry:]
	cut := func(n int) string { s := string(rest[:n]); rest = rest[n:]; return s }
	for i := range f.count {
		e, le := f.payload[i*resultEntry:], binary.LittleEndian
		list = append(list, answer{
			id: le.Uint64(e), status: int(le.Uint16(e[8:])), kind: c.hello.Kinds[e[10]], phase: c.hello.Phases[e[11]],
			flags: e[23], total: time.Duration(le.Uint64(e[40:])) * time.Microsecond, bytes: le.Uint64(e[48:]), attempts: le.Uint32(e[68:]),
			head: cut(int(le.Uint32(e[12:]))), message: cut(int(le.Uint16(e[20:]))), remote: cut(int(e[22])),
			body: cut(int(le.Uint32(e[16:]))),
		})
	}
	if len(rest) > 0 {
		c.t.Fatalf("%d bytes behind the results of a frame", len(rest))
	}
	return list
}

// answers waits for n results, and returns them by id.
func (c *client) answers(n int) map[uint64]answer {
	c.t.Helper()
	got := make(map[uint64]answer)
	for len(got) < n {
		f := c.frame()
		if f.kind != frameResults {
			c.t.Fatalf("a frame of type %d: %q", f.kind, f.payload)
		}
		for _, a := range c.answersIn(f) {
			if _, twice := got[a.id]; twice {
				c.t.Fatalf("id %d has two results", a.id)
			}
			got[a.id] = a
		}
	}
	return got
}

// finish ends the input, and wants a clean end.
func (c *client) finish() {
	c.t.Helper()
	if err := c.in.Close(); err != nil {
		c.t.Fatal(err)
	}
	if f := c.frame(); f.kind != frameBye {
		c.t.Fatalf("a frame of type %d: %q, want BYE", f.kind, f.payload)
	}
	if _, err := c.out.next(); err != io.EOF {
		c.t.Fatalf("behind BYE: %v, want the end", err)
	}
	if err := <-c.ended; err != nil {
		c.t.Fatal(err)
	}
}

// echo answers with what it was asked.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("X-Tag", r.Header.Get("X-Tag"))
	fmt.Fprintf(w, "%s %s %d %q %q %s", r.Method, r.URL, r.ContentLength, r.Header["User-Agent"], r.Header["Accept"], body)
}

func serve(t *testing.T, h http.HandlerFunc) (url string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestRequestsAndResults(t *testing.T) {
	url := serve(t, echo)
	c := connect(t, engine.Config{}, 100)
	c.write(requestsFrame(
		ask{id: 1, url: url + "/a?b=%2F"},
		ask{id: 1 << 63, method: "PUT", url: url + "/b", header: "X-Tag: \x01bad\r\n", body: []byte("x")},
		ask{id: 3, method: "POST", url: url + "/c", header: "X-Tag: t\r\nUser-Agent: me\r\nAccept\r\n", body: []byte("\x00\xff\r\n")},
		ask{id: 4, method: "POST", url: url + "/d", body: []byte{}},
		ask{id: 5, url: "no url"},
		ask{id: 6, url: url + "/e", header: "X-Tag: 1"},
	))
	got := c.answers(6)
	for id, want := range map[uint64]string{
		1: `GET /a?b=%2F 0 ["hotlap/` + engine.Version + `"] ["*/*"] `,
		3: `POST /c 4 ["me"] [] ` + "\x00\xff\r\n",
		4: `POST /d 0 ["hotlap/` + engine.Version + `"] ["*/*"] `,
	} {
		a := got[id]
		if a.body != want || a.status != 200 || a.kind != "" || a.message != "" || a.attempts != 1 || a.bytes != uint64(len(want)) {
			t.Errorf("%d: %+v, want status 200 and %q", id, a, want)
		}
		if "http://"+a.remote != url || a.total <= 0 || a.total > patience {
			t.Errorf("%d: from %s in %v", id, a.remote, a.total)
		}
	}
	if head := got[3].head; !strings.HasPrefix(head, "HTTP/1.1 200 OK\r\n") || !strings.Contains(head, "X-Tag: t\r\n") || !strings.HasSuffix(head, "\r\n\r\n") {
		t.Errorf("the head is %q", head)
	}
	for _, id := range []uint64{1 << 63, 5, 6} {
		if a := got[id]; a.kind != "invalid_request" || a.phase != "queue" || a.message == "" || a.status != 0 {
			t.Errorf("%d: %+v, want invalid_request", id, a)
		}
	}
	c.finish()
}

// What a client writes may come in any pieces.
func TestByteByByte(t *testing.T) {
	url := serve(t, echo)
	c := connect(t, engine.Config{}, 10)
	for _, b := range requestsFrame(ask{id: 7, url: url + "/a"}, ask{id: 8, url: url + "/b"}) {
		c.write([]byte{b})
	}
	if got := c.answers(2); got[7].status != 200 || got[8].status != 200 {
		t.Errorf("%+v", got)
	}
	c.finish()
}

func TestLimitsOfResponses(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-r.Context().Done()
			return
		}
		w.Write(make([]byte, 1<<20))
	})
	c := connect(t, engine.Config{MaxBody: 600 << 10}, 10)
	c.write(requestsFrame(ask{id: 1, url: url}, ask{id: 2, url: url + "/slow", timeout: 1000}))
	got := c.answers(2)
	if a := got[1]; len(a.body) != 600<<10 || a.flags != flagTruncated || a.bytes != 1<<20 {
		t.Errorf("a body of %d bytes, %d kept, flags %d", a.bytes, len(a.body), a.flags)
	}
	if a := got[2]; a.kind != "timeout" || a.phase != "head" {
		t.Errorf("%+v, want a timeout", a)
	}
	c.finish()
}

// A client may write a whole window before it reads a byte; results of a
// megabyte are far more than a pipe takes.
func TestWritesAllBeforeItReads(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 1<<20)) })
	const window = 64
	c := connect(t, engine.Config{}, window)
	for i := range window {
		c.write(requestsFrame(ask{id: uint64(i), url: url}))
	}
	c.write(appendFrame(nil, frameStats, 0, 0))
	results, answered := 0, false
	for results < window || !answered {
		switch f := c.frame(); f.kind {
		case frameResults:
			results += f.count
		case frameStats:
			answered = true
		}
	}
	c.finish()
}

// While the client does not read, no more than the window is taken; what it
// then reads lets more in.
func TestWindowIsTheBound(t *testing.T) {
	var asked atomic.Int64
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { asked.Add(1); w.Write(make([]byte, 64<<10)) })
	const window, n = 8, 200
	c := connect(t, engine.Config{}, window)
	go func() { // a client that writes in another thread, and counts nothing
		for i := range n {
			if _, err := c.in.Write(requestsFrame(ask{id: uint64(i), url: url})); err != nil {
				return
			}
		}
	}()
	waitFor(t, func() bool { return c.session.Stuck(time.Now().Add(time.Hour)) > 0 })
	if got := asked.Load(); got > 2*window { // a pipe takes less than one of these results
		t.Errorf("%d requests were sent for a client that reads nothing, the window is %d", got, window)
	}
	read := int64(0)
	for read < n {
		f := c.frame()
		read += int64(f.count)
		if got := asked.Load(); got > read+3*window { // results in the pipe, and inside
			t.Fatalf("%d sent, %d read, the window is %d", got, read, window)
		}
	}
	c.finish()
}

func waitFor(t *testing.T, what func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(patience); !what(); <-tick.C {
		if time.Now().After(until) {
			t.Fatal("it does not come about")
		}
	}
}

// Requests count their bytes: the second waits for the first although the
// window has places.
func TestWindowOfBytes(t *testing.T) {
	release := make(chan struct{})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		<-release
		fmt.Fprint(w, n)
	})
	c := connect(t, engine.Config{}, 10)
	big := make([]byte, MaxFrame-1000)
	go func() {
		for id := range uint64(2) {
			if _, err := c.in.Write(requestsFrame(ask{id: id, method: "PUT", url: url, body: big})); err != nil {
				return
			}
		}
	}()
	waitFor(t, func() bool {
		c.session.mu.Lock()
		defer c.session.mu.Unlock()
		return !c.session.blocked.IsZero()
	})
	if s := c.session.engine.Stats(); s.Requests != 1 {
		t.Errorf("%d requests are in, want 1", s.Requests)
	}
	close(release)
	got := c.answers(2)
	for id := range uint64(2) {
		if got[id].body != fmt.Sprint(len(big)) {
			t.Errorf("%d: %+v", id, got[id])
		}
	}
	c.finish()
}

// What was answered is let go of: the window counts it no more.
func TestAnsweredIsForgotten(t *testing.T) {
	url := serve(t, echo)
	c := connect(t, engine.Config{}, 10)
	many := strings.Repeat("X-Tag: t\r\n", maxFields)
	c.write(requestsFrame(
		ask{id: 1, method: "PUT", url: url + "/a", header: "X-Tag: t\r\nAccept\r\n", body: []byte("x")},
		ask{id: 2, url: url + "/b", header: many},
	))
	c.answers(2)
	c.finish()
	for _, q := range c.session.free {
		header := q.Header[:cap(q.Header)]
		if q.URL != "" || q.Body != nil || q.Omit != nil || len(header) > keptFields {
			t.Errorf("%+v is kept", q)
		}
		for _, f := range header {
			if f != (engine.Field{}) {
				t.Errorf("field %+v is kept", f)
			}
		}
	}
	if len(c.session.free) != 2 {
		t.Errorf("%d requests are free, want 2", len(c.session.free))
	}
}

func TestCancel(t *testing.T) {
	arrived := make(chan string, 100)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- r.URL.Path
		if r.URL.Path == "/hang" {
			<-r.Context().Done()
		}
	})
	// One connection: the first is on it, the others wait in the engine.
	c := connect(t, engine.Config{PerHost: 1}, 10)
	c.write(requestsFrame(ask{id: 1, url: url + "/hang"}, ask{id: 2, url: url}, ask{id: 3, url: url}))
	<-arrived
	c.write(idsFrame(3, 1, 99))
	got := c.answers(3)
	if got[1].kind != "canceled" || got[3].kind != "canceled" || got[2].status != 200 {
		t.Errorf("%+v", got)
	}
	// A cancel right behind its request, in one write, always finds it.
	for id := uint64(10); id < 60; id++ {
		c.write(append(requestsFrame(ask{id: id, url: url + "/hang"}), idsFrame(id)...))
		if a := c.answers(1)[id]; a.kind != "canceled" {
			t.Fatalf("%+v", a)
		}
	}
	c.finish()
}

func idsFrame(ids ...uint64) []byte {
	b := appendFrame(nil, frameCancel, len(ids), 8*len(ids))
	for _, id := range ids {
		b = binary.LittleEndian.AppendUint64(b, id)
	}
	return b
}

func TestStatistics(t *testing.T) {
	url := serve(t, echo)
	c := connect(t, engine.Config{}, 10)
	c.write(requestsFrame(ask{id: 1, url: url}, ask{id: 2, url: "ftp://x"}))
	c.answers(2)
	c.write(appendFrame(nil, frameStats, 0, 0))
	f := c.frame()
	var s statistics
	if err := json.Unmarshal(f.payload, &s); err != nil || f.kind != frameStats {
		t.Fatalf("type %d, %v", f.kind, err)
	}
	if s.Requests != 2 || s.Responses != 1 || s.InFlight != 0 || s.Connects != 1 || s.BytesIn == 0 || len(s.Errors) != 1 {
		t.Errorf("%+v", s)
	}
	c.finish()
}

// A client that breaks the protocol is told how, after the results of what it
// asked before.
func TestBrokenClients(t *testing.T) {
	url := serve(t, echo)
	good := requestsFrame(ask{id: 1, url: url})
	short := requestsFrame(ask{id: 2, url: url})
	short[frameHeader+12]++
	for name, bad := range map[string]struct {
		bytes []byte
		want  string
	}{
		"unknown type":        {appendFrame(nil, 99, 0, 0), "type 99"},
		"HELLO":               {appendFrame(nil, frameHello, 0, 0), "type 1"},
		"too long":            {appendFrame(nil, frameRequests, 1, MaxFrame+1), "at most 67108864"},
		"too many":            {appendFrame(nil, frameRequests, maxEntries+1, 0), "at most 65536"},
		"entries missing":     {append(appendFrame(nil, frameRequests, 2, 4), 1, 2, 3, 4), "2 requests has 4 bytes"},
		"lengths do not add":  {short, "there are"},
		"ids missing":         {appendFrame(nil, frameCancel, 1, 0), "1 ids has 0 bytes"},
		"STATS with payload":  {append(appendFrame(nil, frameStats, 0, 1), 0), "want none"},
		"end inside a header": {good[:5], "inside the header"},
		"end inside a frame":  {good[:len(good)-1], "inside a frame"},
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, engine.Config{}, 10)
			c.write(append(append([]byte{}, good...), bad.bytes...))
			c.in.Close()
			if a := c.answers(1)[1]; a.status != 200 {
				t.Errorf("%+v", a)
			}
			if f := c.frame(); f.kind != frameFatal || !strings.Contains(string(f.payload), bad.want) {
				t.Errorf("type %d: %s, want FATAL with %q", f.kind, f.payload, bad.want)
			}
			if err := <-c.ended; err == nil || c.session.Fault() == nil {
				t.Errorf("Serve returned %v, Fault is %v", err, c.session.Fault())
			}
		})
	}
}

// A client that reads no more ends the session, with what is in flight.
func TestClientGone(t *testing.T) {
	arrived := make(chan bool, 2)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			arrived <- true
			<-r.Context().Done()
		}
	})
	c := connect(t, engine.Config{}, 10)
	c.write(requestsFrame(ask{id: 1, url: url + "/hang"}))
	<-arrived
	c.outFile.Close()
	c.write(requestsFrame(ask{id: 2, url: url}))
	if err := <-c.ended; err == nil || !strings.Contains(err.Error(), "write to the client") {
		t.Errorf("Serve returned %v", err)
	}
}

// Steady state: a request that fits what is kept allocates next to nothing
// here; its URL is the string that the engine keeps.
func TestDecodeAllocates(t *testing.T) {
	f := requestsFrame(ask{id: 1, url: "http://127.0.0.1:8080/a"})
	var q request
	n := testing.AllocsPerRun(100, func() {
		d, err := splitRequests(frame{frameRequests, 1, f[frameHeader:]})
		if err != nil {
			t.Fatal(err)
		}
		d.next(&q)
	})
	if n != 1 {
		t.Errorf("%v allocations, want 1", n)
	}
}

func FuzzRequests(f *testing.F) {
	f.Add(requestsFrame(ask{id: 1, method: "PUT", url: "http://a/", header: "A: b\r\nC\r\n", body: []byte("x")}, ask{url: "u"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := frameReader{from: strings.NewReader(string(b))}
		for {
			f, err := r.next()
			if err != nil {
				return
			}
			d, err := splitRequests(f)
			if err != nil {
				continue
			}
			total := 0
			for d.left > 0 {
				var q request
				d.next(&q)
				total += q.size - requestOverhead
			}
			if total != len(f.payload)-f.count*requestEntry || len(d.rest) != 0 {
				t.Errorf("%d bytes of %d were decoded, %d are left", total, len(f.payload), len(d.rest))
			}
		}
	})
}

// The numbers on the page are those of the code.
func TestProtocolPage(t *testing.T) {
	text, err := os.ReadFile("../../hotlap/python/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("version %d\n", Protocol), fmt.Sprintf("%d bytes each. Then follow, for each of them in the same order and without gaps,\nmethod", requestEntry),
		fmt.Sprintf("%d bytes each. Then follow, for\neach of them in the same order and without gaps, head", resultEntry),
		fmt.Sprintf("up to %d:", maxEntries), fmt.Sprintf("%d MiB (`max_frame`)", MaxFrame>>20),
		fmt.Sprintf("and %d more", requestOverhead), fmt.Sprintf("At most %d questions", maxQuestions),
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	for name, number := range map[string]int{
		"HELLO": frameHello, "REQUESTS": frameRequests, "RESULTS": frameResults, "CANCEL": frameCancel,
		"STATS": frameStats, "BYE": frameBye, "FATAL": frameFatal,
	} {
		if !regexp.MustCompile(fmt.Sprintf(`(?m)^\| %d \| %s \|`, number, name)).Match(text) {
			t.Errorf("the page does not say that %s is %d", name, number)
		}
	}
}
