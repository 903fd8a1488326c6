package httpcodec

import (
	"errors"
	"strings"
	"testing"
)

// decode feeds a body in pieces that end at the given offsets and returns what
// came out, how much of the input was the body's, and whether it is complete.
func decode(f Framing, in string, cuts ...int) (out string, used int, done bool, err error) {
	var d Body
	d.Reset(f)
	if d.Done() {
		return "", 0, true, nil
	}
	from := 0
	for _, to := range append(cuts, len(in)) {
		b := []byte(in[from:to]) // a buffer of its own: nothing is read past it
		for len(b) > 0 && !done {
			data, n, end, err := d.Next(b)
			out += string(data)
			used += n
			if err != nil {
				return out, used, false, err
			}
			if n == 0 && !end {
				return out, used, false, errors.New("no byte was taken")
			}
			b, done = b[n:], end
		}
		from = to
	}
	return out, used, done, nil
}

func TestBody(t *testing.T) {
	chunked := Framing{Kind: Chunked}
	for _, c := range []struct {
		name string
		f    Framing
		in   string // the body ends at "|"
		want string
		err  error
	}{
		{"none", Framing{}, "|x", "", nil},
		{"length", Framing{Length, 5}, "hello|x", "hello", nil},
		{"length 0", Framing{Length, 0}, "|x", "", nil},
		{"chunks", chunked, "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n|x", "hello", nil},
		{"hex and zeros", chunked, "00A\r\n0123456789\r\n1f\r\n" + strings.Repeat("x", 31) + "\r\n000\r\n\r\n|", "0123456789" + strings.Repeat("x", 31), nil},
		{"extensions", chunked, "3;a=b;c=\"d;e\"\r\nabc\r\n0;z\r\n\r\n|", "abc", nil},
		{"space behind the size", chunked, "3 \t;x\r\nabc\r\n0  \r\n\r\n|", "abc", nil},
		{"trailers", chunked, "1\r\na\r\n0\r\nA: b\r\nC: d\r\n\r\n|x", "a", nil},
		{"CR LF in data", chunked, "4\r\n\r\n\r\n\r\n0\r\n\r\n|", "\r\n\r\n", nil},
		{"no size", chunked, "\r\n", "", ErrChunkSize},
		{"no hex", chunked, "g\r\n", "", ErrChunkSize},
		{"0x", chunked, "0x1\r\n", "", ErrChunkSize},
		{"minus", chunked, "-1\r\n", "", ErrChunkSize},
		{"size too large", chunked, "1000000000000000\r\n", "", ErrChunkSize},
		{"bare LF behind the size", chunked, "1\na\r\n", "", ErrChunkSize},
		{"CR without LF behind the size", chunked, "1\rxa", "", ErrChunkSize},
		{"control in an extension", chunked, "1;\x00\r\na", "", ErrChunkSize},
		{"LF in an extension", chunked, "1;a\nb\r\n", "", ErrChunkSize},
		{"space in the size", chunked, "1 2\r\n", "", ErrChunkSize},
		{"data too long", chunked, "1\r\nab\r\n", "a", ErrChunkData},
		{"bare LF behind the data", chunked, "1\r\na\n", "a", ErrChunkData},
		{"trailer with no name", chunked, "0\r\n: x\r\n\r\n", "", ErrTrailer},
		{"trailer with no colon", chunked, "0\r\nA\r\n\r\n", "", ErrTrailer},
		{"space before a trailer's colon", chunked, "0\r\nA : x\r\n\r\n", "", ErrTrailer},
		{"endless trailer name", chunked, "0\r\n" + strings.Repeat("A", MaxTrailerBytes+1), "", ErrTrailerTooLarge},
		{"LF in a trailer", chunked, "0\r\nA: x\n\r\n", "", ErrTrailer},
		{"bare LF at the end", chunked, "0\r\n\n", "", ErrTrailer},
		{"chunk line too long", chunked, "1;" + strings.Repeat("x", MaxChunkLineBytes+1), "", ErrChunkLine},
		{"extension flood", chunked, strings.Repeat("1;"+strings.Repeat("x", 4000)+"\r\na\r\n", 17), strings.Repeat("a", 16), ErrChunkLine},
		{"trailers too large", chunked, "0\r\n" + strings.Repeat("A: "+strings.Repeat("x", 1000)+"\r\n", 17), "", ErrTrailerTooLarge},
	} {
		in := strings.Replace(c.in, "|", "", 1)
		end := strings.IndexByte(c.in, '|')
		check := func(how string, cuts ...int) {
			out, used, done, err := decode(c.f, in, cuts...)
			if out != c.want || !errors.Is(err, c.err) || c.err == nil && (!done || used != end) {
				t.Fatalf("%s, %s: %q, used %d, done %v, error %v; want %q, %d, %v", c.name, how, out, used, done, err, c.want, end, c.err)
			}
		}
		check("whole")
		var all []int
		for i := 1; i < len(in); i++ {
			all = append(all, i)
			if len(in) < 200 || i%97 == 0 {
				check("split in two", i)
			}
		}
		check("byte by byte", all...)
	}
}

func TestBodyUntilClose(t *testing.T) {
	out, used, done, err := decode(Framing{Kind: UntilClose}, "all of it", 3)
	if out != "all of it" || used != 9 || done || err != nil {
		t.Errorf("%q %d %v %v", out, used, done, err)
	}
}

func TestBodyAllocatesNothing(t *testing.T) {
	in := []byte("3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nT: v\r\n\r\n")
	var d Body
	if n := testing.AllocsPerRun(100, func() {
		d.Reset(Framing{Kind: Chunked})
		for b := in; len(b) > 0; {
			_, n, _, err := d.Next(b)
			if err != nil {
				t.Fatal(err)
			}
			b = b[n:]
		}
	}); n != 0 {
		t.Errorf("%v allocations per body", n)
	}
}

func TestAppend(t *testing.T) {
	for _, c := range []struct {
		name                 string
		method, target, host string
		fields               []Field
		err                  error
	}{
		{"method", "G T", "/", "h", nil, ErrMethod},
		{"no method", "", "/", "h", nil, ErrMethod},
		{"CR LF in the target", "GET", "/\r\nX: y", "h", nil, ErrTarget},
		{"space in the target", "GET", "/a b", "h", nil, ErrTarget},
		{"no target", "GET", "", "h", nil, ErrTarget},
		{"non-ASCII target", "GET", "/\xe4", "h", nil, ErrTarget},
		{"CR LF in Host", "GET", "/", "h\r\nX: y", nil, ErrHost},
		{"NUL in a value", "GET", "/", "h", []Field{{"A", "\x00"}}, ErrFieldValue},
		{"LF in a value", "GET", "/", "h", []Field{{"A", "b\nC: d"}}, ErrFieldValue},
		{"colon in a name", "GET", "/", "h", []Field{{"A:", "b"}}, ErrFieldName},
		{"no name", "GET", "/", "h", []Field{{"", "b"}}, ErrFieldName},
	} {
		dst := []byte("before")
		got, err := AppendRequest(dst, c.method, c.target, c.host, c.fields, -1)
		if err != c.err || string(got) != "before" {
			t.Errorf("%s: %q, %v; want %v", c.name, got, err, c.err)
		}
	}
	got, err := AppendResponse(nil, 200, []Field{{"A", "b"}}, 3)
	if want := "HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 3\r\n\r\n"; string(got) != want || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := AppendResponse(nil, 99, nil, -1); err != ErrStatus {
		t.Errorf("status 99: %v", err)
	}
	body, err := AppendLastChunk(AppendChunk(AppendChunk(nil, []byte("hello")), nil), []Field{{"T", "v"}})
	if want := "5\r\nhello\r\n0\r\nT: v\r\n\r\n"; string(body) != want || err != nil {
		t.Errorf("%q, %v", body, err)
	}
}
