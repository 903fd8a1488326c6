package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"hotlap/ebpf/tune"
)

const tuneVerifyUsage = `Usage: hotlap tune verify [--json] [KNOB...]

Put kernel settings to the test: for each, the load that it is said to help runs
several times with the setting as it is here and as often with it changed, in
throwaway network namespaces that have this machine's other settings. The host is
not touched. It takes about two minutes for all; KNOB is a name such as somaxconn.

      --json  one JSON document: each run's figures, and what was observed

The verdict is computed from counts and times that are named beforehand, what the
setting should help and what it may harm:
  effective     something got better, nothing worse
  no effect     nothing moved, and a move that matters would have been seen
  harmful       something got worse, nothing better
  trade         something got better, something else worse
  inconclusive  the runs differ too much among themselves to say

It needs root, or else user namespaces: then all but the experiments that hold
packets back, which need CAP_BPF and CAP_NET_ADMIN.

Exit codes: 0 done, whatever the verdicts; 1 some experiment could not be made
(but for one with something that this kernel does not have); 2 bad arguments; 130
or 143 ended by a signal.
`

// insideVar marks the process that was started in a user namespace.
const insideVar = "HOTLAP_TUNE_VERIFY_INSIDE"

func runTuneVerify(ctx context.Context, std *stdio, args []string) int {
	flags := tuneFlags("verify", nil)
	asJSON := flags.Bool("json", false, "")
	switch err := parseFlags(flags, args); {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprint(std.out, tuneVerifyUsage)
		return exitOK
	case err != nil:
		return std.misuse("tune verify", "%v", err)
	}
	experiments, err := tune.ByName(flags.Args())
	if err != nil {
		return std.misuse("tune verify", "%v", err)
	}
	inside := os.Getenv(insideVar) != ""
	switch err := tune.CanVerify(); {
	case errors.Is(err, tune.ErrPrivilege) && !inside:
		return verifyInside(std)
	case errors.Is(err, tune.ErrPrivilege):
		std.complain("tune verify", "%v\n%s", err, verifyNeeds)
		return exitFailed
	case err != nil:
		std.complain("tune verify", "%v", err)
		return exitFailed
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	interrupted := awaitInterruption(cancel, cancel)
	defer interrupted.end()
	v := verification{std: std, asJSON: *asJSON, inside: inside, proofs: []tune.Proof{}}
	code, err := v.run(ctx, experiments)
	if err != nil {
		std.complain("tune verify", "%v", err)
		return exitFailed
	}
	return cmp.Or(interrupted.code(), code)
}

// verifyInside runs the command again in a user namespace.
func verifyInside(std *stdio) int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), insideVar+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = std.in, std.out, std.err
	tune.EnterUserNamespace(cmd)
	signals := make(chan os.Signal, 2)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		if !signal.Ignored(s) { // or the other process would not ignore it
			signal.Notify(signals, s)
		}
	}
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		std.complain("tune verify", "a user namespace of its own: %v\n%s", err, verifyNeeds)
		return exitFailed
	}
	go func() {
		for s := range signals {
			if s == syscall.SIGTERM { // an interrupt from the terminal is for both
				_ = cmd.Process.Signal(s)
			}
		}
	}()
	err := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode()
	case err != nil:
		std.complain("tune verify", "in a user namespace: %v", err)
		return exitFailed
	}
	return exitOK
}

const verifyNeeds = `It needs root: CAP_SYS_ADMIN and CAP_NET_ADMIN, and CAP_BPF and CAP_PERFMON for all
of it. Or let users make user namespaces (user.max_user_namespaces, and where they
exist kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns).`

// A verification is one run of the command.
type verification struct {
	std    *stdio
	asJSON bool
	inside bool
	proofs []tune.Proof
}

// run makes the experiments. Its error is one of writing what they showed.
func (v *verification) run(ctx context.Context, experiments []*tune.Experiment) (code int, err error) {
	globals := tune.Globals()
	if !v.asJSON {
		if err := v.head(globals); err != nil {
			return exitFailed, err
		}
	}
	for _, e := range experiments {
		p := tune.Verify(ctx, e)
		if ctx.Err() != nil {
			v.std.complain("tune verify", "interrupted")
			code = exitFailed
			break
		}
		if p.Err != nil && !errors.Is(p.Err, tune.ErrAbsent) {
			code = exitFailed
		}
		v.proofs = append(v.proofs, p)
		if !v.asJSON {
			if _, err := io.WriteString(v.std.out, proofText(p)); err != nil {
				return exitFailed, err
			}
		}
	}
	if !v.asJSON {
		return code, nil
	}
	encoder := json.NewEncoder(v.std.out)
	encoder.SetIndent("", "  ")
	return code, encoder.Encode(struct {
		Globals       []string     `json:"globals"`
		UserNamespace bool         `json:"user_namespace"`
		Proofs        []tune.Proof `json:"proofs"`
	}{globals, v.inside, v.proofs})
}

func (v *verification) head(globals []string) error {
	text := fmt.Sprintf("%d runs before and %d after each change, in throwaway namespaces with this machine's settings.\n", tune.Runs, tune.Runs)
	if len(globals) > 0 {
		text += fmt.Sprintf("The whole machine's, as they are: %s.\n", strings.Join(globals, ", "))
	}
	if v.inside {
		text += "In a user namespace, for want of root: what needs CAP_BPF is not tried.\n"
	}
	_, err := io.WriteString(v.std.out, text)
	return err
}

// proofText is an experiment in a line, and what it was in some more.
func proofText(p tune.Proof) string {
	var b strings.Builder
	b.WriteString("\n" + p.Knob[strings.LastIndexByte(p.Knob, '.')+1:])
	if p.From != "" {
		fmt.Fprintf(&b, " %s -> %s", p.From, p.To)
	}
	if p.Case != "" {
		fmt.Fprintf(&b, " (%s)", p.Case)
	}
	if p.Err != nil {
		fmt.Fprintf(&b, ": not tried: %v\n", p.Err)
		return b.String()
	}
	var told, quiet, shown []string
	for _, m := range p.Metrics {
		before, after, known := p.Median(m)
		switch moved := known && math.Abs(after-before) >= m.Least; {
		case m.Kind == tune.Shown:
			shown = append(shown, move(p, m))
		case m.Kind == tune.Harm && !moved:
			quiet = append(quiet, move(p, m))
		default:
			told = append(told, move(p, m))
		}
	}
	fmt.Fprintf(&b, ": %s: %s\n", strings.Join(told, ", "), p.Verdict)
	for _, line := range [][2]string{
		{"no harm seen in", strings.Join(quiet, ", ")}, {"also", strings.Join(shown, ", ")},
		{"load", p.Load}, {"with", strings.Join(p.With, ", ")},
		{"note", p.Why}, {"not given to the namespaces", strings.Join(p.Without, ", ")},
	} {
		if line[1] != "" {
			fmt.Fprintf(&b, "    %s: %s\n", line[0], line[1])
		}
	}
	return b.String()
}

// move is where a metric was and went: medians, and where they say nothing, all
// that there was.
func move(p tune.Proof, m tune.Metric) string {
	before, after, known := p.Median(m)
	if !known {
		return m.Name + " not known"
	}
	text := fmt.Sprintf("%s %s -> %s", m.Name, figureText(before, m.Unit), figureText(after, m.Unit))
	if p.Verdict == tune.Inconclusive {
		text += fmt.Sprintf(" (%s -> %s)", rangeText(p.Before, m), rangeText(p.After, m))
	}
	return text
}

func rangeText(runs []tune.Run, m tune.Metric) string {
	var least, most float64
	for i, r := range runs {
		n := r.Figures[m.Name]
		if i == 0 {
			least, most = n, n
		}
		least, most = min(least, n), max(most, n)
	}
	return figureText(least, m.Unit) + " to " + figureText(most, m.Unit)
}

func figureText(n float64, unit string) string {
	switch {
	case unit == "s" && n < 1:
		return fmt.Sprintf("%.1f ms", n*1e3)
	case unit == "s":
		return fmt.Sprintf("%.2f s", n)
	case unit == "":
		return fmt.Sprintf("%.0f", n)
	}
	return fmt.Sprintf("%.0f %s", n, unit)
}
