package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"hotlap/bench/sample"
)

// limits are what the engine's CPU per request may be, in multiples of the
// floor's, by depth.
var limits = map[int]float64{1: 1.25, 8: 1.7, 32: 2}

// contest is a comparison of clients against the sink.
type contest struct {
	rounds, connections  int
	duration             time.Duration
	depths               []int
	clients              []client
	clientCPU, serverCPU int
}

func engineFlags(fs *flag.FlagSet) func(context.Context) (string, error) {
	var c contest
	fs.IntVar(&c.rounds, "rounds", 7, "rounds; each runs every client once")
	fs.IntVar(&c.connections, "c", 64, "connections")
	fs.DurationVar(&c.duration, "d", 2*time.Second, "how long one client runs in one round, in whole seconds")
	fs.IntVar(&c.clientCPU, "client-cpu", 0, "the CPU clients run on")
	fs.IntVar(&c.serverCPU, "server-cpu", 1, "the CPU the sink runs on")
	depths := fs.String("depths", "1,8,32", "pipeline depths")
	under := fs.String("under", "", "run the engine under this command, as in: perf record -g --")
	only := fs.String("only", "", "compare only the clients with these names, separated by |")
	return func(ctx context.Context) (string, error) {
		if c.rounds < 1 || c.rounds > 1000 || c.duration < time.Second || c.duration > time.Minute {
			return "", errors.New("want 1 to 1000 rounds of 1s to 1m")
		}
		if c.clientCPU == c.serverCPU {
			return "", errors.New("client and server share a CPU: what is measured then is their scheduling")
		}
		for _, d := range strings.Split(*depths, ",") {
			n, err := strconv.Atoi(d)
			if err != nil || n < 1 || n > 1024 {
				return "", fmt.Errorf("depth %q: want 1 to 1024", d)
			}
			c.depths = append(c.depths, n)
		}
		c.clients = chosen(allClients(), *only)
		for i := range c.clients {
			if c.clients[i].name == engineName {
				c.clients[i].under = strings.Fields(*under)
			}
		}
		if err := c.build(ctx); err != nil {
			return "", err
		}
		return c.report(ctx)
	}
}

// chosen keeps the named clients, and always the floor.
func chosen(all []client, names string) []client {
	if names == "" {
		return all
	}
	list := append(strings.Split(names, "|"), floorName)
	return slices.DeleteFunc(all, func(c client) bool { return !slices.Contains(list, c.name) })
}

func (c *contest) build(ctx context.Context) error {
	if err := buildC(ctx); err != nil {
		return err
	}
	if slices.ContainsFunc(c.clients, func(c client) bool { return strings.HasPrefix(c.name, engineName) }) {
		return buildGo(ctx, "enginebench", "./bench/enginebench")
	}
	return nil
}

func (c *contest) report(ctx context.Context) (string, error) {
	var rows []row
	for _, depth := range c.depths {
		samples, err := c.play(ctx, depth)
		if err != nil {
			return "", err
		}
		rows = append(rows, rowsOf(depth, c.clients, samples)...)
	}
	return fmt.Sprintf("# Client CPU per request, %d connections, one loop\n\n"+
		"Client pinned to one CPU, the sink to another. %d rounds of %v, in each round every client once;\n"+
		"medians, and in brackets the least and the most. The ratio is taken within each round. The sink's\n"+
		"response is always the same; with \"varying heads\" the Date of each differs from the one before.\n\n%s",
		c.connections, c.rounds, c.duration, table(rows)), nil
}

// play runs all rounds at one depth. Each round starts with another client, so
// that no one always follows the same one.
func (c *contest) play(ctx context.Context, depth int) (map[string][]sample.Sample, error) {
	samples := make(map[string][]sample.Sample)
	for round := range c.rounds {
		if err := c.round(ctx, depth, round, samples); err != nil {
			return nil, err
		}
	}
	return samples, nil
}

func (c *contest) round(ctx context.Context, depth, round int, samples map[string][]sample.Sample) error {
	fixed, stop, err := startSink(ctx, c.serverCPU)
	if err != nil {
		return err
	}
	defer stop()
	varying, stop, err := startSink(ctx, c.serverCPU, "-v")
	if err != nil {
		return err
	}
	defer stop()
	for i := range c.clients {
		cl := &c.clients[(round+i)%len(c.clients)]
		l := load{fixed, c.connections, depth, c.duration}
		if cl.varying {
			l.addr = varying
		}
		s, err := cl.run(ctx, c.clientCPU, l)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "depth %d round %d/%d: %s: %.3f us of CPU a request, %.0f requests/s\n",
			depth, round+1, c.rounds, cl.name, s.CPUus(), s.Rate())
		samples[cl.name] = append(samples[cl.name], s)
	}
	return nil
}
