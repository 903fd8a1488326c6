package main

import (
	"bytes"
	"encoding/json"
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
    hotlap bench compare [--html FILE] [--json] A.json B.json

Compare two reports that hotlap bench --json wrote: ratios of B to A, and whether
a difference exceeds the runs' own spread, second by second.

        --html FILE          write the comparison as a page too
        --json               write it as JSON, not text

Take the runs in turn (A B A B): what changes on the machine between two runs
looks like a difference.
`

// runCompare compares two reports.
func runCompare(std *stdio, args []string) int {
	var html string
	var asJSON bool
	f := pflag.NewFlagSet("bench compare", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	f.StringVar(&html, "html", "", "")
	f.BoolVar(&asJSON, "json", false, "")
	err := parseFlags(f, args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprint(std.out, compareUsage)
		return exitOK
	case err != nil:
		return std.misuse("bench compare", "%v", err)
	case f.NArg() != 2:
		return std.misuse("bench compare", "want two reports, A.json and B.json")
	}
	a, err := readReport(f.Arg(0))
	if err != nil {
		return std.misuse("bench compare", "%v", err)
	}
	b, err := readReport(f.Arg(1))
	if err != nil {
		return std.misuse("bench compare", "%v", err)
	}
	c := load.Compare(a, b)
	c.A.Name, c.B.Name = f.Arg(0), f.Arg(1)
	if err := writeComparison(std, a, b, c, html, asJSON); err != nil {
		std.complain("bench compare", "%v", err)
		return exitFailed
	}
	return exitOK
}

func writeComparison(std *stdio, a, b *load.Report, c *load.Comparison, html string, asJSON bool) error {
	if html != "" {
		var text bytes.Buffer
		if err := page.WriteComparison(&text, a, b, c); err != nil {
			return err
		}
		if err := report.WriteFile(html, text.Bytes()); err != nil {
			return err
		}
	}
	if asJSON {
		e := json.NewEncoder(std.out)
		e.SetIndent("", "  ")
		return e.Encode(c)
	}
	return c.WriteText(std.out, progress.Color(std.out))
}
