// Enginebench sends one prepared request over and over through the real
// engine, takes the latency of every response, and prints a sample.Sample. It
// is what stands beside the floor client in bench/run, and what bench/profile.sh
// looks into. It talks to loopback addresses only.
//
//	enginebench [flags] HOST:PORT
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"runtime/pprof"
	"time"

	"hotlap/bench/sample"
	"hotlap/engine"
)

const (
	maxRequests = 10_000_000_000
	maxDuration = 10 * time.Minute
)

type options struct {
	addr        netip.AddrPort
	connections int
	depth       int
	requests    int64
	duration    time.Duration
	loops       int
	inFlight    int
	keepBody    bool
	handover    bool
	tls         bool
	closing     bool
	noResume    bool
	cpuProfile  string
}

func main() {
	o, err := parse(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "enginebench:", err)
		os.Exit(2)
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "enginebench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (o options, err error) {
	fs := flag.NewFlagSet("enginebench", flag.ContinueOnError)
	fs.IntVar(&o.connections, "c", 64, "connections")
	fs.IntVar(&o.depth, "p", 1, "pipeline depth")
	fs.Int64Var(&o.requests, "n", 1_000_000, "requests, unless -d is given")
	fs.DurationVar(&o.duration, "d", 0, "send for this long")
	fs.IntVar(&o.loops, "loops", 1, "event loops")
	fs.IntVar(&o.inFlight, "inflight", 0, "requests inside the engine (default: the engine's)")
	fs.BoolVar(&o.keepBody, "bodies", false, "keep bodies, as fetch does by default")
	fs.BoolVar(&o.handover, "handover", false, "use a Source and a Sink on goroutines of their own, not on the loops")
	fs.BoolVar(&o.tls, "tls", false, "https, unverified as other clients have it")
	fs.BoolVar(&o.closing, "close", false, "one request per connection")
	fs.BoolVar(&o.noResume, "noresume", false, "with -tls: every handshake is a full one")
	fs.StringVar(&o.cpuProfile, "cpuprofile", "", "write a pprof CPU profile to this `file`")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if o.requests < 1 || o.requests > maxRequests || o.duration < 0 || o.duration > maxDuration {
		return o, fmt.Errorf("want 1 to %d requests and at most %v", int64(maxRequests), maxDuration)
	}
	if o.duration > 0 {
		o.requests = maxRequests
	}
	if o.addr, err = netip.ParseAddrPort(fs.Arg(0)); err != nil || fs.NArg() != 1 {
		return o, errors.New("want one HOST:PORT")
	}
	if !o.addr.Addr().IsLoopback() {
		return o, fmt.Errorf("%v is not a loopback address", o.addr)
	}
	return o, nil
}

func run(o options) error {
	e, err := engine.New(engine.Config{
		Loops: o.loops, Connections: o.connections, PerHost: o.connections,
		Pipeline: o.depth, MaxInFlight: o.inFlight, KeepBody: o.keepBody,
		TLS: &tls.Config{InsecureSkipVerify: true, SessionTicketsDisabled: o.noResume},
	})
	if err != nil {
		return err
	}
	defer e.Close()
	req := &engine.Request{URL: "http://" + o.addr.String() + "/"}
	if o.tls {
		req.URL = "https://" + o.addr.String() + "/"
	}
	if o.closing {
		req.Header = []engine.Field{{Name: "Connection", Value: "close"}}
	}
	if err := e.Prepare(req); err != nil {
		return err
	}
	stopProfile, err := startProfile(o.cpuProfile)
	if err != nil {
		return err
	}
	s, err := measure(e, req, o)
	if err := errors.Join(err, stopProfile()); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

func startProfile(path string) (stop func() error, _ error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error { pprof.StopCPUProfile(); return f.Close() }, nil
}

// measure runs the engine; what it reports covers the connecting too, as the
// floor client's numbers do.
func measure(e *engine.Engine, req *engine.Request, o options) (*sample.Sample, error) {
	ctx, cancel := context.WithTimeout(context.Background(), maxDuration)
	defer cancel()
	f := newFeed(req, o.requests)
	h := newLatencies(o.loops)

	user, sys, err := sample.CPU()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if o.duration > 0 {
		defer time.AfterFunc(o.duration, f.stop).Stop()
	}
	var st engine.Stats
	if o.handover {
		st, err = e.Run(ctx, engine.SourceFunc(f.Next), engine.SinkFunc(h.Put))
	} else {
		st, err = e.Run(ctx, f, h)
	}
	elapsed := time.Since(start)
	user2, sys2, cpuErr := sample.CPU()
	if err := errors.Join(err, cpuErr); err != nil {
		return nil, err
	}
	s := &sample.Sample{
		Client: "hotlap", Connections: o.connections, Depth: o.depth,
		Requests: st.Responses, Errors: st.Failed(), Seconds: elapsed.Seconds(),
		UserSeconds: (user2 - user).Seconds(), SysSeconds: (sys2 - sys).Seconds(),
	}
	if o.handover {
		s.Client = "hotlap handover"
	}
	return s, h.summarize(s)
}
