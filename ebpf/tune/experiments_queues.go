package tune

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"hotlap/ebpf"
	"hotlap/ebpf/internal/diag"
	"hotlap/ebpf/internal/lab"
)

// largestQueue is the longest queue that a load fills.
const largestQueue = 4096

// acceptBurst: those that find the accept queue full send their SYN again after a
// second.
func acceptBurst() *Experiment {
	return &Experiment{
		Knob:  somaxconn,
		Load:  fmt.Sprintf("a burst of %d connections more than the queue before has room for, to a server that accepts after it", refusedBurst),
		Setup: manyPorts,
		Metrics: []Metric{
			{Name: "accept overflows", Kind: Benefit, Least: refusedBurst / 2, Counter: ebpf.AcceptOverflows},
			{Name: "connect p99", Unit: "s", Kind: Benefit, Least: 0.5},
			{Name: "connects failed", Kind: Harm, Least: 3},
		},
		values: raise(largestQueue, burstQueue),
		load:   (*track).acceptBurst,
	}
}

func (t *track) acceptBurst() (Figures, error) {
	l, err := t.listen(65535)
	if err != nil {
		return nil, err
	}
	room, err := strconv.Atoi(t.from)
	if err != nil {
		return nil, err
	}
	b := &burst{track: t, l: l}
	// What there is room for first, so that those refused are refused at the end of it.
	if err := b.connect(room + 1); err != nil {
		return nil, err
	}
	if err := b.connect(refusedBurst); err != nil {
		return nil, err
	}
	// A client may take for made what the server has forgotten (a cookie whose ACK
	// found the queue full): so the clients say when it is over.
	err = t.await("connections of the burst", func() (bool, error) {
		for {
			s, err := l.TryAccept()
			if err != nil {
				return false, err
			}
			if s == nil {
				break
			}
			t.keep(s)
		}
		err := b.look()
		return len(b.pending) == 0, err
	})
	f := Figures{"connects failed": float64(b.failed)}
	if n := len(b.took); n > 0 {
		slices.Sort(b.took)
		f["connect p99"] = b.took[(n*99+99)/100-1].Seconds()
	}
	return f, err
}

// burst is connections that are begun at once.
type burst struct {
	*track
	l       *lab.Socket
	pending []begun
	took    []time.Duration // by those that are made
	failed  int
}

type begun struct {
	socket *lab.Socket
	at     time.Time
}

// connect begins n connections, and waits until each is made or its SYN refused.
func (b *burst) connect(n int) error {
	for range n {
		at := time.Now()
		s, err := b.client.Start(b.l.Local())
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		b.keep(s)
		b.pending = append(b.pending, begun{s, at})
		if len(b.pending) > 64 { // else each look would go over all those refused
			continue
		}
		if err := b.look(); err != nil {
			return err
		}
	}
	return b.await("handshakes of a burst", func() (bool, error) {
		if err := b.look(); err != nil || len(b.pending) == 0 {
			return true, err
		}
		drops, err := b.server.Drops(b.l)
		return uint64(len(b.pending)) <= drops, err
	})
}

// look finds those that are made or have failed.
func (b *burst) look() error {
	now := time.Now()
	b.pending = slices.DeleteFunc(b.pending, func(c begun) bool {
		ok, err := c.socket.TryConnected()
		switch {
		case ok:
			b.took = append(b.took, now.Sub(c.at))
		case err != nil:
			b.failed++
		}
		return ok || err != nil
	})
	return b.ctx.Err()
}

// lateBurst is how many connections are begun beyond those that the SYN queue
// takes without cookies: three quarters of tcp_max_syn_backlog.
const lateBurst = 256

// halfOpenBurst: nobody can end its handshake yet, because the SYN-ACKs are lost.
func halfOpenBurst(name, cookies string) *Experiment {
	return &Experiment{
		Knob: "net.ipv4.tcp_max_syn_backlog", Case: name,
		Load:  fmt.Sprintf("a burst of %d connections more than a SYN queue without cookies has room for, whose SYN-ACKs are lost", lateBurst),
		Setup: append([]Setting{{"net.ipv4.tcp_syncookies", cookies}, {somaxconn, strconv.Itoa(burstQueue)}}, manyPorts...),
		Metrics: []Metric{
			{Name: "SYNs dropped", Kind: Benefit, Least: lateBurst / 2, Counter: ebpf.SYNDrops},
			{Name: "cookies sent", Kind: Harm, Least: lateBurst / 2, Counter: "SyncookiesSent"},
			{Name: "connects half open", Kind: Shown, Least: 1},
		},
		values: raise(2048, burstQueue),
		load:   (*track).halfOpenBurst,
	}
}

func (t *track) halfOpenBurst() (Figures, error) {
	l, err := t.listen(burstQueue)
	if err != nil {
		return nil, err
	}
	queue, err := strconv.Atoi(t.from)
	if err != nil {
		return nil, err
	}
	port := l.Local().Port()
	if _, err := t.gate(lab.Match{FromPort: port, Mask: lab.SYN | lab.ACK, Flags: lab.SYN | lab.ACK}, 0, lab.Forever); err != nil {
		return nil, err
	}
	n := queue*3/4 + lateBurst
	for range n {
		s, err := t.client.Start(l.Local())
		if err != nil {
			return nil, fmt.Errorf("connect: %w", err)
		}
		t.keep(s)
	}
	half := 0
	err = t.await("SYNs of a burst", func() (bool, error) {
		all, err := t.server.Sockets(diag.Filter{States: []diag.State{diag.SynRecv}, LocalPort: port})
		if err != nil {
			return false, err
		}
		half = len(all)
		drops, err := t.server.Drops(l)
		return half+int(drops) >= n, err
	})
	return Figures{"connects half open": float64(half)}, err
}

// gate stands on the loopback device until the run's end.
func (t *track) gate(m lab.Match, pass, lose int64) (*lab.Gate, error) {
	g, err := t.server.Gate("lo", m)
	if err != nil {
		return nil, err
	}
	t.undo = append(t.undo, g.Close)
	return g, g.Set(pass, lose)
}

// The requests of abortOnOverflow, and the queue that they find.
const (
	requests   = 40
	shortQueue = 9
)

// abortOnOverflow: the ACKs that end handshakes are held back until the queue is
// too short for all of them.
func abortOnOverflow() *Experiment {
	return &Experiment{
		Knob: "net.ipv4.tcp_abort_on_overflow",
		Load: fmt.Sprintf("%d requests whose handshakes end all at once, when the accept queue has room for %d", requests, shortQueue+1),
		Metrics: []Metric{
			{Name: "requests answered", Kind: Benefit, More: true, Least: 3},
			{Name: "connections reset", Kind: Harm, Least: 3},
			{Name: "accept overflows", Kind: Shown, Least: 1, Counter: ebpf.AcceptOverflows},
		},
		values: turn("0", "1"),
		load:   (*track).abortOnOverflow,
	}
}

func (t *track) abortOnOverflow() (Figures, error) {
	// The SYN queue has the accept queue's limit, so that is lowered afterwards.
	l, err := t.listen(requests)
	if err != nil {
		return nil, err
	}
	port := l.Local().Port()
	ack := lab.Match{ToPort: port, Mask: lab.SYN | lab.RST | lab.ACK, Flags: lab.ACK, Empty: true}
	held, err := t.gate(ack, 0, lab.Forever)
	if err != nil {
		return nil, err
	}
	data, err := t.gate(lab.Match{ToPort: port, Payload: true}, lab.Forever, 0)
	if err != nil {
		return nil, err
	}
	var clients []*lab.Socket
	for range requests {
		c, err := t.client.Connect(l.Local())
		if err != nil {
			return nil, fmt.Errorf("connect: %w", err)
		}
		clients = append(clients, t.keep(c))
	}
	if err := l.Relisten(shortQueue); err != nil {
		return nil, err
	}
	// A request is data, and stands for the ACK.
	for _, c := range clients {
		if _, err := c.Write([]byte{'?'}); err != nil && !errors.Is(err, unix.ECONNRESET) {
			return nil, err
		}
	}
	if err := data.AwaitPassed(requests); err != nil {
		return nil, err
	}
	if err := t.await("a full accept queue", func() (bool, error) {
		n, err := l.Queue()
		return n == shortQueue+1, err
	}); err != nil {
		return nil, err
	}
	if err := held.Set(lab.Forever, 0); err != nil {
		return nil, err
	}
	return t.answerAll(l, clients)
}

// answerAll lets the server work until each client has its answer or was reset.
func (t *track) answerAll(l *lab.Socket, clients []*lab.Socket) (Figures, error) {
	answered, reset := 0, 0
	var servers []*lab.Socket
	b := make([]byte, 1)
	err := t.await("answers", func() (bool, error) {
		s, err := l.TryAccept()
		if err != nil {
			return false, err
		}
		if s != nil {
			servers = append(servers, t.keep(s))
		}
		servers = slices.DeleteFunc(servers, func(s *lab.Socket) bool {
			n, _, _ := s.TryRead(b)
			if n == 1 {
				_, _ = s.Write(b) // a client that has gone counts as reset
			}
			return n == 1
		})
		clients = slices.DeleteFunc(clients, func(c *lab.Socket) bool {
			n, _, err := c.TryRead(b)
			switch {
			case n == 1:
				answered++
			case err != nil:
				reset++
			}
			return n == 1 || err != nil
		})
		return len(clients) == 0, nil
	})
	return Figures{"requests answered": float64(answered), "connections reset": float64(reset)}, err
}
