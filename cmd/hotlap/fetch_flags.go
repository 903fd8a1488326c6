package main

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/spf13/pflag"

	"hotlap/cmd/internal/observe"
	"hotlap/cmd/internal/progress"
	"hotlap/engine"
	"hotlap/httpcodec"
)

const fetchUsage = `Usage:
    hotlap fetch [flags] URL...
    hotlap fetch [flags] -i FILE
    ... | hotlap fetch [flags]

Send requests, write one JSON line per request, in order of completion.

Input:
    -i, --input FILE         read requests from FILE, - is standard input; .gz and
                             .zst are read too. A line is a URL, or an object
                             {"id","url","method","headers","body"|"body_base64",
                             "timeout_ms","meta"}. Blank lines and lines that
                             start with # are skipped
        --strict             stop at the first bad line, exit 2

Requests (where a line does not say otherwise):
    -X, --method METHOD      default GET, with a body POST
    -H, --header 'N: V'      add a header; 'N:' leaves a default out, 'N;' sends an
                             empty value; 'Host: V' replaces
    -b, --body DATA|@FILE    body; @- is standard input

Concurrency (k and m mean thousand and million):
    -c, --connections N      connections in all (256)
        --per-host N         connections per origin (8)
    -p, --pipeline N|auto    requests in line on a connection (1). Some servers and
                             intermediaries mix up the order of pipelined answers
                             without a trace; auto earns up to 16 per origin
        --loops N            event loops (one per four CPUs)
    -R, --rate RATE          requests per second in all
        --host-rate RATE     requests per second per origin

TLS (https URLs are verified against the system's roots):
    -k, --insecure           do not verify the server's certificate
        --cacert FILE        verify against the certificates in FILE, PEM, instead
        --cert FILE, --key FILE   the client certificate, with its chain, and its key
        --tls-min 1.2|1.3, --tls-max 1.2|1.3   the oldest and the newest version that is
                             agreed to (1.2, 1.3)
        --sslkeylog FILE     append the session keys to FILE, for Wireshark

Where connections go, and where from:
        --proxy URL          http://[USER:PASSWORD@]HOST:PORT, or socks5://...; ''
                             for none; without a port 8080, or 1080. Default:
                             http_proxy, https_proxy, all_proxy and no_proxy, which
                             leave out loopback
    -u, --user USER:PASSWORD basic authentication; of one URL: http://USER:PASSWORD@HOST/
        --resolve HOST:PORT:ADDR[,ADDR]   the addresses of a host
        --connect-to HOST1:PORT1:HOST2:PORT2   connect to another place; empty parts
                             match anything, or leave it as it is
    -4, --ipv4, -6, --ipv6   use addresses of that family only
        --dns-servers ADDR[:PORT],...   ask these instead of the system's
        --dns-ttl TIME       how long an answer is used (60s)
        --unix-socket PATH   make all connections to this socket
        --source-ip ADDR,...     connect from these addresses or networks (10.1.0.0/28),
                             in turn: each has its own range of ports
        --interface NAME     connect from this network interface

Time (such as 500ms, 30s, 2m):
        --timeout TIME       for an attempt: resolving, connecting, and the request
                             while it is first in line (30s)
        --connect-timeout TIME   for resolving and connecting (10s)
        --read-timeout TIME  silence between bytes (15s)
        --retries N          further attempts of idempotent requests after connect
                             errors, closes and timeouts (2)

Output:
    -o, --output FILE        default standard output
        --save-body inline|none  write bodies into the lines, or drop them (inline)
        --include-headers    write response headers
        --include-tls        write version, cipher and resumption of TLS
        --max-body SIZE      keep that much of a body (16MiB)
        --max-memory SIZE    of all bodies that are being received or written (256MiB)
        --progress auto|always|never   on standard error (auto: on a terminal)
        --summary FILE       write the summary as JSON too
        --fail               exit 3 if a request got no complete response, or a
                             status of 400 or more

` + observeUsage + `off)
` + runStatsUsage + `
Times in a line: start is when the request was taken from the input; total_us
runs from there to its end, all attempts and waits included. queued_us is the
part in which nothing was done for it: it waited for its rate, a connection, a
back-off, or those before it in a pipeline, in all attempts. Of the last attempt:
connect_us was spent resolving and connecting and tls_us in the TLS handshake
(absent on a connection that was open), ttfb_us runs from the moment the request was written and first in line to
the first byte of its final response.

Exit codes: 0 done; 1 could not start, or the output broke; 2 bad arguments or
input; 3 with --fail; 130 and 143 after SIGINT and SIGTERM. The first signal ends
the input and lets what is in flight finish for 2 s; the second ends everything.
`

// fetchOptions is what the command line says.
type fetchOptions struct {
	urls      []string
	input     string // a file, "-", or "" where urls are given
	strict    bool
	method    string
	headers   []string // as given
	body      []byte
	engine    engine.Config
	output    string
	saveBody  string
	progress  string
	summary   string
	fail      bool
	observe   observeOptions
	tls       tlsOptions
	net       netOptions
	tlsInfo   bool
	bodyStdin bool
}

// errNoInput is a command line that asks for nothing.
var errNoInput = errors.New("no URL")

func fetchFlags(std *stdio, o *fetchOptions) *pflag.FlagSet {
	o.saveBody, o.progress = "inline", "auto"
	f := pflag.NewFlagSet("fetch", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	o.engineFlags(f)
	f.StringVarP(&o.input, "input", "i", "", "")
	f.BoolVar(&o.strict, "strict", false, "")
	f.StringVarP(&o.method, "method", "X", "", "")
	f.VarP(bodyFlag{std.in, &o.body, &o.bodyStdin}, "body", "b", "")
	f.StringVarP(&o.output, "output", "o", "-", "")
	f.Var(choice{&o.saveBody, []string{"inline", "none"}}, "save-body", "")
	f.BoolVar(&o.engine.KeepHead, "include-headers", false, "")
	f.BoolVar(&o.tlsInfo, "include-tls", false, "")
	f.Var(choice{&o.progress, []string{"auto", "always", "never"}}, "progress", "")
	f.StringVar(&o.summary, "summary", "", "")
	f.BoolVar(&o.fail, "fail", false, "")
	o.observe.flags(f, observe.Off)
	return f
}

// engineFlags are those that say how requests are sent.
func (o *fetchOptions) engineFlags(f *pflag.FlagSet) {
	c := &o.engine
	*c = engine.Config{
		Connections: engine.DefaultConnections, PerHost: engine.DefaultPerHost, Pipeline: 1, Retries: 2,
		MaxBody: 16 << 20, MaxMemory: 256 << 20,
	}
	f.StringArrayVarP(&o.headers, "header", "H", nil, "")
	f.VarP(number[int]{&c.Connections, 1, math.MaxInt32}, "connections", "c", "")
	f.Var(number[int]{&c.PerHost, 1, math.MaxInt32}, "per-host", "")
	f.VarP(depth{&c.Pipeline}, "pipeline", "p", "")
	f.Var(number[int]{&c.Loops, 1, 256}, "loops", "")
	f.VarP(rate{&c.Rate}, "rate", "R", "")
	f.Var(rate{&c.HostRate}, "host-rate", "")
	f.Var(limit{&c.Timeout}, "timeout", "")
	f.Var(limit{&c.ConnectTimeout}, "connect-timeout", "")
	f.Var(limit{&c.ReadTimeout}, "read-timeout", "")
	f.Var(number[int]{&c.Retries, 0, 1000}, "retries", "")
	o.tls.flags(f)
	o.net.flags(f, c)
	f.Var(number[int64]{&c.MaxBody, 1, math.MaxInt32}, "max-body", "")
	f.Var(number[int64]{&c.MaxMemory, 1, 1 << 50}, "max-memory", "")
}

// applyFlags puts what the command line says into the engine's configuration.
func (o *fetchOptions) applyFlags(f *pflag.FlagSet) error {
	for i, h := range o.headers {
		if err := parseHeader(h, &o.engine.Header, &o.engine.Omit); err != nil {
			return fmt.Errorf("-H, number %d: %w", i+1, err)
		}
	}
	err := o.net.apply(f, &o.engine)
	if err == nil {
		o.engine.TLS, err = o.tls.config()
	}
	return err
}

// parseFetch reads the command line, and the files it names beside the input.
func parseFetch(std *stdio, args []string) (*fetchOptions, error) {
	o := new(fetchOptions)
	f := fetchFlags(std, o)
	if err := parseFlags(f, args); err != nil {
		return nil, err
	}
	o.urls, o.engine.KeepBody = f.Args(), o.saveBody == "inline"
	if len(o.urls) == 0 && !f.Changed("input") {
		if progress.IsTerminal(std.in) {
			return nil, errNoInput
		}
		o.input = "-"
	}
	if err := o.check(f); err != nil {
		return nil, err
	}
	return o, o.applyFlags(f)
}

// check looks for flags that do not go together.
func (o *fetchOptions) check(f *pflag.FlagSet) error {
	switch {
	case len(o.urls) > 0 && f.Changed("input"):
		return errors.New("give URLs or -i, not both")
	case f.Changed("input") && o.input == "":
		return errors.New("-i needs a file name")
	case o.output == "":
		return errors.New("-o needs a file name")
	case o.bodyStdin && o.input == "-":
		return errors.New("standard input cannot be both the body and the input")
	case f.Changed("method") && !httpcodec.ValidToken(o.method):
		return fmt.Errorf("-X %q is no method", o.method)
	case o.summary == "-":
		return errors.New("--summary needs a file: standard output is for results")
	}
	return errors.Join(o.observe.check(&o.engine), checkDescriptors(o.engine.Connections))
}
