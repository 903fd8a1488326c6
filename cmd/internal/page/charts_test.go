package page

import (
	"fmt"
	"image"
	"image/color"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"hotlap/cmd/internal/load"
)

// TestCharts opens pages of all kinds of runs, on a screen and on a phone: each
// draws the charts that there are figures for, and nothing goes wrong in any.
func TestCharts(t *testing.T) {
	t.Parallel()
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
		{"long", write(t, "long", long()), and("backlog"), 3600},
		{"two", writeComparison(t, "two", stalls(), burst()), append(pair[:4:4], "failures"), 60},
		{"two, one empty", writeComparison(t, "two, one empty", nothing(), oneSecond()), pair, 1},
		{"two, both empty", writeComparison(t, "two, both empty", nothing(), nothing()), nil, 0},
		{"two, hostile", writeComparison(t, "two, hostile", hostile(), huge()), append(pair[:4:4], "failures"), 12},
	}
	var screens, phones []frame
	for _, c := range cases {
		screens = append(screens, frame{page: c.page})
		phones = append(phones, frame{page: c.page, width: 360})
	}
	for i, root := range open(t, append(screens, phones...)) {
		c := cases[i%len(cases)]
		drawn := drawnCharts(root)
		if got, want := slices.Sorted(maps.Keys(drawn)), slices.Sorted(slices.Values(c.charts)); !slices.Equal(got, want) {
			t.Errorf("%s: charts %q, want %q", c.name, got, want)
		}
		for name, n := range drawn {
			if n == 0 || n < c.points && name != "percentiles" {
				t.Errorf("%s: chart %s has %d points in view", c.name, name, n)
			}
		}
	}
}

// TestTailOfARun: what comes within milliseconds after the end is no point of a
// chart; what is waited for longer is.
func TestTailOfARun(t *testing.T) {
	t.Parallel()
	ending := func(length float64) []byte {
		r := stalls()
		r.Series = append(r.Series, load.Second{At: r.Seconds, Length: length, Responses: 3, Response: r.Series[0].Response})
		return write(t, fmt.Sprint("tail of ", length), r)
	}
	opened := open(t, []frame{{page: ending(0.005)}, {page: ending(0.5)}})
	at := func(i int) int { return drawnCharts(opened[i])["response"] }
	if at(0) != 4*30 || at(1) != 4*31 { // max, p99, p90 and p50
		t.Errorf("%d and %d points in view of 30 seconds and what came after", at(0), at(1))
	}
}

// drawnCharts is how many points of each chart of a page are in view.
func drawnCharts(root *html.Node) map[string]int {
	drawn := map[string]int{}
	for _, box := range find(root, "div", "data-chart", "") {
		n, _ := strconv.Atoi(attribute(box, "data-drawn")) // 0 if it is not there
		drawn[attribute(box, "data-chart")] = n
	}
	return drawn
}

// TestFaultsAreNoticed: the other tests rely on it that a broken page is seen.
func TestFaultsAreNoticed(t *testing.T) {
	t.Parallel()
	page := `<!doctype html><html lang="en"><meta charset="utf-8"><title>broken</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src 'self'; script-src 'unsafe-inline'">
<script>` + faults + `</script><body><script>console.error("of", "ours"); fetch("/denied").catch(() => {}); missing();</script>
<img src="/absent" alt=""><div id="wide">x</div><script>document.getElementById("wide").style.width = "5000px"</script>`
	_, complaints := try(t, []frame{{page: []byte(page)}})
	all := strings.Join(complaints, "\n")
	for _, want := range []string{"console: of ours", "error: Uncaught ReferenceError", "policy: connect-src", "on the console: ", "1 requests for /absent", "pixels wider"} {
		if !strings.Contains(all, want) {
			t.Errorf("no complaint %q in:\n%s", want, all)
		}
	}
}

// TestPage: events are marks in each chart that has a time axis, where they lie
// within the run; and the button changes the theme.
func TestPage(t *testing.T) {
	t.Parallel()
	page := write(t, "events", stalls(), Event{At: 3.2, Kind: "drop", Label: "accept queue full"}, Event{At: 18.4, Kind: "retransmit", Label: "</div><b>"}, Event{At: 1e9, Kind: "late", Label: "after the end"})
	opened := open(t, []frame{{page: page}, {page: page, click: "#theme"}})
	for _, box := range find(opened[0], "div", "data-chart", "") {
		want := "2"
		if attribute(box, "data-chart") == "percentiles" {
			want = ""
		}
		if got := attribute(box, "data-events"); got != want {
			t.Errorf("%q events in chart %s, want %q", got, attribute(box, "data-chart"), want)
		}
	}
	if got := attribute(find(opened[1], "html", "lang", "en")[0], "data-theme"); got != "dark" {
		t.Errorf("the button made the theme %q", got)
	}
	if drawn := drawnCharts(opened[1]); drawn["throughput"] == 0 || drawn["percentiles"] == 0 {
		t.Errorf("after a change of theme %v points are in view", drawn)
	}
}

// TestThemes: the system's preference turns the page dark, with the charts drawn
// in the colours of the theme.
func TestThemes(t *testing.T) {
	t.Parallel()
	page := write(t, "theme", stalls())
	palette := readPalette(t)
	for i, theme := range []string{"light", "dark"} {
		// Blink: 0 is dark, 1 is light.
		seen := picture(t, "theme-"+theme, page, 1000, 2600, "--blink-settings=preferredColorScheme="+strconv.Itoa(1-i))
		for name, least := range map[string]int{"ground": 50000, "paper": 300000, "ink": 500, "response": 500, "service": 300, "warn": 300, "p50": 100, "accent": 20} {
			if n := pixels(seen, palette[name][i]); n < least {
				t.Errorf("%s: %d pixels of %s, want %d", theme, n, name, least)
			}
		}
	}
}

// pixels counts the pixels of a colour.
func pixels(seen image.Image, want color.RGBA) (n int) {
	for y := seen.Bounds().Min.Y; y < seen.Bounds().Max.Y; y++ {
		for x := seen.Bounds().Min.X; x < seen.Bounds().Max.X; x++ {
			if color.RGBAModel.Convert(seen.At(x, y)) == want {
				n++
			}
		}
	}
	return n
}

// TestPrint: the page can be printed, which redraws its charts.
func TestPrint(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "page.pdf")
	if *keep != "" {
		file = filepath.Join(*keep, "page.pdf")
	}
	_, complaints := chromium(t, site(write(t, "print", stalls())), "/page", "--print-to-pdf="+file, "--blink-settings=preferredColorScheme=0")
	for _, c := range complaints {
		t.Error(c)
	}
	if pdf, err := os.ReadFile(file); err != nil || len(pdf) < 20000 || string(pdf[:5]) != "%PDF-" {
		t.Errorf("%d bytes that are no page on paper: %v", len(pdf), err)
	}
}

// readPalette reads the colours of the style sheet, light and dark.
func readPalette(t *testing.T) map[string][2]color.RGBA {
	t.Helper()
	palette := map[string][2]color.RGBA{}
	hex := func(s string) color.RGBA {
		n, err := strconv.ParseUint(s, 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		return color.RGBA{uint8(n >> 16), uint8(n >> 8), uint8(n), 255}
	}
	for _, m := range regexp.MustCompile(`--([\w-]+): light-dark\(#(\w{6}), #(\w{6})\)`).FindAllStringSubmatch(ownStyle, -1) {
		palette[m[1]] = [2]color.RGBA{hex(m[2]), hex(m[3])}
	}
	return palette
}

// TestContrast: text has the contrast that WCAG 2 asks of level AA (1.4.3), lines
// that of graphics (1.4.11), in both themes and on both grounds.
func TestContrast(t *testing.T) {
	palette := readPalette(t)
	texts, lines := []string{"ink", "faint", "accent", "good", "warn", "bad"}, []string{"response", "service", "second", "second-service", "p50", "p90", "p99", "max", "event"}
	for i, theme := range []string{"light", "dark"} {
		for _, ground := range []string{"paper", "ground"} {
			for _, name := range slices.Concat(texts, lines) {
				least := 3.0
				if slices.Contains(texts, name) {
					least = 4.5
				}
				if c := contrast(palette[name][i], palette[ground][i]); c < least {
					t.Errorf("%s: contrast of %s on %s is %.2f, want %.1f", theme, name, ground, c, least)
				}
			}
		}
	}
}

// contrast is the contrast ratio of WCAG 2: 1 to 21.
func contrast(a, b color.RGBA) float64 {
	light, dark := luminance(a), luminance(b)
	if light < dark {
		light, dark = dark, light
	}
	return (light + 0.05) / (dark + 0.05)
}

func luminance(c color.RGBA) float64 {
	linear := func(v uint8) float64 {
		x := float64(v) / 255
		if x <= 0.04045 {
			return x / 12.92
		}
		return math.Pow((x+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(c.R) + 0.7152*linear(c.G) + 0.0722*linear(c.B)
}
