package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"

	"hotlap/ebpf/tune"
)

const tuneUsage = `Usage:
    hotlap tune check [LOAD] [--json]
    hotlap tune apply [LOAD] [--dry-run] [--yes] [--persist] [--journal DIR] [--json] [KNOB...]
    hotlap tune rollback [--force] [--journal DIR] [--json]
    hotlap tune verify [--json] [KNOB...]

What a load needs of this machine's kernel: check says it, apply sets it, and
rollback undoes all that apply has set; verify puts knobs to the test in throwaway
namespaces: hotlap tune verify --help. A KNOB is a sysctl, with or without its
beginning: somaxconn. Those whose advice is to leave them are never written.

LOAD (k and m mean thousand and million):
        --for fetch|bench|serve   what this machine does (bench)
    -R, --rate RATE          requests per second in all; without it 20,000, where it matters
    -c, --connections N      open at once (bench 64, fetch 256, serve 1024)
        --destinations N     pairs of address and port it is spread over (1)
        --sources N          source addresses it comes from (1)
        --no-keepalive       a connection for each request
        --server-closes      and the server closes it first, as with hotlap bench
                             --no-keepalive. Who closes first keeps the port for a while
        --to ADDR[:PORT]     where to: of loopback addresses other rules hold. With a
                             server on this machine, its port names its queue; :PORT alone
                             does with --for serve
        --json               write it as JSON

apply shows what it changes, and why, and asks:
        --dry-run            end there: it needs no privilege
    -y, --yes                do not ask
        --persist            write it to /etc/sysctl.d too, and what was applied before;
                             what would override it is said beforehand
        --journal DIR        where changes are recorded before they are made
                             (/var/lib/hotlap)
rollback puts a value back only where the present one is what apply wrote:
        --force              elsewhere too

All of it is about the network namespace it runs in; settings of the machine are
only written from the first one. check needs nothing. apply and rollback need root,
or a user namespace that owns the network namespace (unshare -rn) and a --journal
that can be written there: where that is missing, nobody is asked.

Exit codes: 0 all is well, or done; 1 it failed: what was done and what was not is
said; 2 bad arguments; 3 check found something that would hold the load back, or
rollback left something.
`

var tuneCommands = []command{
	{"check", runTuneCheck},
	{"apply", runTuneApply},
	{"rollback", runTuneRollback},
	{"verify", runTuneVerify},
}

func runTune(ctx context.Context, std *stdio, args []string) int {
	if len(args) == 0 {
		fmt.Fprint(std.err, tuneUsage)
		return exitUsage
	}
	switch args[0] {
	case "help", "-h", "--help":
		fmt.Fprint(std.out, tuneUsage)
		return exitOK
	}
	for _, c := range tuneCommands {
		if c.name == args[0] {
			return c.run(ctx, std, args[1:])
		}
	}
	return std.misuse("tune", "unknown command %q: see hotlap tune --help", args[0])
}

// tuneFlags is a set of flags with those that describe a load, if one is given.
func tuneFlags(name string, l *tune.Load) *pflag.FlagSet {
	f := pflag.NewFlagSet("tune "+name, pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	if l == nil {
		return f
	}
	f.Var(choice{(*string)(&l.For), []string{"fetch", "bench", "serve"}}, "for", "")
	f.VarP(rate{&l.Rate}, "rate", "R", "")
	f.VarP(number[int]{&l.Connections, 1, math.MaxInt32}, "connections", "c", "")
	f.Var(number[int]{&l.Destinations, 1, math.MaxInt32}, "destinations", "")
	f.Var(number[int]{&l.Sources, 1, 1 << 24}, "sources", "")
	f.BoolVar(&l.NoKeepAlive, "no-keepalive", false, "")
	f.BoolVar(&l.ServerCloses, "server-closes", false, "")
	f.Var(each(func(s string) error { return parseTo(s, l) }), "to", "")
	return f
}

// parseTo reads ADDR, ADDR:PORT or :PORT.
func parseTo(s string, l *tune.Load) error {
	text, local := s, strings.HasPrefix(s, ":") && !strings.HasPrefix(s, "::")
	if rest, ok := strings.CutPrefix(s, "localhost"); ok {
		text = "127.0.0.1" + rest
	} else if local {
		text = "0.0.0.0" + s
	}
	to, err := netip.ParseAddrPort(text)
	if err != nil {
		var a netip.Addr
		if a, err = netip.ParseAddr(text); err == nil {
			to = netip.AddrPortFrom(a, 0)
		}
	} else if to.Port() == 0 {
		err = errors.New("port 0")
	}
	if err != nil {
		return fmt.Errorf("%q is no address such as 192.0.2.7, 127.0.0.1:8080, [::1]:8080 or :8080", s)
	}
	l.Port = to.Port()
	if !local {
		l.Loopback = to.Addr().Unmap().IsLoopback()
	}
	return nil
}

// parseTune parses, and says where that ends it. Arguments are names of knobs, at
// most so many.
func parseTune(std *stdio, f *pflag.FlagSet, args []string, knobs int) (code int, end bool) {
	command := f.Name()
	switch err := parseFlags(f, args); {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprint(std.out, tuneUsage)
		return exitOK, true
	case err != nil:
		return std.misuse(command, "%v", err), true
	case f.NArg() > knobs:
		return std.misuse(command, "unexpected argument %q", f.Arg(knobs)), true
	}
	for _, name := range f.Args() {
		k, ok := tune.Find(name)
		if !ok {
			return std.misuse(command, "unknown knob %q: hotlap tune check lists them", name), true
		}
		if k.Leave {
			return std.misuse(command, "%s: the advice is to leave it: %s", k.Name, k.Why), true
		}
	}
	return exitOK, false
}

// writeJSON writes a result of tune.
func writeJSON(std *stdio, v any) error {
	e := json.NewEncoder(std.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
