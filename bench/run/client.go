package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"hotlap/bench/sample"
	"hotlap/engine"
)

// A client is one program in a comparison.
type client struct {
	name    string
	program string              // looked for in PATH; "": built here
	version string              // the argument with which it tells its version; "": none
	cannot  func(l load) string // why it cannot make this load, or ""; nil: it can make all
	adjust  func(l *load)       // where its load differs from the scene's
	server  server              // instead of the scene's, if that is set
	args    func(l load) []string
	stdin   func(l load) string
	// result gives what read is to read, where that is not standard output. It
	// is not part of the measurement.
	result func(ctx context.Context) ([]byte, error)
	read   func(out []byte) (sample.Sample, error)

	uncounted bool // what it does are no requests that a server could count
	anyExit   bool // its exit code says nothing
}

const (
	floorName   = "floor"   // the least a client can do
	hotlapName  = "hotlap"  // the client that is judged
	sleeperName = "sleeper" // the least lateness a paced client can have
)

// patience is how long a client may take beyond the duration of its load.
const patience = time.Minute

// missing says why the client cannot run, or "".
func (cl *client) missing(l load) string {
	if cl.program != "" {
		if _, err := exec.LookPath(cl.program); err != nil {
			return "absent"
		}
	}
	if cl.cannot != nil {
		return cl.cannot(l)
	}
	return ""
}

// measure runs the client once. Its cost is that of the whole process, start
// and end included, for every client alike.
func (cl *client) measure(ctx context.Context, c *contest, l load) (s sample.Sample, err error) {
	args := cl.args(l)
	if cl.name == hotlapName {
		args = append(strings.Fields(c.under), args...)
	}
	cmd := command(ctx, buildDir+"/cost", append([]string{costFile}, args...)...)
	var out, messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &messages
	if cl.stdin != nil {
		cmd.Stdin = strings.NewReader(cl.stdin(l))
	}
	start := time.Now()
	if err := startOn(c.clientCPU, cmd); err != nil {
		return s, err
	}
	err = cmd.Wait()
	elapsed := time.Since(start)
	if err != nil && (!cl.anyExit || ctx.Err() != nil) {
		return s, fmt.Errorf("%s: %w: %s", args[0], errors.Join(ctx.Err(), err), lastLine(messages.Bytes(), out.Bytes()))
	}
	printed := out.Bytes()
	if cl.result != nil {
		if printed, err = cl.result(ctx); err != nil {
			return s, err
		}
	}
	if s, err = cl.read(printed); err != nil {
		return s, fmt.Errorf("%s: %w: %s", args[0], err, lastLine(messages.Bytes(), printed))
	}
	if s.Seconds == 0 {
		s.Seconds = elapsed.Seconds()
	}
	s.Client = cl.name
	return s, readCost(&s)
}

// lastLine is where programs say why they failed.
func lastLine(outputs ...[]byte) string {
	for _, out := range outputs {
		out = bytes.TrimSpace(out)
		if line := out[bytes.LastIndexByte(out, '\n')+1:]; len(line) > 0 {
			return oneLine(string(line))
		}
	}
	return "it printed nothing"
}

// costFile is where bench/floor/cost leaves what the client used.
const costFile = buildDir + "/cost.json"

func readCost(s *sample.Sample) error {
	b, err := os.ReadFile(costFile)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, s)
}

// floorClient is bench/floor/floor.c.
func floorClient() client {
	return client{name: floorName, read: readSample, cannot: floorCannot, args: func(l load) []string {
		args := []string{buildDir + "/floor", "-c", strconv.Itoa(l.connections), "-p", strconv.Itoa(l.depth),
			"-d", seconds(l), "-u", "hotlap/" + engine.Version}
		if l.closing {
			args = append(args, "-C")
		}
		return append(args, l.addr)
	}}
}

func floorCannot(l load) string {
	if l.path != "/" || l.tls || l.rate > 0 {
		return "not meant for it"
	}
	return ""
}

// engineClient is bench/enginebench: the engine without the command around it.
func engineClient(name string, more ...string) client {
	return client{name: name, read: readSample, args: func(l load) []string {
		args := []string{buildDir + "/enginebench", "-c", strconv.Itoa(l.connections), "-p", strconv.Itoa(l.depth),
			"-d", l.duration.String(), "-loops", "1"}
		if l.tls {
			args = append(args, "-tls")
		}
		if l.closing {
			args = append(args, "-close")
		}
		return append(append(args, more...), l.addr)
	}}
}

// benchClient is hotlap bench, without its observer: its peers have none. What
// that costs is a comparison of its own (observe.go).
func benchClient() client { return benchAs(hotlapName, "--observe=off") }

func benchAs(name string, flags ...string) client {
	return client{name: name, read: readBench, args: func(l load) []string {
		args := []string{buildDir + "/hotlap", "bench", "-c", strconv.Itoa(l.connections), "-p", strconv.Itoa(l.depth),
			"-d", l.duration.String(), "--loops", "1", "--json", "-"}
		if l.closing {
			args = append(args, "--no-keepalive")
		}
		if l.rate > 0 {
			args = append(args, "-R", strconv.Itoa(l.rate))
		}
		return append(append(args, flags...), l.url())
	}}
}

// sleeperClient is bench/floor/sleeper.c.
func sleeperClient() client {
	return client{name: sleeperName, uncounted: true, read: readSample, args: func(l load) []string {
		return []string{buildDir + "/sleeper", "-R", strconv.Itoa(l.rate), "-d", seconds(l)}
	}}
}

// seconds is for programs that take whole seconds only.
func seconds(l load) string { return strconv.Itoa(int(l.duration.Seconds())) }

// readSample reads the last line, a sample in JSON.
func readSample(out []byte) (s sample.Sample, err error) {
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	last := lines[len(lines)-1]
	if !bytes.HasPrefix(last, []byte("{")) {
		return s, errors.New("the last line is no JSON object")
	}
	return s, json.Unmarshal(last, &s)
}

// readBench reads the report of hotlap bench. In an open loop what was due and
// not sent is no error, but the load was not achieved.
func readBench(out []byte) (s sample.Sample, err error) {
	var r struct {
		Version    int
		Responses  int64
		NonOK      int64 `json:"non_2xx"`
		Errors     map[string]int64
		Unanswered int64
		Rates      struct {
			PerSecond float64 `json:"responses_per_s"`
		}
		ResponseTime *struct{ P50 float64 }      `json:"response_time_us"`
		Lag          *struct{ P50, P99 float64 } `json:"schedule_lag_us"`
		Client       struct {
			User   float64 `json:"user_s"`
			System float64 `json:"system_s"`
		}
		Kernel *struct {
			Cost struct {
				CPU  int64 `json:"cpu_ns"`
				Runs int64 `json:"bpf_runs"`
				BPF  int64 `json:"bpf_ns"`
			}
		}
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return s, err
	}
	if r.Version != 1 || r.Rates.PerSecond <= 0 || r.ResponseTime == nil {
		return s, fmt.Errorf("not a report of version 1 with responses")
	}
	s.Requests, s.Errors = r.Responses, r.NonOK+r.Unanswered
	for _, n := range r.Errors {
		s.Errors += n
	}
	// Its rate leaves out what came after the end.
	s.Seconds = float64(r.Responses) / r.Rates.PerSecond
	s.P50us = r.ResponseTime.P50
	if r.Lag != nil {
		s.LagP50us, s.LagP99us = r.Lag.P50, r.Lag.P99
	}
	if r.Kernel != nil {
		cost := &r.Kernel.Cost
		s.LoadSeconds, s.ObserverSeconds = r.Client.User+r.Client.System, float64(cost.CPU)/1e9
		s.BPFRuns, s.BPFSeconds = cost.Runs, float64(cost.BPF)/1e9
	}
	return s, nil
}

// named picks clients.
func named(clients []client, names ...string) []client {
	return slices.DeleteFunc(slices.Clone(clients), func(cl client) bool { return !slices.Contains(names, cl.name) })
}
