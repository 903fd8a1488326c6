package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"
)

// openFlags is the measurement of hotlap bench where it is given a rate.
func openFlags(fs *flag.FlagSet) func(context.Context) (string, error) {
	var c contest
	c.timedFlags(fs, 5, 30*time.Second)
	return func(ctx context.Context) (string, error) {
		if err := c.check(); err != nil {
			return "", err
		}
		// All that is played depends on the half of this.
		whole := c
		whole.only = ""
		closed, err := whole.play(ctx, []scene{closedScene()})
		if err != nil {
			return "", err
		}
		most := spreadOf(closed[0].values(hotlapName, rateFigure)).median
		if most == 0 {
			return "", errors.Join(errors.New("no closed loop, no half of it"), failed(closed))
		}
		outcomes, err := c.play(ctx, openScenes(int(most/2)))
		if err != nil {
			return "", err
		}
		outcomes = append(closed, outcomes...)
		return fmt.Sprintf("# hotlap bench at a given rate\n\n%s%s", c.method(), text(outcomes)), failed(outcomes)
	}
}

// closedScene finds the most that goes.
func closedScene() scene {
	return scene{
		name:    "closed",
		about:   "As fast as it goes, 64 connections to the sink.",
		server:  sinkServer(),
		load:    load{path: "/", connections: connections, depth: 1},
		clients: []client{benchClient()},
		figures: []figure{rateFigure, cpuFigure},
	}
}

func openScenes(half int) []scene {
	return []scene{
		rateScene("20k", 20_000, 1),
		rateScene("100k", 100_000, 8), // a CPU alone does not do it without pipelines
		lagScene(half),
	}
}

// rateScene is about all that is due being sent and answered.
func rateScene(name string, rate, depth int) scene {
	return scene{
		name:    name,
		about:   fmt.Sprintf("%d requests/s against the sink, 64 connections, at most %d in flight on each.", rate, depth),
		server:  sinkServer(),
		load:    load{path: "/", connections: connections, depth: depth, rate: rate},
		clients: append([]client{benchClient()}, named(peers(), "wrk2", "vegeta")...),
		figures: []figure{achievedFigure, rateFigure, lagP50Figure, lagP99Figure, cpuFigure},
		limits: []limit{
			{figure: achievedFigure, low: 0.999, high: 1.001},
			{figure: rateFigure, low: float64(rate) * 0.999, high: float64(rate) * 1.001},
		},
	}
}

// lagScene is about how late requests are sent, beside a timer that does
// nothing else.
func lagScene(rate int) scene {
	return scene{
		name:    "lag",
		about:   fmt.Sprintf("%d requests/s against the sink, half of the most that goes.", rate),
		server:  sinkServer(),
		load:    load{path: "/", connections: connections, depth: 1, rate: rate},
		clients: []client{sleeperClient(), benchClient()},
		figures: []figure{lagP99Figure, lagP50Figure, achievedFigure},
		base:    sleeperName,
		limits:  []limit{{figure: lagP99Figure, to: sleeperName, high: 3}},
	}
}
