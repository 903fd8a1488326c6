package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"hotlap/cmd/internal/pipe"
	"hotlap/cmd/internal/progress"
	"hotlap/engine"
)

const pipeUsage = `Usage: hotlap pipe [flags]
       hotlap pipe [flags] --listen PATH

Send requests for another program, which writes frames to standard input and
reads frames from standard output. Package hotlap for Python is such a program,
and cmd/hotlap/python/PROTOCOL.md tells how to write another.

        --window N           requests inside at once (four times what the connections
                             can hold, 768 to 65280). It is told to the client
        --parent PID         end when that process does, even where others still have
                             its end of the pipe
        --stall-timeout TIME end if the client reads nothing for this long while it
                             has written more than the window takes (2m)
        --listen PATH        serve clients on a unix socket, which only its owner may
                             use, until SIGINT or SIGTERM. Each has an engine of its own
        --max-clients N      at once, with --listen (8)

How requests are sent, as hotlap fetch --help explains: -c --per-host -p --loops
-R --host-rate -H -k --cacert --cert --key --tls-min --tls-max --sslkeylog --proxy
-u --resolve --connect-to -4 -6 --dns-servers --dns-ttl --unix-socket --source-ip
--interface --timeout --connect-timeout --read-timeout --retries --max-body --max-memory
HOTLAP_PROXY in the environment is --proxy where that is not given: others can
read a command line, and a proxy's password in it.

Exit codes: 0 the input ended and all is answered; 1 could not start, or the
client is gone; 2 bad arguments, or the client broke the protocol; 143 SIGTERM.
SIGINT, which Ctrl-C sends to the client too, is left to the client.
`

// pipeOptions is what the command line says; of fetch's, the engine's part.
type pipeOptions struct {
	fetchOptions
	window  int
	parent  int
	stall   time.Duration
	listen  string
	clients int
}

func runPipe(ctx context.Context, std *stdio, args []string) int {
	o, err := parsePipe(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprint(std.out, pipeUsage)
		return exitOK
	case err != nil:
		return std.misuse("pipe", "%v", err)
	case o.listen == "" && (progress.IsTerminal(std.in) || progress.IsTerminal(std.out)):
		return std.misuse("pipe", "standard input and output are for a program that speaks the protocol, not for a terminal: see hotlap pipe --help")
	}
	limitProcessors(o.engine.Loops)
	signal.Ignore(syscall.SIGPIPE)
	if o.listen != "" {
		return listenPipe(ctx, std, o)
	}
	return o.serveStdio(ctx, std)
}

func parsePipe(args []string) (*pipeOptions, error) {
	o := &pipeOptions{stall: 2 * time.Minute, clients: 8}
	f := pflag.NewFlagSet("pipe", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	o.engineFlags(f)
	f.Var(number[int]{&o.window, 1, 1 << 20}, "window", "")
	f.Var(number[int]{&o.parent, 1, math.MaxInt32}, "parent", "")
	f.Var(limit{&o.stall}, "stall-timeout", "")
	f.StringVar(&o.listen, "listen", "", "")
	f.Var(number[int]{&o.clients, 1, 1000}, "max-clients", "")
	switch err := parseFlags(f, args); {
	case err != nil:
		return nil, err
	case f.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q: requests come through the pipe", f.Arg(0))
	case f.Changed("listen") && o.listen == "":
		return nil, errors.New("--listen needs a path")
	case o.listen != "" && o.parent != 0:
		return nil, errors.New("--parent and --listen exclude each other")
	case f.Changed("max-clients") && o.listen == "":
		return nil, errors.New("--max-clients goes with --listen")
	}
	if err := o.checkPipeDescriptors(); err != nil {
		return nil, err
	}
	if proxy, ok := os.LookupEnv("HOTLAP_PROXY"); ok && !f.Changed("proxy") {
		if err := f.Set("proxy", proxy); err != nil {
			return nil, err
		}
	}
	if err := o.applyFlags(f); err != nil {
		return nil, err
	}
	o.engine = pipe.Config(o.engine, o.window)
	return o, nil
}

// clientDescriptors is what a client of --listen needs beside its connections:
// its socket, poller and timers.
const clientDescriptors = 8

func (o *pipeOptions) checkPipeDescriptors() error {
	if o.listen == "" {
		return checkDescriptors(o.engine.Connections)
	}
	if err := checkDescriptors((o.engine.Connections + clientDescriptors) * o.clients); err != nil {
		return fmt.Errorf("--max-clients %d, each with its connections: %w", o.clients, err)
	}
	return nil
}

// newSession makes an engine, and a session that has it for itself.
func (o *pipeOptions) newSession(in io.Reader, out io.Writer) (*engine.Engine, *pipe.Session, error) {
	e, err := engine.New(o.engine)
	if err != nil {
		return nil, nil, err
	}
	return e, pipe.NewSession(e, in, out), nil
}

// serveStdio serves the client at standard input and output. What the process
// has when it returns, ends with it: a client may be gone, or not read.
func (o *pipeOptions) serveStdio(ctx context.Context, std *stdio) int {
	signal.Ignore(syscall.SIGINT)
	terms := make(chan os.Signal, 2)
	signal.Notify(terms, syscall.SIGTERM)
	gone := make(chan struct{})
	if err := watchClient(int(std.out.Fd()), o.parent, gone); err != nil {
		std.complain("pipe", "%v", err)
		return exitFailed
	}
	e, session, err := o.newSession(polled(std.in), polled(std.out))
	if err != nil {
		std.complain("pipe", "%v", err)
		return exitFailed
	}
	o.limitPipeMemory(1, e.MaxInFlight())
	ended := make(chan error, 1)
	go func() { ended <- session.Serve(ctx) }()
	stuck := time.NewTicker(o.stall / 4)
	defer stuck.Stop()
	var grace <-chan time.Time
	for {
		select {
		case err := <-ended:
			return pipeVerdict(std, session, err, grace != nil)
		case <-gone:
			return exitFailed
		case now := <-stuck.C:
			if session.Stuck(now) > o.stall {
				std.complain("pipe", "%s", stuckMessage)
				return exitFailed
			}
		case <-terms:
			if grace != nil {
				return exitSIGTERM
			}
			session.Stop()
			grace = time.After(interruptGrace)
		case <-grace:
			return exitSIGTERM
		}
	}
}

// polled returns a pipe or a socket as a file that does not block: waiting for
// it is then the business of Go's poller. A blocking read or write makes Go's
// monitor look for it every 20 us, which took an eighth of the CPU time.
func polled(f *os.File) *os.File {
	info, err := f.Stat()
	if err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 || unix.SetNonblock(int(f.Fd()), true) != nil {
		return f
	}
	return os.NewFile(f.Fd(), f.Name())
}

const stuckMessage = "the client wrote more requests than the window takes, and reads no results: " +
	"it must read while it writes, or count its requests (see PROTOCOL.md)"

// pipeVerdict tells how a session ended.
func pipeVerdict(std *stdio, s *pipe.Session, err error, signaled bool) int {
	switch {
	case signaled:
		return exitSIGTERM
	case err == nil:
		return exitOK
	case s.Fault() != nil:
		return std.misuse("pipe", "the client broke the protocol: %v", s.Fault())
	case errors.Is(err, syscall.EPIPE): // the client is gone: nobody to tell
		return exitFailed
	}
	std.complain("pipe", "%v", err)
	return exitFailed
}

// limitPipeMemory is limitMemory for so many sessions, with their requests.
func (o *pipeOptions) limitPipeMemory(sessions, inFlight int) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetMemoryLimit(memoryBase + int64(sessions)*(o.memoryNeed(inFlight)+pipe.Memory))
}
