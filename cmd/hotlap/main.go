// Hotlap sends HTTP/1.1 requests: see usage, or hotlap help.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
)

const usage = `hotlap sends HTTP/1.1 requests, fast, and says what became of each.

Usage: hotlap COMMAND [flags] [arguments]

  fetch     send a stream of requests, get every response as a line of JSON
  pipe      send requests for a program, such as one in Python
  bench     load a server and measure it honestly
  serve     run a target server to try things against
  tune      see, set and undo the kernel's settings that a load needs
  watch     see what the kernel does to TCP sockets: queues, drops, resets
  demo      serve and fetch a million URLs, and check each answer
  version   print the version

hotlap COMMAND --help says more.

Exit codes: 0 done; 1 the run failed; 2 bad arguments or input; 3 --fail and
some request failed, or an --assert was breached; 4 --require-valid and the run
is not known to be valid; 130 or 143 ended by a signal, with what was done
written.
`

// Exit codes.
const (
	exitOK      = 0
	exitFailed  = 1 // could not start, output broke
	exitUsage   = 2 // bad arguments or input
	exitGate    = 3 // --fail, --assert
	exitInvalid = 4 // --require-valid
	exitSIGINT  = 130
	exitSIGTERM = 143
)

// stdio is what a command talks through.
type stdio struct {
	in       *os.File
	out, err *os.File
}

// A command runs with the arguments after its name and returns the exit code.
type command struct {
	name string
	run  func(ctx context.Context, std *stdio, args []string) int
}

var commands = []command{
	{"fetch", runFetch},
	{"pipe", runPipe},
	{"bench", runBench},
	{"serve", runServe},
	{"tune", runTune},
	{"watch", runWatch},
	{"demo", runDemo},
	{"version", runVersion},
}

func main() { os.Exit(run()) }

func run() int {
	std := &stdio{os.Stdin, os.Stdout, os.Stderr}
	if len(os.Args) < 2 {
		fmt.Fprint(std.err, usage)
		return exitUsage
	}
	name, args := os.Args[1], os.Args[2:]
	switch name {
	case "help", "-h", "--help":
		if len(args) == 0 {
			fmt.Fprint(std.out, usage)
			return exitOK
		}
		name, args = args[0], []string{"--help"}
	case "--version":
		name = "version"
	}
	for _, c := range commands {
		if c.name == name {
			return c.run(context.Background(), std, args)
		}
	}
	return std.misuse("", "unknown command %q%s", name, hint(name))
}

// hint suggests what somebody may have meant.
func hint(name string) string {
	if strings.Contains(name, "://") {
		return ": to fetch a URL, hotlap fetch " + name
	}
	names := map[string]bool{}
	for _, c := range commands {
		names[c.name] = true
	}
	if near := nearest(name, names); near != nil {
		return ": did you mean " + strings.Join(near, " or ") + "?"
	}
	return ": see hotlap help"
}

// misuse says what is wrong with the command line.
func (s *stdio) misuse(command, format string, args ...any) int {
	s.complain(command, format, args...)
	return exitUsage
}

// complain writes one line to standard error, as hotlap COMMAND: what.
func (s *stdio) complain(command, format string, args ...any) {
	if command != "" {
		command = " " + command
	}
	fmt.Fprintf(s.err, "hotlap%s: %s\n", command, fmt.Sprintf(format, args...))
}
