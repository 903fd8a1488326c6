package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"

	"hotlap/bench/sample"
)

// peers are the load generators that others use. Each is told to do what the
// load says, on one thread where it has a choice, and to keep quiet meanwhile.
func peers() []client {
	return []client{
		{name: "wrk", program: "wrk", version: "-v", cannot: noOpenLoop, args: wrkArgs, read: readSample},
		{name: "wrk2", program: "wrk2", version: "-v", args: wrk2Args, read: readSample},
		{name: "gcannon", program: "gcannon", cannot: noOpenLoop, args: gcannonArgs, read: readGcannon},
		{name: "h2load", program: "h2load", version: "--version", cannot: h2loadCannot, args: h2loadArgs, read: readH2load},
		{name: "ab", program: "ab", version: "-V", cannot: noPipeline, args: abArgs, read: readAB},
		{name: "bombardier", program: "bombardier", cannot: noPipeline, args: bombardierArgs, read: readBombardier},
		{name: "oha", program: "oha", version: "--version", cannot: noPipeline, args: ohaArgs, read: readOha},
		{name: "vegeta", program: "vegeta", cannot: vegetaCannot, args: vegetaArgs, stdin: vegetaTarget, result: vegetaReport, read: readVegeta},
		{name: "hey", program: "hey", cannot: noPipeline, args: heyArgs, read: readHey},
		{name: "k6", program: "k6", cannot: k6Cannot, args: k6Args, stdin: k6Script, result: k6Summary, read: readK6},
	}
}

func noOpenLoop(l load) string {
	if l.rate > 0 {
		return "has no open loop"
	}
	return ""
}

func noPipeline(l load) string {
	if l.depth > 1 {
		return "does not pipeline"
	}
	return noOpenLoop(l)
}

func wrkArgs(l load) []string { return wrkLike("wrk", l) }

// wrk2Args asks for a rate out of reach where the loop is closed: wrk2 has no
// other kind.
func wrk2Args(l load) []string {
	const outOfReach = 100_000_000
	rate := l.rate
	if rate == 0 {
		rate = outOfReach
	}
	return wrkLike("wrk2", l, "-R", strconv.Itoa(rate))
}

func wrkLike(program string, l load, more ...string) []string {
	args := append([]string{program, "-t", "1", "-c", strconv.Itoa(l.connections), "-d", l.duration.String(),
		"-s", "bench/run/pipeline.lua"}, more...)
	args = append(args, l.url(), "--", strconv.Itoa(l.depth))
	if l.closing {
		args = append(args, "close")
	}
	return args
}

func gcannonArgs(l load) []string {
	args := []string{"gcannon", l.url(), "-t", "1", "-c", strconv.Itoa(l.connections), "-p", strconv.Itoa(l.depth),
		"-d", l.duration.String(), "--json"}
	if l.closing {
		args = append(args, "-r", "1")
	}
	return args
}

func readGcannon(out []byte) (s sample.Sample, err error) {
	var r struct {
		Seconds   float64 `json:"elapsed_sec"`
		Responses int64
		Status    map[string]int64
		Errors    map[string]int64
		Latency   struct{ P50 float64 } `json:"latency_us"`
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return s, err
	}
	s.Requests, s.Seconds, s.P50us = r.Responses, r.Seconds, r.Latency.P50
	s.Errors = r.Responses - r.Status["2xx"]
	for _, n := range r.Errors {
		s.Errors += n
	}
	return s, nil
}

func h2loadCannot(l load) string {
	if l.closing {
		return "keeps its connections"
	}
	return noOpenLoop(l)
}

func h2loadArgs(l load) []string {
	return []string{"h2load", "--h1", "-t", "1", "-c", strconv.Itoa(l.connections), "-m", strconv.Itoa(l.depth),
		"-D", seconds(l), l.url()}
}

var (
	h2loadTime = regexp.MustCompile(`finished in ([0-9.]+)(s|ms),`)
	h2loadDone = regexp.MustCompile(`(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout`)
)

// readH2load reads h2load's summary. It counts what was cut off at the end as
// neither succeeded nor failed.
func readH2load(out []byte) (s sample.Sample, err error) {
	n := numbers{out: out}
	s.Seconds = n.float(h2loadTime, 1)
	if n.text(h2loadTime, 2) == "ms" {
		s.Seconds /= 1000
	}
	s.Requests = n.count(h2loadDone, 1)
	s.Errors = n.count(h2loadDone, 2) + n.count(h2loadDone, 3) + n.count(h2loadDone, 4)
	return s, n.err
}

// abArgs gives ab a number of requests it will not reach: it reserves memory for
// each, and touches what it uses.
func abArgs(l load) []string {
	args := []string{"ab", "-q", "-c", strconv.Itoa(l.connections), "-t", seconds(l), "-n", "20000000"}
	if !l.closing {
		args = append(args, "-k")
	}
	return append(args, l.url())
}

var (
	abTime   = regexp.MustCompile(`Time taken for tests: +([0-9.]+) seconds`)
	abDone   = regexp.MustCompile(`Complete requests: +(\d+)`)
	abFailed = regexp.MustCompile(`Failed requests: +(\d+)`)
	abNonOK  = regexp.MustCompile(`Non-2xx responses: +(\d+)`) // if there were any
	abP50    = regexp.MustCompile(`50% +(\d+)`)                // milliseconds
)

func readAB(out []byte) (s sample.Sample, err error) {
	n := numbers{out: out}
	s.Seconds, s.Requests, s.Errors = n.float(abTime, 1), n.count(abDone, 1), n.count(abFailed, 1)
	if s.Requests > 1 { // of one it tells no percentiles
		s.P50us = n.float(abP50, 1) * 1e3
	}
	if abNonOK.Match(out) {
		s.Errors += n.count(abNonOK, 1)
	}
	return s, n.err
}

// bombardierArgs closes by a field: of its -a the manual says that it is for
// net/http, which costs more.
func bombardierArgs(l load) []string {
	args := []string{"bombardier", "-c", strconv.Itoa(l.connections), "-d", l.duration.String(), "-t", "10s", "-l", "-p", "r", "-o", "json"}
	if l.closing {
		args = append(args, "-H", "Connection: close")
	}
	return append(args, l.url())
}

func readBombardier(out []byte) (s sample.Sample, err error) {
	var r struct {
		Result struct {
			Seconds                                float64 `json:"timeTakenSeconds"`
			Req1xx, Req2xx, Req3xx, Req4xx, Req5xx int64
			Others                                 int64
			Latency                                struct{ Percentiles map[string]float64 }
		}
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return s, err
	}
	s.Requests, s.Seconds = r.Result.Req2xx, r.Result.Seconds
	s.Errors = r.Result.Req1xx + r.Result.Req3xx + r.Result.Req4xx + r.Result.Req5xx + r.Result.Others
	s.P50us = r.Result.Latency.Percentiles["50"]
	return s, nil
}

func ohaArgs(l load) []string {
	args := []string{"oha", "-c", strconv.Itoa(l.connections), "-z", l.duration.String(), "--no-tui", "--output-format", "json"}
	if l.closing {
		args = append(args, "--disable-keepalive")
	}
	return append(args, l.url())
}

// readOha reads the summary; that requests were cut off at the end is no error.
func readOha(out []byte) (s sample.Sample, err error) {
	var r struct {
		Summary  struct{ Total float64 }
		Latency  struct{ P50 float64 } `json:"latencyPercentiles"`
		Statuses map[string]int64      `json:"statusCodeDistribution"`
		Errors   map[string]int64      `json:"errorDistribution"`
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return s, err
	}
	s.Requests, s.Seconds, s.P50us = r.Statuses["200"], r.Summary.Total, r.Latency.P50*1e6
	for status, n := range r.Statuses {
		if status != "200" {
			s.Errors += n
		}
	}
	for kind, n := range r.Errors {
		if kind != "aborted due to deadline" {
			s.Errors += n
		}
	}
	return s, nil
}

func vegetaCannot(l load) string {
	if l.depth > 1 && l.rate == 0 {
		return "does not pipeline"
	}
	return ""
}

const vegetaFile = buildDir + "/vegeta.bin"

func vegetaArgs(l load) []string {
	connections := strconv.Itoa(l.connections)
	return []string{"vegeta", "attack", "-rate", strconv.Itoa(l.rate), "-duration", l.duration.String(),
		"-workers", connections, "-max-workers", connections, "-connections", connections, "-max-connections", connections,
		"-max-body", "0", "-keepalive=" + strconv.FormatBool(!l.closing), "-output", vegetaFile}
}

func vegetaTarget(l load) string { return "GET " + l.url() + "\n" }

func vegetaReport(ctx context.Context) ([]byte, error) {
	return command(ctx, "vegeta", "report", "-type", "json", vegetaFile).Output()
}

func readVegeta(out []byte) (s sample.Sample, err error) {
	var r struct {
		Requests  int64
		Duration  float64          // from the first request to the last, in nanoseconds
		Statuses  map[string]int64 `json:"status_codes"`
		Latencies struct {
			P50 float64 `json:"50th"`
		}
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return s, err
	}
	s.Requests, s.Seconds = r.Statuses["200"], r.Duration/1e9
	s.Errors = r.Requests - r.Statuses["200"]
	s.P50us = r.Latencies.P50 / 1e3
	return s, nil
}

func heyArgs(l load) []string {
	args := []string{"hey", "-c", strconv.Itoa(l.connections), "-z", l.duration.String()}
	if l.closing {
		args = append(args, "-disable-keepalive")
	}
	return append(args, l.url())
}

var (
	heyTime   = regexp.MustCompile(`Total:\s+([0-9.]+) secs`)
	heyP50    = regexp.MustCompile(`50%%? in ([0-9.]+) secs`)
	heyStatus = regexp.MustCompile(`\[200\]\s+(\d+) responses`)
	heyOther  = regexp.MustCompile(`\[[13-5]\d\d\]\s+\d+ responses|Error distribution:`)
)

func readHey(out []byte) (s sample.Sample, err error) {
	if bad := heyOther.Find(out); bad != nil {
		return s, fmt.Errorf("%s", bad)
	}
	n := numbers{out: out}
	s.Requests, s.Seconds, s.P50us = n.count(heyStatus, 1), n.float(heyTime, 1), n.float(heyP50, 1)*1e6
	return s, n.err
}

// k6Cannot: a virtual user is a JavaScript engine of some megabytes.
func k6Cannot(l load) string {
	if l.connections > 1000 {
		return "needs tens of gigabytes"
	}
	return noPipeline(l)
}

const k6File = buildDir + "/k6.json"

func k6Args(l load) []string {
	args := []string{"k6", "run", "--quiet", "--no-usage-report", "--discard-response-bodies", "--summary-export", k6File,
		"--vus", strconv.Itoa(l.connections), "--duration", l.duration.String()}
	if l.closing {
		args = append(args, "--no-connection-reuse")
	}
	return append(args, "-")
}

func k6Script(l load) string {
	return fmt.Sprintf("import http from 'k6/http';\nexport default function () { http.get('%s'); }\n", l.url())
}

func k6Summary(context.Context) ([]byte, error) { return os.ReadFile(k6File) }

// readK6 reads the summary. Of "http_req_failed" those pass that failed.
func readK6(out []byte) (s sample.Sample, err error) {
	var r struct {
		Metrics struct {
			Requests struct {
				Count int64
				Rate  float64
			} `json:"http_reqs"`
			Failed   struct{ Passes int64 } `json:"http_req_failed"`
			Duration struct{ Med float64 }  `json:"http_req_duration"` // milliseconds
		}
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return s, err
	}
	m := &r.Metrics
	if m.Requests.Rate <= 0 {
		return s, errors.New("no request in its summary")
	}
	s.Requests, s.Errors = m.Requests.Count, m.Failed.Passes
	s.Seconds, s.P50us = float64(m.Requests.Count)/m.Requests.Rate, m.Duration.Med*1e3
	return s, nil
}

// numbers reads numbers out of a text, and remembers the first that is missing.
type numbers struct {
	out []byte
	err error
}

func (n *numbers) text(pattern *regexp.Regexp, group int) string {
	m := pattern.FindSubmatch(n.out)
	if m == nil {
		n.fail(fmt.Errorf("no %q in what it printed", pattern))
		return ""
	}
	return string(m[group])
}

func (n *numbers) float(pattern *regexp.Regexp, group int) float64 {
	v, err := strconv.ParseFloat(n.text(pattern, group), 64)
	n.fail(err)
	return v
}

func (n *numbers) count(pattern *regexp.Regexp, group int) int64 {
	v, err := strconv.ParseInt(n.text(pattern, group), 10, 64)
	n.fail(err)
	return v
}

func (n *numbers) fail(err error) {
	if n.err == nil {
		n.err = err
	}
}
