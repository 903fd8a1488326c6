package page

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
	return leave(t, name, b.Bytes())
}

func writeComparison(t *testing.T, name string, a, b *load.Report) []byte {
	t.Helper()
	var page bytes.Buffer
	if err := WriteComparison(&page, a, b, load.Compare(a, b)); err != nil {
		t.Fatal(err)
	}
	return leave(t, name, page.Bytes())
}

// leave keeps a page if that was asked for.
func leave(t *testing.T, name string, page []byte) []byte {
	t.Helper()
	if *keep != "" {
		if err := os.WriteFile(filepath.Join(*keep, name+".html"), page, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return page
}

// TestCharts opens pages of all kinds of runs: each draws the charts that there
// are figures for, and nothing goes wrong in any.
func TestCharts(t *testing.T) {
	usual := []string{"percentiles", "throughput", "response", "service"}
	and := func(more ...string) []string { return slices.Concat(usual, more) }
	pair := []string{"percentiles", "throughput", "p50", "p99"}
	cases := []struct {
		name   string
		page   []byte
		charts []string
		points int // at least, of each chart
	}{
		{"stalls", write(t, "stalls", stalls()), and("backlog"), 30},
		{"burst", write(t, "burst", burst()), and("failures"), 30},
		{"ramp", write(t, "ramp", ramp()), and("backlog"), 60},
		{"one second", write(t, "one second", oneSecond()), usual, 1},
		{"one response", write(t, "one response", oneResponse()), usual, 1},
		{"nothing", write(t, "nothing", nothing()), nil, 0},
		{"errors only", write(t, "errors only", errorsOnly()), []string{"throughput", "failures"}, 8},
		{"huge", write(t, "huge", huge()), usual, 12},
		{"hostile", write(t, "hostile", hostile()), and("failures"), 30},
		{"long", write(t, "long", long()), and("backlog"), 7200},
		{"two", writeComparison(t, "two", stalls(), burst()), append(pair[:4:4], "failures"), 60},
		{"two, one empty", writeComparison(t, "two, one empty", nothing(), oneSecond()), pair, 1},
		{"two, both empty", writeComparison(t, "two, both empty", nothing(), nothing()), nil, 0},
		{"two, hostile", writeComparison(t, "two, hostile", hostile(), huge()), append(pair[:4:4], "failures"), 12},
	}
	var wide, narrow []frame
	for _, c := range cases {
		wide = append(wide, frame{page: c.page})
		narrow = append(narrow, frame{page: c.page, width: 360})
	}
	for i, root := range open(t, append(wide, narrow...)) {
		c := cases[i%len(cases)]
		drawn := drawnCharts(root)
		if got, want := slices.Sorted(maps.Keys(drawn)), slices.Sorted(slices.Values(c.charts)); !slices.Equal(got, want) {
			t.Errorf("%s: charts %q, want %q", c.name, got, want)
		}
		for name, n := range drawn {
			if n < c.points && name != "percentiles" || n == 0 {
				t.Errorf("%s: chart %s has %d points in view", c.name, name, n)
			}
		}
	}
}

// drawnCharts is how many points of each chart of a page were drawn.
func drawnCharts(root *html.Node) map[string]int {
	drawn := map[string]int{}
	for _, box := range find(root, "div", "data-chart", "") {
		n, _ := strconv.Atoi(attribute(box, "data-drawn")) // 0 if it is not there
		drawn[attribute(box, "data-chart")] = n
	}
	return drawn
}
