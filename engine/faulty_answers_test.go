package engine_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"hotlap/engine"
)

// An answer is one way in which the faulty server answers, right or wrong, and
// what must become of a request that is answered so.
type answer struct {
	name   string
	method string // the method it needs; "" is any that may carry a body back
	status int    // of the final response; 0 if no valid head is sent
	nobody bool   // the final response has no body
	write  func(w *reply)
	after  after
	// permits are the kinds a request may end with that is answered so; none:
	// it must succeed.
	permits []engine.Kind
}

// after is what the server does once the answer is written.
type after uint8

const (
	goOn    after = iota
	finish        // FIN, then read to the client's end
	reset         // RST
	sentRST       // RST once the kernel has sent every byte before it
	hang          // nothing more, until the client closes
)

// A reply is an answer in the making.
type reply struct {
	bytes.Buffer
	id    int
	body  []byte
	extra string // header lines the connection's plan adds
	r     *rand.Rand
}

// bodyOf is the body of a request's answer: its id, over and over, so that no
// part of it can pass for a part of another's at the same offset.
func bodyOf(id, size int) []byte {
	unit := strconv.Itoa(id) + "|"
	return []byte(strings.Repeat(unit, size/len(unit)+1)[:size])
}

func (w *reply) headAs(version, status string, lines ...string) {
	fmt.Fprintf(w, "%s %s\r\nX-Id: %d\r\n%s", version, status, w.id, w.extra)
	for _, l := range lines {
		w.WriteString(l + "\r\n")
	}
	w.WriteString("\r\n")
}

func (w *reply) head(status string, lines ...string) { w.headAs("HTTP/1.1", status, lines...) }

func (w *reply) length() string { return "Content-Length: " + strconv.Itoa(len(w.body)) }

func (w *reply) withLength(lines ...string) {
	w.head("200 OK", append(lines, w.length())...)
	w.Write(w.body)
}

// chunks writes the body in chunks of random size, each with one of ext.
func (w *reply) chunks(ext ...string) {
	for b := w.body; len(b) > 0; {
		n := 1 + w.r.IntN(min(len(b), 1+w.r.IntN(4096)))
		fmt.Fprintf(w, []string{"%x", "%X", "000%x"}[w.r.IntN(3)], n)
		fmt.Fprintf(w, "%s\r\n%s\r\n", ext[w.r.IntN(len(ext))], b[:n])
		b = b[n:]
	}
}

const chunked = "Transfer-Encoding: chunked"

// rightAnswers are valid: whatever the depth, each must succeed with its body.
var rightAnswers = []answer{
	{name: "length", status: 200, write: func(w *reply) { w.withLength() }},
	{name: "length_odd_case", status: 200, write: func(w *reply) {
		w.head("200 OK", "cOnTeNt-lEnGtH:"+strconv.Itoa(len(w.body))+" \t")
		w.Write(w.body)
	}},
	{name: "no_reason", status: 200, write: func(w *reply) { w.head("200 ", w.length()); w.Write(w.body) }},
	{name: "not_found", status: 404, write: func(w *reply) { w.head("404 Not Found", w.length()); w.Write(w.body) }},
	{name: "unavailable", status: 503, write: func(w *reply) { w.head("503 No", w.length()); w.Write(w.body) }},
	{name: "odd_status", status: 799, write: func(w *reply) { w.head("799 ?", w.length()); w.Write(w.body) }},
	{name: "folded_field", status: 200, write: func(w *reply) { w.withLength("X-Folded: a\r\n  b\r\n\tc") }},
	{name: "obs_text", status: 200, write: func(w *reply) { w.withLength("X-Text: caf\xe9\t\xff", "X-Empty:") }},
	{name: "head_at_limit", status: 200, write: func(w *reply) { w.padded(maxHead) }},
	{name: "chunked", status: 200, write: func(w *reply) {
		w.head("200 OK", chunked)
		w.chunks("")
		w.WriteString("0\r\n\r\n")
	}},
	{name: "chunked_extensions", status: 200, write: func(w *reply) {
		w.head("200 OK", "transfer-encoding: CHUNKED")
		w.chunks("", ";a", ";a=b", "; a = b", `;a="q;\"\\x";c`)
		w.WriteString("000;last=1\r\n\r\n")
	}},
	{name: "chunked_trailers", status: 200, write: func(w *reply) {
		w.head("200 OK", chunked, "Trailer: X-Sum")
		w.chunks("")
		w.WriteString("0\r\nX-Sum: 1\r\nContent-Length: 5\r\n\r\n")
	}},
	{name: "interim", status: 200, write: func(w *reply) { w.interim(1 + w.r.IntN(engine.MaxInterim)); w.withLength() }},
	{name: "interim_chunked", status: 200, write: func(w *reply) {
		w.interim(1)
		w.head("200 OK", chunked)
		w.chunks("")
		w.WriteString("0\r\n\r\n")
	}},
	{name: "no_content", status: 204, nobody: true, write: func(w *reply) { w.head("204 No Content") }},
	{name: "not_modified", status: 304, nobody: true, write: func(w *reply) {
		w.head("304 Not Modified", `ETag: "x"`, "Content-Length: 1234")
	}},
	{name: "head", method: "HEAD", status: 200, nobody: true, write: func(w *reply) {
		w.head("200 OK", "Content-Length: 1234")
	}},
	{name: "head_chunked", method: "HEAD", status: 200, nobody: true, write: func(w *reply) {
		w.head("200 OK", chunked)
	}},
	{name: "head_no_length", method: "HEAD", status: 200, nobody: true, write: func(w *reply) { w.head("200 OK") }},
	{name: "http10_keep", status: 200, write: func(w *reply) {
		w.headAs("HTTP/1.0", "200 OK", "Connection: keep-alive", w.length())
		w.Write(w.body)
	}},
}

// lastAnswers are valid too, and the last of their connection: what was
// pipelined behind them has to travel again, at no charge.
var lastAnswers = []answer{
	{name: "close", status: 200, after: finish, write: func(w *reply) { w.withLength("Connection: close") }},
	{name: "close_list", status: 200, after: finish, write: func(w *reply) { w.withLength("Connection: x, CLOSE ,y") }},
	{name: "close_204", status: 204, nobody: true, after: finish, write: func(w *reply) {
		w.head("204 No Content", "Connection: close")
	}},
	{name: "close_chunked", status: 200, after: finish, write: func(w *reply) {
		w.head("200 OK", "Connection: close", chunked)
		w.chunks("")
		w.WriteString("0\r\n\r\n")
	}},
	// A failed write must not end a connection before it is read dry.
	{name: "close_then_rst", status: 200, after: sentRST, write: func(w *reply) { w.withLength("Connection: close") }},
	{name: "until_close", status: 200, after: finish, write: func(w *reply) { w.head("200 OK"); w.Write(w.body) }},
	{name: "until_close_said", status: 200, after: finish, write: func(w *reply) {
		w.head("200 OK", "Connection: close")
		w.Write(w.body)
	}},
	{name: "http10", status: 200, after: finish, write: func(w *reply) {
		w.headAs("HTTP/1.0", "200 OK", w.length())
		w.Write(w.body)
	}},
	{name: "http10_until_close", status: 200, after: finish, write: func(w *reply) {
		w.headAs("HTTP/1.0", "200 OK")
		w.Write(w.body)
	}},
}

func (w *reply) interim(n int) {
	for range n {
		w.WriteString([]string{
			"HTTP/1.1 100 Continue\r\n\r\n",
			"HTTP/1.1 102 Processing\r\nContent-Length: 5\r\n\r\n",
			"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n",
		}[w.r.IntN(3)])
	}
}

// padded writes a response whose head is n bytes long.
func (w *reply) padded(n int) {
	start := w.Len()
	w.head("200 OK", w.length(), "X-Pad: ")
	pad := n - (w.Len() - start)
	w.Truncate(start)
	w.head("200 OK", w.length(), "X-Pad: "+strings.Repeat("p", pad))
	w.Write(w.body)
}

var (
	protocol = []engine.Kind{engine.Protocol}
	bounded  = []engine.Kind{engine.TooLarge}
	// A malformation that also breaks a bound may be called either.
	either = []engine.Kind{engine.Protocol, engine.TooLarge}
	// closedKinds are the names of a connection that went away, according to
	// what the engine was doing when it saw it.
	closedKinds = []engine.Kind{engine.Closed, engine.Read, engine.Write}
	// A connection that is reset as soon as it is accepted may look as if it
	// never was.
	dyingKinds = []engine.Kind{engine.Closed, engine.Read, engine.Write, engine.Connect}
	timeout    = []engine.Kind{engine.Timeout}
)

// raw makes an answer of a whole response, given as its head without the empty
// line, and its body.
func raw(head, body string) func(w *reply) {
	return func(w *reply) { w.WriteString(head + "\r\n\r\n" + body) }
}

// fields makes an answer of a good status line, the id, and these lines.
func fields(lines ...string) func(w *reply) {
	return func(w *reply) { w.head("200 OK", lines...); w.Write(w.body) }
}

// badChunks makes an answer of a good chunked head, a good chunk, and this.
func badChunks(rest string) func(w *reply) {
	return func(w *reply) {
		w.head("200 OK", chunked)
		if len(w.body) > 0 { // an empty one would be the last
			fmt.Fprintf(w, "%x\r\n%s\r\n", len(w.body), w.body)
		}
		w.WriteString(rest)
	}
}

// wrongAnswers are what no client may accept. The client has to close: the
// server does not.
var wrongAnswers = []answer{
	{name: "length_and_chunked", write: fields("Content-Length: 5", chunked), permits: protocol},
	{name: "chunked_and_length", write: fields(chunked, "Content-Length: 5"), permits: protocol},
	{name: "two_lengths", write: fields("Content-Length: 5", "Content-Length: 6"), permits: protocol},
	{name: "length_list", write: fields("Content-Length: 5, 6"), permits: protocol},
	{name: "length_negative", write: fields("Content-Length: -1"), permits: protocol},
	{name: "length_plus", write: fields("Content-Length: +5"), permits: protocol},
	{name: "length_hex", write: fields("Content-Length: 0x5"), permits: protocol},
	{name: "length_empty", write: fields("Content-Length: "), permits: protocol},
	{name: "length_words", write: fields("Content-Length: 5 5"), permits: protocol},
	{name: "length_huge", write: fields("Content-Length: 18446744073709551621"), permits: either},
	{name: "chunked_not_last", write: fields("Transfer-Encoding: chunked, gzip"), permits: protocol},
	{name: "chunked_twice", write: fields(chunked, chunked), permits: protocol},
	{name: "coding_unknown", write: fields("Transfer-Encoding: xchunked"), permits: protocol},
	{name: "http10_chunked", write: func(w *reply) { w.headAs("HTTP/1.0", "200 OK", chunked) }, permits: protocol},
	{name: "space_before_colon", write: fields("X-A : b", "Content-Length: 5"), permits: protocol},
	{name: "space_before_length_colon", write: fields("Content-Length : 5"), permits: protocol},
	{name: "no_colon", write: fields("X-A b"), permits: protocol},
	{name: "empty_name", write: fields(": b"), permits: protocol},
	{name: "nul_in_value", write: fields("X-A: a\x00b"), permits: protocol},
	{name: "cr_in_value", write: fields("X-A: a\rb"), permits: protocol},
	{name: "bare_lf", write: fields("X-A: a\nX-B: b"), permits: protocol},
	{name: "bare_lf_all", write: func(w *reply) { w.WriteString("HTTP/1.1 200 OK\nContent-Length: 0\n\n") }, permits: protocol},
	{name: "fold_first", write: raw("HTTP/1.1 200 OK\r\n X: y", ""), permits: protocol},
	{name: "not_http", write: raw("ICY 200 OK", ""), permits: protocol},
	{name: "http2", write: raw("HTTP/2.0 200 OK", ""), permits: protocol},
	{name: "lower_http", write: raw("http/1.1 200 OK", ""), permits: protocol},
	{name: "status_short", write: raw("HTTP/1.1 20\r\nContent-Length: 0", ""), permits: protocol},
	{name: "status_long", write: raw("HTTP/1.1 2000 OK\r\nContent-Length: 0", ""), permits: protocol},
	{name: "status_signed", write: raw("HTTP/1.1 +20 OK\r\nContent-Length: 0", ""), permits: protocol},
	{name: "noise", write: raw("\x16\x03\x01\x02\x00\x01\x00", "\x00\x01"), permits: protocol},
	{name: "switching", write: raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade", "x"), permits: protocol},
	{name: "interim_flood", write: func(w *reply) { w.interim(engine.MaxInterim + 1); w.withLength() }, permits: either},
	{name: "head_over_limit", write: func(w *reply) { w.padded(maxHead + 1) }, permits: bounded},
	{name: "head_endless", write: func(w *reply) {
		w.WriteString("HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: b\r\n", maxHead/8+1))
	}, permits: either}, // either: the number of fields has a bound too
	{name: "line_endless", write: func(w *reply) {
		w.WriteString("HTTP/1.1 200 " + strings.Repeat("O", maxHead+1))
	}, permits: bounded},

	{name: "chunk_size_word", status: 200, write: badChunks("g\r\n"), permits: protocol},
	{name: "chunk_size_negative", status: 200, write: badChunks("-1\r\n"), permits: protocol},
	{name: "chunk_size_0x", status: 200, write: badChunks("0x5\r\nabcde\r\n"), permits: protocol},
	{name: "chunk_size_empty", status: 200, write: badChunks("\r\n"), permits: protocol},
	{name: "chunk_size_huge", status: 200, write: badChunks("10000000000000005\r\nabcde\r\n"), permits: either},
	{name: "chunk_size_bare_lf", status: 200, write: badChunks("5\nabcde\r\n"), permits: protocol},
	{name: "chunk_ext_bare_lf", status: 200, write: badChunks("5;a\nabcde\r\n"), permits: protocol},
	{name: "chunk_long", status: 200, write: badChunks("5\r\nabcdefg\r\n"), permits: protocol},
	{name: "chunk_data_bare_lf", status: 200, write: badChunks("5\r\nabcde\n0\r\n\r\n"), permits: protocol},
	{name: "chunk_ext_flood", status: 200, write: badChunks("5;" + strings.Repeat("a", 1<<20) + "\r\n"), permits: either},
	{name: "trailer_flood", status: 200, write: badChunks("0\r\n" + strings.Repeat("X-A: bbbbbbbb\r\n", 1<<16)), permits: either},
	{name: "trailer_bare_lf", status: 200, write: badChunks("0\r\nX-A: b\n\r\n"), permits: protocol},
	{name: "trailer_no_colon", status: 200, write: badChunks("0\r\nX-A\r\n\r\n"), permits: protocol},
}

// cut makes an answer of a random part of a good one, never the whole.
func cut(of string) func(w *reply) {
	return func(w *reply) {
		answers[of].write(w)
		w.Truncate(w.r.IntN(w.Len()))
	}
}

// cutAnswers end too early, every time they are asked for.
var cutAnswers = []answer{
	{name: "cut_fin", write: cut("length"), after: finish, permits: closedKinds},
	{name: "cut_rst", write: cut("length"), after: reset, permits: closedKinds},
	{name: "cut_sent_rst", write: cut("length"), after: sentRST, permits: closedKinds},
	{name: "cut_chunked_fin", write: cut("chunked_trailers"), after: finish, permits: closedKinds},
	{name: "cut_interim_fin", write: cut("interim"), after: finish, permits: closedKinds},
	{name: "cut_head_only", method: "HEAD", write: cut("head"), after: finish, permits: closedKinds},
	// RFC 9112 section 8: what ends with a reset was not complete, though every
	// byte came.
	{name: "until_close_rst", write: func(w *reply) { w.head("200 OK"); w.Write(w.body) }, after: sentRST, permits: closedKinds},
}

// stalledAnswers never end while the connection lasts, however slow the
// machine: no answer, part of a head, part of a body.
var stalledAnswers = []answer{
	{name: "silent", write: func(*reply) {}, permits: timeout},
	{name: "stalled_head", write: func(w *reply) { w.WriteString("HTTP/1.1 200 OK\r\nContent-Le") }, permits: timeout},
	{name: "stalled_body", status: 200, write: func(w *reply) {
		w.head("200 OK", "Content-Length: "+strconv.Itoa(len(w.body)+1))
		w.Write(w.body)
	}, permits: timeout},
	{name: "stalled_chunk", status: 200, write: badChunks("5\r\nabc"), permits: timeout},
	{name: "stalled_trailer", status: 200, write: badChunks("0\r\nX-A: b"), permits: timeout},
	{name: "stalled_until_close", status: 200, write: func(w *reply) { w.head("200 OK"); w.Write(w.body) }, permits: timeout},
	{name: "interim_only", write: func(w *reply) { w.interim(3) }, permits: timeout},
}

// answers has them all by name, as they are asked for in a request's path.
var answers = map[string]*answer{}

func init() {
	for _, list := range [][]answer{rightAnswers, lastAnswers, wrongAnswers, cutAnswers, stalledAnswers} {
		for i := range list {
			a := &list[i]
			if answers[a.name] != nil {
				panic("internal error: two answers are called " + a.name)
			}
			answers[a.name] = a
		}
	}
	for i := range wrongAnswers {
		wrongAnswers[i].after = hang
	}
	for i := range stalledAnswers {
		stalledAnswers[i].after = hang
	}
}
