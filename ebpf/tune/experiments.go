package tune

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hotlap/ebpf"
	"hotlap/ebpf/internal/lab"
)

// An Experiment is what a knob is said to do, put to the test. To add one is to
// add an entry to Experiments.
type Experiment struct {
	Knob string // its name in Knobs
	Case string // what tells it from others of the same knob
	Load string // what is done, and counted
	// Setup is what the load needs of other settings, whatever the machine has.
	Setup []Setting
	// Pair: the client and the server have a namespace each, with a veth between.
	Pair    bool
	Metrics []Metric

	// values says from which value to which the knob is turned, on a machine where
	// it has this one.
	values func(current string) (from, to string)
	// load makes one run, and returns what it counted itself.
	load func(*track) (Figures, error)
}

// Setting is a sysctl and its value.
type Setting struct{ Name, Value string }

// Experiments are all experiments, those of a knob together.
func Experiments() []*Experiment {
	return []*Experiment{
		acceptBurst(),
		localPorts(),
		portReuse("between hosts", true),
		portReuse("on loopback", false),
		halfOpenBurst("cookies on", "1"),
		halfOpenBurst("cookies off", "0"),
		timeWaitLength(),
		timeWaitBuckets(),
		abortOnOverflow(),
		windowAfterIdle("reno"),
		windowAfterIdle("bbr"),
	}
}

// name is the knob's, with the case.
func (e *Experiment) name() string {
	return strings.TrimSuffix(e.Knob+" "+e.Case, " ")
}

// with is the settings of an experiment that are not the machine's, in words.
func (e *Experiment) with() (list []string) {
	for _, s := range e.Setup {
		value := s.Value
		if s.Name == reservedPorts && value == "" {
			value = "none"
		} else if s.Name == reservedPorts {
			value = fmt.Sprintf("all but each %dth port", keptPorts)
		}
		list = append(list, short(s.Name)+" "+value)
	}
	return list
}

// Loads, in connections. They are small: an effect is a count that moves.
const (
	refusedBurst = 100 // beyond what the queue holds; and more than 1 % of all
	churned      = 100 // in each of two rounds; ports too
	// mostFiles is more than any load has open.
	mostFiles = 2*(largestQueue+refusedBurst) + 200
)

// manyPorts is for loads with thousands of connections: the machine may have fewer
// ports than these.
var manyPorts = []Setting{{reservedPorts, ""}, {portRange, fmt.Sprintf("%d %d", widestLow, widestHigh)}}

// raise turns the length of a queue up. The load fills the queue as it was: where
// that is too long, or long enough already, it is compared with otherwise.
func raise(otherwise, to int) func(string) (string, string) {
	return func(current string) (string, string) {
		from, err := strconv.Atoi(current)
		if err != nil || from > largestQueue {
			from = otherwise
		}
		return strconv.Itoa(from), strconv.Itoa(to)
	}
}

// turn sets a knob to a value; a machine that has it already is compared with
// the kernel's default.
func turn(otherwise, to string) func(string) (string, string) {
	return func(current string) (string, string) {
		if same(current, to) {
			return otherwise, to
		}
		return current, to
	}
}

var loopback = netip.MustParseAddr("127.0.0.1")

// at is the address that the server listens on.
func (t *track) at() netip.Addr {
	if t.server != t.client {
		return lab.PairIPv4[1]
	}
	return loopback
}

// listen listens at a port that no client takes: see keptPorts.
func (t *track) listen(backlog int) (*lab.Socket, error) {
	const port = 1025
	l, err := t.server.Listen(netip.AddrPortFrom(t.at(), port), backlog)
	if err == nil {
		t.undo = append(t.undo, l.Close)
	}
	return l, err
}

// connect makes a connection. Without a free local port ok is false.
func (t *track) connect(l *lab.Socket) (client, server *lab.Socket, ok bool, err error) {
	client, err = t.client.Connect(l.Local())
	if err == unix.EADDRNOTAVAIL {
		return nil, nil, false, nil
	}
	if err != nil {
		return nil, nil, false, fmt.Errorf("connect: %w", err)
	}
	if server, err = l.Accept(); err != nil {
		return nil, nil, false, cmp.Or(client.Abort(), err)
	}
	return client, server, true, nil
}

// closeClientFirst closes a connection as a client does that has its answer: its
// end goes to TIME_WAIT.
func closeClientFirst(client, server *lab.Socket) error {
	b := make([]byte, 1)
	err := client.Shutdown()
	if err == nil {
		_, err = server.Read(b)
	}
	if err = cmp.Or(err, server.Close()); err == nil {
		_, err = client.Read(b)
	}
	return cmp.Or(err, client.Close())
}

// What several experiments look at.
var (
	resets    = Metric{Name: "RSTs sent", Kind: Harm, Least: 3, Counter: "OutRsts"}
	noPort    = Metric{Name: "connects without a local port", Kind: Benefit, Least: 5}
	exhausted = Metric{Name: "of these observed", Kind: Shown, Least: 1, Counter: ebpf.PortsExhausted}
)
