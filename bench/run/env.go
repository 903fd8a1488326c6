package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// environment says where the numbers come from.
func environment(ctx context.Context) string {
	return fmt.Sprintf("Taken on Linux %s, %s, %d CPUs, TCP with %s; %s, cc %s; commit %s.\n",
		kernel(), cpuModel(), runtime.NumCPU(), congestion(), runtime.Version(),
		line(ctx, "cc", "-dumpfullversion"), line(ctx, "git", "describe", "--always", "--dirty"))
}

// kernel is the version of the running kernel; what distributors append to it
// is left out.
func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "unknown"
	}
	version, _, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), "-")
	return version
}

// congestion is the congestion control that new sockets get.
func congestion() string {
	b, err := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	if err != nil {
		return "unknown congestion control"
	}
	return strings.TrimSpace(string(b))
}

func cpuModel() string {
	info, _ := os.ReadFile("/proc/cpuinfo") // without it the model is unknown, no more
	for l := range strings.Lines(string(info)) {
		if name, model, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(model)
		}
	}
	return "unknown CPU"
}

// line is the first line a command prints, or "unknown".
func line(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return first
}
