package ebpf

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	here  = netip.MustParseAddrPort("127.0.0.1:8080")
	there = netip.MustParseAddrPort("192.0.2.1:80")
)

// watchedRun is a run of 100,000 requests without a fault: to a server here, or there.
func watchedRun(to netip.AddrPort) (Sample, ClientFigures) {
	s := Sample{
		Tier: TierBPF, Total: Counts{}, Namespace: Counts{"ListenOverflows": 0}, Host: Counts{"softnet.dropped": 0}, Lost: Counts{},
		SYNTimeouts: synTimeouts(6, 4, synTimeoutMax),
		Destinations: []Destination{{Addr: to, Counts: Counts{Connects: 64, ConnectsEstablished: 64, Retransmits: 0}, Reasons: Reasons{},
			TCP: &Evidence{Open: 64, Clean: 64, MinRTT: 40 * time.Microsecond}}},
	}
	for k := range counts {
		s.Total[k] = 0
	}
	for _, k := range []Counter{ListenDrops, AcceptOverflows, SYNDrops} {
		s.Total[k] = 0
	}
	if to == here {
		s.Listeners = []Listener{{Cookie: 1, Addr: netip.MustParseAddrPort("[::]:8080"), Limit: 128, Counts: Counts{ListenDrops: 0, AcceptOverflows: 0}}}
		s.Servers = []Server{{Addr: here, Counts: Counts{BacklogDrops: 0}, Reasons: Reasons{}}}
	}
	return s, ClientFigures{
		Elapsed: 10 * time.Second, Requests: 100_000, Busy: []float64{0.5}, RunQueue: -1, Throttled: -1, Steal: -1, CPU: 5 * time.Second, CPUs: 2,
		P99: 2 * time.Millisecond, AboveP99: 1000, FirstByte: time.Millisecond, Targets: []netip.AddrPort{to}, Connections: 64, Loopback: to == here,
	}
}

func TestJudge(t *testing.T) {
	type run struct {
		*Sample
		*ClientFigures
	}
	refuse := func(k Counter, n uint64) func(run) {
		return func(r run) {
			l := &r.Listeners[0]
			l.Counts[ListenDrops], l.Counts[k] = n, n
		}
	}
	to := func(k Counter, n uint64) func(run) {
		return func(r run) { r.Destinations[0].Counts[k] = n }
	}
	reason := func(k Counter, why string, n uint64) func(run) {
		return func(r run) { r.Destinations[0].Reasons.add(k, why, n) }
	}
	at := func(k Counter, why string, n uint64) func(run) {
		return func(r run) { r.Servers[0].Reasons.add(k, why, n) }
	}
	of := func(k Counter, n uint64) func(run) {
		return func(r run) { r.Servers[0].Counts[k] = n }
	}
	tier := func(tier Tier) func(run) {
		return func(r run) { r.Tier = tier }
	}
	olderKernel := func(backlogDrops uint64) func(run) {
		return func(r run) {
			for _, k := range []Counter{Drops, BacklogDrops, ReceiveBufferDrops} {
				delete(r.Total, k)
			}
			r.Namespace["TCPBacklogDrop"], r.Namespace["TCPRcvQDrop"], r.Namespace["TCPOFODrop"] = backlogDrops, 0, 0
		}
	}
	for _, test := range []struct {
		name   string
		to     netip.AddrPort
		change []func(run)
		bound  Bound
		valid  Valid
		spoils string   // the codes of the findings that do
		listed []string // the other codes
		why    string   // in Why
	}{
		{"nothing", here, nil, BoundServer, ValidYes, "", nil, "time to spare"},
		{"nobody watched", here, []func(run){func(r run) { *r.Sample = Sample{} }}, BoundServer, ValidUnverified, "", nil, "nobody watched"},
		{"tier diag", here, []func(run){tier(TierDiag)}, BoundServer, ValidUnverified, "", nil, "tier diag does not see"},
		{"the rate was kept", here, []func(run){func(r run) { r.Open, r.Asked, r.Achieved = true, 10_000, 10_000 }}, BoundPacer, ValidYes, "", nil, "rate was kept"},
		{"nothing measured", here, []func(run){func(r run) { r.Requests, r.Open = 0, true }}, BoundUnknown, ValidUnverified, "", nil, "no request was measured"},
		{"nothing answered", here, []func(run){func(r run) { r.Failed = r.Requests }}, BoundServer, ValidUnverified, "", []string{"requests_failed"}, "no times"},
		{"a busy client", here, []func(run){func(r run) { r.Busy[0] = 0.99 }}, BoundClient, ValidNo, "client_saturated", nil, "the client"},

		{"overflow", here, []func(run){refuse(AcceptOverflows, 300), func(r run) { r.Listeners[0].Counts[AcceptOverflowConnections] = 100 }},
			BoundServer, ValidNo, "accept_overflow", nil, "300 segments, 100 connections, at its limit of 128"},
		{"too small an overflow", here, []func(run){refuse(AcceptOverflows, 99), func(r run) { r.Listeners[0].Counts[AcceptOverflowConnections] = 99 }},
			BoundServer, ValidYes, "", []string{"accept_overflow"}, ""},
		{"overflow, clients not in scope", here, []func(run){refuse(AcceptOverflows, 3200)}, BoundServer, ValidNo, "accept_overflow", nil, "at least 100 connections"},
		{"overflow seen without BPF", here, []func(run){tier(TierDiag), refuse(AcceptOverflows, 3200)}, BoundServer, ValidNo, "accept_overflow", nil, ""},
		{"another's overflow", here, []func(run){refuse(AcceptOverflows, 9999), func(r run) { r.Listeners[0].Addr = netip.MustParseAddrPort("127.0.0.1:81") }},
			BoundServer, ValidYes, "", nil, ""},
		{"the namespace's overflow alone", here, []func(run){func(r run) { delete(r.Total, AcceptOverflows); r.Namespace["ListenOverflows"] = 9999 }},
			BoundServer, ValidUnverified, "", []string{"accept_overflow"}, "does not see accept_overflows"},
		{"full SYN queue", here, []func(run){refuse(SYNDrops, 150), to(ConnectsUnanswered, 120)}, BoundServer, ValidNo, "syn_drops", nil, ""},
		{"SYN-ACKs lost", here, []func(run){func(r run) { r.Listeners[0].Counts[SYNACKRetransmitSockets] = 100 }}, BoundPath, ValidNo, "synack_retransmits", nil, ""},

		{"stuck server", here, []func(run){of(BacklogDrops, 100)}, BoundServer, ValidNo, "backlog_drops", nil, ""},
		{"and what follows from it", here, []func(run){of(BacklogDrops, 100), of(Drops, 100), at(Drops, "SOCKET_BACKLOG", 100), to(Retransmits, 150)}, BoundServer, ValidNo, "backlog_drops", []string{"retransmits"}, ""},
		{"server that does not read", here, []func(run){of(ReceiveBufferDrops, 100)}, BoundServer, ValidNo, "receive_buffer_drops", nil, ""},
		{"stuck client", here, []func(run){to(BacklogDrops, 100)}, BoundClient, ValidNo, "client_backlog_drops", nil, ""},
		{"client that does not read", here, []func(run){to(ReceiveBufferDrops, 100)}, BoundClient, ValidNo, "client_receive_buffer_drops", nil, ""},
		{"no ports", here, []func(run){to(PortsExhausted, 100)}, BoundClient, ValidNo, "ports_exhausted", nil, "the client"},
		{"taken ports", here, []func(run){to(PortsTaken, 100)}, BoundClient, ValidNo, "ports_taken", nil, ""},

		{"refused", there, []func(run){reason(ConnectFailures, "ECONNREFUSED", 100), reason(RSTsIn, "SYN_SENT", 100)}, BoundServer, ValidNo, "connects_refused", []string{"round_trip"}, ""},
		{"a client busy with being refused", here, []func(run){func(r run) { r.Busy[0] = 0.99; r.Failed = r.Requests - 1 },
			func(r run) {
				to(ConnectFailures, uint64(r.Requests-1))(r)
				r.Destinations[0].Reasons = Reasons{ConnectFailures: {"ECONNREFUSED": uint64(r.Requests - 1)}}
			}},
			BoundServer, ValidNo, "client_saturated connects_refused", []string{"requests_failed"}, "refused"},
		{"no route", there, []func(run){reason(ConnectFailures, "EHOSTUNREACH", 100)}, BoundPath, ValidNo, "connects_failed", []string{"round_trip"}, "EHOSTUNREACH"},
		{"reset", there, []func(run){reason(RSTsIn, "ESTABLISHED", 100)}, BoundServer, ValidNo, "resets", []string{"round_trip"}, ""},
		{"reset when closed", there, []func(run){reason(RSTsIn, "FIN_WAIT1", 100)}, BoundServer, ValidYes, "", []string{"resets", "round_trip"}, ""},
		{"requests lost", here, []func(run){to(Retransmits, 100)}, BoundPath, ValidNo, "retransmits", nil, ""},
		{"requests sent again that had arrived", here, []func(run){to(Retransmits, 100), of(Drops, 100), at(Drops, "TCP_OLD_DATA", 100)},
			BoundServer, ValidYes, "", []string{"drops"}, ""},
		{"requests that a server there got twice", there, []func(run){to(Retransmits, 100), func(r run) { r.Destinations[0].TCP.Duplicates = 60 }},
			BoundServer, ValidYes, "", []string{"retransmits", "round_trip"}, ""},
		{"responses lost", here, []func(run){of(Retransmits, 100)}, BoundPath, ValidNo, "retransmits", nil, ""},

		{"SYNs lost here", here, []func(run){to(ConnectsUnanswered, 100)}, BoundPath, ValidNo, "connects_unanswered", nil, "refused nothing"},
		{"SYNs lost, and data", there, []func(run){to(ConnectsUnanswered, 100), to(Retransmits, 50)}, BoundPath, ValidNo, "connects_unanswered", []string{"retransmits", "round_trip"}, "lost segments too"},
		{"SYNs lost, and no data", there, []func(run){to(ConnectsUnanswered, 100)}, BoundServer, ValidNo, "connects_unanswered", []string{"round_trip"}, "a full queue at the server"},
		{"SYNs lost, and nothing is established", there, []func(run){to(ConnectsUnanswered, 100), func(r run) { r.Destinations[0].TCP.Clean = 0 }},
			BoundUnknown, ValidNo, "connects_unanswered", []string{"round_trip"}, "not distinguishable"},
		{"SYNs lost, and too little data to tell", there, []func(run){to(Connects, 100_000), to(ConnectsUnanswered, 100), func(r run) { r.Failed = 99_900 }},
			BoundUnknown, ValidNo, "connects_unanswered", []string{"requests_failed", "round_trip"}, "not distinguishable"},

		{"first requests lost, and nothing else", there, []func(run){to(Retransmits, 300), to(RetransmitSockets, 120), to(FirstUnanswered, 120), to(Connects, 1000)},
			BoundServer, ValidNo, "first_data_unanswered", []string{"round_trip"}, "a full accept queue"},
		{"first requests lost, and nothing is established", there,
			[]func(run){to(Retransmits, 300), to(RetransmitSockets, 120), to(FirstUnanswered, 120), func(r run) { r.Destinations[0].TCP.Clean = 0 }},
			BoundUnknown, ValidNo, "first_data_unanswered", []string{"round_trip"}, "not distinguishable"},
		{"first requests lost, and later ones", there, []func(run){to(Retransmits, 300), to(RetransmitSockets, 150), to(FirstUnanswered, 120)},
			BoundPath, ValidNo, "retransmits", []string{"round_trip"}, ""},
		{"first requests that came twice", there, []func(run){to(Retransmits, 120), to(RetransmitSockets, 120), to(FirstUnanswered, 120), func(r run) { r.Destinations[0].TCP.Duplicates = 120 }},
			BoundServer, ValidYes, "", []string{"round_trip"}, ""},
		{"first requests and SYNs lost", there,
			[]func(run){to(ConnectsUnanswered, 100), to(Retransmits, 300), to(RetransmitSockets, 120), to(FirstUnanswered, 90), to(Connects, 1000)},
			BoundServer, ValidNo, "connects_unanswered", []string{"first_data_unanswered", "round_trip"}, "a full queue"},
		{"first requests lost here", here, []func(run){to(Retransmits, 300), to(RetransmitSockets, 120), to(FirstUnanswered, 120)},
			BoundPath, ValidNo, "retransmits", nil, ""},
		{"requests refused with their last ACK", here, []func(run){
			refuse(AcceptOverflows, 400), to(SYNRetransmits, 100), to(Retransmits, 300),
			func(r run) { r.Listeners[0].Counts[AcceptOverflowConnections] = 160 },
		}, BoundServer, ValidNo, "accept_overflow", nil, "400 segments, 160 connections"},
		{"SYNs refused, and requests lost", here, []func(run){
			refuse(AcceptOverflows, 400), to(SYNRetransmits, 400), to(Retransmits, 300),
			func(r run) { r.Listeners[0].Counts[AcceptOverflowConnections] = 160 },
		}, BoundPath, ValidNo, "accept_overflow retransmits", nil, "300 segments"},

		{"near server", there, nil, BoundServer, ValidYes, "", []string{"round_trip"}, "the network's round trip is only 40µs of the 1ms"},
		{"far server", there, []func(run){func(r run) { r.Destinations[0].TCP.MinRTT = 900 * time.Microsecond }}, BoundPath, ValidYes, "", []string{"round_trip"}, "900µs of the 1ms"},
		{"no time to compare with", there, []func(run){func(r run) { r.FirstByte = 0 }}, BoundUnknown, ValidYes, "", nil, "not told apart"},
		{"server with a full window", there, []func(run){func(r run) { r.Destinations[0].TCP.ReceiveLimited = 64 * 5 * time.Second }},
			BoundServer, ValidYes, "", []string{"receive_limited", "round_trip"}, ""},
		{"client with a full buffer", there, []func(run){func(r run) { r.Destinations[0].TCP.SendLimited = 64 * 5 * time.Second }},
			BoundClient, ValidNo, "send_limited", []string{"round_trip"}, ""},

		{"a loop that waited for a CPU", here, []func(run){func(r run) { r.RunQueue = 2 * time.Second }}, BoundClient, ValidNo, "client_waited_for_cpu", nil, ""},
		{"four that waited as long together", here, []func(run){func(r run) { r.RunQueue, r.Busy = 2*time.Second, []float64{0.5, 0.5, 0.5, 0.5} }},
			BoundServer, ValidYes, "", []string{"client_waited_for_cpu"}, ""},
		{"a server that leaves connections open", there, []func(run){func(r run) { r.Lingered = 100 }}, BoundServer, ValidNo, "not_closed", []string{"round_trip"}, "not closed by the server"},
		{"one that does at times", here, []func(run){func(r run) { r.Lingered = 99 }}, BoundServer, ValidYes, "", []string{"not_closed"}, ""},
		{"slow search for ports", here, []func(run){to(PortSearches, 9000), to(PortSearchNs, 2e9)}, BoundClient, ValidNo, "port_search", nil, ""},
		{"search for ports", here, []func(run){to(PortSearches, 9000), to(PortSearchNs, 9e6)}, BoundServer, ValidYes, "", nil, ""},

		{"few, but the slowest", here, []func(run){to(ConnectsUnanswered, 10), func(r run) { r.AboveP99 = 100 }}, BoundPath, ValidNo, "connects_unanswered", nil, ""},
		{"few, and not known to be slow", here, []func(run){to(PortsExhausted, 10), func(r run) { r.AboveP99 = 100 }}, BoundServer, ValidYes, "", []string{"ports_exhausted"}, ""},
		{"server and a busy client", here, []func(run){of(BacklogDrops, 5000), func(r run) { r.Busy[0] = 0.99 }}, BoundClient, ValidNo, "client_saturated backlog_drops", nil, "the client"},
		{"server, and a client that was late at times", here, []func(run){of(BacklogDrops, 5000), func(r run) { r.Late = 200 }}, BoundServer, ValidNo, "sent_late backlog_drops", nil, "backlog"},

		{"other drops", here, []func(run){to(Drops, 9999), reason(Drops, "NETFILTER_DROP", 9999)}, BoundServer, ValidYes, "", []string{"drops"}, ""},
		{"what others may have caused", here, []func(run){func(r run) {
			r.Namespace["TCPTimeWaitOverflow"], r.Namespace["qdisc.drops"], r.Host["softnet.dropped"] = 9999, 9999, 9999
		}}, BoundServer, ValidYes, "", []string{"time_wait_overflow", "qdisc_drops", "softnet_drops"}, ""},
		{"observer without room", here, []func(run){func(r run) { r.Lost["faults"] = 5 }}, BoundServer, ValidUnverified, "", []string{"observer_losses"}, "could not record"},
		{"observer that missed retransmits", here, []func(run){func(r run) { r.Lost[Retransmits] = 9999 }}, BoundServer, ValidUnverified, "", []string{"observer_losses"}, "missed retransmits"},
		{"observer that missed a retransmit", here, []func(run){func(r run) { r.Lost[Retransmits] = 1 }}, BoundServer, ValidYes, "", []string{"observer_losses"}, ""},
		{"observer without room for examples", here, []func(run){func(r run) { r.Lost["examples"] = 5 }}, BoundServer, ValidYes, "", nil, ""},
		{"observer without a program", here, []func(run){func(r run) { delete(r.Total, RSTsIn) }}, BoundServer, ValidUnverified, "", nil, "rsts_in"},
		{"a kernel that does not tell whose a dropped segment was", here, []func(run){olderKernel(0)}, BoundServer, ValidYes, "", nil, ""},
		{"and drops in the namespace", here, []func(run){olderKernel(5)}, BoundServer, ValidUnverified, "", []string{"backlog_drops"}, "backlog_drops"},
		{"and what was sent again for these", here, []func(run){olderKernel(120), to(Retransmits, 150)}, BoundServer, ValidUnverified, "", []string{"backlog_drops", "retransmits"}, "backlog_drops"},
		{"observer of something else", here, []func(run){func(r run) { r.Destinations[0].Addr = there }}, BoundServer, ValidUnverified, "", nil, "saw no connection"},
		{"queues not read", here, []func(run){func(r run) { r.Unseen = []Unseen{{unseenQueues, "EIO"}} }}, BoundServer, ValidUnverified, "", nil, "EIO"},
		{"addresses not known", here, []func(run){func(r run) { r.Targets = nil }}, BoundServer, ValidUnverified, "", nil, "no address"},
		{"not all addresses known", here, []func(run){func(r run) { r.MoreTargets = true }}, BoundServer, ValidUnverified, "", nil, "more addresses"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, c := watchedRun(test.to)
			for _, change := range test.change {
				change(run{&s, &c})
			}
			v := Judge(s, c)
			if v.Bound != test.bound || v.Valid != test.valid || !strings.Contains(v.Why, test.why) {
				t.Errorf("bound %s, valid %s: %s; want %s, %s, %q", v.Bound, v.Valid, v.Why, test.bound, test.valid, test.why)
			}
			spoils, listed := codes(v)
			if want := strings.Fields(test.spoils); !slices.Equal(spoils, want) {
				t.Errorf("spoiled by %v, want %v", spoils, want)
			}
			all := slices.Sorted(slices.Values(append(spoils, listed...)))
			want := slices.Sorted(slices.Values(append(strings.Fields(test.spoils), test.listed...)))
			if !slices.Equal(all, want) {
				t.Errorf("findings %v, want %v", all, want)
			}
			for _, f := range v.Findings {
				if f.Subject == "" || f.Evidence == "" || f.Source == "" || f.Advice == "" || f.Scope == "" || f.Sure == "" || f.Spoils && (f.Scope != ScopeSocket || f.blames == "") {
					t.Errorf("incomplete, or blamed without right: %+v", f)
				}
			}
		})
	}
}

// codes are those of the findings that spoil a run, and of the others.
func codes(v Verdict) (spoils, listed []string) {
	spoils = []string{}
	for _, f := range v.Findings {
		if f.Spoils {
			spoils = append(spoils, f.Code)
		} else {
			listed = append(listed, f.Code)
		}
	}
	return spoils, listed
}

// Two listeners share an address and one overflows: their sum is judged, once.
func TestJudgeShared(t *testing.T) {
	s, c := watchedRun(here)
	l := s.Listeners[0]
	l.Counts = Counts{ListenDrops: 300, AcceptOverflows: 300}
	idle := s.Listeners[0]
	idle.Cookie = 2
	sum := l
	sum.Cookie, sum.Limit, sum.Counts = 0, 2*l.Limit+1, Counts{ListenDrops: 300, AcceptOverflows: 300, AcceptOverflowConnections: 150}
	s.Listeners, s.Shared = []Listener{l, idle}, []Listener{sum}
	v := Judge(s, c)
	if len(v.Findings) != 1 || !strings.HasPrefix(v.Findings[0].Evidence, "it overflowed at 1 of its 2 sockets: 300 segments, 150 connections, at its limit of 128") {
		t.Errorf("%+v", v.Findings)
	}
}

func TestJudgeIsPure(t *testing.T) {
	s, c := watchedRun(here)
	s.Shared = []Listener{{Addr: here, Counts: Counts{AcceptOverflows: 500}}}
	before := fmt.Sprintf("%+v %+v", s, c)
	first := fmt.Sprintf("%+v", Judge(s, c))
	if again := fmt.Sprintf("%+v", Judge(s, c)); again != first {
		t.Errorf("%s\nthen %s", first, again)
	}
	if after := fmt.Sprintf("%+v %+v", s, c); after != before {
		t.Errorf("it changed what it was given:\n%s\n%s", before, after)
	}
}

// Of several listeners on a port the nearest to an address gets its connects.
func TestTakes(t *testing.T) {
	const closed = "closed "
	for _, test := range []struct {
		listen, beside, to string
		want               bool
	}{
		{"127.0.0.1:80", "", "127.0.0.1:80", true},
		{"127.0.0.1:80", "", "127.0.0.1:81", false},
		{"127.0.0.1:80", "", "127.0.0.2:80", false},
		{"0.0.0.0:80", "", "127.0.0.1:80", true},
		{"0.0.0.0:80", "", "[::1]:80", false},
		{"[::]:80", "", "[::1]:80", true},
		{"[::]:80", "", "127.0.0.1:80", true},
		{"[::]:80", "", "127.0.0.1:81", false},

		{"[::]:80", "0.0.0.0:80", "127.0.0.1:80", false},
		{"[::]:80", "0.0.0.0:80", "[::1]:80", true},
		{"[::]:80", "0.0.0.0:81", "127.0.0.1:80", true},
		{"[::]:80", "[::1]:80", "[::1]:80", false},
		{"0.0.0.0:80", "127.0.0.1:80", "127.0.0.1:80", false},
		{"0.0.0.0:80", "127.0.0.1:80", "127.0.0.2:80", true},
		{"0.0.0.0:80", closed + "127.0.0.1:80", "127.0.0.1:80", true},
		{"127.0.0.1:80", "0.0.0.0:80", "127.0.0.1:80", true},
		{"127.0.0.1:80", "127.0.0.1:80", "127.0.0.1:80", true},
	} {
		all := []Listener{{Addr: netip.MustParseAddrPort(test.listen)}}
		if beside, isClosed := strings.CutPrefix(test.beside, closed); beside != "" {
			all = append(all, Listener{Addr: netip.MustParseAddrPort(beside), Closed: isClosed})
		}
		if got := takes(all, &all[0], netip.MustParseAddrPort(test.to)); got != test.want {
			t.Errorf("%s beside %q takes %s: %v", test.listen, test.beside, test.to, got)
		}
	}
}
