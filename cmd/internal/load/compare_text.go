package load

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strconv"
	"text/tabwriter"
	"time"

	"hotlap/cmd/internal/report"
)

// WriteText tells the comparison to people. What is worse is red and what is
// better green if color is set.
func (c *Comparison) WriteText(w io.Writer, color bool) error {
	var b bytes.Buffer
	for _, warning := range c.Warnings {
		fmt.Fprintf(&b, "note  %s\n", warning)
	}
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "\t%s\t%s\tB/A\tseconds of A\tseconds of B\tB is\n", c.A.Name, c.B.Name)
	for _, r := range c.Rows {
		verdict := string(r.Verdict)
		if color {
			verdict = paint(r.Verdict)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s: %s\n", r.Metric,
			r.Unit.value(r.A), r.Unit.value(r.B), writeRatio(r.Ratio), r.Unit.spread(r.A), r.Unit.spread(r.B), verdict, r.Why)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	t := text{color: color}
	t.gates(c.Gates)
	b.WriteString(t.b.String())
	_, err := w.Write(b.Bytes())
	return err
}

func paint(o Outcome) string {
	switch o {
	case Better:
		return "\x1b[32m" + string(o) + "\x1b[0m"
	case Worse:
		return "\x1b[31m" + string(o) + "\x1b[0m"
	}
	return string(o)
}

func (u Unit) value(s *Sample) string {
	if s == nil {
		return "-"
	}
	return u.Format(s.Value)
}

func (u Unit) spread(s *Sample) string {
	if s == nil || s.Spread == nil {
		return "-"
	}
	return u.Format(s.Spread.Low) + " to " + u.Format(s.Spread.High)
}

func writeRatio(x *float64) string {
	if x == nil {
		return "-"
	}
	return strconv.FormatFloat(*x, 'f', 3, 64)
}

// Format writes a figure in its unit, to about three digits.
func (u Unit) Format(x float64) string {
	switch u {
	case UnitPerSecond:
		return report.Count(int64(math.Round(x))) + "/s"
	case UnitShare:
		return strconv.FormatFloat(100*x, 'g', 3, 64) + "%"
	}
	d := time.Duration(min(x*float64(time.Microsecond), math.MaxInt64/2))
	unit := time.Duration(1)
	for d >= 1000*unit {
		unit *= 10
	}
	return d.Round(unit).String()
}
