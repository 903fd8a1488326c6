package output

import (
	"crypto/tls"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"hotlap/cmd/internal/input"
	"hotlap/engine"
)

// result appends the line of a result. The order of its keys is part of the
// format; a key is absent where it does not apply.
func (w *Writer) result(r *engine.Result) {
	it := input.ItemOf(r.Request)
	w.buf = appendRequest(w.buf, it)
	if r.Status != 0 {
		w.response(r)
	}
	dst := append(w.buf, `,"attempts":`...)
	dst = strconv.AppendInt(dst, int64(r.Attempts), 10)
	dst = append(dst, `,"start":"`...)
	dst = w.clock.append(dst, r.Start)
	dst = appendTimes(dst, r)
	if r.Remote.IsValid() {
		dst = appendRemote(dst, r.Remote)
	}
	if w.o.TLS && r.TLS != nil {
		dst = appendTLS(dst, r.TLS)
	}
	if r.Err != nil {
		dst = appendError(dst, it, r.Err)
	}
	if it.Meta != nil {
		dst = append(dst, `,"meta":`...)
		dst = append(dst, it.Meta...)
	}
	w.buf = append(dst, "}\n"...)
}

// appendRequest begins the line with what the input said.
func appendRequest(dst []byte, it *input.Item) []byte {
	dst = append(dst, `{"id":`...)
	if it.ID != nil {
		dst = append(dst, it.ID...)
	} else {
		dst = strconv.AppendInt(dst, it.Number, 10)
	}
	if it.URL == "" { // the line could not be read
		return dst
	}
	dst = append(dst, `,"url":`...)
	url := it.URL
	if strings.IndexByte(url, '@') >= 0 { // user and password are not shown
		url = engine.RedactURL(url)
	}
	dst = appendString(dst, url)
	method := it.Method
	if method == "" {
		return append(dst, `,"method":"GET"`...)
	}
	dst = append(dst, `,"method":`...)
	return appendString(dst, method)
}

// response appends what was received.
func (w *Writer) response(r *engine.Result) {
	dst := append(w.buf, `,"status":`...)
	dst = strconv.AppendInt(dst, int64(r.Status), 10)
	if w.o.Headers {
		dst = w.headers.append(dst, w.fields(r))
	}
	dst = append(dst, `,"bytes":`...)
	w.buf = strconv.AppendInt(dst, r.Bytes, 10)
	if w.o.Bodies {
		w.body(r.Body)
	}
	if r.Truncated {
		w.buf = append(w.buf, `,"truncated":true`...)
	}
}

func appendTimes(dst []byte, r *engine.Result) []byte {
	t := &r.Time
	dst = append(dst, `","time":{"queued_us":`...)
	dst = appendMicros(dst, t.Queued)
	if t.Connect != 0 {
		dst = append(dst, `,"connect_us":`...)
		dst = appendMicros(dst, t.Connect)
	}
	if t.TLS != 0 {
		dst = append(dst, `,"tls_us":`...)
		dst = appendMicros(dst, t.TLS)
	}
	if t.TTFB != 0 || r.Status != 0 { // 0 is what it can be behind others in a pipeline
		dst = append(dst, `,"ttfb_us":`...)
		dst = appendMicros(dst, t.TTFB)
	}
	dst = append(dst, `,"total_us":`...)
	dst = appendMicros(dst, t.Total)
	return append(dst, '}')
}

func appendMicros(dst []byte, d time.Duration) []byte {
	return strconv.AppendInt(dst, d.Microseconds(), 10)
}

func appendRemote(dst []byte, remote netip.AddrPort) []byte {
	dst = append(dst, `,"remote":"`...)
	dst = remote.AppendTo(dst)
	return append(dst, '"')
}

func appendTLS(dst []byte, info *engine.TLSInfo) []byte {
	dst = append(dst, `,"tls":{"version":`...)
	dst = appendString(dst, tls.VersionName(info.Version))
	dst = append(dst, `,"cipher":`...)
	dst = appendString(dst, tls.CipherSuiteName(info.CipherSuite))
	dst = append(dst, `,"resumed":`...)
	dst = strconv.AppendBool(dst, info.Resumed)
	return append(dst, '}')
}

// appendError appends the error. A request that was never valid is named by
// its place in the input: that is where it has to be mended.
func appendError(dst []byte, it *input.Item, err *engine.Error) []byte {
	dst = append(dst, `,"error":{"kind":"`...)
	dst = append(dst, err.Kind.String()...)
	dst = append(dst, `","phase":"`...)
	dst = append(dst, err.Phase.String()...)
	dst = append(dst, `","message":`...)
	message := err.Message
	if err.Kind == engine.InvalidRequest {
		message = it.Place() + ": " + message
	}
	dst = appendString(dst, message)
	return append(dst, '}')
}

// A clock formats instants in UTC by RFC 3339, with microseconds. Most fall
// into the second of the one before.
type clock struct {
	second int64
	prefix []byte
}

func (c *clock) append(dst []byte, t time.Time) []byte {
	second, micros := t.Unix(), t.Nanosecond()/1000
	if second != c.second || c.prefix == nil {
		c.second = second
		c.prefix = t.UTC().AppendFormat(c.prefix[:0], "2006-01-02T15:04:05.")
	}
	dst = append(dst, c.prefix...)
	for unit := 100_000; unit > 0; unit /= 10 {
		dst = append(dst, byte('0'+micros/unit%10))
	}
	return append(dst, 'Z')
}
