package engine

import (
	"time"

	"hotlap/httpcodec"
)

// Field is one header field.
type Field = httpcodec.Field

// Request is what is to be sent. It belongs to the engine from the moment a
// Source returns it until its Result has been consumed; then it may be reused.
// The same Request may be in flight several times if it was prepared with
// Engine.Prepare.
type Request struct {
	Method string // "" is GET
	// URL is absolute. Path and query are sent byte for byte (dot segments and
	// %2F stay); the fragment is dropped, non-ASCII bytes are percent-encoded;
	// control characters and spaces are refused.
	URL string
	// Header is sent in addition to Config.Header; a name given here replaces
	// the fields of that name there. Repeated names are sent repeated.
	Header []Field
	// Omit names default fields (Config.Header, Accept, User-Agent) that this
	// request goes without.
	Omit []string
	Body []byte // sent with Content-Length; nil is no body
	// Timeout is the request's own deadline, counted from the moment the engine
	// takes the request from its source, waiting included; 0 is none.
	Timeout time.Duration
	// Err, set by a Source that could not form the request, ends it at once as
	// InvalidRequest with this message: its place in the stream is kept.
	Err error
	// Tag is the caller's, untouched.
	Tag any

	prepared *prepared // by Engine.Prepare
}
