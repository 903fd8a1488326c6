package httpcodec

// Error is a fault of a received message, or of what a message was to be made
// of. Its text says what is wrong and where that is written.
type Error uint8

const (
	_ Error = iota
	ErrBareLF
	ErrBareCR
	ErrStatusLine
	ErrRequestLine
	ErrVersion
	ErrFieldName
	ErrSpaceBeforeColon
	ErrFieldValue
	ErrObsFold
	ErrContentLength
	ErrTransferEncoding
	ErrLengthAndEncoding
	ErrChunkSize
	ErrChunkData
	ErrChunkLine
	ErrTrailer
	ErrTrailerTooLarge
	ErrHeadTooLarge
	ErrTooManyFields
	ErrMethod
	ErrTarget
	ErrHost
	ErrStatus
)

var errorTexts = [...]string{
	ErrBareLF:            "line ended by a bare LF (RFC 9112 section 2.2)",
	ErrBareCR:            "CR that is not followed by LF (RFC 9112 section 2.2)",
	ErrStatusLine:        "malformed status line (RFC 9112 section 4)",
	ErrRequestLine:       "malformed request line (RFC 9112 section 3)",
	ErrVersion:           "version is not HTTP/1.x (RFC 9112 section 2.3)",
	ErrFieldName:         "malformed field name (RFC 9110 section 5.1)",
	ErrSpaceBeforeColon:  "white space before the colon of a field (RFC 9112 section 5.1)",
	ErrFieldValue:        "control character in a field value (RFC 9110 section 5.5)",
	ErrObsFold:           "folded field line (RFC 9112 section 5.2)",
	ErrContentLength:     "malformed or repeated Content-Length (RFC 9110 section 8.6)",
	ErrTransferEncoding:  "Transfer-Encoding other than one final chunked (RFC 9112 section 6.1)",
	ErrLengthAndEncoding: "Content-Length together with Transfer-Encoding (RFC 9112 section 6.3)",
	ErrChunkSize:         "malformed chunk size (RFC 9112 section 7.1)",
	ErrChunkData:         "chunk longer than its size (RFC 9112 section 7.1)",
	ErrChunkLine:         "chunk line or chunk extensions too long (RFC 9112 section 7.1.1)",
	ErrTrailer:           "malformed trailer section (RFC 9112 section 7.1.2)",
	ErrTrailerTooLarge:   "trailer section too large (RFC 9112 section 7.1.2)",
	ErrHeadTooLarge:      "message head too large",
	ErrTooManyFields:     "too many fields in the message head",
	ErrMethod:            "method is not a token (RFC 9110 section 9.1)",
	ErrTarget:            "request target is empty or has a space, a control or a non-ASCII character (RFC 9112 section 3.2)",
	ErrHost:              "Host is missing, repeated or malformed (RFC 9112 section 3.2)",
	ErrStatus:            "status code is not 100 to 999 (RFC 9110 section 15)",
}

func (e Error) Error() string {
	if int(e) < len(errorTexts) && errorTexts[e] != "" {
		return errorTexts[e]
	}
	return "unknown codec fault"
}

// TooLarge says whether e is a bound that was reached, not a malformed message.
func (e Error) TooLarge() bool {
	switch e {
	case ErrChunkLine, ErrTrailerTooLarge, ErrHeadTooLarge, ErrTooManyFields:
		return true
	}
	return false
}
