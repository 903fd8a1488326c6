package main

import (
	"context"
	"flag"
	"fmt"
	"time"
)

// compareFlags is the comparison of hotlap bench with its peers.
func compareFlags(fs *flag.FlagSet) func(context.Context) (string, error) {
	var c contest
	c.timedFlags(fs, 5, 2*time.Second)
	return func(ctx context.Context) (string, error) {
		if err := c.check(); err != nil {
			return "", err
		}
		outcomes, err := c.play(ctx, compareScenes())
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("# hotlap bench and its peers\n\n%sEach client has one thread. Where it does not tell a figure there is a -.\n%s",
			c.method(), text(outcomes)), failed(outcomes)
	}
}

const (
	connections     = 64
	manyConnections = 10_000
	// Opening so many connections takes a while, which is to be a small part.
	manyStretch = 3
)

// compareScenes are each load against the sink, which has the limits, and
// against nginx; and latency.
func compareScenes() []scene {
	loads := []scene{
		{name: "depth-1", about: "64 connections", load: load{connections: connections, depth: 1}, limits: []limit{
			{figure: cpuFigure, to: "wrk", high: 0.95},
			{figure: cpuFigure, to: floorName, high: 1.20},
		}},
		{name: "depth-8", about: "64 connections, pipelines of 8", load: load{connections: connections, depth: 8}, limits: []limit{
			{figure: cpuFigure, to: "wrk", high: 0.80},
		}},
		{name: "depth-32", about: "64 connections, pipelines of 32", load: load{connections: connections, depth: 32}, limits: []limit{
			{figure: cpuFigure, to: "wrk", high: 0.55},
			{figure: cpuFigure, to: floorName, high: 1.8},
		}},
		{name: "close", about: "64 at a time, a connection for each request", load: load{connections: connections, depth: 1, closing: true}, limits: []limit{
			{figure: cpuFigure, to: "wrk", high: 0.8},
		}},
		{name: "10k", about: "10,000 connections", stretch: manyStretch, load: load{connections: manyConnections, depth: 1}, limits: []limit{
			{figure: cpuFigure, to: "wrk", high: 0.75},
			{figure: memoryFigure, to: "wrk", high: 1},
		}},
	}
	clients := append([]client{floorClient(), benchClient()}, peers()...)
	var scenes []scene
	for _, of := range []struct {
		prefix  string
		server  server
		limited bool
	}{{"sink-", sinkServer(), true}, {"nginx-", nginxServer("http", ";"), false}} {
		for _, sc := range loads {
			sc.name, sc.about = of.prefix+sc.name, sc.about+", against "+of.server.name+"."
			sc.server, sc.load.path = of.server, "/"
			sc.clients, sc.base = clients, hotlapName
			sc.figures = []figure{cpuFigure, rateFigure, memoryFigure}
			if !of.limited {
				sc.limits = nil
			}
			scenes = append(scenes, sc)
		}
	}
	return append(scenes, latencyScene(clients))
}

// delay is what the server of latencyScene waits before it answers.
const delay = 5 * time.Millisecond

// latencyScene compares what the clients say about a latency that is known.
func latencyScene(clients []client) scene {
	low := delay.Seconds() * 1e3
	return scene{
		name:    "latency",
		about:   fmt.Sprintf("One connection to hotlap serve, which waits %v before it answers.", delay),
		server:  hotlapServer(""),
		load:    load{path: fmt.Sprintf("/delay/%d", delay.Milliseconds()), connections: 1, depth: 1},
		clients: clients,
		figures: []figure{p50Figure},
		base:    hotlapName,
		limits: []limit{
			{figure: p50Figure, to: "wrk", low: 0.9, high: 1.1},
			{figure: p50Figure, low: low, high: low + 0.5},
		},
	}
}
