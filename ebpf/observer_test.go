package ebpf

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/need"
)

// observeAs makes this test program an observer: it opens what the variable
// says, prints one Sample, and waits for the end of its input.
const observeAs = "HOTLAP_TEST_OBSERVE"

// withoutBPF makes the kernel refuse it bpf(2), as the seccomp filters of
// containers do.
const withoutBPF = "HOTLAP_TEST_WITHOUT_BPF"

// asContainer is the address that the observer connects to, from a PID namespace of
// its own with its own /proc, before it reads.
const asContainer = "HOTLAP_TEST_AS_CONTAINER"

func TestMain(m *testing.M) {
	if options := os.Getenv(observeAs); options != "" {
		if err := observe(options); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func observe(text string) error {
	var options Options
	if err := json.Unmarshal([]byte(text), &options); err != nil {
		return err
	}
	if os.Getenv(withoutBPF) != "" {
		if err := refuse(unix.SYS_BPF); err != nil {
			return err
		}
	}
	to := os.Getenv(asContainer)
	if to != "" {
		err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("proc", "/proc", "proc", 0, ""))
		if err != nil {
			return err
		}
	}
	o, err := Open(options)
	if err != nil {
		return err
	}
	defer o.Close()
	if to != "" {
		c, err := net.Dial("tcp", to)
		if err != nil {
			return err
		}
		defer c.Close()
	}
	s, err := o.Read()
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
		return err
	}
	_, err = bufio.NewReader(os.Stdin).ReadByte()
	if err.Error() != "EOF" {
		return err
	}
	return nil
}

// refuse makes a system call fail with EPERM, on all threads of the process and
// for good.
func refuse(call uint32) error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // struct seccomp_data: nr
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}

// A child is an observer in another process, which ends with its input.
type child struct {
	*exec.Cmd
	input io.Closer
}

// start runs an observer as another process and returns its first Sample.
func start(t *testing.T, options Options, as *syscall.SysProcAttr, environment ...string) (child, Sample) {
	t.Helper()
	text, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), observeAs+"="+string(text)), environment...)
	cmd.SysProcAttr = as
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait() // killed in some tests
	})
	var s Sample
	if err := json.NewDecoder(out).Decode(&s); err != nil {
		t.Fatal(err)
	}
	return child{cmd, in}, s
}

func TestPrivileges(t *testing.T) {
	need.Root(t)
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	for _, test := range []struct {
		name    string
		caps    []uintptr
		options Options
		tier    Tier
		unseen  string // in the reasons, "" where all is seen
	}{
		{"BPF and PERFMON", []uintptr{unix.CAP_BPF, unix.CAP_PERFMON}, Options{}, TierBPF, ""},
		{"deep without NET_ADMIN", []uintptr{unix.CAP_BPF, unix.CAP_PERFMON}, Options{Deep: true}, TierBPF, "CAP_NET_ADMIN"},
		{"run-time statistics without SYS_ADMIN", []uintptr{unix.CAP_BPF, unix.CAP_PERFMON}, Options{RunStats: true}, TierBPF, "CAP_SYS_ADMIN"},
		{"none", nil, Options{}, TierDiag, "CAP_BPF and CAP_PERFMON"},
		{"PERFMON alone", []uintptr{unix.CAP_PERFMON}, Options{}, TierDiag, "CAP_BPF and CAP_PERFMON"},
		{"no BPF wanted", nil, Options{Most: TierProc}, TierProc, "asked for"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, s := start(t, test.options, &syscall.SysProcAttr{Credential: nobody, AmbientCaps: test.caps})
			if s.Tier != test.tier {
				t.Errorf("tier %s, want %s: %v", s.Tier, test.tier, s.Unseen)
			}
			said := fmt.Sprint(s.Unseen)
			if !strings.Contains(said, test.unseen) || (test.unseen == "" && len(s.Unseen) > 0) {
				t.Errorf("not seen: %v, want %q", s.Unseen, test.unseen)
			}
			for counter, tier := range map[Counter]Tier{RSTsIn: TierBPF, AcceptOverflows: TierDiag} {
				_, known := s.Total.Get(counter)
				if want := tier == s.Tier || s.Tier == TierBPF; known != want {
					t.Errorf("in tier %s %s is known: %v", s.Tier, counter, known)
				}
			}
			if _, known := s.Namespace.Get("ListenOverflows"); !known {
				t.Error("the kernel's counters are not known")
			}
		})
	}
}

// programsOf are the ids of the BPF programs that a process holds.
func programsOf(t *testing.T, pid int) (ids []ebpf.ProgramID) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		info, err := os.ReadFile(name)
		if err != nil {
			continue // closed meanwhile
		}
		for line := range strings.Lines(string(info)) {
			var id ebpf.ProgramID
			if _, err := fmt.Sscanf(line, "prog_id: %d", &id); err == nil && !slices.Contains(ids, id) {
				ids = append(ids, id) // once for the program, and once for its link
			}
		}
	}
	return ids
}

// Where the kernel refuses all BPF the observer goes on without, and says so.
func TestRefusedBPF(t *testing.T) {
	need.Root(t)
	_, s := start(t, Options{Deep: true}, nil, withoutBPF+"=1")
	if s.Tier != TierDiag || !strings.Contains(fmt.Sprint(s.Unseen), "not permitted") {
		t.Errorf("tier %s, not seen: %v", s.Tier, s.Unseen)
	}
	if _, known := s.Total.Get(AcceptOverflows); !known {
		t.Error("accept queues are not observed")
	}
	v := Judge(s, ClientFigures{Requests: 1000, Loopback: true})
	if v.Valid != ValidUnverified || !strings.Contains(v.Why, "tier diag does not see") {
		t.Errorf("valid: %s (%s)", v.Valid, v.Why)
	}
}

// A process of a container is known by its number there.
func TestProcessOfAContainer(t *testing.T) {
	need.Root(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	container := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	_, s := start(t, Options{PID: 1}, container, asContainer+"="+l.Addr().String())
	if s.Tier != TierBPF || s.Total[Connects] != 1 || s.Total[ConnectsEstablished] != 1 {
		t.Errorf("tier %s, %d connects, not seen %v; it made one", s.Tier, s.Total[Connects], s.Unseen)
	}
}

func TestNothingIsLeft(t *testing.T) {
	need.Root(t)
	for name, end := range map[string]func(child) error{
		"after exit":    func(c child) error { return errors.Join(c.input.Close(), c.Wait()) },
		"after kill -9": func(c child) error { return errors.Join(c.Process.Kill(), killed(c.Wait())) },
	} {
		t.Run(name, func(t *testing.T) { testNothingIsLeft(t, end) })
	}
}

// killed is nil for the end of a process that was.
func killed(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return nil
	}
	return fmt.Errorf("it was not killed: %w", err)
}

func testNothingIsLeft(t *testing.T, end func(child) error) {
	pinned := pins(t)
	c, s := start(t, Options{Deep: true}, nil)
	if s.Tier != TierBPF || len(s.Unseen) > 0 {
		t.Fatalf("tier %s: %v", s.Tier, s.Unseen)
	}
	ids := programsOf(t, c.Process.Pid)
	if len(ids) != 8 {
		t.Fatalf("the observer holds %d programs, not 8", len(ids))
	}
	if now := pins(t); !slices.Equal(now, pinned) {
		t.Errorf("pinned are %v, before %v", now, pinned)
	}
	if err := end(c); err != nil {
		t.Fatal(err)
	}
	left := func(id ebpf.ProgramID) bool {
		p, err := ebpf.NewProgramFromID(id)
		if err == nil {
			p.Close()
		}
		return !errors.Is(err, os.ErrNotExist)
	}
	// The kernel frees programs after a grace period.
	for deadline := time.Now().Add(30 * time.Second); slices.ContainsFunc(ids, left); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("programs are still loaded")
		}
	}
}

// pins are the files of all BPF file systems.
func pins(t *testing.T) (files []string) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[2] != "bpf" {
			continue
		}
		err := filepath.WalkDir(f[1], func(path string, _ os.DirEntry, err error) error {
			files = append(files, path)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	for _, test := range []struct {
		options Options
		want    string
	}{
		{Options{Ports: []uint16{0}}, "port 0"},
		{Options{PID: -1}, "no process"},
		{Options{PID: 1 << 30}, "there is no process"},
		{Options{AllNetns: true, Netns: "/x"}, "exclude each other"},
		{Options{Most: "kprobe"}, "bpf, diag and proc"},
		{Options{Netns: "/nowhere"}, "network namespace"},
	} {
		if _, err := Open(test.options); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: error %v, want %q", test.options, err, test.want)
		}
	}
}

func TestReadAfterClose(t *testing.T) {
	o, err := Open(Options{Most: TierProc})
	if err != nil {
		t.Fatal(err)
	}
	o.Close()
	if _, err := o.Read(); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v, want %v", err, ErrClosed)
	}
}
