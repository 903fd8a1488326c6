package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"hotlap/cmd/internal/load"
	"hotlap/cmd/internal/page"
	"hotlap/cmd/internal/progress"
	"hotlap/cmd/internal/report"
)

const compareUsage = `Usage:
    hotlap bench compare [flags] A.json B.json

Compare two reports that hotlap bench --json wrote: ratios of B to A, and whether
a difference exceeds the runs' own spread, second by second.

        --html FILE          write the comparison as a page too
        --json FILE|-        write it as JSON; with - instead of the text
        --assert EXPR        on a ratio of B to A: p99<=110%, rate>=0.95 ...;
                             repeatable. Figures: rate p50 p90 p99 p99.9 cpu

Take the runs in turn (A B A B): what changes on the machine between two runs
looks like a difference.

Exit codes: 0 done, whatever differs; 1 it could not be written; 2 bad arguments,
or a file that is no report; 3 an --assert was breached.
`

// compareOptions is what the command line says.
type compareOptions struct {
	html, json string
	gates      []*load.Gate[*load.Comparison]
}

func parseCompare(args []string) (o *compareOptions, files []string, err error) {
	o = &compareOptions{}
	f := pflag.NewFlagSet("bench compare", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	f.StringVar(&o.html, "html", "", "")
	f.StringVar(&o.json, "json", "", "")
	f.Var(each(func(s string) error {
		g, err := load.ParseRatioGate(s)
		if err == nil {
			o.gates = append(o.gates, g)
		}
		return err
	}), "assert", "")
	if err := parseFlags(f, args); err != nil {
		return nil, nil, err
	}
	if err := checkOutputs(f, "html", "json"); err != nil {
		return nil, nil, err
	}
	if f.NArg() != 2 {
		return nil, nil, errors.New("want two reports, A.json and B.json")
	}
	return o, f.Args(), nil
}

// runCompare compares two reports.
func runCompare(std *stdio, args []string) int {
	o, files, err := parseCompare(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprint(std.out, compareUsage)
		return exitOK
	case err != nil:
		return std.misuse("bench compare", "%v", err)
	}
	a, err := readReport(files[0])
	if err != nil {
		return std.misuse("bench compare", "%v", err)
	}
	b, err := readReport(files[1])
	if err != nil {
		return std.misuse("bench compare", "%v", err)
	}
	c := load.Compare(a, b)
	c.A.Name, c.B.Name = files[0], files[1]
	for _, g := range o.gates {
		c.Gates = append(c.Gates, g.Judge(c))
	}
	if err := o.write(std, a, b, c); err != nil {
		std.complain("bench compare", "%v", err)
		return exitFailed
	}
	return std.breached("bench compare", c.Gates)
}

func (o *compareOptions) write(std *stdio, a, b *load.Report, c *load.Comparison) error {
	if err := canWrite(o.html, o.json); err != nil {
		return err
	}
	if o.html != "" {
		var text bytes.Buffer
		if err := page.WriteComparison(&text, a, b, c); err != nil {
			return err
		}
		if err := report.WriteFile(o.html, text.Bytes()); err != nil {
			return err
		}
	}
	if err := std.writeJSON(o.json, c); err != nil || o.json == "-" {
		return err
	}
	return c.WriteText(std.out, progress.Color(std.out))
}
