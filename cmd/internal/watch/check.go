package watch

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"hotlap/ebpf"
)

const checkColumns = "%-4s  %-56s %9s  %-46s %s\n"

// CheckHeader is the first line of the self-test.
var CheckHeader = strings.TrimRight(fmt.Sprintf(checkColumns, "", "FAULT", "PROVOKED", "OBSERVED (BY)", "KERNEL COUNTER"), "\n")

// CheckRow is a row of the self-test.
func CheckRow(c ebpf.Check) string {
	verdict := "ok"
	if !c.Passed() {
		verdict = "FAIL"
	}
	observed, kernel := figures(c.Observed), figures(c.Kernel)
	switch {
	case c.SameSource:
		kernel = []string{"same source"}
	case len(kernel) == 0:
		kernel = []string{"none"}
	}
	if len(observed) == 0 {
		observed = []string{"not known"}
	}
	row := ""
	for i := range max(len(observed), len(kernel)) {
		cells := []any{"", "", "", at(observed, i), at(kernel, i)}
		if i == 0 {
			cells[0], cells[1], cells[2] = verdict, c.Fault, fmt.Sprint(c.Provoked)
		}
		row += strings.TrimRight(fmt.Sprintf(checkColumns, cells...), " \n") + "\n"
	}
	if c.Missed > 0 {
		row += fmt.Sprintf("      provoked %d times: the kernel counted all, and did not run the BPF programs for all\n", c.Missed+1)
	}
	if c.Err != nil {
		row += fmt.Sprintf("      %v\n", c.Err)
	}
	if len(c.Observed) > manyFigures {
		var host []string
		for _, k := range slices.Sorted(maps.Keys(c.Host)) {
			host = append(host, fmt.Sprintf("%s %d", k, c.Host[k]))
		}
		row += fmt.Sprintf("      host, not judged: %s\n", strings.Join(host, ", "))
	}
	return row
}

// manyFigures are more than a column takes: only those that are wrong are told.
const manyFigures = 4

func figures(list []ebpf.Figure) (cells []string) {
	for _, f := range list {
		switch {
		case f.Value != f.Want:
			cells = append(cells, fmt.Sprintf("%s %d, not %d (%s)", f.Name, f.Value, f.Want, f.Source))
		case len(list) <= manyFigures:
			cells = append(cells, fmt.Sprintf("%s %d (%s)", f.Name, f.Value, f.Source))
		}
	}
	if len(cells) == 0 && len(list) > 0 {
		cells = []string{fmt.Sprintf("%d counters, all as they should be", len(list))}
	}
	return cells
}

func at(cells []string, i int) string {
	if i < len(cells) {
		return cells[i]
	}
	return ""
}
