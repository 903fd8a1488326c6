package httpcodec

import "strconv"

// Field is a field of a message that is to be written.
type Field struct{ Name, Value string }

// AppendRequest appends a request head to dst: request line, Host (unless host
// is empty: then it is among the fields), fields, Content-Length (unless
// negative), empty line. What could end a line early, or is no token, is
// refused, and dst returned as it was.
func AppendRequest(dst []byte, method, target, host string, fields []Field, contentLength int64) ([]byte, error) {
	b, err := AppendRequestStart(dst, method, target, host)
	if err != nil {
		return dst, err
	}
	b, err = AppendFields(b, fields, contentLength)
	if err != nil {
		return dst, err
	}
	return b, nil
}

// AppendRequestStart is the first part of AppendRequest: request line and Host.
func AppendRequestStart(dst []byte, method, target, host string) ([]byte, error) {
	switch {
	case !isToken(method):
		return dst, ErrMethod
	case !validTarget(target):
		return dst, ErrTarget
	case !ValidFieldValue(host):
		return dst, ErrHost
	}
	b := append(dst, method...)
	b = append(b, ' ')
	b = append(b, target...)
	b = append(b, " HTTP/1.1\r\n"...)
	if host != "" {
		b = appendField(b, "Host", host)
	}
	return b, nil
}

// AppendResponse appends a response head to dst: status line, fields,
// Content-Length (unless negative), empty line.
func AppendResponse(dst []byte, status int, fields []Field, contentLength int64) ([]byte, error) {
	if status < 100 || status > 999 {
		return dst, ErrStatus
	}
	b := append(dst, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	b = append(b, reason(status)...)
	b = append(b, "\r\n"...)
	b, err := AppendFields(b, fields, contentLength)
	if err != nil {
		return dst, err
	}
	return b, nil
}

// AppendFields is the second part of AppendRequest: fields, Content-Length, empty
// line. What goes with many requests can be appended to them as it is.
func AppendFields(dst []byte, fields []Field, contentLength int64) ([]byte, error) {
	b := dst
	for i := range fields {
		f := &fields[i]
		switch {
		case !isToken(f.Name):
			return dst, ErrFieldName
		case !ValidFieldValue(f.Value):
			return dst, ErrFieldValue
		}
		b = appendField(b, f.Name, f.Value)
	}
	if contentLength >= 0 {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, contentLength, 10)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...), nil
}

func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

// AppendChunk appends data as one chunk. Empty data is nothing: an empty chunk
// would end the body.
func AppendChunk(dst, data []byte) []byte {
	if len(data) == 0 {
		return dst
	}
	dst = strconv.AppendInt(dst, int64(len(data)), 16)
	dst = append(dst, "\r\n"...)
	dst = append(dst, data...)
	return append(dst, "\r\n"...)
}

// AppendLastChunk appends the end of a chunked body, with trailer fields.
func AppendLastChunk(dst []byte, trailers []Field) ([]byte, error) {
	b, err := AppendFields(append(dst, "0\r\n"...), trailers, -1)
	if err != nil {
		return dst, err
	}
	return b, nil
}

// reason is the phrase of RFC 9110 section 15, or nothing.
func reason(status int) string {
	switch status {
	case 100:
		return "Continue"
	case 101:
		return "Switching Protocols"
	case 103:
		return "Early Hints"
	case 200:
		return "OK"
	case 201:
		return "Created"
	case 202:
		return "Accepted"
	case 204:
		return "No Content"
	case 206:
		return "Partial Content"
	case 301:
		return "Moved Permanently"
	case 302:
		return "Found"
	case 303:
		return "See Other"
	case 304:
		return "Not Modified"
	case 307:
		return "Temporary Redirect"
	case 308:
		return "Permanent Redirect"
	case 400:
		return "Bad Request"
	case 401:
		return "Unauthorized"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 405:
		return "Method Not Allowed"
	case 408:
		return "Request Timeout"
	case 413:
		return "Content Too Large"
	case 414:
		return "URI Too Long"
	case 417:
		return "Expectation Failed"
	case 429:
		return "Too Many Requests"
	case 431:
		return "Request Header Fields Too Large"
	case 500:
		return "Internal Server Error"
	case 501:
		return "Not Implemented"
	case 502:
		return "Bad Gateway"
	case 503:
		return "Service Unavailable"
	case 504:
		return "Gateway Timeout"
	case 505:
		return "HTTP Version Not Supported"
	}
	return ""
}
