package ebpf

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/need"
)

// observeAs makes this test program an observer: it opens what the variable
// says, prints one Sample, and waits for the end of its input.
const observeAs = "HOTLAP_TEST_OBSERVE"

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
	o, err := Open(options)
	if err != nil {
		return err
	}
	defer o.Close()
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

// start runs an observer as another process and returns its first Sample.
func start(t *testing.T, options Options, as *syscall.SysProcAttr) (*exec.Cmd, Sample) {
	t.Helper()
	text, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), observeAs+"="+string(text))
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
	return cmd, s
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

// BPF programs are loaded under these names.
var programNames = []string{"set_state", "kfree_skb", "retransmit_skb", "receive_reset", "port_search", "data_ready", "destroy_sock"}

// loaded are the ids of such programs, from all observers of the machine.
func loaded(t *testing.T) (ids []ebpf.ProgramID) {
	t.Helper()
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return ids
		}
		if err != nil {
			t.Fatal(err)
		}
		id = next
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // gone meanwhile
		}
		info, err := p.Info()
		p.Close()
		if err == nil && slices.Contains(programNames, info.Name) {
			ids = append(ids, id)
		}
	}
}

func TestNothingIsLeftAfterKill(t *testing.T) {
	need.Root(t)
	before := loaded(t)
	cmd, s := start(t, Options{Deep: true}, nil)
	if s.Tier != TierBPF {
		t.Fatalf("tier %s: %v", s.Tier, s.Unseen)
	}
	added := func() (n int) {
		for _, id := range loaded(t) {
			if !slices.Contains(before, id) {
				n++
			}
		}
		return n
	}
	if n := added(); n < len(programNames) {
		t.Fatalf("the observer runs %d of %d programs", n, len(programNames))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	// The kernel frees programs after a grace period.
	for deadline := time.Now().Add(10 * time.Second); added() > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d programs are still loaded", added())
		}
	}
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	for _, test := range []struct {
		options Options
		want    string
	}{
		{Options{Ports: make([]uint16, 17)}, "at most 16"},
		{Options{Ports: []uint16{0}}, "port 0"},
		{Options{PID: -1}, "no process"},
		{Options{PID: 1 << 30}, "no such file"},
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
