package ebpf

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"hotlap/ebpf/internal/lab"
)

// A situation is a small run in a throwaway namespace, with one thing wrong in
// it that touches ten times as many requests as a fault must to spoil a run.
type situation struct {
	name string
	// provoke does it; what it returns is of the run: its address is a target, its
	// connections, or events, are requests.
	provoke func(*stage) error
	remote  bool // the server is in a namespace of its own, which is not observed

	bound  Bound
	valid  Valid
	spoils []string // codes of the findings that do
	lists  []string // and of the others; those of the machine are not judged
	may    string   // one that may be listed too: the machine's speed decides

	take   []Counter                     // that are the evidence of what spoils
	takeTo func(*Sample, *ClientFigures) // takes evidence away that is no counter
}

// A stage is where a situation is played.
type stage struct {
	ns, server *lab.Namespace // of the client and the server: one, or a pair
	on         netip.Addr     // the server's
	file       string         // of the client's namespace
	end        []func() error
	ClientFigures
}

func (s *stage) close(t *testing.T) {
	slices.Reverse(s.end)
	for _, end := range s.end {
		if err := end(); err != nil {
			t.Error(err)
		}
	}
}

// newStage is one namespace, or two with a veth between them.
func newStage(t *testing.T, remote bool) *stage {
	t.Helper()
	s := &stage{on: loopback, ClientFigures: ClientFigures{Loopback: !remote, RunQueue: -1, Throttled: -1, Steal: -1, CPUs: 1, Connections: 4}}
	var err error
	if remote {
		s.ns, s.server, err = lab.Pair()
		s.on = lab.PairIPv4[1]
	} else {
		s.ns, err = lab.New()
		s.server = s.ns
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.server.Close)
	t.Cleanup(s.ns.Close)
	if s.file, err = fileOf(s.ns); err != nil {
		t.Fatal(err)
	}
	return s
}

// A load is what the small client of a situation does.
type load struct {
	at       netip.AddrPort
	requests int
	rate     time.Duration // one is due so often; 0: as fast as it goes
	work     bool          // with each response it works forty times as long as it waited
}

// do sends requests, one after the other on each of four connections in turn,
// and adds what it measured to the figures. Its connections stay open.
func (s *stage) do(l load) error {
	runtime.LockOSThread() // its CPU time is the client's
	defer runtime.UnlockOSThread()
	var clients []*lab.Socket
	for range s.Connections {
		c, err := s.ns.Connect(l.at)
		if err != nil {
			return err
		}
		clients = append(clients, c)
		s.end = append(s.end, c.Close)
	}
	began, cpu, waited := time.Now(), threadCPU(), time.Duration(0)
	times := make([]time.Duration, l.requests)
	for i := range times {
		if l.rate > 0 {
			sleep := time.Until(began.Add(time.Duration(i) * l.rate))
			time.Sleep(sleep)
			waited += max(sleep, 0)
		}
		sent := time.Now()
		if err := ask(clients[i%len(clients)]); err != nil {
			return err
		}
		times[i] = time.Since(sent)
		waited += times[i]
		for until := time.Now().Add(40 * times[i]); l.work && time.Now().Before(until); {
			continue
		}
	}
	took := time.Since(began)
	s.Requests += int64(l.requests)
	s.Targets = append(s.Targets, l.at)
	s.Busy = []float64{1 - waited.Seconds()/took.Seconds()}
	s.CPU = threadCPU() - cpu
	if l.rate > 0 {
		s.Open, s.Asked, s.Achieved = true, float64(l.requests)/took.Seconds(), float64(l.requests)/took.Seconds()
	}
	slices.Sort(times)
	s.FirstByte, s.P99 = times[len(times)/2], times[len(times)*99/100]
	for _, t := range times {
		if t > s.P99 {
			s.AboveP99++
		}
	}
	return nil
}

// ask sends a request and reads its response.
func ask(c *lab.Socket) error {
	if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: here\r\n\r\n")); err != nil {
		return err
	}
	var answer []byte
	for b := make([]byte, 512); !bytes.HasSuffix(answer, []byte("\r\n\r\nok")); {
		n, err := c.Read(b)
		if err != nil || n == 0 {
			return fmt.Errorf("after %q: %w", answer, errors.Join(err, errEnd))
		}
		answer = append(answer, b[:n]...)
	}
	return nil
}

var errEnd = errors.New("the response ended early")

// serve is a load of a server that has this delay.
func (s *stage) serve(l load, delay time.Duration) (err error) {
	if l.at, err = s.serves(delay); err != nil {
		return err
	}
	return s.do(l)
}

func (s *stage) serves(delay time.Duration) (at netip.AddrPort, err error) {
	server, err := s.server.SlowServer(s.on, delay)
	if err != nil {
		return at, err
	}
	s.end = append(s.end, server.Close)
	return server.At, nil
}
