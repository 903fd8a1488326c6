package prog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Role is what a subject is to a fault.
type Role = observeRole

// The roles.
const (
	None     = observeRoleROLE_NONE     // not attributed
	Listener = observeRoleROLE_LISTENER // a listening socket
	Server   = observeRoleROLE_SERVER   // the connections of a listening port
	Client   = observeRoleROLE_CLIENT   // the connections to a destination
)

// Kind is the kind of a fault.
type Kind = observeKind

// The kinds of faults. Those of Sockets count the sockets that had the fault at
// least once.
const (
	Drop                 = observeKindKIND_DROP
	ConnectFailed        = observeKindKIND_CONNECT_FAILED
	PortsExhausted       = observeKindKIND_PORTS_EXHAUSTED
	PortTaken            = observeKindKIND_PORT_TAKEN
	RetransData          = observeKindKIND_RETRANS_DATA
	RetransDataSockets   = observeKindKIND_RETRANS_DATA_SOCKETS
	FirstUnanswered      = observeKindKIND_FIRST_UNANSWERED
	RetransSYN           = observeKindKIND_RETRANS_SYN
	Unanswered           = observeKindKIND_UNANSWERED
	RetransSYNACK        = observeKindKIND_RETRANS_SYNACK
	RetransSYNACKSockets = observeKindKIND_RETRANS_SYNACK_SOCKETS
	RSTOut               = observeKindKIND_RST_OUT
	RSTIn                = observeKindKIND_RST_IN
	Kinds                = int(observeKindKINDS)
)

// Subject is whom something happened to.
type Subject struct {
	Role   Role
	Addr   netip.AddrPort // local of a listener or server, remote of a client
	Netns  uint32         // inode
	Cookie uint64         // of a listener's socket
}

// A Fault is what happened to a subject.
type Fault struct {
	Who  Subject
	Kind Kind
	Code string // reason of a drop or RST, errno, or state; "" where there is none
}

// Buckets is how many a histogram has.
const Buckets = len(observeTraffic{}.LatencyUs)

// BucketFrom returns the smallest time that bucket i holds: there are four to
// each power of two of a microsecond.
func BucketFrom(i int) time.Duration {
	if i < 4 {
		return time.Duration(i) * time.Microsecond
	}
	return time.Duration(4+i%4) << (i/4 - 1) * time.Microsecond
}

// Traffic is what became of the connections to a destination.
type Traffic struct {
	Connects, Established uint64
	Latency               [Buckets]uint64 // of connect
	Searches              uint64          // for a local port
	SearchTime, SearchMax time.Duration
	Closed                uint64        // sockets, whose final totals these are:
	Busy, Receive, Send   time.Duration // with data to send; held by the receive window; by the send buffer
	MinRTT                time.Duration // 0: not measured
	Duplicates            uint64        // segments that arrived twice (DSACK)
}

// Counts is all that was counted so far.
type Counts struct {
	Totals  [Kinds]uint64
	Faults  map[Fault]uint64
	Traffic map[Subject]Traffic
	Peaks   map[uint64]uint32 // of accept queues, by cookie; deep mode
	Lost    map[string]uint64 // what was not recorded, by the map that was full; without zeros

	// Retransmitted are all segments that Config.Netns sent again, whatever the
	// ports. It is what the kernel counts in RetransSegs, where it runs the
	// programs for all of them.
	Retransmitted uint64
}

// Read copies what was counted so far.
func (p *Programs) Read() (Counts, error) {
	c := Counts{Faults: map[Fault]uint64{}, Traffic: map[Subject]Traffic{}, Peaks: map[uint64]uint32{}, Lost: map[string]uint64{}}
	err := errors.Join(
		p.vars.Totals.Get(&c.Totals),
		p.vars.Retransmitted.Get(&c.Retransmitted),
		p.readFaults(&c),
		p.readTraffic(&c),
		p.readPeaks(&c),
		p.readLost(&c),
	)
	if err != nil {
		return Counts{}, fmt.Errorf("reading BPF maps: %w", err)
	}
	return c, nil
}

func (p *Programs) readFaults(c *Counts) error {
	var key observeFault
	var n uint64
	for it := p.maps.Faults.Iterate(); ; {
		if !it.Next(&key, &n) {
			return it.Err()
		}
		c.Faults[p.fault(key)] += n
	}
}

func (p *Programs) readTraffic(c *Counts) error {
	tick, err := tickLength()
	if err != nil {
		return err
	}
	var key observeSubject
	var perCPU []observeTraffic
	for it := p.maps.Traffic.Iterate(); ; {
		if !it.Next(&key, &perCPU) {
			return it.Err()
		}
		var t Traffic
		for i := range perCPU {
			t.add(&perCPU[i], tick)
		}
		c.Traffic[subject(key)] = t
	}
}

// add adds what one CPU counted.
func (t *Traffic) add(o *observeTraffic, tick time.Duration) {
	t.Connects += o.Connects
	t.Established += o.Established
	for i, n := range o.LatencyUs {
		t.Latency[i] += n
	}
	t.Searches += o.Searches
	t.SearchTime += time.Duration(o.SearchNs)
	t.SearchMax = max(t.SearchMax, time.Duration(o.SearchMaxNs))
	t.Closed += o.Closed
	// As in TCP_INFO, busy includes the time it was held up.
	t.Busy += time.Duration(o.BusyJiffies+o.RwndLimitedJiffies+o.SndbufLimitedJiffies) * tick
	t.Receive += time.Duration(o.RwndLimitedJiffies) * tick
	t.Send += time.Duration(o.SndbufLimitedJiffies) * tick
	t.Duplicates += o.DsackDups
	if rtt := time.Duration(o.MinRttUs) * time.Microsecond; rtt > 0 && (t.MinRTT == 0 || rtt < t.MinRTT) {
		t.MinRTT = rtt
	}
}

// tickLength is the length of a jiffy: the resolution of the coarse clock.
func tickLength() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &ts); err != nil {
		return 0, fmt.Errorf("clock_getres: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}

func (p *Programs) readPeaks(c *Counts) error {
	var cookie uint64
	var perCPU []uint32
	for it := p.maps.AcceptPeak.Iterate(); ; {
		if !it.Next(&cookie, &perCPU) {
			return it.Err()
		}
		for _, n := range perCPU {
			c.Peaks[cookie] = max(c.Peaks[cookie], n)
		}
	}
}

func (p *Programs) readLost(c *Counts) error {
	for name, v := range map[string]*ebpf.Variable{
		"faults": p.vars.LostFaults, "traffic": p.vars.LostTraffic, "conns": p.vars.LostConns,
		"served": p.vars.LostServed, "accept_peak": p.vars.LostPeaks, "examples": p.vars.LostExamples,
	} {
		var n uint64
		if err := v.Get(&n); err != nil {
			return err
		}
		if n > 0 {
			c.Lost[name] = n
		}
	}
	return nil
}

// An Example is one fault, with what the counts leave out.
type Example struct {
	At    time.Duration // on CLOCK_MONOTONIC
	Fault Fault
	PID   uint32 // that called connect, 0: unknown
	Peer  uint16 // the port at the other end of the subject's
}

// Examples returns the examples since the last call, at most max.
func (p *Programs) Examples(max int) ([]Example, error) {
	var list []Example
	p.examples.SetDeadline(time.Unix(0, 1)) // never waits
	for len(list) < max {
		record, err := p.examples.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return list, fmt.Errorf("ring buffer: %w", err)
		}
		var e observeExample
		if _, err := binary.Decode(record.RawSample, binary.NativeEndian, &e); err != nil {
			return list, fmt.Errorf("ring buffer: %w", err)
		}
		list = append(list, Example{At: time.Duration(e.AtNs), Fault: p.fault(e.Fault), PID: e.Tgid, Peer: e.PeerPort})
	}
	return list, nil
}

func (p *Programs) fault(f observeFault) Fault {
	return Fault{Who: subject(f.Who), Kind: Kind(f.Kind), Code: p.code(Kind(f.Kind), f.Code)}
}

func subject(s observeSubject) Subject {
	who := Subject{Role: Role(s.Role), Netns: s.Netns, Cookie: s.Cookie}
	if who.Role != None {
		who.Addr = netip.AddrPortFrom(netip.AddrFrom16(s.Addr).Unmap(), s.Port)
	}
	return who
}

// code names the code of a fault as the kernel does.
func (p *Programs) code(k Kind, code uint32) string {
	switch k {
	case Drop:
		return p.name(p.reasons, code)
	case RSTOut:
		return p.name(p.resets, code)
	case ConnectFailed:
		if code == 0 {
			return "given up"
		}
		return unix.ErrnoName(unix.Errno(code))
	case RSTIn:
		return tcpStates[code]
	}
	return ""
}

func (p *Programs) name(names map[uint32]string, code uint32) string {
	if len(names) == 0 {
		return "not told by this kernel"
	}
	if name, ok := names[code]; ok {
		return name
	}
	return strconv.FormatUint(uint64(code), 10) // of a subsystem's own list
}

// tcpStates are the kernel's names of the states that a socket can get an RST in.
var tcpStates = map[uint32]string{
	1: "ESTABLISHED", 2: "SYN_SENT", 3: "SYN_RECV", 4: "FIN_WAIT1", 5: "FIN_WAIT2", 6: "TIME_WAIT",
	7: "CLOSE", 8: "CLOSE_WAIT", 9: "LAST_ACK", 10: "LISTEN", 11: "CLOSING", 12: "NEW_SYN_RECV",
}
