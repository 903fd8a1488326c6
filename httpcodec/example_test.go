package httpcodec_test

import (
	"fmt"

	"hotlap/httpcodec"
)

func ExampleHead_ParseResponse() {
	received := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello")
	var h httpcodec.Head
	n, err := h.ParseResponse(received, nil)
	if err != nil {
		fmt.Println(err) // malformed
		return
	}
	if n == 0 {
		return // read more and call it again from the start
	}
	framing, err := h.ResponseFraming(false)
	if err != nil {
		fmt.Println(err)
		return
	}
	var body httpcodec.Body
	body.Reset(framing)
	data, _, done, _ := body.Next(received[n:])
	kind, _ := h.Get(received, "content-type")
	fmt.Println(h.Status, string(kind), string(data), done)
	// Output: 200 text/plain hello true
}

func ExampleAppendRequest() {
	b, err := httpcodec.AppendRequest(nil, "GET", "/search?q=x", "example.com",
		[]httpcodec.Field{{Name: "Accept", Value: "*/*"}}, -1)
	fmt.Printf("%q %v\n", b, err)
	_, err = httpcodec.AppendRequest(nil, "GET", "/", "example.com",
		[]httpcodec.Field{{Name: "X", Value: "a\r\nInjected: yes"}}, -1)
	fmt.Println(err)
	// Output:
	// "GET /search?q=x HTTP/1.1\r\nHost: example.com\r\nAccept: */*\r\n\r\n" <nil>
	// control character in a field value (RFC 9110 section 5.5)
}
