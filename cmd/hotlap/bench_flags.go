package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"hotlap/cmd/internal/load"
	"hotlap/cmd/internal/observe"
	"hotlap/engine"
	"hotlap/httpcodec"
)

const benchUsage = `Usage:
    hotlap bench [flags] URL...
    hotlap bench [flags] -i FILE
    hotlap bench compare [flags] A.json B.json

Load a server and measure it honestly. Several URLs are sent in turn.

Load (k and m mean thousand and million):
    -c, --connections N      connections in all, and per origin (64)
    -d, --duration TIME      how long requests are sent (10s)
    -n, --requests N         or how many
    -p, --pipeline N         requests in line on a connection (1)
        --loops N            event loops (one per four CPUs)
    -R, --rate RATE          open loop: so many requests per second are due, sent or
                             not. 0 (the default) is a closed loop: as fast as answers come
        --ramp A:B           open loop: from A to B per second within the duration
        --arrivals constant|poisson   of an open loop: evenly, or at random (constant)
        --warmup TIME        load before that is not counted (0)
        --timeout TIME       for a request; at the end, what is in flight is awaited so
                             long (30s)
        --connect-timeout TIME   for resolving and connecting (10s)
        --no-keepalive       a connection for each request: sends Connection: close and
                             waits up to 1 s for the server's FIN

Requests:
    -X, --method METHOD      default GET, with a body POST
    -H, --header 'N: V'      add a header; 'N:' leaves a default out
    -b, --body DATA|@FILE    body; @- is standard input
    -i, --input FILE         requests as hotlap fetch reads them, all kept in memory
In URL and body {seq} is 0, 1, 2 ..., {rand:A:B} a whole number from A to B, and
{line:FILE} the lines of FILE in turn; other braces are sent as they are.

TLS:          -k --cacert --cert --key --tls-min --tls-max --sslkeylog
Connections:  --proxy -u --resolve --connect-to -4 -6 --dns-servers --dns-ttl
              --unix-socket --source-ip --interface
as in hotlap fetch, whose --help explains them.

Output:
        --json FILE|-        write the report as JSON; with - instead of the text
        --html FILE          write it as a page
        --hdr FILE           write the times of each second as a histogram log
        --progress auto|always|never   on standard error: drawn over on a terminal,
                             else a line each second, or ten
` + observeUsage + `auto)
` + runStatsUsage + `Gates:
        --assert EXPR        p99<5ms, errors==0, rate>=20000 ...; repeatable. Figures: min
                             p50 p75 p90 p99 p99.9 p99.99 max mean stddev (response time;
                             service.p99 and lag.p99 too), rate, requests, responses,
                             errors, error_rate, non_2xx, unanswered, unsent, achieved, cpu
        --require-valid      exit 4 unless the run is known to be valid: gates are judged
                             of valid runs only

What the times mean: response time runs from when a request was due to its last
byte, service time from the write that took its last byte. In a closed loop a
request is due when it is taken, which is as soon as there is a place for it;
connecting is in it. They are those of responses with a 2xx status;
requests that timed out, were not answered at the end, or were due and never sent,
are in the response time with the age they had reached.

Exit codes: 0 done; 1 the run failed, or nothing was answered; 2 bad arguments or
input; 3 an --assert was breached; 4 with --require-valid; 130 and 143 after SIGINT
and SIGTERM, with the report of what was done, and gates not judged.
`

// benchOptions is what the command line says.
type benchOptions struct {
	command      []string // the whole of it, without credentials
	urls         []string
	input        string
	method       string
	headers      []string
	body         []byte
	bodyStdin    bool
	engine       engine.Config
	load         load.Options
	poisson      string
	noKeepAlive  bool
	json         string
	html         string
	hdr          string
	progress     string
	gates        []*load.Gate[*load.Report]
	requireValid bool
	observe      observeOptions
	tls          tlsOptions
	net          netOptions
}

const (
	benchConnections = 64
	benchDuration    = 10 * time.Second
	longestBench     = 30 * 24 * time.Hour
)

func benchFlags(std *stdio, o *benchOptions) *pflag.FlagSet {
	o.progress, o.poisson = "auto", "constant"
	c, l := &o.engine, &o.load
	*c = engine.Config{Connections: benchConnections, Pipeline: 1, Timeout: 30 * time.Second, ConnectTimeout: 10 * time.Second}
	f := pflag.NewFlagSet("bench", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	f.VarP(number[int]{&c.Connections, 1, math.MaxInt32}, "connections", "c", "")
	f.VarP(limit{&l.Duration}, "duration", "d", "")
	f.VarP(number[int64]{&l.Count, 1, 1 << 50}, "requests", "n", "")
	f.VarP(number[int]{&c.Pipeline, 1, engine.PipelineMax}, "pipeline", "p", "")
	f.Var(number[int]{&c.Loops, 1, 256}, "loops", "")
	f.VarP(orNone[float64]{rate{&l.To}, &l.To}, "rate", "R", "")
	f.Var(each(func(s string) error { return parseRamp(s, l) }), "ramp", "")
	f.Var(choice{&o.poisson, []string{"constant", "poisson"}}, "arrivals", "")
	f.Var(orNone[time.Duration]{limit{&l.WarmUp}, &l.WarmUp}, "warmup", "")
	f.Var(limit{&c.Timeout}, "timeout", "")
	f.Var(limit{&c.ConnectTimeout}, "connect-timeout", "")
	f.BoolVar(&o.noKeepAlive, "no-keepalive", false, "")
	f.StringVarP(&o.method, "method", "X", "", "")
	f.StringArrayVarP(&o.headers, "header", "H", nil, "")
	f.VarP(bodyFlag{std.in, &o.body, &o.bodyStdin}, "body", "b", "")
	f.StringVarP(&o.input, "input", "i", "", "")
	f.StringVar(&o.json, "json", "", "")
	f.StringVar(&o.html, "html", "", "")
	f.StringVar(&o.hdr, "hdr", "", "")
	f.Var(choice{&o.progress, []string{"auto", "always", "never"}}, "progress", "")
	f.Var(each(o.addGate), "assert", "")
	f.BoolVar(&o.requireValid, "require-valid", false, "")
	o.observe.flags(f, observe.Auto)
	o.tls.flags(f)
	o.net.flags(f, c)
	return f
}

func (o *benchOptions) addGate(s string) error {
	g, err := load.ParseGate(s)
	if err == nil {
		o.gates = append(o.gates, g)
	}
	return err
}

// parseRamp reads A:B.
func parseRamp(s string, l *load.Options) error {
	a, b, ok := strings.Cut(s, ":")
	if !ok {
		return errors.New("want A:B, requests per second at the start and at the end")
	}
	from, err := parseNumber(a)
	if err != nil {
		return err
	}
	to, err := parseNumber(b)
	if err != nil {
		return err
	}
	if from < 0 || to < 0 || from+to == 0 {
		return fmt.Errorf("%s has no load in it", s)
	}
	if max(from, to) > mostRate {
		return fmt.Errorf("%s goes above %d per second, which no machine sends", s, int(mostRate))
	}
	l.From, l.To = from, to
	return nil
}

// parseBench reads the command line, and the files it names beside the input.
func parseBench(std *stdio, args []string) (*benchOptions, error) {
	o := &benchOptions{command: append([]string{"hotlap", "bench"}, withoutSecrets(args)...)}
	f := benchFlags(std, o)
	if err := parseFlags(f, args); err != nil {
		return nil, err
	}
	o.urls = f.Args()
	if len(o.urls) == 0 && !f.Changed("input") {
		return nil, errNoInput
	}
	if err := o.check(f); err != nil {
		return nil, err
	}
	if err := o.observe.check(&o.engine); err != nil {
		return nil, err
	}
	o.complete(f)
	err := o.net.apply(f, &o.engine)
	if err == nil {
		o.engine.TLS, err = o.tls.config()
	}
	return o, err
}

// check looks for flags that do not go together.
func (o *benchOptions) check(f *pflag.FlagSet) error {
	open := o.load.Open()
	switch {
	case len(o.urls) > 0 && f.Changed("input"):
		return errors.New("give URLs or -i, not both")
	case f.Changed("input") && o.input == "":
		return errors.New("-i needs a file name")
	case o.bodyStdin && o.input == "-":
		return errors.New("standard input cannot be both the body and the input")
	case f.Changed("method") && !httpcodec.ValidToken(o.method):
		return fmt.Errorf("-X %q is no method", o.method)
	case f.Changed("duration") && f.Changed("requests"):
		return errors.New("give -d or -n, not both")
	case f.Changed("rate") && f.Changed("ramp"):
		return errors.New("give -R or --ramp, not both")
	case f.Changed("ramp") && f.Changed("requests"):
		return errors.New("--ramp goes over a duration (-d), not a number of requests")
	case o.load.WarmUp > 0 && f.Changed("requests"):
		return errors.New("--warmup goes before a duration (-d), not a number of requests")
	case f.Changed("arrivals") && !open:
		return errors.New("--arrivals is of an open loop: give a rate (-R) or a --ramp")
	case o.noKeepAlive && o.engine.Pipeline > 1:
		return errors.New("--no-keepalive and -p exclude each other: one request per connection")
	case o.load.Duration > longestBench:
		return fmt.Errorf("-d %s is more than %s", o.load.Duration, longestBench)
	}
	for _, g := range o.gates {
		if g.OpenOnly() && !open {
			return fmt.Errorf("--assert %s is about an open loop: give a rate (-R) or a --ramp", g)
		}
	}
	if err := checkOutputs(f, "html", "hdr", "json"); err != nil {
		return err
	}
	for i, h := range o.headers {
		if err := parseHeader(h, &o.engine.Header, &o.engine.Omit); err != nil {
			return fmt.Errorf("-H, number %d: %w", i+1, err)
		}
	}
	return checkDescriptors(o.engine.Connections)
}

// checkOutputs looks at flags that name a file to write: only JSON goes to
// standard output.
func checkOutputs(f *pflag.FlagSet, names ...string) error {
	for _, name := range names {
		switch value := f.Lookup(name).Value.String(); {
		case value == "" && f.Changed(name):
			return fmt.Errorf("--%s needs a file name", name)
		case value == "-" && name != "json":
			return fmt.Errorf("--%s needs a file: standard output is for the report", name)
		}
	}
	return nil
}

// complete fills in what follows from the flags.
func (o *benchOptions) complete(f *pflag.FlagSet) {
	c, l := &o.engine, &o.load
	if c.Loops == 0 {
		c.Loops = engine.DefaultLoops()
	}
	c.Loops = min(c.Loops, c.Connections)
	c.PerHost = c.Connections
	c.MaxInFlight = c.Connections * c.Pipeline
	c.ReadTimeout = c.Timeout
	if o.noKeepAlive {
		c.Header = append(c.Header, engine.Field{Name: "Connection", Value: "close"})
	}
	l.Loops, l.Timeout, l.Poisson = c.Loops, c.Timeout, o.poisson == "poisson"
	if f.Changed("rate") {
		l.From = l.To
	}
	if l.Duration == 0 && l.Count == 0 {
		l.Duration = benchDuration
	}
}
