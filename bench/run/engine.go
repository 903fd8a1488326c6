package main

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// engineLimits are what the engine's CPU per request may be, in multiples of
// the floor's, by depth.
var engineLimits = map[int]float64{1: 1.25, 8: 1.7, 32: 2}

// engineFlags is the comparison of the engine alone, against the sink.
func engineFlags(fs *flag.FlagSet) func(context.Context) (string, error) {
	var c contest
	c.timedFlags(fs, 7, 2*time.Second)
	connections := fs.Int("c", 64, "connections")
	depths := fs.String("depths", "1,8,32", "pipeline depths")
	return func(ctx context.Context) (string, error) {
		if err := c.check(); err != nil {
			return "", err
		}
		var scenes []scene
		for _, d := range strings.Split(*depths, ",") {
			depth, err := strconv.Atoi(d)
			if err != nil || depth < 1 || depth > 1024 {
				return "", fmt.Errorf("depth %q: want 1 to 1024", d)
			}
			scenes = append(scenes, engineScene(*connections, depth))
		}
		outcomes, err := c.play(ctx, scenes)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("# Client CPU per request, %d connections, one loop\n\n%s"+
			"The sink's response is always the same; with \"varying heads\" the Date of each differs from the one before.\n%s",
			*connections, c.method(), text(outcomes)), failed(outcomes)
	}
}

func engineScene(connections, depth int) scene {
	varying := engineClient(hotlapName + ", varying heads")
	varying.server = sinkServer("-v")
	sc := scene{
		name:    fmt.Sprintf("depth-%d", depth),
		about:   fmt.Sprintf("%d connections to the sink, depth %d.", connections, depth),
		server:  sinkServer(),
		load:    load{path: "/", connections: connections, depth: depth},
		clients: []client{floorClient(), engineClient(hotlapName), varying, engineClient(hotlapName+", hand-over", "-handover")},
		figures: []figure{cpuFigure, rateFigure, memoryFigure},
		base:    floorName,
	}
	sc.clients = append(sc.clients, named(peers(), "wrk", "h2load")...)
	if most, ok := engineLimits[depth]; ok {
		sc.limits = []limit{{figure: cpuFigure, to: floorName, high: most}}
	}
	return sc
}
