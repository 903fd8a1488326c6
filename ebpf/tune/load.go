package tune

import "time"

// Role is what the machine does in a load.
type Role string

const (
	Fetch Role = "fetch"
	Bench Role = "bench"
	Serve Role = "serve"
)

// Load is what is asked of the machine.
type Load struct {
	For Role `json:"for"`
	// Rate is in requests per second, over all destinations; 0 is as fast as it goes.
	Rate float64 `json:"rate"`
	// Connections are those open at once, over all destinations.
	Connections int `json:"connections"`
	// Destinations are pairs of address and port that the load is spread over evenly.
	Destinations int `json:"destinations"`
	// Sources are the source addresses it comes from, in turn.
	Sources int `json:"source_addresses"`
	// KeepAlive: a connection serves many requests. Without it each has its own.
	KeepAlive bool `json:"keepalive"`
	// ServerCloses: the server sends the first FIN, so that TIME_WAIT is at its end.
	ServerCloses bool `json:"server_closes_first"`
	// Loopback: the destinations are in 127.0.0.0/8 or are ::1.
	Loopback bool `json:"loopback"`
}

// churn is the rate of new connections per second to one destination, 0 where
// there is no rate to tell.
func (l Load) churn() float64 {
	if l.KeepAlive {
		return 0
	}
	return l.Rate / float64(l.Destinations)
}

// churns: the load makes connections all the time, and its side is the one that
// keeps their ports in TIME_WAIT.
func (l Load) churns() bool { return l.For != Serve && !l.KeepAlive && !l.ServerCloses }

// timeWait is TCP_TIMEWAIT_LEN of include/net/tcp.h. No sysctl changes it.
const timeWait = 60 * time.Second

// spareDescriptors are for other than connections: files, pollers, the resolver.
const spareDescriptors = 100

// descriptors is how many files a process with this load has open.
func (l Load) descriptors() int { return l.Connections + spareDescriptors }
