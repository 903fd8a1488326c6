package diag

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/need"
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

// serve listens and connects once, and does not accept.
func serve(t *testing.T, network, address, dial string) (*net.TCPListener, *net.TCPConn) {
	t.Helper()
	var config net.ListenConfig
	config.SetMultipathTCP(false) // sock_diag reports the TCP socket below it, with a cookie of its own
	l, err := config.Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	c, err := net.Dial("tcp", net.JoinHostPort(dial, fmt.Sprint(l.Addr().(*net.TCPAddr).Port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return l.(*net.TCPListener), c.(*net.TCPConn)
}

func open(t *testing.T) *Client {
	t.Helper()
	c, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// cookie asks the socket itself.
func cookie(t *testing.T, c syscall.Conn) uint64 {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var cookie uint64
	raw.Control(func(fd uintptr) { cookie, err = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_COOKIE) })
	if err != nil {
		t.Fatal(err)
	}
	return cookie
}

func TestListeners(t *testing.T) {
	for _, c := range []struct {
		network, address, dial string
		v6only                 bool
	}{
		{"tcp4", "127.0.0.1:0", "127.0.0.1", false},
		{"tcp6", "[::1]:0", "::1", true},
		{"tcp", "[::]:0", "127.0.0.1", false},
	} {
		t.Run(c.network+c.address, func(t *testing.T) {
			l, _ := serve(t, c.network, c.address, c.dial)
			local := l.Addr().(*net.TCPAddr)
			all, err := open(t).Listeners(nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, got := range all {
				if got.Cookie != cookie(t, l) {
					continue
				}
				if int(got.Local.Port()) != local.Port || got.V6Only != c.v6only || got.Queue != 1 || got.Limit == 0 ||
					got.State != Listen || !got.Memory.Known || got.Memory.Drops != 0 || int(got.UID) != os.Getuid() || got.Inode == 0 {
					t.Errorf("%+v", got)
				}
				return
			}
			t.Errorf("not among the %d listeners", len(all))
		})
	}
}

// The client's and the server's end, each by its port, and no other.
func TestSockets(t *testing.T) {
	l, c := serve(t, "tcp4", "127.0.0.1:0", "127.0.0.1")
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	client := open(t)
	localhost := netip.MustParseAddr("127.0.0.1")
	server := func() []Socket {
		s, err := client.Sockets(nil, Filter{LocalPort: port, Peer: netip.MustParseAddr("::ffff:127.0.0.1")})
		if err != nil || len(s) != 1 {
			t.Fatalf("%+v, %v", s, err)
		}
		return s
	}
	got := server()
	for start := time.Now(); got[0].Receive != 5 && time.Since(start) < 10*time.Second; {
		got = server()
	}
	if s := got[0]; s.Receive != 5 || s.Memory.ReceiveBytes == 0 || s.Info.Data_segs_in != 1 || s.State != Established {
		t.Errorf("server: %+v", s)
	}
	got, err := client.Sockets(got[:0], Filter{States: []State{Established}, PeerPort: port, Peer: localhost})
	if err != nil || len(got) != 1 || got[0].Cookie != cookie(t, c) || got[0].Info.Data_segs_out != 1 || got[0].Info.Min_rtt == 0 {
		t.Errorf("client: %+v, %v", got, err)
	}
	for name, f := range map[string]Filter{
		"another peer":  {PeerPort: port, Peer: netip.MustParseAddr("127.0.0.2")},
		"another state": {PeerPort: port, States: []State{SynSent}},
		"a listener":    {LocalPort: port, PeerPort: port},
	} {
		if got, err := client.Sockets(nil, f); err != nil || len(got) != 0 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// More sockets than one answer holds, each exactly once.
func TestManySockets(t *testing.T) {
	const n = 300
	l, _ := serve(t, "tcp4", "127.0.0.1:0", "127.0.0.1")
	want := map[uint64]bool{}
	for range n {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		want[cookie(t, c.(*net.TCPConn))] = true
	}
	got, err := open(t).Sockets(nil, Filter{PeerPort: uint16(l.Addr().(*net.TCPAddr).Port)})
	if err != nil || len(got) != n+1 {
		t.Fatalf("%d sockets, %v", len(got), err)
	}
	for _, s := range got {
		delete(want, s.Cookie)
	}
	if len(want) != 0 {
		t.Errorf("%d sockets are missing", len(want))
	}
}

// `ss` sees the same listeners with the same queues and limits.
func TestAgreesWithSS(t *testing.T) {
	ss := need.Tool(t, "ss")
	l, _ := serve(t, "tcp4", "127.0.0.1:0", "127.0.0.1")
	port := l.Addr().(*net.TCPAddr).Port
	out, err := exec.Command(ss, "-Hltn", fmt.Sprintf("sport = :%d", port)).Output()
	if err != nil {
		t.Fatal(err)
	}
	all, err := open(t).Listeners(nil)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, s := range all {
		if int(s.Local.Port()) == port {
			lines = append(lines, fmt.Sprintf("LISTEN %d %d %s 0.0.0.0:*", s.Queue, s.Limit, s.Local))
		}
	}
	if want := strings.Join(strings.Fields(string(out)), " "); strings.Join(lines, "\n") != want {
		t.Errorf("got %q, ss says %q", lines, want)
	}
}

const unprivilegedVar = "HOTLAP_TEST_DIAG_UNPRIVILEGED"

// Without any privilege it is the same.
func TestUnprivileged(t *testing.T) {
	if port := os.Getenv(unprivilegedVar); port != "" {
		if os.Getuid() == 0 {
			t.Fatal("still root")
		}
		all, err := open(t).Listeners(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			if fmt.Sprint(s.Local.Port()) == port && s.Queue == 1 && s.Memory.Known && s.UID == 0 {
				return
			}
		}
		t.Fatalf("root's listener is not there: %+v", all)
	}
	need.Root(t)
	l, _ := serve(t, "tcp4", "127.0.0.1:0", "127.0.0.1")
	// The test program lies in a directory that only root may enter: it is run
	// through a descriptor that is open already.
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cmd := exec.Command("/proc/self/fd/3", "-test.run=^TestUnprivileged$", "-test.v")
	cmd.ExtraFiles = []*os.File{self}
	cmd.Dir = "/"
	cmd.Env = []string{fmt.Sprintf("%s=%d", unprivilegedVar, l.Addr().(*net.TCPAddr).Port), "PATH=/usr/bin"}
	const nobody = 65534
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestUnprivileged") {
		t.Errorf("%v\n%s", err, out)
	}
}

func BenchmarkListeners(b *testing.B) {
	c, err := Open()
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	var all []Listener
	b.ReportAllocs()
	for b.Loop() {
		if all, err = c.Listeners(all[:0]); err != nil {
			b.Fatal(err)
		}
	}
}
