package ebpf

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"hotlap/ebpf/internal/lab"
	"hotlap/ebpf/internal/need"
)

// output runs a program in the namespace.
func output(t *testing.T, ns *lab.Namespace, name string, args ...string) string {
	t.Helper()
	path := need.Tool(t, name)
	var out []byte
	if err := ns.Do(func() (err error) {
		out, err = exec.Command(path, args...).Output()
		return err
	}); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(out)
}

// What is observed of an accept queue that overflows, of lost data and of a
// connect that is refused is what nstat and ss say.
func TestAgreesWithNstatAndSS(t *testing.T) {
	need.Root(t)
	ns, file := namespace(t)
	o := observed(t, Options{Netns: file})
	lost, err := ns.LostData(loopback, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := lost.Close(); err != nil { // with RSTs
		t.Fatal(err)
	}
	p, err := ns.AcceptOverflow(lab.Overflow{Listen: loopback, Dial: loopback, Backlog: 4, Refused: 15})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := ns.Connect(netip.AddrPortFrom(loopback, 1)); err == nil {
		t.Fatal("somebody listens on port 1")
	}

	// nstat looks later than we do: softirqs may be working on the last packets yet.
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(pollEvery) {
		wrong := disagreements(t, ns, read(t, o), p.At)
		if wrong == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(strings.Join(wrong, "\n"))
		}
	}
}

// disagreements are where a sample is not what nstat and ss say of the namespace now.
func disagreements(t *testing.T, ns *lab.Namespace, s Sample, at netip.AddrPort) (wrong []string) {
	t.Helper()
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	var nstat struct {
		Kernel map[string]uint64 `json:"kernel"`
	}
	if err := json.Unmarshal([]byte(output(t, ns, "nstat", "--json", "--noupdate", "--ignore", "--zeros")), &nstat); err != nil {
		t.Fatal(err)
	}
	for ours, name := range map[Counter]string{
		AcceptOverflows: "TcpExtListenOverflows",
		ListenDrops:     "TcpExtListenDrops",
		Retransmits:     "TcpRetransSegs",
		RSTsOut:         "TcpOutRsts",
		Connects:        "TcpActiveOpens",
	} {
		if n, theirs := s.Total[ours]+s.Lost[ours], nstat.Kernel[name]; n != theirs || theirs == 0 {
			complain("%s is %d, nstat says %d", ours, n, theirs)
		}
	}
	// The kernel does not count those that the client gives up.
	if n, theirs := s.Reasons[ConnectFailures]["ECONNREFUSED"], nstat.Kernel["TcpAttemptFails"]; n != theirs || n != 1 {
		complain("%d connects were refused, nstat says %d", n, theirs)
	}
	same := 0
	for name, n := range s.Namespace {
		for _, group := range []string{"Tcp", "TcpExt"} {
			if theirs, known := nstat.Kernel[group+string(name)]; known {
				same++
				if theirs != n {
					complain("%s is %d, nstat says %d", name, n, theirs)
				}
			}
		}
	}
	if same < 30 {
		complain("only %d counters were compared", same)
	}

	l := s.Listeners[slices.IndexFunc(s.Listeners, func(l Listener) bool { return l.Addr == at })]
	columns := strings.Fields(output(t, ns, "ss", "--listening", "--tcp", "--numeric", "--no-header"))
	want := []string{"LISTEN", fmt.Sprint(l.Queue), fmt.Sprint(l.Limit), l.Addr.String()}
	if strings.Join(columns[:4], " ") != strings.Join(want, " ") {
		complain("ss says %v, observed %v", columns, want)
	}
	if l.Queue != 5 || l.Peak != 5 || !l.PeakExact {
		complain("queue %d, peak %d (exact: %v): a queue of 4 that overflowed holds 5", l.Queue, l.Peak, l.PeakExact)
	}
	return wrong
}
