package httpcodec

// FramingKind says how the end of a body is found.
type FramingKind uint8

const (
	NoBody     FramingKind = iota // there is none
	Length                        // Framing.Length bytes
	Chunked                       // chunked transfer coding
	UntilClose                    // all until the connection is closed
)

// Framing is how the body of a message is delimited.
type Framing struct {
	Kind   FramingKind
	Length int64 // of Kind Length
}

// ResponseFraming is RFC 9112 section 6.3 for a response, whose request was
// HEAD or not. What could be read in two ways is an error: that is how
// responses get attached to the wrong request.
func (h *Head) ResponseFraming(requestIsHead bool) (Framing, error) {
	if err := h.framingFault(); err != nil {
		return Framing{}, err
	}
	switch {
	case requestIsHead, h.Status < 200, h.Status == 204, h.Status == 304:
		return Framing{Kind: NoBody}, nil
	case h.facts&coded != 0:
		return Framing{Kind: Chunked}, nil
	case h.ContentLength >= 0:
		return Framing{Kind: Length, Length: h.ContentLength}, nil
	}
	return Framing{Kind: UntilClose}, nil
}

// RequestFraming is RFC 9112 section 6.3 for a request.
func (h *Head) RequestFraming() (Framing, error) {
	if err := h.framingFault(); err != nil {
		return Framing{}, err
	}
	switch {
	case h.facts&coded != 0:
		return Framing{Kind: Chunked}, nil
	case h.ContentLength >= 0:
		return Framing{Kind: Length, Length: h.ContentLength}, nil
	}
	return Framing{Kind: NoBody}, nil
}

func (h *Head) framingFault() error {
	switch {
	case h.facts&badLength != 0:
		return ErrContentLength
	case h.facts&coded != 0 && h.ContentLength >= 0:
		return ErrLengthAndEncoding
	case h.facts&coded != 0 && (h.facts&chunkedLast == 0 || h.Minor == 0):
		// RFC 9112 section 6.1: Transfer-Encoding in an HTTP/1.0 message must
		// be treated "as if the framing is faulty".
		return ErrTransferEncoding
	}
	return nil
}
