package engine

import "fmt"

// Kind says what ended a request that got no usable response. The set is
// closed: scripts may switch on it. A Kind is itself an error, so that
// errors.Is(err, engine.Timeout) works on what Do and Result.Err carry.
type Kind uint8

const (
	_              Kind = iota
	InvalidRequest      // the request was never valid: bad URL, header, method or input line
	DNS                 // the host name did not resolve
	Connect             // no address of the host accepted a connection
	TLS                 // the TLS handshake or the peer's certificate failed
	Proxy               // the proxy refused, failed, or answered what is no proxy's answer
	Write               // the request could not be written in full
	Read                // the socket failed while the response was awaited or read
	Closed              // the connection was closed or reset before the response was complete
	Timeout             // a time limit passed: timeout, connect timeout, read timeout or deadline
	Protocol            // the bytes received are not a valid HTTP/1.1 response
	TooLarge            // a head or another part with a fixed bound was over that bound
	Decode              // the body could not be decoded as its Content-Encoding says
	Redirect            // a redirect could not be followed: too many, or a bad Location
	Robots              // robots.txt forbids the request
	CircuitOpen         // the origin failed too often and is being left alone
	Canceled            // the run or the request was canceled by its caller
	Unsupported         // the request asks for what this version does not do
	NumKinds            // how many there are, for arrays indexed by Kind
)

var kindNames = [NumKinds]string{
	InvalidRequest: "invalid_request", DNS: "dns", Connect: "connect", TLS: "tls", Proxy: "proxy",
	Write: "write", Read: "read", Closed: "closed", Timeout: "timeout", Protocol: "protocol",
	TooLarge: "too_large", Decode: "decode", Redirect: "redirect", Robots: "robots",
	CircuitOpen: "circuit_open", Canceled: "canceled", Unsupported: "unsupported",
}

// String returns the name used in outputs, such as "too_large".
func (k Kind) String() string {
	if k < NumKinds {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Error makes a Kind usable as a target of errors.Is.
func (k Kind) Error() string { return k.String() }

// Phase says how far the request had come when it ended.
type Phase uint8

const (
	_            Phase = iota
	PhaseQueue         // not yet given to a connection
	PhaseDNS           // its host name was being resolved
	PhaseConnect       // its connection was being made
	PhaseTLS           // its connection was in the TLS handshake
	PhaseProxy         // its connection was talking to the proxy
	PhaseWrite         // given to a connection, not written in full
	PhaseHead          // written; the response head was not complete
	PhaseBody          // the response head was complete, the body was not
)

var phaseNames = [...]string{
	PhaseQueue: "queue", PhaseDNS: "dns", PhaseConnect: "connect", PhaseTLS: "tls",
	PhaseProxy: "proxy", PhaseWrite: "write", PhaseHead: "head", PhaseBody: "body",
}

// String returns the name used in outputs, such as "head".
func (p Phase) String() string {
	if int(p) < len(phaseNames) {
		return phaseNames[p]
	}
	return fmt.Sprintf("phase(%d)", uint8(p))
}

// Error is how a request ends that got no complete response. Match it with
// errors.Is against a Kind, or against what it wraps.
type Error struct {
	Kind    Kind
	Phase   Phase
	Message string // for people: what happened, with which peer; no trailing period
	Err     error  // the cause, where there is one: a syscall.Errno, an httpcodec.Error ...
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s (%s): %s", e.Kind, e.Phase, e.Message)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is matches a Kind.
func (e *Error) Is(target error) bool {
	k, ok := target.(Kind)
	return ok && k == e.Kind
}
