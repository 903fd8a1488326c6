package target

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"hotlap/httpcodec"
)

// route appends the answer to a request, or arranges for it to come.
func (k *conn) route(c stream, method, target []byte) {
	isHead := string(method) == "HEAD"
	path, _, _ := bytes.Cut(target, []byte("?"))
	name, arg := split(path)
	switch name {
	case "":
		k.answer(isHead, []byte("Hello, World!"), "")
	case "echo":
		k.echo(isHead, method, target)
	case "bytes":
		k.long(isHead, arg, false)
	case "chunked":
		k.long(isHead, arg, true)
	case "status":
		k.status(isHead, arg)
	case "delay":
		k.delay(isHead, arg, target)
	case "close":
		k.closeAt(isHead, arg, target)
	case "reset":
		k.reset(c)
	default:
		k.answer(isHead, target, "")
	}
}

// split returns the route of a path, "other" if it is none, and its argument,
// -1 if it is no number.
func split(path []byte) (name string, arg int64) {
	if len(path) <= 1 {
		return "", -1
	}
	first, rest, found := bytes.Cut(path[1:], []byte("/"))
	switch string(first) {
	case "echo", "reset":
		if found {
			return "other", -1
		}
		return string(first), -1
	case "bytes", "chunked", "status", "delay", "close":
		n, err := strconv.ParseUint(string(rest), 10, 62)
		if err != nil {
			return string(first), -1
		}
		return string(first), int64(n)
	}
	return "other", -1
}

// persistence is what a response says of the connection, or "". HTTP/1.0 clients
// must be told that it persists (RFC 9112 section 9.3).
func (k *conn) persistence() string {
	switch {
	case k.closes:
		return "close"
	case k.head.Minor == 0:
		return "keep-alive"
	}
	return ""
}

// answer appends a complete response of status 200.
func (k *conn) answer(isHead bool, body []byte, contentType string) {
	b := append(k.out, "HTTP/1.1 200 OK\r\n"...)
	if p := k.persistence(); p != "" {
		b = append(append(append(b, "Connection: "...), p...), "\r\n"...)
	}
	if contentType == "" {
		contentType = "text/plain"
	}
	b = append(b, "Content-Type: "...)
	b = append(b, contentType...)
	b = append(b, "\r\nContent-Length: "...)
	b = appendInt(b, len(body))
	b = append(b, "\r\n\r\n"...)
	if !isHead {
		b = append(b, body...)
	}
	k.out = b
}

func appendInt(b []byte, n int) []byte { return strconv.AppendInt(b, int64(n), 10) }

// respond appends a response head.
func (k *conn) respond(status int, length int64, fields ...httpcodec.Field) {
	if p := k.persistence(); p != "" {
		fields = append(fields, httpcodec.Field{Name: "Connection", Value: p})
	}
	b, err := httpcodec.AppendResponse(k.out, status, fields, length)
	if err != nil {
		panic("target: internal error: " + err.Error())
	}
	k.out = b
}

// wrong answers a request whose argument is none, and says what it should be.
func (k *conn) wrong(isHead bool, want string) {
	body := "want " + want + "\n"
	k.respond(404, int64(len(body)))
	if !isHead {
		k.out = append(k.out, body...)
	}
}

func (k *conn) status(isHead bool, n int64) {
	switch {
	case n < 200 || n > 999:
		k.wrong(isHead, "/status/N with N from 200 to 999")
	case n == 204 || n == 304:
		k.respond(int(n), -1)
	default:
		k.respond(int(n), 0)
	}
}

// long answers with n bytes, of which what is much is sent as the client takes it.
func (k *conn) long(isHead bool, n int64, chunked bool) {
	if n < 0 || n > maxBytes {
		k.wrong(isHead, "/bytes/N or /chunked/N with N up to "+strconv.Itoa(maxBytes))
		return
	}
	if chunked && k.head.Minor > 0 {
		k.longChunked(isHead, n)
		return
	}
	k.respond(200, n, httpcodec.Field{Name: "Content-Type", Value: "application/octet-stream"})
	if !isHead {
		k.left, k.coded = n, false
	}
}

func (k *conn) longChunked(isHead bool, n int64) {
	fields := []httpcodec.Field{{Name: "Transfer-Encoding", Value: "chunked"}}
	var trailers []httpcodec.Field
	if strings.Contains(strings.ToLower(k.te()), "trailers") {
		fields = append(fields, httpcodec.Field{Name: "Trailer", Value: "X-Bytes"})
		trailers = append(trailers, httpcodec.Field{Name: "X-Bytes", Value: strconv.FormatInt(n, 10)})
	}
	k.respond(200, -1, fields...)
	if isHead {
		return
	}
	tail, err := httpcodec.AppendLastChunk(nil, trailers)
	if err != nil {
		panic("target: internal error: " + err.Error())
	}
	if n == 0 {
		k.out = append(k.out, tail...)
		return
	}
	k.left, k.coded, k.tail = n, true, tail
}

// te is the request's TE field. The bytes of a head with a body behind it are
// gone by now: its fields were kept.
func (k *conn) te() string {
	if k.headers != nil {
		return strings.Join(k.headers["te"], ",")
	}
	te, _ := k.head.Get(k.in, "TE")
	return string(te)
}

// delay makes the connection wait; echoPath is the answer then.
func (k *conn) delay(isHead bool, ms int64, target []byte) {
	d := time.Duration(ms) * time.Millisecond
	if ms < 0 || ms > maxDelay.Milliseconds() {
		k.wrong(isHead, "/delay/MS with MS up to "+strconv.FormatInt(maxDelay.Milliseconds(), 10))
		return
	}
	k.due = time.Now().Add(d)
	k.method, k.target = "GET", string(target)
	if isHead {
		k.method = "HEAD"
	}
}

func (k *conn) echoPath() { k.answer(k.method == "HEAD", []byte(k.target), "") }

func (k *conn) closeAt(isHead bool, n int64, target []byte) {
	if n < 1 {
		k.wrong(isHead, "/close/N with N from 1")
		return
	}
	if int64(k.answered) >= n {
		k.closes = true
	}
	k.answer(isHead, target, "")
}

// reset sends half a response; the close that follows is an RST.
func (k *conn) reset(c stream) {
	k.out = append(k.out, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf"...)
	_ = c.SetLinger(0)
	k.closes, k.resets = true, true
}

// headerMap is what /echo says of the head.
func (k *conn) headerMap() map[string][]string {
	m := make(map[string][]string)
	for _, f := range k.head.Fields {
		name := strings.ToLower(string(f.Name.Of(k.in)))
		m[name] = append(m[name], string(f.Value.Of(k.in)))
	}
	return m
}

func (k *conn) echo(isHead bool, method, target []byte) {
	headers := k.headers
	if headers == nil {
		headers = k.headerMap()
	}
	body, err := json.Marshal(struct {
		Method  string              `json:"method"`
		Target  string              `json:"target"`
		Headers map[string][]string `json:"headers"`
		Body    string              `json:"body"`
	}{string(method), string(target), headers, string(k.content)})
	if err != nil {
		panic("target: internal error: " + err.Error())
	}
	k.answer(isHead, append(body, '\n'), "application/json")
}
