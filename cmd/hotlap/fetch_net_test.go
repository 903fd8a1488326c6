package main

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"hotlap/engine"
)

func addresses(ss ...string) (as []netip.Addr) {
	for _, s := range ss {
		as = append(as, netip.MustParseAddr(s))
	}
	return as
}

func TestAddResolve(t *testing.T) {
	for s, want := range map[string]map[engine.HostPort][]netip.Addr{
		"h.test:80:127.0.0.1":                {{Host: "h.test", Port: 80}: addresses("127.0.0.1")},
		"H.Test:65535:127.0.0.1,127.0.0.2":   {{Host: "h.test", Port: 65535}: addresses("127.0.0.1", "127.0.0.2")},
		"h.test:80:::1":                      {{Host: "h.test", Port: 80}: addresses("::1")},
		"h.test:80:[::1],127.0.0.1,[fe80::]": {{Host: "h.test", Port: 80}: addresses("::1", "127.0.0.1", "fe80::")},
		"h.test:80:::ffff:127.0.0.1":         {{Host: "h.test", Port: 80}: addresses("127.0.0.1")},
		"[::1]:80:127.0.0.1":                 {{Host: "::1", Port: 80}: addresses("127.0.0.1")},
		"127.0.0.1:80:::1":                   {{Host: "127.0.0.1", Port: 80}: addresses("::1")},
		"":                                   nil,
		"h.test":                             nil,
		"h.test:80":                          nil,
		"h.test:80:":                         nil,
		"h.test:80:name":                     nil,
		"h.test:80:127.0.0.1,":               nil,
		"h.test:80:127.0.0.1:81":             nil,
		"h.test:0:127.0.0.1":                 nil,
		"h.test:65536:127.0.0.1":             nil,
		"h.test:http:127.0.0.1":              nil,
		":80:127.0.0.1":                      nil,
		"[::1:80:127.0.0.1":                  nil,
		"[::1]80:127.0.0.1":                  nil,
	} {
		got := make(map[engine.HostPort][]netip.Addr)
		err := addResolve(got, s)
		if (err == nil) != (want != nil) || !maps.EqualFunc(got, want, slices.Equal) {
			t.Errorf("%q: %v, %v; want %v", s, got, err, want)
		}
	}
}

// What is given later adds to what was given, or replaces it.
func TestAddResolveTwice(t *testing.T) {
	got := make(map[engine.HostPort][]netip.Addr)
	for _, s := range []string{"a:80:127.0.0.1", "b:80:127.0.0.2", "a:80:127.0.0.3"} {
		if err := addResolve(got, s); err != nil {
			t.Fatal(err)
		}
	}
	want := map[engine.HostPort][]netip.Addr{{Host: "a", Port: 80}: addresses("127.0.0.3"), {Host: "b", Port: 80}: addresses("127.0.0.2")}
	if !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestAddConnectTo(t *testing.T) {
	for s, want := range map[string]*engine.ConnectRule{
		"a:80:b:81":             {Host: "a", Port: 80, ToHost: "b", ToPort: 81},
		":80:b:81":              {Port: 80, ToHost: "b", ToPort: 81},
		"a::b:81":               {Host: "a", ToHost: "b", ToPort: 81},
		"::b:81":                {ToHost: "b", ToPort: 81},
		"::b:":                  {ToHost: "b"},
		":::81":                 {ToPort: 81},
		":::":                   {},
		"a:80::":                {Host: "a", Port: 80},
		"[::1]:80:b:81":         {Host: "::1", Port: 80, ToHost: "b", ToPort: 81},
		"[::1]::[::2]:":         {Host: "::1", ToHost: "::2"},
		"a:80:[2001:db8::1]:81": {Host: "a", Port: 80, ToHost: "2001:db8::1", ToPort: 81},
		"::[::1]:81":            {ToHost: "::1", ToPort: 81},
		"::127.0.0.1:81":        {ToHost: "127.0.0.1", ToPort: 81},
		"":                      nil,
		"a":                     nil,
		"a:80":                  nil,
		"a:80:b":                nil,
		"a:80:b:c":              nil,
		"a:b:c:81":              nil,
		"a:0:b:81":              nil,
		"a:80:b:65536":          nil,
		"a:80:b:81:82":          nil,
		"a:80:[::1:81":          nil,
		"a:80:[::1]81":          nil,
	} {
		var got []engine.ConnectRule
		err := addConnectTo(&got, s)
		if (err == nil) != (want != nil) || want == nil && got != nil || want != nil && (len(got) != 1 || got[0] != *want) {
			t.Errorf("%q: %v, %v; want %v", s, got, err, want)
		}
	}
}

func TestAddServer(t *testing.T) {
	for s, want := range map[string]string{
		"127.0.0.1":                "[127.0.0.1:53]",
		"127.0.0.1:5353":           "[127.0.0.1:5353]",
		"127.0.0.1,127.0.0.2:54":   "[127.0.0.1:53 127.0.0.2:54]",
		"::1":                      "[[::1]:53]",
		"[::1]":                    "[[::1]:53]",
		"[::1]:54":                 "[[::1]:54]",
		"":                         "",
		"localhost":                "",
		"127.0.0.1:0":              "",
		"127.0.0.1:65536":          "",
		"127.0.0.1:":               "",
		"127.0.0.1,":               "",
		"127.0.0.1 127.0.0.2":      "",
		"[::1]54":                  "",
		"https://1.1.1.1/dns-quer": "",
	} {
		var o netOptions
		err := o.addServer(s)
		if (err == nil) != (want != "") || err == nil && fmt.Sprint(o.servers) != want {
			t.Errorf("%q: %v, %v; want %q", s, o.servers, err, want)
		}
	}
}

func TestAddSource(t *testing.T) {
	for s, want := range map[string]string{
		"127.0.0.2":              "[127.0.0.2/32]",
		"127.0.0.2,127.0.0.3":    "[127.0.0.2/32 127.0.0.3/32]",
		"127.0.0.8/29,::1":       "[127.0.0.8/29 ::1/128]",
		"2001:db8::/64":          "[2001:db8::/64]",
		"::ffff:127.0.0.2":       "[127.0.0.2/32]",
		"0.0.0.0/0":              "[0.0.0.0/0]",
		"":                       "",
		"localhost":              "",
		"127.0.0.8/33":           "",
		"127.0.0.8/":             "",
		"127.0.0.2,":             "",
		"127.0.0.2:80":           "",
		"[::1]":                  "",
		"fe80::1%lo":             "",
		"127.0.0.2-127.0.0.9":    "",
		"127.0.0.2, 127.0.0.3":   "",
		"127.0.0.2,127.0.0.3/-1": "",
	} {
		var got []netip.Prefix
		err := addSource(&got, s)
		if (err == nil) != (want != "") || err == nil && fmt.Sprint(got) != want {
			t.Errorf("%q: %v, %v; want %q", s, got, err, want)
		}
	}
}

// proxyOf is the proxy that a command line chooses for a URL, "" for none.
func proxyOf(t *testing.T, target string, args ...string) (string, error) {
	t.Helper()
	var o fetchOptions
	f := fetchFlags(new(stdio), &o)
	if err := parseFlags(f, args); err != nil {
		return "", err
	}
	if err := o.net.apply(f, &o.engine); err != nil {
		return "", err
	}
	if o.engine.Proxy == nil {
		return "", nil
	}
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p, err := o.engine.Proxy(u)
	if err != nil || p == nil {
		return "", err
	}
	return p.String(), nil
}

var proxyVariables = []string{
	"http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUEST_METHOD",
}

func TestChooseProxy(t *testing.T) {
	const plain, secure = "http://origin.test/", "https://origin.test/"
	for _, x := range []struct {
		env    string // separated by blanks
		target string
		args   []string
		want   string
	}{
		{"", plain, nil, ""},
		{"", plain, []string{"--proxy", "http://p:81"}, "http://p:81"},
		{"", secure, []string{"--proxy", "p:81"}, "http://p:81"},
		{"", secure, []string{"--proxy", "me:pw@p:81"}, "http://me:pw@p:81"},
		{"", plain, []string{"--proxy", "socks5://p"}, "socks5://p"},
		{"", plain, []string{"--proxy", "socks5h://p"}, "socks5h://p"},
		{"", "http://127.0.0.1/", []string{"--proxy", "http://p:81"}, "http://p:81"},
		{"", "http://localhost/", []string{"--proxy", "http://p:81"}, "http://p:81"},

		{"http_proxy=http://p:81", plain, nil, "http://p:81"},
		{"http_proxy=p:81", plain, nil, "http://p:81"},
		{"http_proxy=socks5://p:81", plain, nil, "socks5://p:81"},
		{"http_proxy=http://me:pw@p:81", plain, nil, "http://me:pw@p:81"},
		{"http_proxy=http://p:81", secure, nil, ""},
		{"http_proxy=http://p:81", "http://localhost:80/", nil, ""},
		{"http_proxy=http://p:81", "http://127.0.0.1/", nil, ""},
		{"http_proxy=http://p:81", "http://127.9.9.9:1/", nil, ""},
		{"http_proxy=http://p:81", "http://[::1]/", nil, ""},
		{"http_proxy=http://p:81 REQUEST_METHOD=GET", plain, nil, "http://p:81"},
		{"https_proxy=http://p:81", secure, nil, "http://p:81"},
		{"https_proxy=http://p:81", plain, nil, ""},
		{"HTTPS_PROXY=http://p:81", secure, nil, "http://p:81"},
		{"HTTP_PROXY=http://p:81", plain, nil, ""},
		{"HTTP_PROXY=http://p:81", secure, nil, ""},
		{"all_proxy=http://p:81", plain, nil, "http://p:81"},
		{"ALL_PROXY=http://p:81", secure, nil, "http://p:81"},
		{"all_proxy=http://p:81 http_proxy=http://q:82", plain, nil, "http://q:82"},
		{"all_proxy=http://p:81 http_proxy=http://q:82", secure, nil, "http://p:81"},

		{"http_proxy=http://p:81 no_proxy=origin.test", plain, nil, ""},
		{"http_proxy=http://p:81 NO_PROXY=.test", plain, nil, ""},
		{"http_proxy=http://p:81 no_proxy=*", plain, nil, ""},
		{"http_proxy=http://p:81 no_proxy=10.0.0.0/8", "http://10.1.2.3/", nil, ""},
		{"http_proxy=http://p:81 no_proxy=origin.test:81", plain, nil, "http://p:81"},
		{"http_proxy=http://p:81 no_proxy=other.test", plain, nil, "http://p:81"},
		{"no_proxy=other.test", plain, nil, ""},

		{"http_proxy=http://p:81", plain, []string{"--proxy", ""}, ""},
		{"http_proxy=http://p:81", plain, []string{"--proxy", "http://q:82"}, "http://q:82"},
		{"no_proxy=*", plain, []string{"--proxy", "http://q:82"}, "http://q:82"},
		{"http_proxy=http://p:81", plain, []string{"--unix-socket", "/s"}, ""},
		{"http_proxy=http://p:81", plain, []string{"--unix-socket", "/s", "--proxy", ""}, ""},
	} {
		t.Run(strings.TrimSpace(x.env+" "+strings.Join(x.args, " ")+" "+x.target), func(t *testing.T) {
			for _, name := range proxyVariables {
				t.Setenv(name, "")
			}
			for _, v := range strings.Fields(x.env) {
				name, value, _ := strings.Cut(v, "=")
				t.Setenv(name, value)
			}
			if got, err := proxyOf(t, x.target, x.args...); err != nil || got != x.want {
				t.Errorf("got %q, %v; want %q", got, err, x.want)
			}
		})
	}
}

// What is wrong with a proxy is said without the password.
func TestChooseProxyRefuses(t *testing.T) {
	for _, proxy := range []string{
		"https://me:secret@p", "ftp://me:secret@p", "http://me:secret@", "me:secret@", "http://me:secret@p:0", "http://me:secret@p:x",
		"http://me:secret%zz@p", "http://me:sec ret@p", "http://me:sec/ret@p", "http://me:secret@p\x01", "://me:secret@p", "http://me:secret@[::1",
	} {
		_, err := proxyOf(t, "http://origin.test/", "--proxy", proxy)
		if err == nil || strings.Contains(err.Error(), "sec") || strings.Contains(err.Error(), "ret") {
			t.Errorf("%q: %v; want an error, without the password", proxy, err)
		}
	}
}

// A proxy in the environment that makes no sense is not passed over in silence:
// who asked for a proxy does not want to go without one.
func TestEnvironmentProxyRefuses(t *testing.T) {
	for _, proxy := range []string{"http://me:secret%zz@p", "http://me:secret@p:99999", "https://me:secret@p"} {
		for _, name := range proxyVariables {
			t.Setenv(name, "")
		}
		t.Setenv("http_proxy", proxy)
		got, err := proxyOf(t, "http://origin.test/")
		if err == nil && got == "" {
			t.Errorf("http_proxy=%s: no proxy, and no error", proxy)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("http_proxy=%s: %v shows the password", proxy, err)
		}
	}
}
