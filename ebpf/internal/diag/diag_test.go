package diag

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/netlink"
)

// golden gives what Linux 6.18 wrote of a listener on [::]:8080 with one
// connection waiting, or of that connection, whose client is of IPv4.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name + ".hex")
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseListener(t *testing.T) {
	var s Socket
	v6only, err := parse(&s, golden(t, "listener"))
	want := Socket{
		Cookie: 4653, Local: netip.MustParseAddrPort("[::]:8080"), Peer: netip.MustParseAddrPort("[::]:0"),
		Inode: 14442978, Cgroup: 1, State: Listen, Receive: 1, Send: 4096,
		Memory: Memory{Known: true, ReceiveLimit: 131072, SendLimit: 16384},
	}
	if err != nil || v6only || s != want {
		t.Errorf("v6only %v, %v\n got %+v\nwant %+v", v6only, err, s, want)
	}
}

func TestParseConnection(t *testing.T) {
	var s Socket
	_, err := parse(&s, golden(t, "connection"))
	if err != nil || s.State != Established || s.Peer.Addr().Unmap() != netip.MustParseAddr("127.0.0.1") ||
		s.Peer.Port() != 41034 || s.Inode != 0 || s.InfoBytes != 280 ||
		s.Info.Snd_mss != 32768 || s.Info.Min_rtt != 24 || s.Info.Segs_in != 2 || s.Info.Rcv_wnd != 65483 {
		t.Errorf("%v: %+v", err, s)
	}
}

// An older kernel fills in less of tcp_info, and of the memory says nothing
// before it has all of it.
func TestParseOlderKernel(t *testing.T) {
	b := golden(t, "listener")[:messageBytes]
	b = netlink.AppendAttribute(b, diagInfo, []byte{1, 2})
	b = netlink.AppendAttribute(b, diagSKMemInfo, make([]byte, 4*memDrops))
	var s Socket
	if _, err := parse(&s, b); err != nil || s.InfoBytes != 2 || s.Info.Ca_state != 2 || s.Memory.Known {
		t.Errorf("%v: %+v", err, s)
	}
}

func TestParseShort(t *testing.T) {
	whole := golden(t, "listener")
	for n := range messageBytes {
		var s Socket
		if _, err := parse(&s, whole[:n]); !errors.Is(err, netlink.ErrMalformed) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

func TestRequest(t *testing.T) {
	var b [requestBytes]byte
	request{family: unix.AF_INET6, info: true, states: 1 << Established, localPort: 8080, peerPort: 0x1234}.put(&b)
	want := "0a064200" + "02000000" + "1f901234" + strings.Repeat("00", 36) + strings.Repeat("ff", 8)
	if got := hex.EncodeToString(b[:]); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(golden(f, "listener"))
	f.Add(golden(f, "connection"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Socket
		if _, err := parse(&s, b); err == nil && (!s.Local.IsValid() || !s.Peer.IsValid()) {
			t.Errorf("%+v", s)
		}
	})
}
