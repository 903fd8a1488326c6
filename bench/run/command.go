package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// whole is the benchmark of the whole command: URLs from a file, JSONL to a
// file, both processes on the CPUs they find.
type whole struct {
	rounds, urls int
	fetchArgs    string
	under        string // a command to run fetch under, such as perf record
	keep         bool
}

// A server that does not listen after this will not.
const (
	serveTries = 500
	serveWait  = 10 * time.Millisecond
)

func commandFlags(fs *flag.FlagSet) func(context.Context) (string, error) {
	var w whole
	fs.IntVar(&w.rounds, "rounds", 3, "rounds")
	fs.IntVar(&w.urls, "urls", 2_000_000, "distinct URLs")
	fs.StringVar(&w.fetchArgs, "fetch", "-p 16 -c 64 --per-host 64", "further arguments of hotlap fetch")
	fs.StringVar(&w.under, "under", "", "run fetch under this command, as in: perf record -g --")
	fs.BoolVar(&w.keep, "keep", false, "keep the files of URLs and of results")
	return func(ctx context.Context) (string, error) {
		if w.rounds < 1 || w.rounds > 100 || w.urls < 1 || w.urls > 100_000_000 {
			return "", errors.New("want 1 to 100 rounds of 1 to 100000000 URLs")
		}
		if err := buildGo(ctx, "hotlap", "./cmd/hotlap"); err != nil {
			return "", err
		}
		return w.report(ctx)
	}
}

// lap is one round: what the run of fetch used, and the server meanwhile.
type lap struct {
	seconds              float64
	clientCPU, serverCPU float64 // seconds
	peakMB               float64 // of the client
}

func (w *whole) report(ctx context.Context) (string, error) {
	addr, err := freePort()
	if err != nil {
		return "", err
	}
	in, out := buildDir+"/urls.txt", buildDir+"/results.jsonl"
	if !w.keep {
		defer func() { _ = errors.Join(os.Remove(in), os.Remove(out)) }() // scratch: what stays is overwritten
	}
	if err := writeURLs(in, addr, w.urls); err != nil {
		return "", err
	}
	var laps []lap
	for round := range w.rounds {
		l, err := w.lap(ctx, addr, in, out)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(os.Stderr, "round %d/%d: %.0f requests/s\n", round+1, w.rounds, float64(w.urls)/l.seconds)
		if err := verifyFile(out, w.urls); err != nil {
			return "", fmt.Errorf("the results are wrong: %w", err)
		}
		laps = append(laps, l)
	}
	return w.text(laps), nil
}

// lap runs server and client once.
func (w *whole) lap(ctx context.Context, addr, in, out string) (l lap, err error) {
	serve, err := startServe(ctx, anyCPU, addr)
	if err != nil {
		return l, err
	}
	args := append(strings.Fields(w.under), buildDir+"/hotlap", "fetch", "-i", in, "-o", out)
	args = append(args, strings.Fields(w.fetchArgs)...)
	fetch := command(ctx, args[0], args[1:]...)
	start := time.Now()
	_, err = outputOn(anyCPU, fetch)
	l.seconds = time.Since(start).Seconds()
	err = errors.Join(err, stopServe(serve))
	if err != nil {
		return l, err
	}
	l.clientCPU, l.serverCPU = cpuSeconds(fetch), cpuSeconds(serve)
	l.peakMB = float64(fetch.ProcessState.SysUsage().(*syscall.Rusage).Maxrss) / 1024
	return l, nil
}

func cpuSeconds(cmd *exec.Cmd) float64 {
	return (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
}

// freePort finds a port nobody listens on. It stays the same for all rounds,
// since the URLs name it.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func startServe(ctx context.Context, cpu int, addr string, flags ...string) (*exec.Cmd, error) {
	cmd := command(ctx, buildDir+"/hotlap", append([]string{"serve", "-l", addr}, flags...)...)
	if err := startOn(cpu, cmd); err != nil {
		return nil, err
	}
	for range serveTries {
		if c, err := net.Dial("tcp", addr); err == nil {
			return cmd, c.Close()
		}
		time.Sleep(serveWait)
	}
	return nil, errors.Join(fmt.Errorf("hotlap serve does not listen on %s", addr), stopServe(cmd))
}

// stopServe asks the server to end as a user would. Ending by a signal is what
// it says with its exit code.
func stopServe(cmd *exec.Cmd) error {
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		return fmt.Errorf("hotlap serve ended early: %w", err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return err
	}
	return nil
}

// writeURLs makes the input: n URLs, all different, each answered with its own path.
func writeURLs(path, addr string, n int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(f, 1<<20)
	for i := range n {
		fmt.Fprintf(b, "http://%s%s\n", addr, pathOf(i+1))
	}
	return errors.Join(b.Flush(), f.Close())
}

// pathOf is the path in the nth line of the input, from 1.
func pathOf(line int) string { return fmt.Sprintf("/item/%08d", line) }

// text reports the laps, and the round in the middle.
func (w *whole) text(laps []lap) string {
	slices.SortFunc(laps, func(a, b lap) int {
		if a.seconds < b.seconds {
			return -1
		}
		return 1
	})
	var b strings.Builder
	fmt.Fprintf(&b, "# The whole command, %d distinct URLs\n\n"+
		"`hotlap fetch -i FILE -o FILE %s` against `hotlap serve`, both on the same CPUs. After each round every\n"+
		"line of the output was checked: each id once, status 200, the body its own path. Fastest first.\n\n",
		w.urls, w.fetchArgs)
	b.WriteString("| requests/s | client CPU us/request | server CPU us/request | client peak MB |\n|--:|--:|--:|--:|\n")
	var rates []float64
	for _, l := range laps {
		n := float64(w.urls)
		rates = append(rates, n/l.seconds)
		fmt.Fprintf(&b, "| %.0f | %.2f | %.2f | %.0f |\n", n/l.seconds, l.clientCPU/n*1e6, l.serverCPU/n*1e6, l.peakMB)
	}
	s := spreadOf(rates)
	fmt.Fprintf(&b, "\nMedian %.0f requests/s, from %.0f to %.0f.\n", s.median, s.min, s.max)
	return b.String()
}
