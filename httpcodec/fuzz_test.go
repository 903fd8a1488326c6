package httpcodec

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
)

// The oracle is net/http. Where the codec accepts a message, net/http agrees on
// status or request line, fields and body. Where the codec is stricter, or
// net/http is, the case is one of those in testdata/differences.txt, which
// names them; TestDifferences shows each of them to be one.

// message is what both sides say about one message.
type message struct {
	line   string
	fields []string // "name: value", names as net/http writes them, sorted
	body   string
}

// ours decodes one message at the start of b. complete is false if more bytes
// are needed.
func ours(b []byte, response bool, step int) (m message, complete bool, err error) {
	var h Head
	n, err := parse(&h, b, response)
	if n == 0 || err != nil {
		return m, false, err
	}
	var f Framing
	if response {
		m.line = string(b[9:12])
		f, err = h.ResponseFraming(false)
	} else {
		m.line = string(h.Method.Of(b)) + " " + string(h.Target.Of(b))
		f, err = h.RequestFraming()
	}
	if err != nil {
		return m, false, err
	}
	for _, s := range h.Fields {
		m.fields = append(m.fields, http.CanonicalHeaderKey(string(s.Name.Of(b)))+": "+string(h.Value(b, s)))
	}
	slices.Sort(m.fields)
	var d Body
	d.Reset(f)
	done := d.Done()
	for b = b[n:]; len(b) > 0 && !done; {
		var data []byte
		data, n, done, err = d.Next(b[:min(step, len(b))])
		if err != nil {
			return m, false, err
		}
		m.body += string(data)
		b = b[n:]
	}
	return m, done || d.UntilClose(), nil
}

// theirs decodes the same with net/http.
func theirs(b []byte, response bool) (m message, err error) {
	var header http.Header
	var body io.ReadCloser
	r := bufio.NewReader(bytes.NewReader(b))
	if response {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return m, err
		}
		m.line, header, body = resp.Status[:3], resp.Header, resp.Body
		if resp.TransferEncoding != nil {
			header["Transfer-Encoding"] = resp.TransferEncoding
		}
	} else {
		req, err := http.ReadRequest(r)
		if err != nil {
			return m, err
		}
		m.line, header, body = req.Method+" "+req.RequestURI, req.Header, req.Body
		if req.TransferEncoding != nil {
			header["Transfer-Encoding"] = req.TransferEncoding
		}
	}
	for name, values := range header {
		for _, v := range values {
			m.fields = append(m.fields, name+": "+v)
		}
	}
	slices.Sort(m.fields)
	all, err := io.ReadAll(body)
	m.body = string(all)
	return m, err
}

// hidden are fields that net/http takes out of the header or rewrites.
var hidden = []string{"Host: ", "Transfer-Encoding: ", "Trailer: ", "Content-Length: ", "Connection: ", "Pragma: ", "Cache-Control: "}

func visible(fields []string) (out []string) {
	for _, f := range fields {
		if !slices.ContainsFunc(hidden, func(p string) bool { return strings.HasPrefix(f, p) }) {
			out = append(out, f)
		}
	}
	return out
}

// explained says whether a difference is a known one: see testdata.
func explained(b []byte, response bool, err error) string {
	var h Head
	n, _ := parse(&h, b, response)
	head := b[:n]
	switch {
	case !response && n > 0 && (string(h.Target.Of(b)) == "*" || !strings.HasPrefix(string(h.Target.Of(b)), "/")):
		return "target-form"
	case !response && strings.Contains(err.Error(), "parse"):
		return "target-url"
	case !response && strings.Contains(err.Error(), "malformed HTTP request") || strings.Contains(err.Error(), "malformed HTTP version") || strings.Contains(err.Error(), "malformed Host"):
		return "host-value"
	case bytes.Contains(head, []byte("\r\n ")) || bytes.Contains(head, []byte("\r\n\t")):
		return "folding"
	case strings.Contains(err.Error(), "bad trailer key"), strings.Contains(err.Error(), "too many trailers"):
		return "trailer-announcement"
	case strings.Contains(err.Error(), "invalid header"), strings.Contains(err.Error(), "malformed MIME header"):
		return "trailer-field"
	case strings.Contains(err.Error(), "unexpected EOF"), strings.Contains(err.Error(), "EOF"):
		return "trailer-end"
	case strings.Contains(err.Error(), "malformed chunked encoding"):
		return "chunk-overhead"
	case h.Minor > 1:
		return "minor-version"
	}
	return ""
}

func compare(t *testing.T, b []byte, response bool) {
	m, complete, err := ours(b, response, len(b)+1)
	m1, complete1, err1 := ours(b, response, 1)
	if complete != complete1 || !errors.Is(err1, err) || complete && (m.line != m1.line || m.body != m1.body) {
		t.Fatalf("%q: whole %+v %v %v, byte by byte %+v %v %v", b, m, complete, err, m1, complete1, err1)
	}
	if !complete || err != nil {
		return // stricter: TestDifferences holds the list
	}
	want, err := theirs(b, response)
	if err != nil {
		if explained(b, response, err) == "" {
			t.Fatalf("%q: accepted, net/http says %v", b, err)
		}
		return
	}
	if m.line != want.line || m.body != want.body {
		t.Fatalf("%q:\n ours %+v\n theirs %+v", b, m, want)
	}
	if o, w := visible(m.fields), visible(want.fields); !slices.Equal(o, w) && !bytes.Contains(b, []byte("\r\n ")) && !bytes.Contains(b, []byte("\r\n\t")) {
		t.Fatalf("%q: fields\n ours %q\n theirs %q", b, o, w)
	}
}

func seeds(f *testing.F, response bool) {
	for _, c := range headCases {
		if c.response == response {
			f.Add([]byte(strings.Replace(c.in, "|", "", 1)))
		}
	}
	start := "HTTP/1.1 200 OK\r\n"
	if !response {
		start = "POST /x HTTP/1.1\r\nHost: h\r\n"
	}
	for _, s := range []string{
		"Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nT: v\r\n\r\n",
		"\r\nuntil close", "Connection: close, x\r\nKeep-Alive: max=3\r\n\r\n", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		f.Add([]byte(start + s))
	}
}

func FuzzResponse(f *testing.F) {
	seeds(f, true)
	f.Fuzz(func(t *testing.T, b []byte) { compare(t, b, true) })
}

func FuzzRequest(f *testing.F) {
	seeds(f, false)
	f.Fuzz(func(t *testing.T, b []byte) { compare(t, b, false) })
}

// FuzzAppendRequest: whatever the parts, what is written is one request, which
// says what was asked for.
func FuzzAppendRequest(f *testing.F) {
	f.Add("GET", "/x", "h", "A", "b")
	f.Add("GET", "/\r\nX: y", "h\r\n", "A\r\n", "b\r\nC: d")
	f.Fuzz(func(t *testing.T, method, target, host, name, value string) {
		b, err := AppendRequest(nil, method, target, host, []Field{{name, value}}, 0)
		if err != nil {
			return
		}
		var h Head
		n, err := h.ParseRequest(b, nil)
		if err == ErrHost || err == ErrContentLength {
			return // the caller's own Host or Content-Length field
		}
		if n != len(b) || err != nil || string(h.Method.Of(b)) != method || string(h.Target.Of(b)) != target {
			if len(b) < DefaultLimits.HeadBytes {
				t.Fatalf("%q is read as %d of %d bytes, %v", b, n, len(b), err)
			}
		}
	})
}

// TestDifferences: each case of the committed list is one that the codec
// refuses and net/http takes.
func TestDifferences(t *testing.T) {
	list, err := os.ReadFile("testdata/differences.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(list)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		kind, wire, _ := strings.Cut(line, " ")
		wire = strings.NewReplacer(`\r`, "\r", `\n`, "\n", `\t`, "\t").Replace(wire)
		response := kind == "response"
		_, complete, err := ours([]byte(wire), response, len(wire))
		if err == nil {
			t.Errorf("%s %q: accepted (complete %v)", kind, wire, complete)
		}
		if _, err := theirs([]byte(wire), response); err != nil {
			t.Errorf("%s %q: net/http refuses it too: %v", kind, wire, err)
		}
		n++
	}
	if n == 0 {
		t.Error("the list is empty")
	}
}
