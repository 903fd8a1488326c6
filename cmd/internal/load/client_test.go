package load

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	for _, c := range []struct {
		name, stat  string
		stolen, all time.Duration
	}{
		{"a machine", "cpu  10 1 20 300 4 0 5 7 2 1\ncpu0 1 2 3 4 5 6 7 8 0 0\n", 70 * ms, 3470 * ms},
		{"without steal, before Linux 2.6.11", "cpu  10 1 20 300 4 0 5\n", -1, -1},
		{"not numbers", "cpu  10 1 20 300 4 0 5 x\n", -1, -1},
		{"another file", "cpus 1 2 3 4 5 6 7 8\n", -1, -1},
		{"nothing", "", -1, -1},
	} {
		if stolen, all := parseStat(c.stat); stolen != c.stolen || all != c.all {
			t.Errorf("%s: %v stolen of %v, want %v of %v", c.name, stolen, all, c.stolen, c.all)
		}
	}
}

func TestParseSchedstat(t *testing.T) {
	if got, ok := parseSchedstat("100 2500000 7\n"); got != (thread{100, 2500 * time.Microsecond}) || !ok {
		t.Errorf("%v, %v", got, ok)
	}
	for _, s := range []string{"", "100", "100 x 7", "x 100 7"} {
		if _, ok := parseSchedstat(s); ok {
			t.Errorf("%q is read", s)
		}
	}
}

// Threads that do no request's work may wait as long as they like.
func TestWaited(t *testing.T) {
	before := map[string]thread{"1": {time.Second, time.Second}}
	after := map[string]thread{
		"1": {2 * time.Second, 1500 * ms},
		"2": {time.Second, 250 * ms}, // new: the loop has moved
		"3": {150 * ms, 9 * time.Second},
		"4": {time.Second, 9 * time.Second}, // the observer
	}
	for _, c := range []struct {
		before, after map[string]thread
		loops         int
		want          float64
	}{
		{before, after, 1, 0.75},
		{before, after, 2, 9.75}, // a loop that hardly ran, as it waited
		{before, before, 1, 0},
	} {
		if got := waited(c.before, c.after, c.loops, 4); got == nil || *got != c.want {
			t.Errorf("%v to %v, %d loops: %v, want %v", c.before, c.after, c.loops, got, c.want)
		}
	}
	if waited(nil, after, 1, 4) != nil || waited(before, nil, 1, 4) != nil {
		t.Error("what was not read is known")
	}
}

func TestParseThrottled(t *testing.T) {
	for stat, want := range map[string]time.Duration{
		"usage_usec 5\nnr_periods 3\nnr_throttled 1\nthrottled_usec 1500\n": 1500 * time.Microsecond, // version 2
		"nr_periods 3\nnr_throttled 1\nthrottled_time 1500\n":               1500,                    // version 1
		"usage_usec 5\n": -1, // of a cgroup without the cpu controller
		"":               -1,
	} {
		if got := parseThrottled(stat); got != want {
			t.Errorf("%q: %v, want %v", stat, got, want)
		}
	}
}

// What is read of this process is what it did.
func TestReadUsage(t *testing.T) {
	before := readUsage()
	for until := time.Now().Add(time.Minute); readUsage().user+readUsage().system < before.user+before.system+20*ms; {
		if time.Now().After(until) {
			t.Fatal("no CPU time is counted")
		}
	}
	after := readUsage()
	if before.all < 0 || after.all < before.all || before.stolen < 0 {
		t.Errorf("the machine: %+v, then %+v", before, after)
	}
	if _, err := os.Stat("/proc/self/schedstat"); err == nil && len(before.threads) == 0 {
		t.Error("no thread's wait for a CPU was read")
	}
}

var update = flag.Bool("update", false, "write the golden files")

// The text report of a run that went wrong in every way it can.
func TestText(t *testing.T) {
	latency := func(scale float64) *Latency {
		return &Latency{Count: 10, Min: scale, P50: 2 * scale, P75: 3 * scale, P90: 4 * scale, P99: 50 * scale, P999: 600 * scale, P9999: 7000 * scale, Max: 80_000 * scale, Mean: 2.5 * scale, StdDev: 1.5 * scale}
	}
	r := &Report{
		Ended: Signal, Seconds: 2.5, Requests: 12_345, Responses: 12_000, NonOK: 44, Unanswered: 100, Unsent: 200,
		Errors: map[string]int64{"timeout": 40, "closed": 5}, ErrorExamples: map[string]string{"closed": "the peer closed"},
		Statuses: map[string]int64{"200": 11_956, "503": 44}, Bytes: Bytes{Body: 3 << 20},
		Load:         Load{Targets: []string{"http://127.0.0.1/a"}, TargetCount: 3, Loop: OpenLoop, Arrivals: "poisson", Connections: 64, Pipeline: 1, Loops: 2},
		Rates:        Rates{Responses: 4800, Asked: 4938, Achieved: 0.972, Body: 1.2e6},
		ResponseTime: latency(10), ServiceTime: latency(1), NonOKTime: latency(2), ScheduleLag: latency(0.1),
		Client: Client{User: 0.5, System: 0.75, PerRequest: 101.25, Busy: []float64{0.5, 0.25}, MaxRSS: 20 << 20},
		Gates:  []GateResult{{Expression: "p99<5ms", Says: "it is 500µs", Holds: true}, {Expression: "errors==0", Says: "there are 45"}},
	}
	r.Judge()
	for _, color := range []bool{false, true} {
		var b strings.Builder
		if err := r.WriteText(&b, color); err != nil {
			t.Fatal(err)
		}
		file := fmt.Sprintf("testdata/text-%v.txt", color)
		want, err := os.ReadFile(file)
		if *update {
			err = os.WriteFile(file, []byte(b.String()), 0o644)
			want = []byte(b.String())
		}
		if err != nil {
			t.Fatal(err)
		}
		if b.String() != string(want) {
			t.Errorf("the text is not that of %s (-update writes it):\n%s", file, b.String())
		}
	}
}
