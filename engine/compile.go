package engine

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"hotlap/httpcodec"
)

// Version is sent in the default User-Agent.
const Version = "0.1.0"

// prepared is a request made ready to send: checked, and as bytes. It is made
// off the loop, so that the loop only copies.
type prepared struct {
	key        string // of the origin: scheme://host[:port], the default port left out
	host       string // without brackets
	port       uint16
	secure     bool // https
	proxy      *proxy
	wire       []byte // the head
	body       []byte
	fields     []Field // scratch
	head       bool    // HEAD: its response has no body
	idempotent bool    // RFC 9110 section 9.2.2
	closes     bool    // it says Connection: close
}

// size is how many bytes go on the wire.
func (p *prepared) size() int { return len(p.wire) + len(p.body) }

// chunk returns what follows the first off bytes of the request, as far as it
// is contiguous.
func (p *prepared) chunk(off int) []byte {
	if off < len(p.wire) {
		return p.wire[off:]
	}
	return p.body[off-len(p.wire):]
}

// compile checks r and makes p of it, reusing p's memory.
func (e *Engine) compile(r *Request, p *prepared) *Error {
	if r.Err != nil {
		return &Error{Kind: InvalidRequest, Phase: PhaseQueue, Message: r.Err.Error(), Err: r.Err}
	}
	u, err := p.splitURL(r.URL)
	if err != nil {
		return err
	}
	via := p.proxy
	if e.proxies != nil && u.key != p.key {
		if via, err = e.proxies.of(&u); err != nil {
			return err
		}
	}
	method := r.Method
	if method == "" {
		method = "GET"
	}
	*p = prepared{
		key: u.key, host: u.host, port: u.port, secure: u.secure, proxy: via, body: r.Body, wire: p.wire[:0], fields: p.fields[:0],
		head: method == "HEAD", idempotent: idempotent(method),
	}
	if method == "CONNECT" {
		return invalid("method CONNECT makes a tunnel, not a request")
	}
	fields := e.defaults
	usual := len(r.Header) == 0 && len(r.Omit) == 0 && u.authorization == ""
	if !usual {
		p.fields = mergeFields(p.fields, e.defaults, u.credentials(r.Header), r.Omit)
		fields = p.fields
	}
	host, fields, err := p.readFields(u.authority, fields)
	if err != nil {
		return err
	}
	usual = usual && len(p.fields) == 0 // readFields took nothing out
	if via.forwards(u.secure) {
		u.target = u.key + u.target
		if via.basic != "" {
			p.fields = append(append(p.fields[:0:0], fields...), Field{Name: "Proxy-Authorization", Value: via.basic})
			fields, usual = p.fields, false
		}
	}
	wire, cerr := httpcodec.AppendRequestStart(p.wire, method, u.target, host)
	switch n := contentLength(method, r.Body); {
	case cerr != nil:
	case usual && n < 0:
		wire = append(wire, e.tail...)
	default:
		wire, cerr = httpcodec.AppendFields(wire, fields, n)
	}
	if cerr != nil {
		return &Error{Kind: InvalidRequest, Phase: PhaseQueue, Message: cerr.Error(), Err: cerr}
	}
	p.wire = wire
	return nil
}

func invalid(format string, args ...any) *Error {
	return &Error{Kind: InvalidRequest, Phase: PhaseQueue, Message: fmt.Sprintf(format, args...)}
}

func unsupported(format string, args ...any) *Error {
	return &Error{Kind: Unsupported, Phase: PhaseQueue, Message: fmt.Sprintf(format, args...)}
}

// idempotent says whether a method may be sent twice (RFC 9110 section 9.2.2).
func idempotent(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// contentLength is -1 where no Content-Length is to be sent. RFC 9110 section
// 8.6: a method that anticipates content says 0 when there is none.
func contentLength(method string, body []byte) int64 {
	if body != nil {
		return int64(len(body))
	}
	switch method {
	case "POST", "PUT", "PATCH":
		return 0
	}
	return -1
}

// mergeFields appends to dst the defaults that neither own nor omit names, then own.
func mergeFields(dst, defaults, own []Field, omit []string) []Field {
	for _, d := range defaults {
		if !named(own, d.Name) && !listed(omit, d.Name) {
			dst = append(dst, d)
		}
	}
	return append(dst, own...)
}

func named(fields []Field, name string) bool {
	for i := range fields {
		if strings.EqualFold(fields[i].Name, name) {
			return true
		}
	}
	return false
}

func listed(names []string, name string) bool {
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// readFields checks the fields that have a meaning for the engine, and takes
// out those that it writes itself. The common request has none of them, and
// then fields is returned as it is.
func (p *prepared) readFields(authority string, fields []Field) (host string, _ []Field, _ *Error) {
	host = authority
	for i := 0; i < len(fields); i++ {
		f := &fields[i]
		drop := false
		switch len(f.Name) {
		case len("Host"):
			if strings.EqualFold(f.Name, "Host") {
				if host, drop = f.Value, true; host == "" {
					return "", nil, invalid("header Host is empty: leave it out, it is added")
				}
			}
		case len("Expect"):
			if strings.EqualFold(f.Name, "Expect") {
				return "", nil, unsupported("Expect: %s is not supported: send the request without it", f.Value)
			}
		case len("Upgrade"):
			if strings.EqualFold(f.Name, "Upgrade") {
				return "", nil, invalid("header Upgrade: hotlap speaks HTTP/1.1 only, leave it out")
			}
		case len("Connection"):
			if strings.EqualFold(f.Name, "Connection") {
				p.closes = p.closes || hasToken(f.Value, "close")
			}
		case len("Content-Length"):
			if strings.EqualFold(f.Name, "Content-Length") {
				if n, err := strconv.ParseUint(f.Value, 10, 63); err != nil || n != uint64(len(p.body)) {
					return "", nil, invalid("header Content-Length is %q, the body has %d bytes: leave it out, it is added", f.Value, len(p.body))
				}
				drop = true
			}
		case len("Transfer-Encoding"):
			if strings.EqualFold(f.Name, "Transfer-Encoding") {
				return "", nil, invalid("header Transfer-Encoding: bodies are sent with Content-Length, leave it out")
			}
		}
		if drop {
			if len(p.fields) == 0 { // the engine's defaults: not ours to change
				p.fields = append(p.fields, fields...)
				fields = p.fields
			}
			fields = append(fields[:i], fields[i+1:]...)
			i--
		}
	}
	return host, fields, nil
}

func hasToken(list, token string) bool {
	for t := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.TrimSpace(t), token) {
			return true
		}
	}
	return false
}

// checkFields checks fields that go with every request.
func checkFields(fields []Field) error {
	var errs []error
	for _, f := range fields {
		switch {
		case !httpcodec.ValidToken(f.Name):
			errs = append(errs, fmt.Errorf("engine: Header: %q is no field name", f.Name))
		case !httpcodec.ValidFieldValue(f.Value):
			errs = append(errs, fmt.Errorf("engine: Header: the value of %s has a control character", f.Name))
		}
	}
	return errors.Join(errs...)
}

// defaultFields is what goes with a request that says nothing else.
func defaultFields(c *Config) []Field {
	var fields []Field
	for _, d := range []Field{{Name: "Accept", Value: "*/*"}, {Name: "User-Agent", Value: "hotlap/" + Version}} {
		if !named(c.Header, d.Name) && !listed(c.Omit, d.Name) {
			fields = append(fields, d)
		}
	}
	return append(fields, c.Header...)
}
