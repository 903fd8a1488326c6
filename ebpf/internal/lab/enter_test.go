package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/need"
	"hotlap/ebpf/internal/procfs"
)

const (
	userNamespaceVar = "HOTLAP_TEST_LAB_USER_NAMESPACE"
	firstThreadVar   = "HOTLAP_TEST_LAB_FIRST_THREAD"
)

func init() {
	if os.Getenv(firstThreadVar) != "" {
		runtime.LockOSThread() // TestMain is then on the process's first thread
	}
}

func TestMain(m *testing.M) {
	if os.Getenv(firstThreadVar) != "" {
		if err := onFirstThread(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// onFirstThread lets a namespace begin on the process's first thread, which would
// stay in it for good, and all that looks at /proc/self would see it.
func onFirstThread() error {
	if unix.Gettid() != unix.Getpid() {
		return errors.New("this is not the first thread")
	}
	before, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return err
	}
	ns := newNamespace()
	made := make(chan error)
	result := make(chan error, 1)
	go func() {
		if err := <-made; err != nil {
			result <- err
			return
		}
		var there string
		err := ns.Do(func() (err error) {
			there, err = os.Readlink("/proc/thread-self/ns/net")
			return err
		})
		ns.Close()
		if err == nil && there == before {
			err = errors.New("work is not done in a new namespace")
		}
		result <- err
	}()
	ns.thread(made)
	after, err := os.Readlink("/proc/self/ns/net")
	if err == nil && after != before {
		err = errors.New("the first thread has moved to the namespace")
	}
	return errors.Join(err, <-result)
}

func TestFirstThread(t *testing.T) {
	need.Root(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), firstThreadVar+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// When a namespace is closed its thread has ended.
func TestThreadEnds(t *testing.T) {
	need.Root(t)
	ns, err := New()
	if err != nil {
		t.Fatal(err)
	}
	var task string
	if err := ns.Do(func() error {
		task = fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Readlink(task); err != nil {
		t.Fatal(err)
	}
	ns.Close()
	if err := await(func() (bool, error) {
		_, err := os.Readlink(task)
		return errors.Is(err, fs.ErrNotExist), nil
	}); err != nil {
		t.Error("the thread has not ended")
	}
	ns.Close()
	if err := ns.Do(func() error { return nil }); err != errClosed {
		t.Errorf("work for a closed namespace: %v", err)
	}
}

// again prepares this program to run one test again, at a later stage. It may lie
// where only root may look: it is run through a descriptor that is open already.
func again(t *testing.T, self *os.File, test, variable, stage string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(fmt.Sprintf("/proc/self/fd/%d", selfFD), "-test.run=^"+test+"$", "-test.v")
	cmd.ExtraFiles = []*os.File{self}
	cmd.Dir = "/"
	cmd.Env = []string{variable + "=" + stage, "PATH=/usr/bin", "GORACE=atexit_sleep_ms=0"}
	return cmd
}

// selfFD is where the program finds itself at a later stage.
const selfFD = 3

// nobody prepares this program to run one test as nobody.
func nobody(t *testing.T, test, variable, stage string) *exec.Cmd {
	t.Helper()
	need.Root(t)
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { self.Close() })
	cmd := again(t, self, test, variable, stage)
	const id = 65534
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
	return cmd
}

func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
}

// Without any privilege, in a user namespace: the faults that need no packets
// held back are provoked as ever, the others say what they need.
func TestUserNamespace(t *testing.T) {
	switch os.Getenv(userNamespaceVar) {
	case "":
		run(t, nobody(t, t.Name(), userNamespaceVar, "nobody"))
	case "nobody":
		cmd := again(t, os.NewFile(selfFD, "self"), t.Name(), userNamespaceVar, "inside")
		Enter(cmd)
		run(t, cmd)
	case "inside":
		insideUserNamespace(t)
	}
}

func insideUserNamespace(t *testing.T) {
	for _, f := range Faults() {
		t.Run(f.Name, func(t *testing.T) {
			ns, err := New()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(ns.Close)
			r := counters(t, ns)
			if f.Packets {
				_, err := f.Inject(ns)
				if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_BPF") {
					t.Errorf("it needs CAP_BPF, and says: %v", err)
				}
				return
			}
			check(t, f.Counters, r, func() (*Provoked, error) { return f.Inject(ns) })
		})
	}
	a, b, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	b.Close()
}

const unprivilegedVar = "HOTLAP_TEST_LAB_UNPRIVILEGED"

// With no privilege and no user namespace New says what it needs.
func TestUnprivileged(t *testing.T) {
	if os.Getenv(unprivilegedVar) == "" {
		run(t, nobody(t, t.Name(), unprivilegedVar, "nobody"))
		return
	}
	_, err := New()
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_SYS_ADMIN") {
		t.Errorf("it says: %v", err)
	}
	if _, err := procfs.Open(); err != nil {
		t.Errorf("the counters: %v", err)
	}
}
