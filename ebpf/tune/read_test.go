package tune

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// Anybody can read the machine.
func TestReadMachine(t *testing.T) {
	m := ReadMachine()
	if m.Kernel == "" || m.CPUs < 1 || m.AllowedCPUs < 1 || m.MemoryBytes < m.AvailableBytes || m.AvailableBytes <= 0 ||
		m.Files.Soft == 0 || m.Files.Hard < m.Files.Soft || m.Clocksource == "" || len(m.Unseen) > 0 {
		t.Errorf("%+v", m)
	}
	if len(m.numbers(portRange)) != 2 {
		t.Errorf("%s: %q", portRange, m.Sysctls[portRange])
	}
}

func TestReadNamespace(t *testing.T) {
	k := overVeth(t)
	if _, err := k.server.SetSysctl("net.core.somaxconn", "7"); err != nil {
		t.Fatal(err)
	}
	k.listen(netip.MustParseAddr("127.0.0.1"), 100)
	var fd int
	var m *Machine
	if err := k.server.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM, 0); err == nil {
			err = unix.Bind(fd, &unix.SockaddrInet6{Port: 5353})
		}
		m = ReadMachine()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if m.Initial || m.Sysctls["net.core.somaxconn"] != "7" || m.Qdiscs["veth0"] == "" || !slices.Equal(m.UDPPorts, []uint16{5353}) {
		t.Errorf("%+v", m)
	}
	i := slices.IndexFunc(m.Listeners, func(l Listener) bool { return l.Address == k.to })
	if len(m.Listeners) != 2 || i < 0 || m.Listeners[i].Backlog != 7 {
		t.Errorf("%+v", m.Listeners)
	}
}

func TestUDPPorts(t *testing.T) {
	table := "  sl  local_address rem_address   st tx_queue rx_queue\n" +
		" 1041: 00000000:14E9 00000000:0000 07 00000000:00000000 00:00000000 00000000  0 0 1\n" +
		" 1042: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 07 0:0\n" +
		" 1043: nonsense\n"
	if got := udpPorts(table); !slices.Equal(got, []uint16{5353, 53}) {
		t.Error(got)
	}
}

func TestProcessors(t *testing.T) {
	cpus, steal := processors("cpu  100 0 100 700 0 0 0 100 50 0\ncpu0 50 0 50 350 0 0 0 50 25 0\ncpu1 50 0 50 350 0 0 0 50 25 0\nintr 7\n")
	if cpus != 2 || steal != 0.1 {
		t.Error(cpus, steal)
	}
}

func TestCgroups(t *testing.T) {
	for _, c := range []struct {
		groups, mounts string
		want           []string
	}{
		{"0::/a/b\n", "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
			[]string{"/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup/"}},
		{"0::/a/b\n", "30 1 0:26 /a /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", // a container's mount
			[]string{"/sys/fs/cgroup/b", "/sys/fs/cgroup/"}},
		{"4:cpu,cpuacct:/x\n3:memory:/y\n0::/\n", "30 1 0:26 / /c/cpu rw - cgroup cgroup rw,cpu\n31 1 0:27 / /c/memory rw - cgroup cgroup rw,memory\n",
			[]string{"/c/cpu/x", "/c/cpu/"}},
	} {
		if got := slices.Collect(cgroups(c.groups, c.mounts)); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q", c.groups, got)
		}
	}
}

func TestKubernetes(t *testing.T) {
	root := t.TempDir()
	if kubernetes(root) {
		t.Error("an empty root has it")
	}
	if err := os.MkdirAll(filepath.Join(root, "var/lib/kubelet"), 0o755); err != nil {
		t.Fatal(err)
	}
	if !kubernetes(root) {
		t.Error("it is not found")
	}
}
