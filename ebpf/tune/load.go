package tune

import (
	"fmt"
	"time"
)

// Role is what the machine does in a load.
type Role string

const (
	Fetch Role = "fetch"
	Bench Role = "bench"
	Serve Role = "serve"
)

// Load is what is asked of the machine. Zero fields have defaults: see Complete.
type Load struct {
	For Role `json:"for"`
	// Rate is in requests per second, over all destinations.
	Rate float64 `json:"rate,omitempty"`
	// Assumed: nobody said the rate, and it matters.
	Assumed bool `json:"rate_assumed,omitempty"`
	// Connections are those open at once, over all destinations.
	Connections int `json:"connections"`
	// Destinations are pairs of address and port that the load is spread over evenly.
	Destinations int `json:"destinations"`
	// Sources are the source addresses it comes from, in turn.
	Sources int `json:"source_addresses"`
	// NoKeepAlive: each request has a connection of its own.
	NoKeepAlive bool `json:"no_keepalive"`
	// ServerCloses: the server sends the first FIN, so that TIME_WAIT is at its end.
	ServerCloses bool `json:"server_closes_first"`
	// Loopback: the destinations are in 127.0.0.0/8 or are ::1.
	Loopback bool `json:"loopback"`
	// Port is the server's, where it is on this machine; 0 is not said.
	Port uint16 `json:"port,omitempty"`
}

// assumedRate is taken where connections are made all the time and nobody said
// how many.
const assumedRate = 20_000

// Complete fills in what was not said.
func (l Load) Complete() Load {
	if l.For == "" {
		l.For = Bench
	}
	if l.Connections == 0 {
		l.Connections = map[Role]int{Fetch: 256, Bench: 64, Serve: 1024}[l.For]
	}
	l.Destinations, l.Sources = max(l.Destinations, 1), max(l.Sources, 1)
	if l.NoKeepAlive && l.Rate == 0 {
		l.Rate, l.Assumed = assumedRate, true
	}
	return l
}

// churn is the rate of new connections per second to one destination.
func (l Load) churn() float64 {
	if !l.NoKeepAlive {
		return 0
	}
	return l.Rate / float64(l.Destinations)
}

// waits: it is ports of this side that are kept in TIME_WAIT.
func (l Load) waits() bool { return l.For != Serve && l.NoKeepAlive && !l.ServerCloses }

// servedHere: the server is on this machine.
func (l Load) servedHere() bool { return l.For == Serve || l.Loopback }

// atOnce is how many connections are open to one destination.
func (l Load) atOnce() int { return (l.Connections + l.Destinations - 1) / l.Destinations }

// spareDescriptors are for other than connections: files, pollers, the resolver.
const spareDescriptors = 100

// descriptors is how many files a process with this load has open.
func (l Load) descriptors() int { return l.Connections + spareDescriptors }

// Of memory, in bytes: what a process needs besides connections, and a connection
// in the process and in the kernel while its buffers are all but empty.
const (
	memoryBase          = 60 << 20
	memoryPerConnection = 16<<10 + 8<<10
)

func (l Load) memory() int64 {
	n := memoryBase + memoryPerConnection*int64(l.Connections)
	if l.For != Serve && l.Loopback {
		n *= 2 // the server's end is here too
	}
	return n
}

// asked says the load's rate, for a sentence.
func (l Load) asked() string {
	if l.Assumed {
		return fmt.Sprintf("%s/s assumed, as no rate was given", count(l.churn()))
	}
	return fmt.Sprintf("%s/s asked", count(l.churn()))
}

// timeWait is TCP_TIMEWAIT_LEN of include/net/tcp.h. No sysctl changes it.
const timeWait = 60 * time.Second
