package engine

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"

	"hotlap/httpcodec"
)

// splitTarget is a URL, taken apart.
type splitTarget struct {
	key, authority, host, target string
	port                         uint16
	secure                       bool
	authorization                string // of the user in the URL
}

// splitURL is the function of that name, but for the parts of a URL that p had
// in its last request too: mostly a stream goes to few origins.
func (p *prepared) splitURL(raw string) (u splitTarget, err *Error) {
	n := len(p.key)
	if n == 0 || len(raw) <= n || raw[n] != '/' || raw[:n] != p.key {
		return splitURL(raw)
	}
	u = splitTarget{key: p.key, host: p.host, port: p.port, secure: p.secure}
	u.authority = u.key[len(u.scheme())+len("://"):]
	u.target, err = requestTarget(raw[n:])
	return u, err
}

func (u *splitTarget) scheme() string {
	if u.secure {
		return "https"
	}
	return "http"
}

// defaultPort is the scheme's (RFC 9110 section 4.2).
func (u *splitTarget) defaultPort() uint16 {
	if u.secure {
		return 443
	}
	return 80
}

// splitURL takes an absolute http or https URL apart. Only what must change is copied:
// for a URL in its usual form the parts are substrings.
func splitURL(raw string) (u splitTarget, _ *Error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return u, invalid("URL %s has no scheme: write http://...", quote(RedactURL(raw)))
	}
	switch {
	case strings.EqualFold(scheme, "http"):
	case strings.EqualFold(scheme, "https"):
		u.secure = true
	default:
		if !httpcodec.ValidToken(scheme) { // it may hold a password
			return u, invalid("URL %s has no scheme: write http://...", quote(RedactURL(raw)))
		}
		return u, invalid("URL scheme %s is not http or https", quote(scheme))
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	u.authority = rest[:end]
	if at := strings.LastIndexByte(u.authority, '@'); at >= 0 {
		var err *Error
		if u.authorization, err = userAuthorization(u.authority[:at]); err != nil {
			return u, err
		}
		u.authority = u.authority[at+1:]
	}
	if err := u.splitAuthority(); err != nil {
		return u, err
	}
	if u.authority == rest[:end] && scheme == u.scheme() {
		u.key = raw[:len(scheme)+len("://")+end]
	} else {
		u.key = u.scheme() + "://" + u.authority
	}
	var err *Error
	u.target, err = requestTarget(rest[end:])
	return u, err
}

// splitAuthority reads host and port out of u.authority, and leaves there what
// goes into the Host field: lower case, without the default port.
func (u *splitTarget) splitAuthority() *Error {
	a := u.authority
	host, port := a, ""
	if strings.HasPrefix(a, "[") {
		end := strings.IndexByte(a, ']')
		if end < 0 {
			return invalid("host %s: ] is missing", quote(a))
		}
		host, port = a[1:end], a[end+1:]
		if ip, err := netip.ParseAddr(host); err != nil || !ip.Is6() || ip.Zone() != "" {
			return invalid("host [%s] is no IPv6 address", quote(host))
		}
	} else if i := strings.IndexByte(a, ':'); i >= 0 {
		host, port = a[:i], a[i:]
	}
	u.port = u.defaultPort()
	if port != "" && port != ":" {
		n, err := strconv.ParseUint(port[1:], 10, 16)
		if err != nil || n == 0 || port[0] != ':' {
			return invalid("port is not a number from 1 to 65535") // it may be a password: not shown
		}
		u.port = uint16(n)
	}
	ascii, err := asciiHost(host)
	if err != nil {
		return err
	}
	if ascii != host {
		a = ascii + port // no brackets: what is not ASCII is no IPv6 address
	}
	u.host = strings.ToLower(ascii)
	if u.port == u.defaultPort() && port != "" {
		a = a[:len(a)-len(port)]
	}
	u.authority = strings.ToLower(a)
	return nil
}

// userAuthorization makes basic authentication (RFC 7617) of the user
// information of a URL. What is wrong with it is said without showing it.
func userAuthorization(info string) (string, *Error) {
	user, password, _ := strings.Cut(info, ":")
	user, err1 := url.PathUnescape(user)
	password, err2 := url.PathUnescape(password)
	switch {
	case err1 != nil || err2 != nil:
		return "", invalid("user or password in the URL is not percent-encoded rightly")
	case strings.Contains(user, ":") || !httpcodec.ValidFieldValue(user+password):
		return "", invalid("user or password in the URL has a character that basic authentication cannot carry")
	}
	return basicAuth(user, password), nil
}

// credentials adds those of the URL to the request's own fields, unless they
// say it themselves.
func (u *splitTarget) credentials(own []Field) []Field {
	if u.authorization == "" || named(own, "Authorization") {
		return own
	}
	return append(own[:len(own):len(own)], Field{Name: "Authorization", Value: u.authorization})
}

// RedactURL returns a URL without the user and password in it. Where it is not
// clear what is what, all that is before the last @ goes.
func RedactURL(raw string) string {
	at := strings.LastIndexByte(raw, '@')
	if at < 0 {
		return raw
	}
	scheme, rest, ok := strings.Cut(raw, "://")
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority := rest[:end]
	if i := strings.LastIndexByte(authority, '@'); ok && i >= 0 {
		return scheme + "://" + rest[i+1:]
	}
	_, port, hasPort := strings.Cut(authority, ":")
	if _, err := strconv.ParseUint(port, 10, 16); ok && authority != "" && (!hasPort || err == nil || authority[0] == '[') {
		return raw // the @ is in path or query
	}
	return "..." + raw[at:]
}

// ASCIIHost returns a host name as it is sent and asked for: in lower case, an
// international one in its xn-- form (RFC 5891).
func ASCIIHost(host string) (string, error) {
	ascii, err := asciiHost(host)
	if err != nil {
		return "", err
	}
	return strings.ToLower(ascii), nil
}

// asciiHost returns an international name in its xn-- form (RFC 5891), and
// refuses what can be no host name, so that nothing odd reaches the resolver or
// the Host field.
func asciiHost(host string) (string, *Error) {
	for i := 0; i < len(host); i++ {
		if host[i] >= 0x80 {
			ascii, err := idna.Lookup.ToASCII(host)
			if err != nil {
				return "", invalid("host %s is no international name: %v", quote(host), err)
			}
			host = ascii
			break
		}
	}
	return host, checkHost(host)
}

func checkHost(host string) *Error {
	if host == "" {
		return invalid("URL has no host")
	}
	if len(host) > 253 {
		return invalid("host name of %d bytes: at most 253", len(host))
	}
	for i := 0; i < len(host); i++ {
		switch b := host[i]; {
		case b >= 'a' && b <= 'z', b >= '0' && b <= '9', b >= 'A' && b <= 'Z', b == '-', b == '.', b == '_', b == ':':
		default:
			return invalid("host %s has a character that no host name has", quote(host))
		}
	}
	return nil
}

// requestTarget makes the request target of what follows the authority: the
// fragment goes, an empty path is "/", bytes over 0x7f are percent-encoded,
// controls and spaces are refused; all else stays byte for byte.
func requestTarget(s string) (string, *Error) {
	encode := 0
	for i := 0; i < len(s); i++ {
		b := s[i]
		if b <= ' ' || b == 0x7f {
			return "", invalid("URL has the character %q at offset %d of its path: percent-encode it", b, i)
		}
		if b == '#' {
			s = s[:i]
			break
		}
		if b >= 0x80 {
			encode++
		}
	}
	if encode == 0 {
		if s != "" && s[0] == '/' {
			return s, nil
		}
		return "/" + s, nil
	}
	return percentEncode(s, encode), nil
}

func percentEncode(s string, extra int) string {
	const hex = "0123456789ABCDEF"
	t := make([]byte, 0, len(s)+2*extra+1)
	if s[0] != '/' {
		t = append(t, '/')
	}
	for i := 0; i < len(s); i++ {
		if b := s[i]; b >= 0x80 {
			t = append(t, '%', hex[b>>4], hex[b&15])
		} else {
			t = append(t, b)
		}
	}
	return string(t)
}

// quote shows a piece of input, shortened, with nothing in it that could
// disturb a terminal.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + "..."
	}
	return strconv.QuoteToASCII(s)
}
