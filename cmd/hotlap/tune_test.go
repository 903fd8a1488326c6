package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"hotlap/cmd/internal/need"
	"hotlap/ebpf/tune"
)

// asNobody runs hotlap without any privilege, in a new network namespace whose
// settings are the kernel's defaults.
func asNobody(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	// The program lies where only root may look: it is run through a descriptor that
	// is open already, and in a namespace that root has made.
	path, err := exec.LookPath("hotlap")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	const nobody = 65534
	cmd := &exec.Cmd{
		Path: "/proc/self/fd/3", Args: append([]string{"hotlap"}, args...), Dir: "/", ExtraFiles: []*os.File{self},
		Env: []string{"PATH=/usr/bin:/bin", "GORACE=atexit_sleep_ms=0"},
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWNET, Credential: &syscall.Credential{Uid: nobody, Gid: nobody},
		},
	}
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// Without root check works, and apply says what it needs.
func TestTuneWithoutRoot(t *testing.T) {
	need.Root(t)
	const needsRoot = "hotlap tune apply: nothing was changed:\nnet.ipv4.tcp_tw_reuse: needs root, or CAP_NET_ADMIN in the user namespace that owns this network namespace"
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"check"}, exitOK, "Nothing here would hold this load back."},
		{[]string{"check", "--no-keepalive", "-R", "5000"}, exitGate, "net.ipv4.tcp_tw_reuse                2 -> 1"},
		{[]string{"apply", "--no-keepalive", "-R", "5000", "--dry-run"}, exitOK, "  - 2\n  + 1\n"},
		{[]string{"apply", "--no-keepalive", "-R", "5000", "--dry-run"}, exitOK, "As things are, apply would fail:\nnet.ipv4.tcp_tw_reuse: needs root"},
		{[]string{"apply", "--no-keepalive", "-R", "5000", "--yes"}, exitFailed, needsRoot},
		{[]string{"apply", "--no-keepalive", "-R", "5000"}, exitFailed, needsRoot},
		{[]string{"apply", "--no-keepalive", "-R", "5000"}, exitFailed, "done: nothing\nnot done: net.ipv4.tcp_tw_reuse\n"},
		{[]string{"apply", "-c", "10"}, exitOK, "Nothing to change"},
	} {
		out, code := asNobody(t, append([]string{"tune"}, c.args...)...)
		if code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%v: exit code %d, want %d\n%s\nwant in it: %s", c.args, code, c.code, out, c.want)
		}
	}
}

// Nobody is asked on a terminal for what is not to be had.
func TestTuneApplyDoesNotAsk(t *testing.T) {
	need.Root(t)
	screen, tty := terminal(t)
	cmd := exec.Command("unshare", "-nm", "sh", "-c", `
mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys &&
hotlap tune apply -R 5000 --no-keepalive --journal "$0"; echo "code $?"`, filepath.Join(t.TempDir(), "journal"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tty.Close()
	shown := screen.hangUp()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(shown, "[y/N]") || !strings.Contains(shown, "/proc/sys is mounted read-only here") || !strings.Contains(shown, "code 1\r\n") {
		t.Errorf("%s", shown)
	}
}

// Who is asked on a terminal has seen the diff; nothing but yes changes anything.
func TestTuneApplyAsks(t *testing.T) {
	need.Root(t)
	const endOfFile = "\x04"
	for answer, want := range map[string]string{
		"y\n": "1", "YES\n": "1", "n\n": "2", "\n": "2", "yesterday\n": "2", endOfFile: "2",
	} {
		screen, tty := terminal(t)
		cmd := exec.Command("sh", "-c", `hotlap tune apply -R 5000 --no-keepalive --journal "$0"; echo "code $?, value $(cat /proc/sys/net/ipv4/tcp_tw_reuse)"`,
			filepath.Join(t.TempDir(), "journal"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		tty.Close()
		shown := screen.until("Apply this? [y/N] ")
		if !strings.Contains(shown, "tcp_tw_reuse (namespace)\r\n  - 2\r\n  + 1\r\n") {
			t.Errorf("it was not shown what is to be agreed to:\n%s", shown)
		}
		if _, err := screen.f.WriteString(answer); err != nil {
			t.Fatal(err)
		}
		shown = screen.hangUp()
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		code, says := exitOK, "1 changed; hotlap tune rollback --journal "
		if want == "2" {
			code, says = exitFailed, "hotlap tune apply: nothing was changed"
		}
		for _, part := range []string{says, fmt.Sprintf("code %d, value %s", code, want)} {
			if !strings.Contains(shown, part) {
				t.Errorf("%q: %q is not in:\n%s", answer, part, shown)
			}
		}
	}
}

func TestParseTo(t *testing.T) {
	for _, c := range []struct {
		in       string
		loopback bool
		port     uint16
	}{
		{"192.0.2.7", false, 0}, {"192.0.2.7:80", false, 80}, {"127.0.0.9", true, 0}, {"127.0.0.1:8080", true, 8080},
		{"::1", true, 0}, {"[::1]:8080", true, 8080}, {"2001:db8::1", false, 0}, {"::ffff:127.0.0.1", true, 0},
		{"localhost", true, 0}, {"localhost:80", true, 80}, {":8080", false, 8080},
	} {
		var l tune.Load
		if err := parseTo(c.in, &l); err != nil || l.Loopback != c.loopback || l.Port != c.port {
			t.Errorf("%s: %+v, %v", c.in, l, err)
		}
	}
	for _, bad := range []string{"", ":", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "example.com", "1.2.3", "]:80", "[::1]", "127.0.0.1:0"} {
		if err := parseTo(bad, new(tune.Load)); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
}
