package tune

import (
	"net"
	"net/netip"
	"slices"
	"testing"
)

// Connections to a name go to those of its addresses where somebody listens.
func TestReachable(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	at := func(addrs ...string) (all []netip.AddrPort) {
		for _, a := range addrs {
			all = append(all, netip.AddrPortFrom(netip.MustParseAddr(a), port))
		}
		return all
	}
	for _, c := range []struct{ of, want []netip.AddrPort }{
		{at("127.0.0.1", "::1"), at("127.0.0.1")},
		{at("::1", "127.0.0.2", "192.0.2.1", "127.0.0.1"), at("192.0.2.1", "127.0.0.1")},
		{at("127.0.0.2"), at("127.0.0.2")},
		{at("127.0.0.2", "127.0.0.3"), at("127.0.0.2", "127.0.0.3")},
		{nil, nil},
	} {
		if got := Reachable(c.of); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.of, got, c.want)
		}
	}

	all, err := net.Listen("tcp", ":0") // for both families
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	port = netip.MustParseAddrPort(all.Addr().String()).Port()
	if got, want := Reachable(at("127.0.0.1", "::1")), at("127.0.0.1", "::1"); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
