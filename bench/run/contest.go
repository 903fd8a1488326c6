package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"hotlap/bench/sample"
)

// contest is how scenes are played. All comparisons are contests, so that all
// are measured alike.
type contest struct {
	rounds               int
	duration             time.Duration // of one client in one round
	clientCPU, serverCPU int
	only                 string
	under                string // a command to run hotlap under, such as perf record
	quick                bool
}

// maxDuration leaves something of the ten minutes that bench/floor gives any
// program.
const maxDuration = 9 * time.Minute

// A scene is a load on a server, and the clients that make it in turns.
type scene struct {
	name    string // as in -only
	about   string
	server  server
	load    load
	stretch int // it takes this many durations; 0 is 1
	clients []client
	figures []figure
	base    string // the client by whose first figure that of each is divided
	limits  []limit
	between []interval // said below the limits
}

// load is what one run of a client is to do.
type load struct {
	addr        string
	path        string
	tls         bool
	connections int
	depth       int  // of pipelines
	closing     bool // a connection per request
	rate        int  // requests due per second; 0: a closed loop
	duration    time.Duration
}

func (l load) url() string {
	if l.tls {
		return "https://" + l.addr + l.path
	}
	return "http://" + l.addr + l.path
}

// An outcome is what became of a scene.
type outcome struct {
	scene   scene
	results map[string]*result // by client
}

// A result is what became of a client in a scene.
type result struct {
	not     string // why it did not run at all
	rounds  int
	samples []*sample.Sample // by round; nil where it failed
	failure error            // the last one
}

// flags are those of every contest.
func (c *contest) flags(fs *flag.FlagSet, rounds int) {
	fs.IntVar(&c.rounds, "rounds", rounds, "rounds; each runs every client once")
	fs.BoolVar(&c.quick, "quick", false, "one round of the shortest runs: a test of the harness, no measurement")
	fs.StringVar(&c.only, "only", "", "play only these `SCENES/CLIENTS`: names separated by |, on either side nothing for all")
	fs.StringVar(&c.under, "under", "", "run hotlap under this command, as in: perf record -g --")
}

// timedFlags are those of a contest whose runs take a given time, each client
// and each server on a CPU of its own.
func (c *contest) timedFlags(fs *flag.FlagSet, rounds int, duration time.Duration) {
	c.flags(fs, rounds)
	fs.DurationVar(&c.duration, "duration", duration, "how long one client runs in one round, in whole seconds")
	fs.IntVar(&c.clientCPU, "client-cpu", 0, "the CPU clients run on")
	fs.IntVar(&c.serverCPU, "server-cpu", 1, "the CPU servers run on")
}

// method says how the figures came about.
func (c *contest) method() string {
	return fmt.Sprintf("Client pinned to one CPU, server to another. %d rounds of %v, in each round every client once, each against a\n"+
		"server started for it; medians, and in brackets the least and the most. Ratios are taken within each round.\n"+
		"CPU is that of the whole client process, from its start to its end, by the requests that the server counted.\n", c.rounds, c.duration)
}

// check is called when the flags are parsed.
func (c *contest) check() error {
	if c.quick {
		c.rounds = 1
		c.duration = min(c.duration, time.Second)
	}
	switch {
	case c.rounds < 1 || c.rounds > 1000:
		return errors.New("want 1 to 1000 rounds")
	case c.duration < time.Second || c.duration > maxDuration || c.duration%time.Second != 0:
		return fmt.Errorf("want runs of 1s to %v, in whole seconds", maxDuration)
	case c.clientCPU == c.serverCPU && c.clientCPU != anyCPU:
		return errors.New("client and server share a CPU: what is measured then is their scheduling")
	}
	return nil
}

// play plays what -only leaves of the scenes.
func (c *contest) play(ctx context.Context, scenes []scene) ([]outcome, error) {
	chosen, err := c.choose(scenes)
	if err != nil {
		return nil, err
	}
	if err := buildAll(ctx); err != nil {
		return nil, err
	}
	var outcomes []outcome
	for _, sc := range chosen {
		o, err := c.playScene(ctx, sc)
		if err != nil {
			return nil, err
		}
		outcomes = append(outcomes, o)
	}
	return outcomes, nil
}

// choose applies -only. The base of a scene always stays, and so does hotlap.
func (c *contest) choose(scenes []scene) ([]scene, error) {
	names, clients, _ := strings.Cut(c.only, "/")
	scenes = slices.Clone(scenes)
	if names != "" {
		list := strings.Split(names, "|")
		scenes = slices.DeleteFunc(scenes, func(s scene) bool { return !slices.Contains(list, s.name) })
	}
	if len(scenes) == 0 {
		return nil, fmt.Errorf("-only %s: no scene has such a name", c.only)
	}
	if clients != "" {
		for i := range scenes {
			list := append(strings.Split(clients, "|"), scenes[i].base, hotlapName)
			scenes[i].clients = slices.DeleteFunc(slices.Clone(scenes[i].clients),
				func(cl client) bool { return !slices.Contains(list, cl.name) })
		}
	}
	return scenes, nil
}

// playScene runs all rounds. Each starts with another client, so that no one
// always follows the same one.
func (c *contest) playScene(ctx context.Context, sc scene) (outcome, error) {
	o := outcome{sc, make(map[string]*result)}
	var ready []*client
	for i := range sc.clients {
		cl := &sc.clients[i]
		o.results[cl.name] = &result{not: cl.missing(sc.load), rounds: c.rounds}
		if o.results[cl.name].not == "" {
			ready = append(ready, cl)
		}
	}
	for round := range c.rounds {
		for i := range ready {
			cl := ready[(round+i)%len(ready)]
			s, err := c.run(ctx, &sc, cl)
			if ctx.Err() != nil {
				return o, ctx.Err()
			}
			o.results[cl.name].add(s, err)
			fmt.Fprintf(os.Stderr, "%s, round %d/%d: %s\n", sc.name, round+1, c.rounds, sc.told(cl, s, err))
		}
	}
	return o, nil
}

func (r *result) add(s sample.Sample, err error) {
	if err != nil {
		r.failure = err
		r.samples = append(r.samples, nil)
		return
	}
	r.samples = append(r.samples, &s)
}

// told is a run in one line.
func (sc *scene) told(cl *client, s sample.Sample, err error) string {
	if err != nil {
		return fmt.Sprintf("%s: failed: %v", cl.name, err)
	}
	text := cl.name
	for _, f := range sc.figures {
		text += ", " + f.format(f.of(&s)) + " " + f.name
	}
	return text
}

// run measures a client once, against a server of its own.
func (c *contest) run(ctx context.Context, sc *scene, cl *client) (sample.Sample, error) {
	l := sc.load
	l.duration = c.duration * time.Duration(max(1, sc.stretch))
	if cl.adjust != nil {
		cl.adjust(&l)
	}
	ctx, cancel := context.WithTimeout(ctx, l.duration+patience)
	defer cancel()
	start := sc.server.start
	if cl.server.start != nil {
		start = cl.server.start
	}
	server, err := start(ctx, c.serverCPU)
	if err != nil {
		return sample.Sample{}, err
	}
	l.addr = server.addr
	s, err := cl.measure(ctx, c, l)
	seen, stopErr := server.stop()
	if err := errors.Join(err, stopErr); err != nil {
		return s, err
	}
	s.ServerSeconds = cpuSeconds(server.cmd)
	s.Due = float64(l.rate) * l.duration.Seconds()
	if err := s.Check(); err != nil || seen == nil || cl.uncounted {
		return s, err
	}
	s.Served = seen.requests
	return s, seen.confirm(l, s.Requests)
}

// failed says how often hotlap itself failed: that fails the contest too.
func failed(outcomes []outcome) error {
	for _, o := range outcomes {
		if r := o.results[hotlapName]; r != nil && r.failure != nil {
			return fmt.Errorf("hotlap failed in %s: %w", o.scene.name, r.failure)
		}
	}
	return nil
}

// values are a client's figure by round, NaN where there is none.
func (o *outcome) values(client string, f figure) []float64 {
	r := o.results[client]
	if r == nil {
		return nil
	}
	v := make([]float64, len(r.samples))
	for i, s := range r.samples {
		v[i] = math.NaN()
		if s != nil && f.of(s) > 0 {
			v[i] = f.of(s)
		}
	}
	return v
}
