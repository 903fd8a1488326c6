package ebpf

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"

	"hotlap/ebpf/internal/diag"
)

// Who listens is found by the address that a client used.
func TestServersAt(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := l.Addr().(*net.TCPAddr).AddrPort()
	for addr, want := range map[netip.AddrPort][]int{
		at: {os.Getpid()},
		netip.AddrPortFrom(netip.AddrFrom16(at.Addr().As16()), at.Port()):           {os.Getpid()}, // mapped
		netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), at.Port()):             nil,
		netip.AddrPortFrom(netip.IPv6Loopback(), at.Port()):                         nil,
	} {
		pids, err := ServersAt([]netip.AddrPort{addr})
		if err != nil || !slices.Equal(pids, want) {
			t.Errorf("%v: %v and %v, want %v", addr, pids, err, want)
		}
	}
}

func TestServes(t *testing.T) {
	for _, c := range []struct {
		at, to string
		v6only bool
		want   bool
	}{
		{"127.0.0.1:80", "127.0.0.1:80", false, true},
		{"127.0.0.1:80", "127.0.0.1:81", false, false},
		{"127.0.0.1:80", "127.0.0.2:80", false, false},
		{"0.0.0.0:80", "127.0.0.2:80", false, true},
		{"0.0.0.0:80", "[::1]:80", false, false},
		{"[::]:80", "[::1]:80", true, true},
		{"[::]:80", "127.0.0.1:80", false, true}, // dual-stack
		{"[::]:80", "127.0.0.1:80", true, false},
		{"[::ffff:127.0.0.1]:80", "127.0.0.1:80", false, true},
		{"[::1]:80", "[::1]:80", true, true},
	} {
		l := &diag.Listener{Socket: diag.Socket{Local: netip.MustParseAddrPort(c.at)}, V6Only: c.v6only}
		if got := serves(l, netip.MustParseAddrPort(c.to)); got != c.want {
			t.Errorf("a listener at %s (only IPv6: %v) serves %s: %v, want %v", c.at, c.v6only, c.to, got, c.want)
		}
	}
}
