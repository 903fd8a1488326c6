package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"hotlap/cmd/internal/load"
	"hotlap/cmd/internal/progress"
	"hotlap/ebpf/tune"
)

func runTuneCheck(_ context.Context, std *stdio, args []string) int {
	var l tune.Load
	f := tuneFlags("check", &l)
	asJSON := f.Bool("json", false, "")
	if code, end := parseTune(std, f, args, 0); end {
		return code
	}
	d := tune.Diagnose(l, tune.ReadMachine())
	if fact, ok := placement(d.Load); ok {
		d.Facts = append(d.Facts, fact)
	}
	var err error
	if *asJSON {
		err = writeJSON(std, struct {
			Well bool `json:"well"`
			*tune.Diagnosis
		}{d.Well(), d})
	} else {
		err = writeDiagnosis(std.out, d, progress.Color(std.out))
	}
	switch {
	case err != nil:
		std.complain("tune check", "%v", err)
		return exitFailed
	case !d.Well():
		return exitGate
	}
	return exitOK
}

// placement says whether the server that is meant may run on our CPUs.
func placement(l tune.Load) (f tune.Fact, ok bool) {
	if !l.Loopback || l.Port == 0 {
		return f, false
	}
	shares := load.SharesCPUs([]netip.AddrPort{
		netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), l.Port), netip.AddrPortFrom(netip.IPv6Loopback(), l.Port),
	})
	if shares == nil {
		return f, false
	}
	says := fmt.Sprintf("the server at port %d has CPUs of its own", l.Port)
	if *shares {
		says = fmt.Sprintf("the server at port %d may run on the same CPUs as we", l.Port)
	}
	return tune.Fact{Name: "placement", Says: says, OK: true}, true
}

// marks of a row, as wide as each other.
const (
	markWell = "ok   "
	markNot  = "NO   "
	markLeft = "leave"
	markGone = "-    "
)

// writeDiagnosis writes all of it for people: what is not well is marked.
func writeDiagnosis(w io.Writer, d *tune.Diagnosis, color bool) error {
	p := &sheet{w: w, color: color}
	p.printf("%s\n\nCan it work?\n", describe(d.Load))
	for _, l := range d.Limits {
		p.row(mark(l.OK), l.Name, l.Says)
		if len(l.Fixes) > 0 {
			p.more("do one of: " + l.Advice())
		}
	}
	p.printf("\nKnobs, of this network namespace unless marked host\n")
	for _, a := range d.Advice {
		p.knob(a)
	}
	p.printf("\nThe machine: Linux %s\n", d.Machine.Kernel)
	for _, f := range d.Facts {
		p.row(mark(f.OK), f.Name, f.Says)
	}
	for _, what := range d.Machine.Unseen {
		p.row("?    ", "not seen", what)
	}
	if d.Well() {
		p.printf("\nNothing here would hold this load back.\n")
	} else {
		p.printf("\nThese would hold it back: %s.\n", strings.Join(d.Hindrances(), ", "))
	}
	if n := len(d.Changes()); n > 0 {
		p.printf("Knobs that hotlap tune apply changes, and hotlap tune rollback puts back: %d.\n", n)
	}
	return p.err
}

func mark(ok bool) string {
	if ok {
		return markWell
	}
	return markNot
}

// describe says the load in a sentence.
func describe(l tune.Load) string {
	var b strings.Builder
	fmt.Fprintf(&b, "For %s: %d connections", l.For, l.Connections)
	if l.For != tune.Serve {
		fmt.Fprintf(&b, " to %d destination%s", l.Destinations, map[bool]string{true: "", false: "s"}[l.Destinations == 1])
		b.WriteString(map[bool]string{true: " at a loopback address", false: " at a remote address"}[l.Loopback])
	}
	if l.Rate > 0 {
		fmt.Fprintf(&b, ", %.6g requests/s", l.Rate)
		if l.Assumed {
			b.WriteString(" (assumed)")
		}
	}
	switch {
	case !l.NoKeepAlive:
		b.WriteString(", connections kept alive.")
	case l.ServerCloses:
		b.WriteString(", each on a connection of its own that the server closes first.")
	case l.For == tune.Serve:
		b.WriteString(", each on a connection of its own.")
	default:
		b.WriteString(", each on a connection of its own that we close first\n(--server-closes: the server does).")
	}
	return b.String()
}

// A sheet is text for people, with the first error.
type sheet struct {
	w     io.Writer
	color bool
	err   error
}

func (p *sheet) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// Widths of columns, in characters.
const (
	nameWidth = 36
	textWidth = 92
)

// row is a mark, a name and a sentence, which goes on below the name if it is long.
func (p *sheet) row(mark, name, says string) {
	if p.color && mark == markNot {
		mark = "\x1b[31m" + mark + "\x1b[0m"
	}
	if p.color && mark == markWell {
		mark = "\x1b[32m" + mark + "\x1b[0m"
	}
	if len(name) <= 20 && len(says) <= textWidth-20 {
		p.printf("  %s  %-20s  %s\n", mark, name, says)
		return
	}
	p.printf("  %s  %s\n", mark, name)
	p.more(says)
}

// more is text that belongs to the row above.
func (p *sheet) more(text string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > textWidth {
			p.printf("           %s\n", line)
			line = ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	p.printf("           %s\n", line)
}

// knob is a knob's value, what is needed, why, and how sure that is.
func (p *sheet) knob(a tune.Advice) {
	value := strings.Join(strings.Fields(a.Value), " ")
	m := markWell
	switch {
	case a.Absent:
		m, value = markGone, "not here"
	case a.Leave:
		m = markLeft
	case a.Want != "":
		m = markNot
		value = orEmpty(value) + " -> " + strings.Join(strings.Fields(a.Want), " ")
	default:
		value = orEmpty(value)
	}
	if a.Scope == tune.Host {
		value += "  (host)"
	}
	if p.color && m == markNot {
		m = "\x1b[31m" + m + "\x1b[0m"
	}
	p.printf("  %s  %-*s %s\n", m, nameWidth, a.Name, value)
	if a.Absent {
		return
	}
	if a.Case != "" {
		p.more("here: " + a.Case)
	}
	p.more(a.Why + " [" + string(a.Confidence) + "; risk: " + a.Risk + "]")
	if a.Elsewhere {
		p.more("It is the machine's: change it in the initial network namespace.")
	}
}

func orEmpty(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
