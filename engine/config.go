package engine

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"runtime"
	"time"
)

// Config is what an Engine is made with. The zero value is useful: every field
// left 0 takes the default named beside it. It is validated once, by New.
type Config struct {
	Loops       int // event loops; DefaultLoops()
	Connections int // open connections in all, DefaultConnections
	PerHost     int // open connections per origin, DefaultPerHost
	// Pipeline is how many requests may be outstanding on one connection;
	// default 1. PipelineAuto earns depth per origin, up to AutoPipelineMax.
	// Only idempotent methods share a pipeline.
	Pipeline int

	Rate     float64 // requests per second in all; 0 is unlimited
	HostRate float64 // requests per second per origin; 0 is unlimited

	// Timeout covers resolving, connecting, and the request from when it is
	// written and first in line on its connection. Default 30 s.
	Timeout        time.Duration
	ConnectTimeout time.Duration // resolving and connecting, all addresses; default 10 s
	ReadTimeout    time.Duration // silence between bytes of a response or of a stalled write; default 15 s
	IdleTimeout    time.Duration // how long an unused connection is kept; default 60 s

	// Retries is how many further attempts an idempotent request gets after a
	// connect error, a close or a timeout. Default 0.
	Retries int

	KeepBody bool  // keep bodies, up to MaxBody bytes each; else they are counted and dropped
	KeepHead bool  // keep response heads, for Response.Fields
	MaxBody  int64 // bytes kept of one body; default 16 MiB
	MaxHead  int   // bytes of one response head, over it is TooLarge; default 64 KiB
	// MaxMemory is how many bytes of kept bodies there are at once; default 256
	// MiB. Memory for small bodies stays with the requests in flight when they
	// are consumed: up to a quarter of it more.
	MaxMemory int64
	// MaxInFlight is how many requests are inside the engine at once: queued,
	// sent, or answered and not yet consumed by the sink. Default: four times what
	// the connections can hold, at least 1024, at most 65536.
	MaxInFlight int

	// Header goes with every request that does not itself have that name.
	// Accept: */* and User-Agent are added unless named here or in Omit.
	Header []Field
	Omit   []string

	// TLS is what https connections are configured with: roots, client
	// certificates, versions. Nil verifies against the system's roots, from TLS
	// 1.2 on. Protocols, session cache and, unless it is set, the server name
	// are the engine's.
	TLS *tls.Config

	// Proxy returns the proxy for an origin's URL, nil for none; schemes http,
	// socks5 and socks5h, which both leave the names to the proxy. It is asked
	// once in a row of requests to an origin, has to be quick, and to say the
	// same of the same origin. Nil is no proxy: the environment is not read.
	Proxy func(*url.URL) (*url.URL, error)

	// Where connections go instead of where the URL says, and from where.
	ConnectTo  []ConnectRule
	Resolve    map[HostPort][]netip.Addr // of these the resolver is not asked
	UnixSocket string                    // path of a socket that all connections are made to
	IPVersion  int                       // 4 or 6: only addresses of that family
	Sources    []netip.Prefix            // source addresses, used in turn; a prefix is all of its addresses
	Interface  string                    // network interface, SO_BINDTODEVICE

	Resolver Resolver      // default: the system's, by package net
	DNSTTL   time.Duration // how long an answer is used; default 60 s
}

// Defaults and bounds; each is named once.
const (
	DefaultConnections = 256
	DefaultPerHost     = 8
	PipelineAuto       = -1   // Config.Pipeline: depth is earned per origin
	AutoPipelineMax    = 16   // what PipelineAuto may earn
	PipelineMax        = 1024 // the deepest pipeline that can be asked for
	MaxInterim         = 32   // 1xx responses before a final one
	maxLoops           = 256
	maxTime            = 100 * 365 * 24 * time.Hour // longer is no limit, and instants do not overflow
	maxUnixPath        = 107                        // unix(7): sun_path, with its NUL
)

// DefaultLoops is one loop per four CPUs, at least one: measured, one loop
// drives several hundred thousand requests per second, and a second one on a
// small machine takes the CPU from whoever parses, encodes and writes.
func DefaultLoops() int { return max(1, runtime.GOMAXPROCS(0)/4) }

func (c Config) withDefaults() (Config, error) {
	def := func(p *int, d int) {
		if *p == 0 {
			*p = d
		}
	}
	defDur := func(p *time.Duration, d time.Duration) {
		if *p == 0 {
			*p = d
		}
		*p = min(*p, maxTime)
	}
	def(&c.Loops, DefaultLoops())
	def(&c.Connections, DefaultConnections)
	def(&c.PerHost, DefaultPerHost)
	def(&c.Pipeline, 1)
	defDur(&c.Timeout, 30*time.Second)
	defDur(&c.ConnectTimeout, 10*time.Second)
	defDur(&c.ReadTimeout, 15*time.Second)
	defDur(&c.IdleTimeout, 60*time.Second)
	defDur(&c.DNSTTL, 60*time.Second)
	if c.MaxBody == 0 {
		c.MaxBody = 16 << 20
	}
	def(&c.MaxHead, 64<<10)
	if c.MaxMemory == 0 {
		c.MaxMemory = 256 << 20
	}
	c.Loops = min(c.Loops, c.Connections)
	if c.MaxInFlight == 0 {
		c.MaxInFlight = min(max(4*c.Connections*c.depthMax(), 1024), 65536)
	}
	if c.Resolver == nil {
		c.Resolver = defaultResolver
	}
	return c, c.validate()
}

// depthMax is the deepest pipeline a connection may reach.
func (c *Config) depthMax() int {
	if c.Pipeline == PipelineAuto {
		return AutoPipelineMax
	}
	return c.Pipeline
}

func (c *Config) validate() error {
	var errs []error
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf("engine: "+format, args...))
		}
	}
	bad(c.Loops < 1 || c.Loops > maxLoops, "Loops is %d, want 1 to %d", c.Loops, maxLoops)
	bad(c.Connections < 1, "Connections is %d, want at least 1", c.Connections)
	bad(c.PerHost < 1, "PerHost is %d, want at least 1", c.PerHost)
	bad(c.Pipeline != PipelineAuto && (c.Pipeline < 1 || c.Pipeline > PipelineMax),
		"Pipeline is %d, want 1 to %d, or PipelineAuto", c.Pipeline, PipelineMax)
	bad(!(c.Rate >= 0) || !(c.HostRate >= 0), "Rate and HostRate must not be negative")
	bad(c.Timeout < 0 || c.ConnectTimeout < 0 || c.ReadTimeout < 0 || c.IdleTimeout < 0 || c.DNSTTL < 0,
		"time limits must not be negative")
	bad(c.Retries < 0, "Retries is %d, want 0 or more", c.Retries)
	bad(c.MaxBody < 0 || c.MaxHead < 0 || c.MaxMemory < 0, "sizes must not be negative")
	bad(c.MaxInFlight < 1, "MaxInFlight is %d, want at least 1", c.MaxInFlight)
	bad(c.IPVersion != 0 && c.IPVersion != 4 && c.IPVersion != 6, "IPVersion is %d, want 4, 6 or 0", c.IPVersion)
	bad(len(c.UnixSocket) > maxUnixPath, "UnixSocket: a path of %d bytes, at most %d", len(c.UnixSocket), maxUnixPath)
	for _, p := range c.Sources {
		bad(!p.IsValid(), "Sources: a prefix that is none")
	}
	errs = append(errs, checkFields(c.Header))
	return errors.Join(errs...)
}
