package engine

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"

	socks "golang.org/x/net/proxy"

	"hotlap/httpcodec"
)

// A proxy is one that requests go through: an http one, which forwards http
// requests in absolute form (RFC 9112 section 3.2.2) and opens tunnels for
// https (RFC 9110 section 9.3.6), or a SOCKS5 one (RFC 1928), which opens
// tunnels for all and resolves the names.
type proxy struct {
	socks bool
	at    HostPort
	user  *url.Userinfo
	basic string // Proxy-Authorization, or ""
}

// String names the proxy, without credentials.
func (p *proxy) String() string {
	if p.socks {
		return "socks5://" + p.at.String()
	}
	return "http://" + p.at.String()
}

// forwards says whether requests are sent to the proxy itself.
func (p *proxy) forwards(secure bool) bool { return p != nil && !p.socks && !secure }

// tunnels says whether the proxy has to open a tunnel first.
func (p *proxy) tunnels(secure bool) bool { return p != nil && (p.socks || secure) }

// proxies knows every proxy once, so that they can be compared.
type proxies struct {
	choose func(*url.URL) (*url.URL, error)
	mu     sync.Mutex
	known  map[string]*proxy
}

// maxProxies bounds how many are known: whoever rotates over more has new
// connections for each request anyway.
const maxProxies = 1 << 16

// of returns the proxy for an origin; nil is none.
func (ps *proxies) of(u *splitTarget) (*proxy, *Error) {
	chosen, err := ps.choose(&url.URL{Scheme: u.scheme(), Host: u.authority, Path: "/"})
	if err != nil {
		return nil, &Error{Kind: Proxy, Phase: PhaseQueue, Message: "choose a proxy: " + err.Error(), Err: err}
	}
	if chosen == nil {
		return nil, nil
	}
	key := chosen.String()
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.known[key]
	if p == nil {
		if p, err = newProxy(chosen); err != nil {
			return nil, &Error{Kind: Proxy, Phase: PhaseQueue, Message: err.Error(), Err: err}
		}
		if len(ps.known) >= maxProxies {
			clear(ps.known)
		}
		ps.known[key] = p
	}
	return p, nil
}

// Ports of a proxy whose URL has none; SOCKS's is registered (RFC 1928).
const (
	defaultProxyPort = 8080
	defaultSOCKSPort = 1080
)

// CheckProxy says what is wrong with the URL of a proxy.
func CheckProxy(u *url.URL) error {
	_, err := newProxy(u)
	return err
}

func newProxy(u *url.URL) (*proxy, error) {
	p := &proxy{user: u.User, at: HostPort{Host: strings.ToLower(u.Hostname())}}
	switch u.Scheme {
	case "http":
		p.at.Port = defaultProxyPort
	case "socks5", "socks5h":
		p.socks, p.at.Port = true, defaultSOCKSPort
	default:
		return nil, fmt.Errorf("proxy scheme %q: want http, socks5 or socks5h", u.Scheme)
	}
	if p.at.Host == "" {
		return nil, errors.New("the proxy's URL has no host")
	}
	if u.Port() != "" {
		n, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("proxy port %q is not 1 to 65535", u.Port())
		}
		p.at.Port = uint16(n)
	}
	if u.User != nil && !p.socks {
		pass, _ := u.User.Password()
		p.basic = basicAuth(u.User.Username(), pass)
	}
	return p, nil
}

// BasicAuth makes the value of an Authorization field of "user:password".
func BasicAuth(userPassword string) (string, error) {
	user, password, _ := strings.Cut(userPassword, ":")
	if !httpcodec.ValidFieldValue(userPassword) {
		return "", errors.New("user or password has a control character")
	}
	return basicAuth(user, password), nil
}

// basicAuth is the value of an Authorization field (RFC 7617).
func basicAuth(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// tunnel has the proxy connect to a host, over a connection to the proxy.
func (p *proxy) tunnel(c net.Conn, to HostPort) error {
	if p.socks {
		return p.socksTunnel(c, to)
	}
	return p.connectTunnel(c, to)
}

func (p *proxy) socksTunnel(c net.Conn, to HostPort) error {
	var auth *socks.Auth
	if p.user != nil {
		password, _ := p.user.Password()
		auth = &socks.Auth{User: p.user.Username(), Password: password}
	}
	d, err := socks.SOCKS5("tcp", p.at.String(), auth, already{c})
	if err == nil {
		_, err = d.Dial("tcp", to.String())
	}
	var op *net.OpError
	if errors.As(err, &op) { // its addresses are ours, which say nothing
		err = op.Err
	}
	return err
}

// already is a dialer for a connection that is there.
type already struct{ c net.Conn }

func (a already) Dial(string, string) (net.Conn, error) { return a.c, nil }

var errNoTunnel = errors.New("the answer to CONNECT is not a final response head alone")

func (p *proxy) connectTunnel(c net.Conn, to HostPort) error {
	var fields []Field
	if p.basic != "" {
		fields = append(fields, Field{Name: "Proxy-Authorization", Value: p.basic})
	}
	b, err := httpcodec.AppendRequest(nil, "CONNECT", to.String(), to.String(), fields, -1)
	if err != nil {
		return err
	}
	if _, err := c.Write(b); err != nil {
		return err
	}
	var h httpcodec.Head
	interim := 0
	for b = b[:0]; ; {
		switch n, err := h.ParseResponse(b, nil); {
		case err != nil:
			return fmt.Errorf("its answer is no HTTP response: %w", err)
		case n == 0:
			var piece [1024]byte
			n, err := c.Read(piece[:])
			b = append(b, piece[:n]...)
			if err != nil {
				return err
			}
		case h.Status < 200 && h.Status != 101:
			if b, interim = b[n:], interim+1; interim > MaxInterim {
				return errInterim
			}
		case h.Status >= 300:
			return fmt.Errorf("it refused the tunnel: %s", statusText(h.Status))
		case n != len(b) || h.Status < 200:
			return errNoTunnel
		default:
			return nil
		}
	}
}

func statusText(status int) string {
	switch status {
	case 403:
		return "403 Forbidden"
	case 407:
		return "407 Proxy Authentication Required"
	case 502:
		return "502 Bad Gateway"
	case 503:
		return "503 Service Unavailable"
	case 504:
		return "504 Gateway Timeout"
	}
	return "status " + strconv.Itoa(status)
}

// fault says what became of a tunnel.
func (p *proxy) fault(err error) cause {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it closed the connection")
	}
	return cause{kind: Proxy, err: err, message: fmt.Sprintf("proxy %s: %v", p, err)}
}
