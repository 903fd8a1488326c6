package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"time"

	"hotlap/bench/sample"
	"hotlap/engine"
)

// load is what one run is to do.
type load struct {
	addr        string
	connections int
	depth       int
	duration    time.Duration
}

// client is one program in the comparison. Its command line makes the load;
// read makes a sample of what it printed.
type client struct {
	name string
	args func(l load) []string
	read func(l load, out []byte) (sample.Sample, error)
	// ownCPU: the sample has the CPU time of the run alone. Else that of the
	// whole process is taken, start included.
	ownCPU bool
	// varying: the sink changes the head of each response.
	varying bool
	under   []string // a command to run it under, such as perf record
}

const (
	floorName  = "floor"  // the client that all are compared with
	engineName = "hotlap" // the engine, sources and sinks on its loops: the client that is judged
)

// allClients are the floor, the engine both ways, and what other clients are
// installed.
func allClients() []client {
	agent := "hotlap/" + engine.Version
	clients := []client{
		{name: floorName, ownCPU: true, read: readJSON, args: func(l load) []string {
			return []string{buildDir + "/floor", "-c", strconv.Itoa(l.connections), "-p", strconv.Itoa(l.depth),
				"-d", strconv.Itoa(int(l.duration.Seconds())), "-u", agent, l.addr}
		}},
		{name: engineName, ownCPU: true, read: readJSON, args: engineArgs()},
		{name: engineName + ", varying heads", ownCPU: true, varying: true, read: readJSON, args: engineArgs()},
		{name: engineName + ", hand-over", ownCPU: true, read: readJSON, args: engineArgs("-handover")},
	}
	if _, err := exec.LookPath("wrk"); err == nil {
		clients = append(clients, client{name: "wrk", read: readJSON, args: wrkArgs})
	}
	if _, err := exec.LookPath("h2load"); err == nil {
		clients = append(clients, client{name: "h2load", read: readH2load, args: h2loadArgs})
	}
	return clients
}

func engineArgs(more ...string) func(load) []string {
	return func(l load) []string {
		args := []string{buildDir + "/enginebench", "-c", strconv.Itoa(l.connections), "-p", strconv.Itoa(l.depth),
			"-d", l.duration.String(), "-loops", "1"}
		return append(append(args, more...), l.addr)
	}
}

func wrkArgs(l load) []string {
	return []string{"wrk", "-t", "1", "-c", strconv.Itoa(l.connections), "-d", l.duration.String(),
		"-s", "bench/run/pipeline.lua", "http://" + l.addr + "/", "--", strconv.Itoa(l.depth)}
}

func h2loadArgs(l load) []string {
	return []string{"h2load", "--h1", "-t", "1", "-c", strconv.Itoa(l.connections), "-m", strconv.Itoa(l.depth),
		"-D", strconv.Itoa(int(l.duration.Seconds())), "http://" + l.addr + "/"}
}

// run measures one client once.
func (c *client) run(ctx context.Context, cpu int, l load) (sample.Sample, error) {
	args := append(slices.Clone(c.under), c.args(l)...)
	cmd := command(ctx, args[0], args[1:]...)
	out, err := outputOn(cpu, cmd)
	if err != nil {
		return sample.Sample{}, err
	}
	s, err := c.read(l, out)
	if err != nil {
		return s, fmt.Errorf("%s: %w\n%s", c.name, err, out)
	}
	s.Client = c.name
	if !c.ownCPU {
		s.UserSeconds = cmd.ProcessState.UserTime().Seconds()
		s.SysSeconds = cmd.ProcessState.SystemTime().Seconds()
	}
	return s, s.Check()
}

// readJSON reads the last line that is a JSON object.
func readJSON(_ load, out []byte) (s sample.Sample, err error) {
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	last := lines[len(lines)-1]
	if !bytes.HasPrefix(last, []byte("{")) {
		return s, errors.New("the last line is no JSON object")
	}
	return s, json.Unmarshal(last, &s)
}

var (
	h2loadTime = regexp.MustCompile(`finished in ([0-9.]+)(s|ms),`)
	h2loadDone = regexp.MustCompile(`(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout`)
)

// readH2load reads h2load's summary. It counts what was cut off at the end as
// neither succeeded nor failed.
func readH2load(l load, out []byte) (s sample.Sample, err error) {
	t, n := h2loadTime.FindSubmatch(out), h2loadDone.FindSubmatch(out)
	if t == nil || n == nil {
		return s, errors.New("no summary found")
	}
	if s.Seconds, err = strconv.ParseFloat(string(t[1]), 64); err != nil {
		return s, err
	}
	if string(t[2]) == "ms" {
		s.Seconds /= 1000
	}
	var counts [4]int64
	for i := range counts {
		if counts[i], err = strconv.ParseInt(string(n[i+1]), 10, 64); err != nil {
			return s, err
		}
	}
	s.Connections, s.Depth, s.Requests = l.connections, l.depth, counts[0]
	s.Errors = counts[1] + counts[2] + counts[3]
	return s, nil
}
