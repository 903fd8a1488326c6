package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A child that does not end when asked is killed after this.
const killDelay = 5 * time.Second

// anyCPU leaves a child where the harness itself may run.
const anyCPU = -1

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

// outputOn runs cmd on one CPU and returns what it printed.
func outputOn(cpu int, cmd *exec.Cmd) ([]byte, error) {
	var out strings.Builder
	cmd.Stdout = &out
	if err := startOn(cpu, cmd); err != nil {
		return nil, err
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", cmd.Path, err, out.String())
	}
	return []byte(out.String()), nil
}

// startSink starts the sink server and returns its address.
func startSink(ctx context.Context, cpu int, args ...string) (addr string, stop func(), _ error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := command(ctx, buildDir+"/sink", args...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = startOn(cpu, cmd)
	}
	if err != nil {
		cancel()
		return "", nil, fmt.Errorf("sink: %w", err)
	}
	stop = func() { cancel(); _ = cmd.Wait() } // it ends by our kill: that is no error
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("sink: it printed no port: %w", err)
	}
	return "127.0.0.1:" + strings.TrimSpace(port), stop, nil
}
