package input

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParse(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{`{"url":"http://a/"}`, "0 http://a/"},
		{` { "url" : "http://a/" } `, "0 http://a/"},
		{`{"id":7,"url":"u"}`, "0 id=7 u"},
		{`{"id":12345678901234567890,"url":"u"}`, "0 id=12345678901234567890 u"},
		{`{"id":"\u00e9\"","url":"u"}`, `0 id="\u00e9\"" u`},
		{`{"id":null,"method":null,"headers":null,"body":null,"body_base64":null,"timeout_ms":null,"url":"u"}`, "0 u"},
		{`{"url":"\/\u00e9\ud83d\ude00\n"}`, "0 /é😀\n"},
		{`{"url":"u","method":"DELETE"}`, "0 DELETE u"},
		{`{"url":"u","headers":{"B":"1","a":["x","y"],"B":"2","Accept":[]}}`, "0 u B:1 a:x a:y B:2 -Accept"},
		{`{"url":"u","headers":{}}`, "0 u"},
		{`{"url":"u","body":""}`, `0 u body=""`},
		{`{"url":"u","body":"a\u0000b"}`, `0 u body="a\x00b"`},
		{`{"url":"u","body_base64":"AP8="}`, `0 u body="\x00\xff"`},
		{`{"url":"u","body_base64":""}`, `0 u body=""`},
		{`{"url":"u","timeout_ms":1500}`, "0 u timeout=1.5s"},
		{`{"url":"u","timeout_ms":0.5}`, "0 u timeout=500µs"},
		{`{"url":"u","timeout_ms":1e3}`, "0 u timeout=1s"},
		{`{"url":"u","meta":null}`, "0 u meta=null"},
		{`{"url":"u","meta":[1,  {"k" : 1.50}, "a b"]}`, `0 u meta=[1,{"k":1.50},"a b"]`},
		{`{"url":"u","meta":"\ud800"}`, "0 bad: column 20: bad escape in a string"},

		{`{}`, "0 bad: column 1: url is missing"},
		{`{"url":""}`, "0 bad: column 1: url is missing"},
		{`{"url":null}`, "0 bad: column 1: url is missing"},
		{`{"url":"u"`, "0 bad: column 11: want ',' or '}' after a member"},
		{`{"url":"u",}`, "0 bad: column 12: want a name in quotes"},
		{`{"url" "u"}`, `0 bad: column 8: want ':' after a name`},
		{`{"url":"u"} x`, "0 bad: column 13: more text after the object"},
		{`{"url":"u"}` + "\x00", "0 bad: column 12: more text after the object"},
		{`{"url":7}`, "0 bad: column 8: want url to be a string"},
		{`{"url":"u`, "0 bad: column 10: the string does not end"},
		{`{"url":"u\`, "0 bad: column 10: the string does not end"},
		{`{"url":"\x"}`, "0 bad: column 9: bad escape in a string"},
		{`{"url":"\u12g4"}`, "0 bad: column 9: bad escape in a string"},
		{`{"url":"\ude00"}`, "0 bad: column 9: bad escape in a string"},
		{`{"url":"\ud83d\u0041"}`, "0 bad: column 9: bad escape in a string"},
		{"{\"url\":\"a\tb\"}", "0 bad: column 10: control character in a string"},
		{"{\"url\":\"a\xff\"}", "0 bad: column 10: not UTF-8"},
		{`{"ulr":"u"}`, `0 bad: column 2: unknown key "ulr"`},
		{`{"url":"u","url":"v"}`, `0 bad: column 12: "url" is given twice`},
		{`{"url":"u","body":"a","body_base64":"YQ=="}`, "0 bad: column 23: body and body_base64 exclude each other"},
		{`{"url":"u","body_base64":"?"}`, "0 bad: column 26: body_base64: illegal base64 data at input byte 0"},
		{`{"url":"u","body":{"a":1}}`, "0 bad: column 19: want body to be a string"},
		{`{"url":"u","id":[1]}`, "0 bad: column 17: want id to be a string or a number"},
		{`{"url":"u","id":1x}`, "0 bad: column 17: no JSON value: invalid character 'x' after top-level value"},
		{`{"url":"u","method":""}`, "0 bad: column 21: method is empty"},
		{`{"url":"u","headers":[]}`, "0 bad: column 22: want '{' to begin an object"},
		{`{"url":"u","headers":{"A":1}}`, "0 bad: column 27: want header values to be a string or a list of strings"},
		{`{"url":"u","headers":{"A":["x",null]}}`, "0 bad: column 32: want a list of header values to be of strings"},
		{`{"url":"u","timeout_ms":0}`, "0 bad: column 25: want timeout_ms to be a number above 0, at most 31536000000"},
		{`{"url":"u","timeout_ms":-1}`, "0 bad: column 25: want timeout_ms to be a number above 0, at most 31536000000"},
		{`{"url":"u","timeout_ms":"1"}`, "0 bad: column 25: want timeout_ms to be a number above 0, at most 31536000000"},
		{`{"url":"u","timeout_ms":1e99}`, "0 bad: column 25: want timeout_ms to be a number above 0, at most 31536000000"},
		{`{"url":"u","meta":}`, "0 bad: column 19: no JSON value: invalid character '}' looking for beginning of value"},
		{`{"url":"u","meta":[1,]}`, "0 bad: column 19: no JSON value: invalid character ']' looking for beginning of value"},
		{`{"url":"u","meta":[1`, "0 bad: column 21: the line ends in the middle"},
		{`{"url":"u","meta":nul}`, "0 bad: column 19: no JSON value: invalid character ' ' in literal null (expecting 'l')"},
	} {
		var it Item
		it.Err = it.parse([]byte(c.line))
		if got := describe(&it); !strings.HasSuffix(got, strings.TrimPrefix(c.want, "0")) {
			t.Errorf("%s\n got %s\nwant %s", c.line, got, c.want)
		}
	}
}

// What is parsed must be what encoding/json reads; where encoding/json refuses,
// so do we.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"id":"a","url":"http://a/\u00e9\ud83d\ude00","method":"PUT","headers":{"A":"b","C":["d","e"]},"body":"x\n","timeout_ms":2.5,"meta":{"k":[1,2,{"x":null}]}}`))
	f.Add([]byte(`{"id":-1.5e3,"url":"u","body_base64":"AP8=","meta":"\\\""}`))
	f.Add([]byte(`{"url":"u","meta":[[[]],{}]} `))
	f.Fuzz(func(t *testing.T, line []byte) {
		var it Item
		err := it.parse(line)
		var want struct {
			ID      json.RawMessage `json:"id"`
			URL     string          `json:"url"`
			Method  *string         `json:"method"`
			Headers map[string]any  `json:"headers"`
			Body    *string         `json:"body"`
			Base64  []byte          `json:"body_base64"`
			Timeout *float64        `json:"timeout_ms"`
			Meta    json.RawMessage `json:"meta"`
		}
		if err != nil {
			return
		}
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&want); err != nil {
			t.Fatalf("accepted %q, encoding/json says %v", line, err)
		}
		if it.URL != want.URL {
			t.Errorf("URL %q, want %q", it.URL, want.URL)
		}
		if want.Method != nil && it.Method != *want.Method {
			t.Errorf("method %q, want %q", it.Method, *want.Method)
		}
		if want.Body != nil && string(it.Body) != *want.Body {
			t.Errorf("body %q, want %q", it.Body, *want.Body)
		}
		if want.Base64 != nil && !bytes.Equal(it.Body, want.Base64) {
			t.Errorf("body %q, want %q", it.Body, want.Base64)
		}
		for _, echo := range [][2][]byte{{it.ID, want.ID}, {it.Meta, want.Meta}} {
			if echo[0] != nil && !sameJSON(echo[0], echo[1]) {
				t.Errorf("echoes %s for %s", echo[0], echo[1])
			}
			if bytes.ContainsAny(echo[0], "\r\n") || !utf8.Valid(echo[0]) {
				t.Errorf("echo %q would break a line", echo[0])
			}
		}
		for _, h := range it.Header {
			if _, ok := want.Headers[h.Name]; !ok {
				t.Errorf("header %q came from nowhere", h.Name)
			}
		}
	})
}

func sameJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}
