package main

import (
	"net/netip"
	"net/url"
	"testing"

	"hotlap/engine"
)

// Where connections may go to is known without DNS, or not at all.
func TestDestinations(t *testing.T) {
	hosts := parseHosts("127.0.0.1 localhost LocalHost.example # a.example\n" +
		"# 192.0.2.9 b.example\n\n192.0.2.1\tone.example\n192.0.2.1 two.example\n2001:db8::2 two.example\nnonsense three.example\n")
	proxied := func(*url.URL) (*url.URL, error) { return url.Parse("http://p:3128") }
	resolved := map[engine.HostPort][]netip.Addr{{Host: "one.example", Port: 80}: {netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("192.0.2.4")}}
	for _, c := range []struct {
		what            string
		config          engine.Config
		urls            []string
		origins, places int
	}{
		{what: "no URL"},
		{what: "addresses", urls: []string{"http://192.0.2.1/a", "http://192.0.2.1:80/b", "https://192.0.2.1/", "http://[2001:db8::1]:81/"}, origins: 3, places: 3},
		{what: "a name", urls: []string{"http://localhost:8080/a", "http://localhost:8080/b"}, origins: 1, places: 1},
		{what: "in any case", urls: []string{"http://LOCALHOST.example/"}, origins: 1, places: 1},
		{what: "names of one address", urls: []string{"http://localhost:80/", "http://127.0.0.1/"}, origins: 2, places: 1},
		{what: "a name of two addresses", urls: []string{"http://two.example/"}, origins: 1, places: 2},
		{what: "one of them", config: engine.Config{IPVersion: 6}, urls: []string{"http://two.example/"}, origins: 1, places: 1},
		{what: "none of them", config: engine.Config{IPVersion: 6}, urls: []string{"http://one.example/"}},
		{what: "a name given an address", config: engine.Config{Resolve: resolved}, urls: []string{"http://one.example/", "http://one.example:81/"}, origins: 2, places: 3},
		{what: "a name that only DNS knows", urls: []string{"http://127.0.0.1/", "http://a.example/"}},
		{what: "a comment", urls: []string{"http://b.example/"}},
		{what: "a line without an address", urls: []string{"http://three.example/"}},
		{what: "another place", config: engine.Config{ConnectTo: []engine.ConnectRule{{ToHost: "b"}}}, urls: []string{"http://127.0.0.1/"}},
		{what: "a proxy", config: engine.Config{Proxy: proxied}, urls: []string{"http://127.0.0.1/"}},
		{what: "a port that is yet to be filled in", urls: []string{"http://127.0.0.1:{rand:1:9}/"}},
	} {
		origins, places := destinations(c.urls, &c.config, func() map[string][]netip.Addr { return hosts })
		if origins != c.origins || places != c.places {
			t.Errorf("%s: %d origins at %d addresses, want %d at %d", c.what, origins, places, c.origins, c.places)
		}
	}
	if got := parseHosts("")["localhost"]; len(got) != 2 || !got[0].IsLoopback() || !got[1].IsLoopback() {
		t.Errorf("localhost without a file: %v", got)
	}
}
