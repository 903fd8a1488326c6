package httpcodec

// Limits bound what a head may be. Reaching one is an Error that is TooLarge.
type Limits struct {
	HeadBytes int // from the first byte to the end of the empty line
	Fields    int
}

// DefaultLimits is what a nil *Limits means.
var DefaultLimits = Limits{HeadBytes: 64 << 10, Fields: 256}

// Bounds of a chunked body.
const (
	MaxChunkLineBytes  = 4 << 10  // a chunk-size line, extensions included
	MaxExtensionBytes  = 64 << 10 // the extensions of all chunks of a body
	MaxTrailerBytes    = 16 << 10 // the trailer section
	maxChunkSizeDigits = 15       // hexadecimal: below 2^60
	maxLengthDigits    = 18       // decimal: below 2^60
)
