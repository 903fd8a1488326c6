package tune

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/lab"
	"hotlap/ebpf/internal/need"
)

// A task is what the test binary does as a process of its own.
type task struct {
	Do       string // apply, rollback, or one of the others
	Options  Options
	Changes  []Change
	KillAt   int  // the step at which it kills itself, from 1 on; 0 is never
	ReadOnly bool // /proc/sys is mounted read-only
	To       string
}

const taskVar = "HOTLAP_TEST_TUNE_TASK"

func TestMain(m *testing.M) {
	text := os.Getenv(taskVar)
	if text == "" {
		flag.Parse()
		// The tests that take long wait for the kernel's clocks, one of them a minute:
		// they do so all at the same time, however few CPUs there are.
		if err := flag.Set("test.parallel", "16"); err != nil {
			panic(err)
		}
		os.Exit(m.Run())
	}
	var t task
	err := json.Unmarshal([]byte(text), &t)
	if err == nil {
		err = t.run()
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func (t *task) run() error {
	if t.ReadOnly {
		if err := readOnlySysctls(); err != nil {
			return err
		}
	}
	steps := 0
	t.Options.anywhere = true
	t.Options.step = func(string) {
		if steps++; steps == t.KillAt {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	}
	var err error
	switch t.Do {
	case "apply":
		_, err = Apply(t.Changes, t.Options)
	case "rollback":
		_, err = Rollback(t.Options)
	case "descriptors":
		err = useUpDescriptors(t.To)
	default:
		err = errors.New("no such task: " + t.Do)
	}
	return err
}

// readOnlySysctls does what container engines do, in a mount namespace of its own.
func readOnlySysctls() error {
	return errors.Join(
		unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""),
		unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""),
		unix.Mount("", "/proc/sys", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
}

// A world is a network namespace with its journal and its /etc.
type world struct {
	testing.TB
	ns      *lab.Namespace
	options Options
	shell   string // what a shell does before it runs a task, or nothing
}

func newWorld(t testing.TB) *world {
	t.Helper()
	need.Root(t)
	ns, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ns.Close)
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "root/etc/sysctl.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	return &world{TB: t, ns: ns, options: Options{Journal: filepath.Join(dir, "journal"), Root: filepath.Join(dir, "root"), anywhere: true}}
}

func (w *world) do(f func() error) {
	w.Helper()
	if err := w.ns.Do(f); err != nil {
		w.Fatal(err)
	}
}

func (w *world) set(name, value string) {
	w.Helper()
	w.do(func() error { return Write(name, value) })
}

func (w *world) get(name string) (value string) {
	w.Helper()
	w.do(func() (err error) {
		value, err = Read(name)
		return err
	})
	return value
}

func (w *world) apply(changes ...Change) (a *Applied) {
	w.Helper()
	w.do(func() (err error) {
		a, err = Apply(changes, w.options)
		return err
	})
	return a
}

func (w *world) rollback() (r *RolledBack) {
	w.Helper()
	w.do(func() (err error) {
		r, err = Rollback(w.options)
		return err
	})
	return r
}

// run does a task in a process of its own, in the namespace. Killed: it did that
// to itself.
func (w *world) run(t task) (out string, killed bool, err error) {
	w.Helper()
	t.Options = w.options
	text, err := json.Marshal(t)
	if err != nil {
		w.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		w.Fatal(err)
	}
	cmd := exec.Command(self)
	if w.shell != "" {
		cmd = exec.Command("/bin/sh", "-c", w.shell+` && exec "$0"`, self)
	}
	cmd.Env = append(os.Environ(), taskVar+"="+string(text), "GORACE=atexit_sleep_ms=0")
	if t.ReadOnly {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	}
	err = w.ns.Do(func() error { // forked from the namespace's thread
		b, err := cmd.CombinedOutput()
		out = string(b)
		return err
	})
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		killed = exit.Sys().(syscall.WaitStatus).Signal() == unix.SIGKILL
	}
	return out, killed, err
}

// everything is the bytes of all settings of the namespace, and of /etc and the
// journal, but for the lock, which stays.
func (w *world) everything() map[string]string {
	w.Helper()
	all := map[string]string{}
	read := func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.Type().IsRegular() || d.Name() == lockName {
			return err
		}
		if b, err := os.ReadFile(name); err == nil { // some can only be written
			all[name] = string(b)
		}
		return nil
	}
	w.do(func() error {
		return errors.Join(filepath.WalkDir("/proc/sys/net/ipv4", read), filepath.WalkDir("/proc/sys/net/core", read))
	})
	for _, dir := range []string{w.options.Root, w.options.Journal} {
		if err := filepath.WalkDir(dir, read); err != nil {
			w.Fatal(err)
		}
	}
	return all
}

// same compares two of these.
func (w *world) same(what string, got, want map[string]string) {
	w.Helper()
	for name, value := range want {
		if got[name] != value {
			w.Errorf("%s: %s is %q, it was %q", what, name, got[name], value)
		}
	}
	for name, value := range got {
		if _, known := want[name]; !known {
			w.Errorf("%s: there is %s now: %q", what, name, value)
		}
	}
}

func contains(t testing.TB, text, part string) {
	t.Helper()
	if !strings.Contains(text, part) {
		t.Errorf("%q is not in:\n%s", part, text)
	}
}

// someChanges are changes of settings that are a namespace's own.
func someChanges() []Change {
	return []Change{
		{Name: reservedPorts, To: "8080,12000-12010"},
		{Name: portRange, To: "10240\t65535"},
		{Name: twReuse, To: "1"},
		{Name: "net.core.somaxconn", To: "16384"},
		{Name: "net.ipv4.tcp_rmem", To: "4096\t16384\t6291456"},
	}
}

func journalText(t testing.TB, o Options) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(o.Journal, journalName))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// lines counts the entries of the journal; there may be none.
func lines(o Options) int {
	b, _ := os.ReadFile(filepath.Join(o.Journal, journalName))
	return bytes.Count(b, []byte{'\n'})
}
