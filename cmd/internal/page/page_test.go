package page

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"hotlap/cmd/internal/load"
)

func write(t *testing.T, name string, r *load.Report, events ...Event) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, r, events...); err != nil {
		t.Fatal(err)
	}
	leave(t, name, b.Bytes())
	return b.Bytes()
}

// leave keeps a page if that was asked for.
func leave(t *testing.T, name string, page []byte) {
	t.Helper()
	if *keep == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(*keep, name+".html"), page, 0o666); err != nil {
		t.Fatal(err)
	}
}

// TestRun opens pages of all kinds of runs: each draws the charts that there
// are figures for, and nothing goes wrong in any.
func TestRun(t *testing.T) {
	const always = "throughput"
	whole := []string{"percentiles", always, "response", "service"}
	for name, c := range map[string]struct {
		report *load.Report
		charts []string
	}{
		"stalls":       {stalls(), append(whole[:4:4], "backlog")},
		"burst":        {burst(), append(whole[:4:4], "failures")},
		"ramp":         {ramp(), append(whole[:4:4], "backlog")},
		"one second":   {oneSecond(), whole},
		"one response": {oneResponse(), whole},
		"nothing":      {nothing(), nil},
		"errors only":  {errorsOnly(), []string{always, "failures"}},
		"huge":         {huge(), whole},
		"hostile":      {hostile(), append(whole[:4:4], "failures")},
		"long":         {long(), append(whole[:4:4], "backlog")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := browser{t: t, page: write(t, name, c.report)}
			checkCharts(t, b.dom(), c.charts)
		})
	}
}

// checkCharts wants these charts, in any order, each drawn.
func checkCharts(t *testing.T, root *html.Node, want []string) map[string]int {
	t.Helper()
	drawn := map[string]int{}
	for _, box := range find(root, "div", "data-chart", "") {
		name := attribute(box, "data-chart")
		n, err := strconv.Atoi(attribute(box, "data-drawn"))
		if err != nil || n == 0 {
			t.Errorf("chart %s is not drawn: %q points", name, attribute(box, "data-drawn"))
		}
		drawn[name] = n
	}
	if got, want := slices.Sorted(maps.Keys(drawn)), slices.Sorted(slices.Values(want)); !slices.Equal(got, want) {
		t.Errorf("charts %q, want %q", got, want)
	}
	return drawn
}

var _ = fmt.Sprint
var _ = strings.Contains
