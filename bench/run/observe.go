package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"hotlap/bench/sample"
)

// observeFlags is the measurement of what hotlap's observer of the kernel costs.
func observeFlags(fs *flag.FlagSet) func(context.Context) (string, error) {
	var c contest
	c.timedFlags(fs, 21, 2*time.Second)
	return func(ctx context.Context) (string, error) {
		if err := c.check(); err != nil {
			return "", err
		}
		if os.Geteuid() != 0 {
			return "", errors.New("observe needs root: it loads BPF programs, and measures them")
		}
		outcomes, err := c.play(ctx, observeScenes())
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("# What observing the kernel costs\n\n%s%s%s", c.method(), observeMethod, text(outcomes)), anyFailed(outcomes)
	}
}

const observeMethod = `
Added cost is the CPU time of the observer's thread and of its BPF programs (their runs times the ns per run), by that of
client and server, in the measured part. The kernel measures BPF programs only when it is asked to, which slows them:
so runs that do are rows of their own, and it is the others whose throughput counts. What it takes to enter a BPF program
is in the throughput alone. Loading the programs comes before the load.
`

// The ways to run hotlap bench that are compared.
const (
	unobserved   = "off"
	observed     = "on"
	deep         = "deep"
	observedCost = "on, measured"
	deepCost     = "deep, measured"
)

var (
	addedFigure    = figure{"added cost %", func(s *sample.Sample) float64 { return 100 * s.Added() }, 2}
	observerFigure = figure{"observer's thread %", func(s *sample.Sample) float64 { return 100 * s.ObserverSeconds / s.Seconds }, 2}
	runsFigure     = figure{"BPF runs/request", func(s *sample.Sample) float64 { return float64(s.BPFRuns) / float64(s.Requests) }, 2}
	runFigure      = figure{"ns/BPF run", func(s *sample.Sample) float64 { return s.BPFSeconds / float64(max(s.BPFRuns, 1)) * 1e9 }, 0}
)

func observeScenes() []scene {
	clients := []client{
		benchAs(unobserved, "--observe=off"),
		benchAs(observed, "--observe=on"),
		benchAs(deep, "--observe=deep"),
		benchAs(observedCost, "--observe=on", "--run-stats"),
		benchAs(deepCost, "--observe=deep", "--run-stats"),
	}
	scenes := []scene{
		{name: "keep-alive", about: "64 connections to the sink.", load: load{path: "/", connections: connections, depth: 1},
			limits: []limit{{figure: addedFigure, of: observedCost, high: 1}}},
		{name: "close", about: "64 at a time, a connection for each request to the sink.", load: load{path: "/", connections: connections, depth: 1, closing: true},
			limits: []limit{{figure: addedFigure, of: observedCost, high: 8}}},
	}
	for i := range scenes {
		sc := &scenes[i]
		sc.server, sc.clients, sc.base = sinkServer(), clients, unobserved
		sc.figures = []figure{rateFigure, addedFigure, observerFigure, runsFigure, runFigure, memoryFigure}
		sc.between = []interval{{rateFigure, observed, unobserved}, {rateFigure, deep, unobserved}}
	}
	return scenes
}

// An interval says how sure the ratio of two clients' figures is.
type interval struct {
	figure figure
	of, to string
}

func (i interval) text(o *outcome) string {
	ratios := ratios(o.values(i.of, i.figure), o.values(i.to, i.figure))
	what := fmt.Sprintf("%s, %s, times that of %s", i.of, i.figure.name, i.to)
	low, high, ok := medianInterval(ratios)
	if !ok {
		return what + ": too few rounds for an interval"
	}
	return fmt.Sprintf("%s: median %.3f, 95 %% interval %.3f to %.3f", what, spreadOf(ratios).median, low, high)
}

// anyFailed says what failed, where all clients are hotlap.
func anyFailed(outcomes []outcome) error {
	for _, o := range outcomes {
		for name, r := range o.results {
			if r.failure != nil {
				return fmt.Errorf("hotlap, %s, failed in %s: %w", name, o.scene.name, r.failure)
			}
		}
	}
	return nil
}
