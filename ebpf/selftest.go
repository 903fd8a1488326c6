package ebpf

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/lab"
	"hotlap/ebpf/internal/procfs"
	"hotlap/ebpf/internal/prog"
)

// A Check is one row of the self-test: a fault, what provoked it says of it, and
// what was seen of it.
type Check struct {
	Fault       string
	Provoked    uint64 // events, as the injector or the application counted them
	Connections uint64 // that they happened to
	Observed    []Figure
	Kernel      []Figure // counters of the kernel that are independent of Observed
	SameSource  bool     // what was observed is the kernel's own counter
	Missed      int      // times before that the kernel counted all, and did not run the BPF programs for all
	Host        Counts   // the machine's counters meanwhile: not judged
	Err         error    // it could not be provoked or observed
}

// Figure is a count and where it is from.
type Figure struct {
	Name   string
	Source string
	Value  uint64
	Want   uint64
}

// Passed says whether all that was observed is what was provoked.
func (c *Check) Passed() bool {
	if c.Err != nil || len(c.Observed) == 0 {
		return false
	}
	for _, figures := range [][]Figure{c.Observed, c.Kernel} {
		for _, f := range figures {
			if f.Value != f.Want {
				return false
			}
		}
	}
	return true
}

// SelfTest provokes one fault after the other, each in a network namespace of
// its own that is gone afterwards, and hands what was observed to each. It takes
// some ten seconds, and fails where no namespace can be made: it needs root's rights.
func SelfTest(each func(Check)) error {
	ns, err := lab.New()
	if err != nil {
		return fmt.Errorf("ebpf: %w", err)
	}
	ns.Close()
	for _, c := range checks() {
		each(c.prove(Options{}, settleFor))
	}
	return nil
}

// A check provokes a fault and says what should be seen of it.
type check struct {
	name     string
	programs []string // that the row depends on
	deep     bool
	same     bool
	counters []procfs.Counter
	inject   func(*lab.Namespace) (*provoked, error)
	observe  func(*Sample, *provoked) []Figure
}

// provoked is what an injector did. Its sockets are open until close.
type provoked struct {
	events, connections uint64
	at                  netip.AddrPort
	cookie              uint64
	close               func() error
}

// ofLab makes an injector of the lab one of a check.
func ofLab(inject func(*lab.Namespace) (*lab.Provoked, error)) func(*lab.Namespace) (*provoked, error) {
	return func(ns *lab.Namespace) (*provoked, error) {
		p, err := inject(ns)
		if err != nil {
			return nil, err
		}
		return &provoked{p.Events, p.Connections, p.At, p.Cookie, p.Close}, nil
	}
}

// settleFor is how long the figures may take until they agree.
const settleFor = 3 * time.Second

// maxTries is how often a fault is provoked whose events the kernel counts all, and
// the BPF programs fewer. There are kernels that do not run them for what happens in
// a softirq while some process of the machine is on the CPU: a matter of chance.
const maxTries = 3

// prove runs a check until it passes, or fails for more than events that were missed.
func (c *check) prove(options Options, patience time.Duration) (row Check) {
	for missed := range maxTries {
		row = c.run(options, patience)
		row.Missed = missed
		if row.Passed() || !c.missedEvents(&row) {
			break
		}
	}
	return row
}

// missedEvents says that all is right but for what BPF programs saw too few of, of
// which the kernel's own counters have all.
func (c *check) missedEvents(row *Check) bool {
	if row.Err != nil || len(row.Kernel) == 0 || len(row.Observed) == 0 {
		return false
	}
	for _, f := range slices.Concat(row.Observed, row.Kernel) {
		missed := f.Value < f.Want && slices.Contains(c.programs, f.Source)
		if f.Value != f.Want && !missed {
			return false
		}
	}
	return true
}

// run runs a check in a namespace of its own.
func (c *check) run(options Options, patience time.Duration) Check {
	row := Check{Fault: c.name, SameSource: c.same}
	ns, err := lab.New()
	if err != nil {
		row.Err = err
		return row
	}
	defer ns.Close()
	if options.Netns, err = fileOf(ns); err != nil {
		row.Err = err
		return row
	}
	options.Deep = c.deep
	o, err := Open(options)
	if err != nil {
		row.Err = err
		return row
	}
	defer o.Close()
	p, err := c.inject(ns)
	if err != nil {
		row.Err = err
		return row
	}
	row.Provoked, row.Connections = p.events, p.connections
	row.Err = errors.Join(c.settle(&row, o, p, patience), p.close())
	return row
}

// settle reads until the figures agree: softirqs may be working on the last
// packets yet.
func (c *check) settle(row *Check, o *Observer, p *provoked, patience time.Duration) error {
	for deadline := time.Now().Add(patience); ; {
		s, err := o.Read()
		if err != nil {
			return err
		}
		row.Observed = c.observe(&s, p)
		row.Kernel, row.Host = nil, s.Host
		for _, k := range c.counters {
			if !c.same {
				n, _ := s.Namespace.Get(Counter(k.String()))
				row.Kernel = append(row.Kernel, Figure{Name: k.String(), Source: "/proc", Value: n, Want: p.events})
			}
		}
		if row.Passed() || time.Now().After(deadline) {
			return nil
		}
		time.Sleep(pollEvery)
	}
}

// fileOf is where the namespace can be entered from.
func fileOf(ns *lab.Namespace) (file string, err error) {
	err = ns.Do(func() error {
		file = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
		return nil
	})
	return file, err
}

// checks are the rows: those of the lab's faults, and healthy ones.
func checks() []check {
	list := append(healthy(),
		check{
			name: "receive queue collapsed", same: true, observe: seeKernel(procfs.PruneCalled),
			inject: ofLab(func(ns *lab.Namespace) (*lab.Provoked, error) { return ns.ReceiveCollapse(loopback, 5) }),
		},
		check{
			name: "queueing discipline drops", same: true, observe: seeKernel(procfs.QdiscDrops),
			inject: ofLab(func(ns *lab.Namespace) (*lab.Provoked, error) { return ns.QdiscDrops(loopback, 10) }),
		},
	)
	for _, f := range lab.Faults() {
		see, known := sights[f.Name]
		if !known {
			see.observe = func(*Sample, *provoked) []Figure { return nil } // and fails
		}
		list = append(list, check{
			name: f.Name, programs: see.programs, same: see.same,
			counters: f.Counters, inject: ofLab(f.Inject), observe: see.observe,
		})
	}
	return list
}

// A sight is what should be seen of a fault of the lab.
type sight struct {
	programs []string
	same     bool // only the kernel's counter shows it
	observe  func(*Sample, *provoked) []Figure
}

var sights = map[string]sight{
	"accept queue overflow":                                    {[]string{prog.RetransmitSkb, prog.SetState}, false, seeOverflow},
	"accept queue overflow, IPv6":                              {[]string{prog.RetransmitSkb, prog.SetState}, false, seeOverflow},
	"accept queue overflow, IPv4 at a dual-stack listener":     {[]string{prog.RetransmitSkb, prog.SetState}, false, seeOverflow},
	"accept queue overflow, mapped IPv4":                       {[]string{prog.RetransmitSkb, prog.SetState}, false, seeOverflow},
	"accept queue overflow, one of two SO_REUSEPORT listeners": {nil, false, seeShared},
	"accept queue overflow at the final ACK":                   {nil, false, seeListener(AcceptOverflows)},
	"SYN queue full, cookies off":                              {nil, false, seeListener(SYNDrops)},
	"SYN queue full, cookies sent":                             {nil, true, seeKernel(procfs.TCPReqQFullDoCookies)},
	"socket backlog drops behind a stuck reader":               {[]string{prog.KfreeSkb}, false, seeTotal(prog.KfreeSkb, BacklogDrops)},
	"receive buffer full":                                      {[]string{prog.KfreeSkb}, false, seeTotal(prog.KfreeSkb, ReceiveBufferDrops)},
	"client's socket backlog drops behind a stuck reader":      {[]string{prog.KfreeSkb}, false, seeDestination(prog.KfreeSkb, BacklogDrops)},
	"client's receive buffer full":                             {[]string{prog.KfreeSkb}, false, seeDestination(prog.KfreeSkb, ReceiveBufferDrops)},
	"connection refused":                                       {[]string{prog.SetState, prog.SendReset, prog.ReceiveReset}, false, seeRefused},
	"connection reset by the server":                           {[]string{prog.SendReset, prog.ReceiveReset}, false, seeResets},
	"SYNs lost":                                                {[]string{prog.RetransmitSkb}, false, seeTotal(prog.RetransmitSkb, SYNRetransmits)},
	"SYN-ACKs sent again":                                      {[]string{prog.RetransmitSynack}, false, seeTotal(prog.RetransmitSynack, SYNACKRetransmits)},
	"data lost":                                                {[]string{prog.RetransmitSkb}, false, seeTotal(prog.RetransmitSkb, Retransmits)},
	"local ports exhausted":                                    {[]string{prog.SetState}, false, seeDestination(prog.SetState, PortsExhausted)},
	"connects from a port in use":                              {[]string{prog.SetState}, false, seeDestination(prog.SetState, PortsTaken)},
	"TIME_WAIT buckets exhausted":                              {nil, true, seeKernel(procfs.TCPTimeWaitOverflow)},
}

// figure is a counter of ours; unknown is no figure at all, which fails the row.
func figure(c Counts, k Counter, source string, want uint64) []Figure {
	n, known := c.Get(k)
	if !known {
		return nil
	}
	return []Figure{{Name: string(k), Source: source, Value: n, Want: want}}
}

// all are all figures, or none where one is not known.
func all(figures ...[]Figure) (list []Figure) {
	for _, f := range figures {
		if f == nil {
			return nil
		}
		list = append(list, f...)
	}
	return list
}

func seeTotal(program string, k Counter) func(*Sample, *provoked) []Figure {
	return func(s *Sample, p *provoked) []Figure { return figure(s.Total, k, program, p.events) }
}

// seeDestination looks at the destination that it happened to, and at all together.
func seeDestination(program string, k Counter) func(*Sample, *provoked) []Figure {
	return func(s *Sample, p *provoked) []Figure {
		var its []Figure
		for _, d := range s.Destinations {
			if d.Addr == p.at {
				its = figure(d.Counts, k, program, p.events)
				if its != nil {
					its[0].Name += " there"
				}
			}
		}
		return all(its, figure(s.Total, k, program, p.events))
	}
}

func seeKernel(k procfs.Counter) func(*Sample, *provoked) []Figure {
	return func(s *Sample, p *provoked) []Figure {
		return figure(s.Namespace, Counter(k.String()), "/proc", p.events)
	}
}

// seeListener looks at the listener it happened to; no other had anything.
func seeListener(k Counter) func(*Sample, *provoked) []Figure {
	return func(s *Sample, p *provoked) []Figure {
		var its []Figure
		for _, l := range s.Listeners {
			if l.Cookie == p.cookie {
				its = figure(l.Counts, k, "sock_diag", p.events)
				if its != nil {
					its[0].Name += " there"
				}
			}
		}
		return all(its, figure(s.Total, k, "sock_diag", p.events))
	}
}

// seeShared looks at one of two listeners, and at both together.
func seeShared(s *Sample, p *provoked) []Figure {
	if len(s.Listeners) != 2 || len(s.Shared) != 1 {
		return nil
	}
	together := figure(s.Shared[0].Counts, AcceptOverflows, "sock_diag", p.events)
	if together != nil {
		together[0].Name += " of both"
	}
	return all(seeListener(AcceptOverflows)(s, p), together)
}

func seeOverflow(s *Sample, p *provoked) []Figure {
	return all(
		seeListener(AcceptOverflows)(s, p),
		figure(s.Total, AcceptOverflowConnections, prog.RetransmitSkb, p.connections),
	)
}

func seeRefused(s *Sample, p *provoked) []Figure {
	return all(figure(s.Total, ConnectFailures, prog.SetState, p.events), seeResets(s, p))
}

func seeResets(s *Sample, p *provoked) []Figure {
	return all(figure(s.Total, RSTsOut, prog.SendReset, p.events), figure(s.Total, RSTsIn, prog.ReceiveReset, p.events))
}

var loopback = netip.MustParseAddr("127.0.0.1")
