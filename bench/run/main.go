// Run is the side-by-side harness behind make bench and make compare.
//
//	run engine    client CPU per request: the engine, the floor, other clients
//	run command   the whole command: hotlap fetch against hotlap serve
//	run tls       client CPU per https request, and handshakes, beside wrk and openssl
//	run           these three
//	run compare   hotlap bench beside all load generators on this machine
//	run open      hotlap bench at a given rate, beside a bare timer
//	run observe   hotlap bench with its observer of the kernel, and without; as root
//	run peers     installs the load generators that are Go modules into bench/build/bin
//
// It is run from the module's root, builds what it compares into bench/build,
// and prints a table. A number alone says little on a shared machine, so the
// clients take turns, round by round, and are compared within each round.
// What it starts ends with it, and talks to loopback addresses only.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	buildDir   = "bench/build"
	resultsDir = "bench/results"
	maxLife    = 2 * time.Hour
)

// Children are to die with their parent, and to inherit a CPU from it: both
// are properties of the thread that forks. Main keeps the main thread.
func init() { runtime.LockOSThread() }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, maxLife)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if _, err := os.Stat("go.mod"); err != nil {
		return errors.New("run it from the root of the module")
	}
	if err := os.MkdirAll(buildDir, 0o755); err != nil {
		return err
	}
	if err := prepareChildren(); err != nil {
		return err
	}
	switch {
	case len(args) == 0:
		return errors.Join(runOne(ctx, "engine", nil), runOne(ctx, "command", nil), runOne(ctx, "tls", nil))
	case args[0] == "peers":
		return installPeers(ctx)
	}
	return runOne(ctx, args[0], args[1:])
}

func runOne(ctx context.Context, what string, args []string) error {
	fs := flag.NewFlagSet(what, flag.ExitOnError)
	name := fs.String("name", "local-"+what, "the report is written to "+resultsDir+"/`NAME`.md")
	var report func(context.Context) (string, error)
	switch what {
	case "engine":
		report = engineFlags(fs)
	case "command":
		report = commandFlags(fs)
	case "tls":
		report = tlsFlags(fs)
	case "compare":
		report = compareFlags(fs)
	case "open":
		report = openFlags(fs)
	case "observe":
		report = observeFlags(fs)
	default:
		return fmt.Errorf("%s: want engine, command, tls, compare, open, observe or peers", what)
	}
	if err := fs.Parse(args); err != nil {
		return err
	}
	meter := startMeter()
	text, err := report(ctx)
	if text == "" {
		return err
	}
	text += "\n" + environment(ctx) + meter.text()
	fmt.Print("\n", text)
	return errors.Join(err, save(*name, text))
}

func save(name, text string) error {
	if name == "" || strings.ContainsAny(name, "/\\") {
		return fmt.Errorf("name %q: want a file name without its .md", name)
	}
	if err := os.MkdirAll(resultsDir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(resultsDir, name+".md"), []byte(text), 0o644)
}
