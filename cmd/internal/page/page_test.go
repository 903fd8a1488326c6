package page

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"hotlap/cmd/internal/load"
	"hotlap/cmd/internal/report"
	"hotlap/ebpf"
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

// TestFiguresAreText: whoever has no scripts, or does not see the charts, finds
// every figure in the text of the page.
func TestFiguresAreText(t *testing.T) {
	r := burst()
	r.Command = []string{"hotlap", "bench", "-H", "X: it's", "--assert", "p99<5ms", "http://127.0.0.1/"}
	root := parse(t, write(t, "text", r, Event{At: 12.25, Kind: "drop", Label: "listen queue full"}))
	page := words(root)
	for _, want := range []string{
		"The server was the limit", "not verified", r.Verdict.Why,
		"96,888/s", "as fast as 64 connections go", "9.57 µs", "busiest loop 87 %",
		duration(r.ResponseTime.P99), duration(r.ResponseTime.P9999), duration(r.ServiceTime.StdDev),
		"2xx " + count(r.Responses-r.NonOK), "503 " + count(r.NonOK), "timeout 42,240", "closed 21,120",
		"p99<5ms yes it is 3.2ms", "errors==0 no it is 7, 7 over",
		"connections_busy", r.Verdict.Findings[0].Evidence, r.Verdict.Findings[0].Advice,
		"pipeline depth 1", "waited for a CPU 12.3 ms", "a server shares its CPUs yes", "peak memory 27.0 MiB",
		"kernel 6.18.5", "net.ipv4.ip_local_port_range 32768 60999",
		`hotlap bench -H 'X: it'\''s' --assert 'p99<5ms' http://127.0.0.1/`,
		"12.250 s drop listen queue full",
	} {
		if want := strings.Join(strings.Fields(want), " "); !strings.Contains(page, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	rows := find(find(root, "table", "id", "seconds")[0], "th", "scope", "row")
	if len(rows) != len(r.Series) {
		t.Errorf("%d rows of seconds, want %d", len(rows), len(r.Series))
	}
}

// What the observer saw is in a table, and its faults are events in the middle
// of their seconds.
func TestKernel(t *testing.T) {
	r := burst()
	if page := words(parse(t, write(t, "unwatched", r, Faults(r.Kernel)...))); strings.Contains(page, "The kernel") {
		t.Error("nobody watched, and there is a table of what was seen")
	}
	r.Kernel = &report.Kernel{
		Sample: ebpf.Sample{Tier: ebpf.TierDiag, Total: ebpf.Counts{ebpf.Retransmits: 7}},
		Ports:  []uint16{8080},
		Events: []report.KernelEvent{{At: 12, Length: 1, Counts: ebpf.Counts{ebpf.Retransmits: 7, ebpf.RSTsIn: 1}}},
	}
	page := words(parse(t, write(t, "kernel", r, Faults(r.Kernel)...)))
	for _, want := range []string{"The kernel observed tier diag, port 8080 retransmits 7", "12.500 s retransmits 7 retransmits", "12.500 s rsts in 1 rsts in"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in the page", want)
		}
	}
}

func TestUnknownFigures(t *testing.T) {
	r := oneSecond()
	r.Client = load.Client{}
	page := text(parse(t, write(t, "unknown", r)))
	if n := strings.Count(page, "not known"); n != 4 {
		t.Errorf("%d figures are not known, want 4: run queue, throttling, steal, shared CPUs", n)
	}
}

func TestLongRunsHaveShortTables(t *testing.T) {
	root := parse(t, write(t, "long", long()))
	if n := len(find(find(root, "table", "id", "seconds")[0], "th", "scope", "row")); n != maxRows {
		t.Errorf("%d rows, want %d", n, maxRows)
	}
	if page := text(parse(t, write(t, "events", long(), make([]Event, maxRows+7)...))); !strings.Contains(page, "7 more events") {
		t.Error("the page does not say how many events its table leaves out")
	}
	if !strings.Contains(text(root), "3000 more seconds") {
		t.Error("the page does not say how many seconds its table leaves out")
	}
}

func TestComparisonText(t *testing.T) {
	a, b := stalls(), burst()
	a.Environment.Kernel = "6.17.1"
	c := load.Compare(a, b)
	c.A.Name, c.B.Name = "before.json", "after.json"
	var w bytes.Buffer
	if err := WriteComparison(&w, a, b, c); err != nil {
		t.Fatal(err)
	}
	root := parse(t, w.Bytes())
	page := words(root)
	for _, want := range []string{"before.json", "after.json", "B is better in rate", "loop: open in A, closed in B", "kernel 6.17.1 6.18.5", "×4.950", "cannot tell"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	if n := len(find(find(root, "table", "id", "rows")[0], "th", "scope", "row")); n != len(c.Rows) {
		t.Errorf("%d rows, want %d", n, len(c.Rows))
	}
}

func TestSummaries(t *testing.T) {
	row := func(metric string, o load.Outcome) load.Row { return load.Row{Metric: metric, Verdict: o} }
	for want, rows := range map[string][]load.Row{
		"B is better in rate, p50; worse in p99":          {row("rate", load.Better), row("p50", load.Better), row("p90", load.NoDifference), row("p99", load.Worse)},
		"No difference that exceeds the runs' own spread": {row("rate", load.NoDifference), row("CPU", load.CannotTell)},
		"The runs are too short to tell":                  {row("rate", load.TooShort), row("CPU", load.CannotTell)},
		"These runs do not tell":                          {row("rate", load.CannotTell)},
	} {
		if got := summarize(&load.Comparison{Rows: rows}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestNothingFromElsewhere: a page names no address to load from, has no script
// or style but those its policy lists, and no text of a report becomes markup.
func TestNothingFromElsewhere(t *testing.T) {
	for name, page := range map[string][]byte{
		"hostile": write(t, "hostile", hostile(), Event{Label: "</script><script>alert(1)</script>", Kind: "<b>"}), "usual": write(t, "usual", stalls()),
		"two, hostile": writeComparison(t, "two, hostile", hostile(), hostile()), "two": writeComparison(t, "two", stalls(), burst()),
	} {
		root := parse(t, page)
		scripts := 0
		for node := range root.Descendants() {
			if node.Type != html.ElementNode {
				continue
			}
			switch node.Data {
			case "script":
				scripts++
			case "img", "iframe", "object", "embed", "form", "base", "a", "b", "svg":
				t.Errorf("%s: there is a <%s>", name, node.Data)
			}
			for _, a := range node.Attr {
				if a.Key == "style" || a.Key == "src" || strings.HasPrefix(a.Key, "on") || a.Key == "href" && !strings.HasPrefix(a.Val, "data:") {
					t.Errorf("%s: <%s %s=%q>", name, node.Data, a.Key, a.Val)
				}
			}
		}
		if !bytes.Contains(page, []byte(uplotLicense)) {
			t.Errorf("%s: the page is a copy of the library without its license", name)
		}
		if scripts != 5 {
			t.Errorf("%s: %d scripts, want 5: the data, the recorder of faults, the library, two of the charts", name, scripts)
		}
		allowed := attribute(find(root, "meta", "http-equiv", "Content-Security-Policy")[0], "content")
		if !strings.HasPrefix(allowed, "default-src 'none'; img-src data:; ") || strings.Contains(allowed, "unsafe") || strings.Contains(allowed, "http") {
			t.Errorf("%s: the policy is %s", name, allowed)
		}
	}
}

// TestDataComeThrough: the report in the page is the report, whatever is in it.
func TestDataComeThrough(t *testing.T) {
	r := hostile()
	event := Event{At: 1.5, Kind: "<kind>", Label: "</script>"}
	root := parse(t, write(t, "hostile", r, event))
	var got drawn
	if err := json.Unmarshal([]byte(text(find(root, "script", "id", "drawn")[0])), &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, drawn{Runs: []*load.Report{r}, Events: []Event{event}}) {
		t.Error("the report in the page is another one")
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("no space") }

func TestErrors(t *testing.T) {
	if err := Write(broken{}, stalls()); err == nil || err.Error() != "no space" {
		t.Errorf("the writer's error became %v", err)
	}
	r := stalls()
	r.Rates.Responses = math.NaN()
	var b bytes.Buffer
	if err := Write(&b, r); err == nil || b.Len() > 0 {
		t.Errorf("a report that is no JSON: error %v, and %d bytes were written", err, b.Len())
	}
}

func TestUnits(t *testing.T) {
	for got, want := range map[string]string{
		duration(0): "0 s", duration(0.25): "0.25 µs", duration(918): "918 µs", duration(999.9): "1,000 µs", duration(2105): "2.10 ms", duration(18527): "18.5 ms",
		duration(1.5e6): "1.50 s", duration(119e6): "119 s", duration(121e6): "2.02 min", duration(8e9): "2.22 h", duration(math.NaN()): none,
		rate(647819.4): "647,819/s", rate(0.5): "0.50/s", rate(0): "0/s", rate(1e300): "1e+300/s",
		share(0): "0 %", share(1): "100 %", share(0.00001): "<0.01 %", share(0.999999): ">99.99 %", share(0.0213): "2.13 %",
		part(1, 0): none, part(1, 8): "12.50 %", setting(10): "10 s", setting(0.25): "0.25 s",
	} {
		if got := strings.ReplaceAll(got, "\u00a0", " "); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
