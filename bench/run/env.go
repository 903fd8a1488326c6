package main

import (
	"cmp"
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// environment says where the numbers come from.
func environment(ctx context.Context) string {
	return fmt.Sprintf("Taken on Linux %s, %s, %d CPUs, TCP with %s; %s, cc %s; commit %s.\n%s\n",
		kernel(), cpuModel(), runtime.NumCPU(), congestion(), runtime.Version(),
		line(ctx, "cc", "-dumpfullversion"), line(ctx, "git", "describe", "--always", "--dirty"),
		strings.Join(others(ctx), "; "))
}

// others are the programs of others that are here, with what they say of
// themselves; where they were installed from a Go module, with its version.
func others(ctx context.Context) []string {
	found := []string{says(ctx, "nginx", "-v")}
	for _, p := range peers() {
		path, err := exec.LookPath(p.program)
		if err != nil {
			continue
		}
		said := p.name
		if info, err := buildinfo.ReadFile(path); err == nil {
			said += " " + info.Main.Version
		} else if p.version != "" {
			said = says(ctx, p.program, p.version)
		}
		found = append(found, said)
	}
	return found
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

// says is the first line a program prints about its version, wherever to: some
// use standard error, and wrk says that it failed.
func says(ctx context.Context, name, version string) string {
	out, _ := exec.CommandContext(ctx, name, version).CombinedOutput()
	first, _, _ := strings.Cut(string(out), "\n")
	return cmp.Or(first, name)
}
