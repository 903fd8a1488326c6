package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A child that does not end when asked is killed after this.
const killDelay = 5 * time.Second

// anyCPU leaves a child where the harness itself may run.
const anyCPU = -1

// prepareChildren sets what all children inherit: as many file descriptors as
// are allowed, and a PATH with the peers that were installed here, and with
// servers. Setting the limit, even to what it is, keeps the Go runtime from
// giving children the one it found itself.
func prepareChildren() error {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("getrlimit: %w", err)
	}
	files.Cur = files.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("setrlimit: %w", err)
	}
	dir, err := filepath.Abs(peerDir)
	if err != nil {
		return err
	}
	return os.Setenv("PATH", dir+":"+os.Getenv("PATH")+":/usr/sbin")
}

// command prepares a child that ends with the harness.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	cmd.WaitDelay = killDelay
	return cmd
}

// startOn starts cmd with nothing but one CPU to run on. A child inherits the
// mask of the thread that forks it, so it never runs elsewhere, not even while
// it starts; a Go child sees the mask and sets GOMAXPROCS to 1.
func startOn(cpu int, cmd *exec.Cmd) (err error) {
	if cpu == anyCPU {
		return cmd.Start()
	}
	var own, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &own); err != nil {
		return fmt.Errorf("sched_getaffinity: %w", err)
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("CPU %d: sched_setaffinity: %w", cpu, err)
	}
	defer func() { err = errors.Join(err, unix.SchedSetaffinity(0, &own)) }()
	return cmd.Start()
}
