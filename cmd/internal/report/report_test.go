package report

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hotlap/engine"
)

// collected is a run with an answer, a 404, a broken body and no answer.
func collected() *Collector {
	c := NewCollector()
	for range 97 {
		c.Add([]*engine.Result{{Response: engine.Response{Status: 200, Bytes: 1000, Time: engine.Times{Sent: time.Millisecond, Total: 2 * time.Millisecond}}}})
	}
	c.Add([]*engine.Result{
		{Response: engine.Response{Status: 404, Bytes: 10, Truncated: true, Time: engine.Times{Sent: 3*time.Hour - 3*time.Second, Total: 3 * time.Hour}}},
		{Response: engine.Response{Status: 200, Bytes: 5}, Err: &engine.Error{Kind: engine.Closed}},
		{Err: &engine.Error{Kind: engine.DNS}},
	})
	return c
}

var stats = engine.Stats{Retries: 2, Replays: 1, Connects: 4, Elapsed: 1234567 * time.Microsecond}

func TestSummary(t *testing.T) {
	c := collected()
	if c.Failing() != 3 {
		t.Errorf("%d failing, want 3", c.Failing())
	}
	s := c.Summarize(stats, Done)
	if s.CPU <= 0 || s.PeakMemory <= 0 {
		t.Errorf("no usage: %v s, %d bytes", s.CPU, s.PeakMemory)
	}
	s.CPU, s.PeakMemory = 0.01, 1<<20
	got, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"requests":100,"responses":98,"errors":2,"statuses":{"200":98,"404":1},"error_kinds":{"closed":1,"dns":1},` +
		`"truncated":1,"retries":2,"replays":1,"connections":4,"bytes":97015,"duration_s":1.234567,"requests_per_s":81.000059453719,` +
		`"latency_us":{"mean":31602.510204081635,"p50":1000,"p90":1000,"p99":1000,"p99_9":2999295,"max":2999295},` +
		`"total_us":{"mean":36711978.44897959,"p50":2000,"p90":2000,"p99":2000,"p99_9":3598712831,"max":3598712831},` +
		`"cpu_s":0.01,"max_rss_bytes":1048576,"ended":"done"}`
	var x, y map[string]any
	if json.Unmarshal(got, &x) != nil || json.Unmarshal([]byte(want), &y) != nil {
		t.Fatal("not JSON")
	}
	same(t, "", x, y)
}

// same compares JSON values; numbers to three digits, as the histograms do.
func same(t *testing.T, path string, got, want any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		m, _ := got.(map[string]any)
		if len(m) != len(want) {
			t.Errorf("%s has %d keys, want %d", path, len(m), len(want))
		}
		for k, v := range want {
			same(t, path+"."+k, m[k], v)
		}
	case float64:
		if n, ok := got.(float64); !ok || math.Abs(n-want) > want/500 {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	default:
		if got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
}

func TestText(t *testing.T) {
	s := collected().Summarize(stats, Signal)
	s.CPU, s.PeakMemory = 0.01, 50<<20
	var b strings.Builder
	if err := s.WriteText(&b, false); err != nil {
		t.Fatal(err)
	}
	const want = `requests   100 in 1.23s, 81/s
statuses   200 98, 404 1
errors     2 (closed 1, dns 1)
again      2 retries, 1 replays after closes
bodies     94.7 KiB, 1 truncated
latency    p50 1ms  p90 1ms  p99 1ms  p99.9 3s  max 3s
in all     p50 2ms  p90 2ms  p99 2ms  p99.9 1h0m0s  max 1h0m0s
client     4 connections, 10ms CPU (100.00 us/request), 50.0 MiB peak memory
ended      early: by a signal
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	b.Reset()
	if _ = s.WriteText(&b, true); !strings.Contains(b.String(), "\x1b[31m2 (closed 1, dns 1)\x1b[0m") {
		t.Errorf("errors are not red:\n%s", b.String())
	}
}

func TestTextOfNothing(t *testing.T) {
	var b strings.Builder
	if err := NewCollector().Summarize(engine.Stats{}, Done).WriteText(&b, true); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); !strings.HasPrefix(got, "requests   0 in 0s, 0/s\nbodies     0 B\nclient     0 connections, ") {
		t.Errorf("got\n%s", got)
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 7: "7", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -100: "-100"} {
		if got := Count(n); got != want {
			t.Errorf("Count(%d) is %s", n, got)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 5 << 30: "5.0 GiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) is %s", n, got)
		}
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	name, link := filepath.Join(dir, "s.json"), filepath.Join(dir, "link.json")
	if err := os.Symlink(name, link); err != nil {
		t.Fatal(err)
	}
	s := collected().Summarize(stats, Done)
	for _, to := range []string{name, name, link} {
		if err := s.WriteFile(to); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(name)
		if err != nil || !json.Valid(text) {
			t.Fatalf("%v: %s", err, text)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 2 {
		t.Errorf("left behind: %v", left)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Error("the link was replaced")
	}
	if err := s.WriteFile(filepath.Join(dir, "none", "s.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := s.WriteFile(os.DevNull); err != nil {
		t.Errorf("a device: %v", err)
	}
}
