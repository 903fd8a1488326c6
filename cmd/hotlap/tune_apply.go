package main

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"strings"

	"hotlap/cmd/internal/progress"
	"hotlap/ebpf/tune"
)

func runTuneApply(_ context.Context, std *stdio, args []string) int {
	var l tune.Load
	var o tune.Options
	f := tuneFlags("apply", &l)
	dryRun := f.Bool("dry-run", false, "")
	yes := f.BoolP("yes", "y", false, "")
	asJSON := f.Bool("json", false, "")
	f.BoolVar(&o.Persist, "persist", false, "")
	f.StringVar(&o.Journal, "journal", tune.JournalDir, "")
	if code, end := parseTune(std, f, args, math.MaxInt); end {
		return code
	}
	d := tune.Diagnose(l, tune.ReadMachine())
	changes := d.Changes(f.Args()...)
	// Before the question come the reasons: on standard error with --json, whose
	// output is the result alone.
	text := std.out
	if *asJSON {
		text = std.err
	}
	p := &sheet{w: text, color: progress.Color(text)}
	p.changes(d, changes)
	file, impossible := tune.Preview(changes, o)
	p.file(file)
	if impossible != nil && *dryRun {
		p.printf("As things are, apply would fail:\n%v\n", impossible)
	}
	notYet := &tune.Applied{Done: []tune.Change{}, Rest: changes, Notes: file.Notes}
	switch {
	case p.err != nil:
		std.complain("tune apply", "%v", p.err)
		return exitFailed
	case *dryRun && *asJSON:
		return std.tuneResult("apply", *asJSON, notYet, nil)
	case *dryRun:
		return exitOK
	case impossible != nil: // nobody is asked for what is not to be had
		return std.applied(*asJSON, notYet, o, fmt.Errorf("nothing was changed:\n%w", impossible))
	case len(changes) == 0 && !o.Persist: // there is nothing to ask
		return std.tuneResult("apply", *asJSON, notYet, nil)
	case !*yes && !progress.IsTerminal(std.in):
		return std.misuse("tune apply", "nobody can be asked: say --yes, or --dry-run")
	case !*yes && !std.agree("Apply this?"):
		std.complain("tune apply", "nothing was changed")
		return exitFailed
	}
	a, err := tune.Apply(changes, o)
	if code := std.applied(*asJSON, a, o, err); code != exitOK || *asJSON {
		return code
	}
	if p.applied(a, o); p.err != nil {
		std.complain("tune apply", "%v", p.err)
		return exitFailed
	}
	return exitOK
}

// applied writes what was applied as JSON, where that is asked for, and says what
// failed and what that leaves.
func (s *stdio) applied(asJSON bool, a *tune.Applied, o tune.Options, err error) int {
	code := s.tuneResult("apply", asJSON, a, err)
	if code != exitOK {
		fmt.Fprintf(s.err, "done: %s\nnot done: %s\n", names(a.Done), names(a.Rest))
		if len(a.Done) > 0 {
			fmt.Fprintf(s.err, "%s undoes what was done\n", undo(o))
		}
	}
	return code
}

// undo is the command that undoes an apply.
func undo(o tune.Options) string {
	if o.Journal == tune.JournalDir {
		return "hotlap tune rollback"
	}
	return "hotlap tune rollback --journal " + o.Journal
}

// tuneResult writes a result as JSON, where that is asked for, and says what
// failed.
func (s *stdio) tuneResult(command string, asJSON bool, result any, err error) int {
	if asJSON {
		if werr := writeJSON(s, result); err == nil {
			err = werr
		}
	}
	if err == nil {
		return exitOK
	}
	s.complain("tune "+command, "%v", err)
	return exitFailed
}

func names(all []tune.Change) string {
	var list []string
	for _, c := range all {
		list = append(list, c.Name)
	}
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, ", ")
}

// agree asks on the terminal.
func (s *stdio) agree(question string) bool {
	fmt.Fprintf(s.err, "%s [y/N] ", question)
	line, _ := bufio.NewReader(s.in).ReadString('\n')
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes"
}

// changes shows what is to be changed, and what is not.
func (p *sheet) changes(d *tune.Diagnosis, changes []tune.Change) {
	p.printf("%s\n\n", describe(d.Load))
	for _, c := range changes {
		p.printf("%s (%s)\n  - %s\n  + %s\n", c.Name, c.Scope, oneLine(c.From), oneLine(c.To))
		p.more(c.Why)
		p.more("Risk: " + c.Risk)
	}
	if len(changes) == 0 {
		p.printf("Nothing to change: every knob has what this load needs of it.\n")
	}
	for _, a := range d.Advice {
		if a.Elsewhere {
			p.printf("Not changed here: %s %s -> %s: it is the machine's, and this is not the initial network namespace\n", a.Name, a.Value, a.Want)
		}
	}
	for _, l := range d.After(changes).Limits {
		if !l.OK {
			p.printf("%s in the way: %s: %s\n", map[bool]string{true: "Still", false: "Perhaps still"}[l.Certain], l.Name, l.Says)
			p.more("do one of: " + l.Advice())
		}
	}
}

// file shows what is to be written for the next boot, with what was applied
// before, and what will be in its way.
func (p *sheet) file(f tune.Persisted) {
	switch {
	case f.Path == "":
		return
	case len(f.Gone)+len(f.New) == 0:
		p.printf("%s: nothing to change\n", f.Path)
	default:
		p.printf("%s (for the next boot)\n", f.Path)
	}
	for _, line := range f.Gone {
		p.printf("  - %s\n", line)
	}
	for _, line := range f.New {
		p.printf("  + %s\n", line)
	}
	p.notes(f.Notes)
}

func (p *sheet) notes(all []string) {
	for _, n := range all {
		p.printf("note: %s\n", n)
	}
}

func oneLine(value string) string { return orEmpty(strings.Join(strings.Fields(value), " ")) }

func (p *sheet) applied(a *tune.Applied, o tune.Options) {
	if len(a.Done) > 0 {
		p.printf("%d changed; %s puts them back\n", len(a.Done), undo(o))
	} else {
		p.printf("no setting changed\n")
	}
	if a.File != "" {
		p.printf("written to %s\n", a.File)
	}
	p.notes(a.Notes)
	for _, c := range a.Done {
		if c.Name == "net.core.somaxconn" {
			p.printf("note: servers that run keep the queue they have: start them again\n")
		}
	}
}

func runTuneRollback(_ context.Context, std *stdio, args []string) int {
	var o tune.Options
	f := tuneFlags("rollback", nil)
	asJSON := f.Bool("json", false, "")
	f.BoolVar(&o.Force, "force", false, "")
	f.StringVar(&o.Journal, "journal", tune.JournalDir, "")
	if code, end := parseTune(std, f, args, 0); end {
		return code
	}
	r, err := tune.Rollback(o)
	if !*asJSON {
		p := &sheet{w: std.out}
		p.rolledBack(r)
		if err == nil {
			err = p.err
		}
	}
	if code := std.tuneResult("rollback", *asJSON, r, err); code != exitOK {
		return code
	}
	if len(r.Left) > 0 {
		return exitGate
	}
	return exitOK
}

func (p *sheet) rolledBack(r *tune.RolledBack) {
	for _, c := range r.Restored {
		p.printf("%s: %s -> %s\n", c.Name, oneLine(c.From), oneLine(c.To))
	}
	for _, l := range r.Left {
		p.printf("%s is left: it is %s, not %s as apply set it. It was %s: --force puts that back\n", l.Name, oneLine(l.Value), oneLine(l.Ours), oneLine(l.Old))
	}
	p.notes(r.Notes)
}
