package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"hotlap/cmd/internal/watch"
	"hotlap/ebpf"
)

const watchUsage = `Usage: hotlap watch [--port N]... [--pid N] [--netns NAME|FILE | --all-netns] [flags]
       hotlap watch --selftest

See what the kernel does to TCP sockets: accept queues that fill, segments it
drops and why, retransmits, resets, connects that fail or find no local port.

  --port N          only connections from or to this port; repeatable
  --pid N           only those of this process, and of the ports it listens on
  --netns NAME|FILE another network namespace: a name of ip netns, or a file
  --all-netns       the sockets of every namespace; tier bpf

  -i, --interval T  between two views (1s)
  -d, --duration T  how long (until interrupted)
      --json        a line of JSON per interval: "total" since the start and
                    "delta" since the line before, by the names below
      --metrics ADDR   serve Prometheus metrics at http://ADDR/metrics instead
      --deep        exact peaks of accept queues, and the time spent in search of
                    a local port (CAP_NET_ADMIN); costs some percent for each
                    connection; tier bpf
      --tier T      bpf, diag or proc, or exit 1; without it, the first that is possible
      --run-stats   measure what the BPF programs cost; slows all of the machine's;
                    tier bpf, and CAP_SYS_ADMIN
      --selftest    provoke each fault in a throwaway network namespace, and compare
                    what was provoked, observed, and counted by the kernel

What can be seen depends on the tier, which is always named:
  bpf   all of it: needs CAP_BPF and CAP_PERFMON, or root
  diag  accept queues, and the kernel's counters: needs nothing
  proc  the kernel's counters
What is not known is absent, in JSON and metrics too, and never zero.

Names, counted in segments unless they say otherwise:
  accept_overflows             refused because an accept queue was full
  accept_overflow_connections  connections these belonged to, of clients in scope
  syn_drops                    refused for another cause: a full SYN queue
  listen_drops                 all that listeners refused
  backlog_drops, receive_buffer_drops, drops
                               at a socket's backlog, its receive buffer, and all
                               together, by the kernel's reasons
  retransmits, syn_retransmits, synack_retransmits; retransmit_sockets,
  synack_retransmit_sockets    what was sent again; sockets with at least one
  rsts_out, rsts_in
  connects, connects_established, connect_failures, connects_unanswered
                               connections begun, made, failed, whose first SYN
                               got no answer
  first_data_unanswered        connections whose SYN got one, and their first data
                               none: it was sent again, as at a full accept queue
  ports_exhausted              connects that found no free local port
  ports_taken                  connects from a bound port that was in use
  port_searches, port_search_ns    with --deep
and the kernel's own counters under "namespace" and "host", by the kernel's names.

Exit codes: 0 done or interrupted, and all rows of the self-test passed; 1 it could
not be done, or one did not; 2 bad arguments.
`

func runWatch(ctx context.Context, std *stdio, args []string) int {
	flags := pflag.NewFlagSet("watch", pflag.ContinueOnError)
	var options ebpf.Options
	var tier string
	interval, duration := time.Second, time.Duration(0)
	flags.Var(each(func(s string) error {
		port := 0
		if err := (number[int]{&port, 1, 65535}).Set(s); err != nil {
			return err
		}
		options.Ports = append(options.Ports, uint16(port))
		return nil
	}), "port", "")
	flags.Var(number[int]{&options.PID, 1, 1 << 22}, "pid", "")
	netns := flags.String("netns", "", "")
	flags.BoolVar(&options.AllNetns, "all-netns", false, "")
	flags.VarP(limit{&interval}, "interval", "i", "")
	flags.VarP(limit{&duration}, "duration", "d", "")
	asJSON := flags.Bool("json", false, "")
	metrics := flags.String("metrics", "", "")
	flags.BoolVar(&options.Deep, "deep", false, "")
	flags.Var(choice{&tier, []string{"bpf", "diag", "proc"}}, "tier", "")
	flags.BoolVar(&options.RunStats, "run-stats", false, "")
	selftest := flags.Bool("selftest", false, "")
	flags.Usage = func() {}
	switch err := parseFlags(flags, args); {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprint(std.out, watchUsage)
		return exitOK
	case err != nil:
		return std.misuse("watch", "%v", err)
	case flags.NArg() > 0:
		return std.misuse("watch", "unexpected argument %q", flags.Arg(0))
	case *selftest && flags.NFlag() > 1:
		return std.misuse("watch", "--selftest goes alone")
	case options.AllNetns && (*netns != "" || options.PID != 0):
		return std.misuse("watch", "--all-netns excludes --netns and --pid: those are in one")
	case *asJSON && *metrics != "":
		return std.misuse("watch", "--json and --metrics exclude each other")
	case (options.Deep || options.RunStats || options.AllNetns) && tier != "" && tier != string(ebpf.TierBPF):
		return std.misuse("watch", "--deep, --run-stats and --all-netns are of tier bpf: leave --tier %s out", tier)
	}
	options.Netns, options.Most = netnsFile(*netns), ebpf.Tier(tier)
	if *selftest {
		return runSelfTest(std)
	}

	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	observer, err := ebpf.Open(options)
	if err != nil {
		std.complain("watch", "%v", err)
		return exitFailed
	}
	defer observer.Close()
	first, err := observer.Read()
	if err == nil {
		err = unmet(options, first)
	}
	if err != nil {
		std.complain("watch", "%v", err)
		return exitFailed
	}
	if duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, duration)
		defer cancel()
	}
	switch {
	case *metrics != "":
		err = serveMetrics(ctx, std, observer, *metrics)
	case *asJSON:
		encoder := json.NewEncoder(std.out)
		err = watchEach(ctx, observer, interval, func(total, delta ebpf.Sample) error {
			return encoder.Encode(struct {
				Total ebpf.Sample `json:"total"`
				Delta ebpf.Sample `json:"delta"`
			}{total, delta})
		})
	default:
		view := ""
		if term.IsTerminal(int(std.out.Fd())) {
			view = "\x1b[H\x1b[2J" // from the top, on an empty screen
		}
		err = watchEach(ctx, observer, interval, func(total, delta ebpf.Sample) error {
			_, err := io.WriteString(std.out, view+watch.Table(total, delta)+"\n")
			return err
		})
	}
	if err != nil {
		std.complain("watch", "%v", err)
		return exitFailed
	}
	return exitOK
}

// unmet is what was asked for by name and is not to be had, and why. What was not
// is done without, and said to be.
func unmet(o ebpf.Options, s ebpf.Sample) error {
	missing := ""
	switch {
	case o.Most != "" && s.Tier != o.Most:
		missing = fmt.Sprintf("--tier %s is not possible; without it the tier is %s", o.Most, s.Tier)
	case o.Deep && s.Tier != ebpf.TierBPF:
		missing = fmt.Sprintf("--deep needs BPF programs; without it the tier is %s", s.Tier)
	case o.AllNetns && s.Tier != ebpf.TierBPF:
		missing = fmt.Sprintf("--all-netns needs BPF programs; without it the tier is %s", s.Tier)
	case o.RunStats && s.Cost.BPF == nil:
		missing = fmt.Sprintf("--run-stats is not possible; without it the tier is %s", s.Tier)
	default:
		return nil
	}
	why := "the reason is not known"
	if n := len(s.Unseen); n > 0 {
		why = s.Unseen[n-1].Why // of the programs, which are tried last
		if o.Most == ebpf.TierDiag {
			why = s.Unseen[0].Why
		}
	}
	return fmt.Errorf("%s: %s", missing, strings.Join(strings.Fields(why), " "))
}

// netnsFile is where ip netns keeps a namespace of this name.
func netnsFile(name string) string {
	if name == "" || strings.Contains(name, "/") {
		return name
	}
	return "/run/netns/" + name
}

// watchEach shows what was seen at the end of each interval, and of the last,
// which may be shorter.
func watchEach(ctx context.Context, o *ebpf.Observer, interval time.Duration, show func(total, delta ebpf.Sample) error) error {
	before, err := o.Read()
	if err != nil {
		return err
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		now, err := o.Read()
		if err == nil {
			err = show(now, ebpf.Sub(now, before))
		}
		if err != nil || ctx.Err() != nil {
			return err
		}
		before = now
	}
}

// serveMetrics serves until ctx ends.
func serveMetrics(ctx context.Context, std *stdio, o *ebpf.Observer, addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("--metrics %s: want HOST:PORT, as in 127.0.0.1:9100: %w", addr, err)
	}
	fmt.Fprintf(std.err, "metrics at http://%s/metrics\n", l.Addr())
	if host, _, err := net.SplitHostPort(l.Addr().String()); err == nil && !net.ParseIP(host).IsLoopback() {
		std.complain("watch", "warning: %s is not loopback: other machines may read the metrics", l.Addr())
	}
	return watch.Serve(ctx, l, o)
}

func runSelfTest(std *stdio) int {
	rows, failed, missed := 0, 0, 0
	err := ebpf.SelfTest(func(c ebpf.Check) {
		if rows == 0 {
			fmt.Fprintln(std.out, watch.CheckHeader)
		}
		rows++
		fmt.Fprint(std.out, watch.CheckRow(c))
		if !c.Passed() {
			failed++
		}
		if c.Missed > 0 {
			missed++
		}
	})
	if err != nil {
		std.complain("watch", "%v", err)
		return exitFailed
	}
	if failed > 0 {
		std.complain("watch", "self-test: %d rows failed: do not trust what is observed of these on this kernel", failed)
		return exitFailed
	}
	if missed > 0 {
		fmt.Fprintf(std.out, "All rows agree, %d of them not at once: this kernel does not run the BPF programs for all that happens.\n", missed)
		return exitOK
	}
	fmt.Fprintln(std.out, "All rows agree: what is observed on this kernel can be trusted.")
	return exitOK
}
