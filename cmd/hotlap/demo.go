package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"hotlap/engine"
)

const demoUsage = `Usage: hotlap demo [-n REQUESTS] [-c CONNECTIONS]

Start a target server on this machine, fetch distinct URLs from it over
pipelined connections, and check that each body is the one its URL asks for.

  -n, --requests N     how many URLs (1m); k and m are understood
  -c, --connections N  connections (64)

Exit code 0 if every answer was right, else 1.
`

func runDemo(ctx context.Context, std *stdio, args []string) int {
	flags := pflag.NewFlagSet("demo", pflag.ContinueOnError)
	n, connections := int64(1_000_000), 64
	flags.VarP(number[int64]{&n, 1, 1_000_000_000}, "requests", "n", "")
	flags.VarP(number[int]{&connections, 1, 10_000}, "connections", "c", "")
	flags.Usage = func() {}
	switch err := parseFlags(flags, args); {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprint(std.out, demoUsage)
		return exitOK
	case err != nil:
		return std.misuse("demo", "%v", err)
	case flags.NArg() > 0:
		return std.misuse("demo", "unexpected argument %q", flags.Arg(0))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer func() { signal.Stop(signals); close(signals) }()
	go func() {
		if s, ok := <-signals; ok {
			cancel(ended{s.(syscall.Signal)})
		}
	}()
	addr, end, err := startTarget()
	if err != nil {
		std.complain("demo", "start the target server: %v", err)
		return exitFailed
	}
	defer end()
	limitProcessors(1)
	l := &lap{std: std, base: "http://" + addr, n: n}
	return l.run(ctx, connections)
}

// ended is why a run ends that a signal ended.
type ended struct{ signal syscall.Signal }

func (e ended) Error() string { return "early, by a signal: " + e.signal.String() }

// startTarget runs hotlap serve as a child, so that the client's CPU time and
// memory are the client's. The child ends when its standard input does, which
// is when this process ends, however that happens.
func startTarget() (addr string, end func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	server := exec.Command(self, "serve", "-l", "127.0.0.1:0", "--with-parent")
	stdin, err := server.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	stderr, err := server.StderrPipe()
	if err != nil {
		return "", nil, err
	}
	if err := server.Start(); err != nil {
		return "", nil, err
	}
	end = func() {
		_ = stdin.Close()
		_ = server.Wait()
	}
	line, err := bufio.NewReader(stderr).ReadString('\n')
	if _, url, ok := strings.Cut(strings.TrimSpace(line), "listening on http://"); ok {
		return url, end, nil
	}
	end()
	return "", nil, fmt.Errorf("it said %q: %w", line, err)
}

// A lap is one run of the demo: the source of its requests and the sink that
// checks the answers.
type lap struct {
	std  *stdio
	base string
	n    int64
	sent int64

	done, wrong, failed atomic.Int64
	errors              map[string]int64
	example             string
	latency             *hdrhistogram.Histogram
}

// Next supplies the next URLs, each of which is asked for once.
func (l *lap) Next(_ context.Context, batch []*engine.Request) (int, error) {
	k := int(min(int64(len(batch)), l.n-l.sent))
	requests := make([]engine.Request, k)
	for i := range requests {
		requests[i].URL = l.base + "/item/" + strconv.FormatInt(l.sent, 10)
		batch[i] = &requests[i]
		l.sent++
	}
	if l.sent == l.n {
		return k, io.EOF
	}
	return k, nil
}

// Put checks that each body is the path of its URL.
func (l *lap) Put(results []*engine.Result) error {
	for _, r := range results {
		switch {
		case r.Err != nil:
			l.failed.Add(1)
			l.errors[r.Err.Kind.String()]++
			l.note(r.Err.Error())
		case r.Status != 200 || string(r.Body) != r.Request.URL[len(l.base):]:
			l.wrong.Add(1)
			l.note(fmt.Sprintf("%s was answered with status %d and %.60q", r.Request.URL, r.Status, r.Body))
		}
		if r.Err == nil {
			_ = l.latency.RecordValue((r.Time.Total - r.Time.Sent).Microseconds())
		}
	}
	l.done.Add(int64(len(results)))
	return nil
}

func (l *lap) note(what string) {
	if l.example == "" {
		l.example = what
	}
}

func (l *lap) run(ctx context.Context, connections int) int {
	l.errors = make(map[string]int64)
	l.latency = hdrhistogram.New(1, int64(time.Hour/time.Microsecond), 3)
	e, err := engine.New(engine.Config{
		Connections: connections, PerHost: connections, Pipeline: engine.PipelineAuto, KeepBody: true,
	})
	if err != nil {
		l.std.complain("demo", "%v", err)
		return exitFailed
	}
	defer e.Close()
	watch := l.watch(e)
	stats, err := e.Run(ctx, l, l)
	watch()
	l.summary(stats, connections)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintf(l.std.out, "%-12s%v\n", "ended", context.Cause(ctx))
		var s ended
		errors.As(context.Cause(ctx), &s)
		return 128 + int(s.signal)
	case err != nil:
		l.std.complain("demo", "%v", err)
		return exitFailed
	case l.wrong.Load()+l.failed.Load() > 0 || l.done.Load() != l.n:
		return exitFailed
	}
	return exitOK
}

// watch shows progress on standard error until the returned function is called.
func (l *lap) watch(e *engine.Engine) (stop func()) {
	if !term.IsTerminal(int(l.std.err.Fd())) {
		return func() {}
	}
	quit, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		start := time.Now()
		for {
			select {
			case <-quit:
				fmt.Fprint(l.std.err, "\r\x1b[K")
				return
			case <-tick.C:
				done := l.done.Load()
				rate := float64(done) / time.Since(start).Seconds()
				left := time.Duration(float64(l.n-done) / max(rate, 1) * float64(time.Second))
				fmt.Fprintf(l.std.err, "\r\x1b[K%d / %d  %.0f/s  %d in flight  %d errors  %s left",
					done, l.n, rate, e.Stats().InFlight, l.failed.Load()+l.wrong.Load(), left.Round(time.Second))
			}
		}
	}()
	return func() { close(quit); <-gone }
}

func (l *lap) summary(s engine.Stats, connections int) {
	w := l.std.out
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	cpu := time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-12s"+format+"\n", append([]any{name}, args...)...)
	}
	row("requests", "%d over %d connections, pipelined", l.done.Load(), connections)
	row("checked", "%d responses, %d wrong", s.Responses, l.wrong.Load())
	if l.failed.Load() == 0 {
		row("errors", "none")
	}
	for kind, n := range l.errors {
		row("errors", "%d %s", n, kind)
	}
	if l.example != "" {
		row("", "such as: %s", l.example)
	}
	row("rate", "%.0f requests/s, %.2f s", float64(l.done.Load())/s.Elapsed.Seconds(), s.Elapsed.Seconds())
	q := func(p float64) time.Duration { return time.Duration(l.latency.ValueAtQuantile(p)) * time.Microsecond }
	row("latency", "from written to answered: p50 %s  p90 %s  p99 %s  max %s", q(50), q(90), q(99), time.Duration(l.latency.Max())*time.Microsecond)
	row("client CPU", "%.2f us per request", float64(cpu.Nanoseconds())/1e3/float64(max(l.done.Load(), 1)))
	row("memory", "%.0f MB at its peak", float64(usage.Maxrss)/1024)
}
