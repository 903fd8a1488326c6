package lab

import (
	"net/netip"
	"testing"
)

// A gate lets pass, then loses, then lets pass again what matches, and does not
// touch what does not.
func TestGate(t *testing.T) {
	for name, address := range map[string]netip.Addr{"IPv4": ipv4, "IPv6": ipv6} {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t)
			l, err := ns.Listen(netip.AddrPortFrom(address, 0), 10)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			port := l.Local().Port()
			gate := func(m Match, pass, lose int64) *Gate {
				t.Helper()
				g, err := ns.Gate("lo", m)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { g.Close() })
				if err := g.Set(pass, lose); err != nil {
					t.Fatal(err)
				}
				return g
			}
			gates := []struct {
				what         string
				gate         *Gate
				passed, lost uint64
			}{
				{"SYNs to the port", gate(Match{ToPort: port, Mask: SYN | ACK, Flags: SYN}, 0, 0), 1, 0},
				{"SYN-ACKs from it", gate(Match{FromPort: port, Mask: SYN | ACK, Flags: SYN | ACK}, 0, 0), 1, 0},
				{"SYNs to another port", gate(Match{ToPort: port + 1, Mask: SYN | ACK, Flags: SYN}, 0, Forever), 0, 0},
				{"SYNs from it", gate(Match{FromPort: port, Mask: SYN | ACK, Flags: SYN}, 0, Forever), 0, 0},
				{"RSTs", gate(Match{Mask: RST, Flags: RST}, 0, Forever), 0, 0},
				{"data from it", gate(Match{FromPort: port, Payload: true}, 0, 0), 0, 0},
				// The segment lost is sent again, and then passes.
				{"data to it", gate(Match{ToPort: port, Payload: true}, 2, 1), 4, 1},
			}
			c, err := ns.Connect(l.Local())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			s, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for range 4 {
				if _, err := c.Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
				if n, err := s.Read(make([]byte, 9)); n != 1 || err != nil {
					t.Fatalf("read %d bytes, %v", n, err)
				}
				if err := c.acknowledged(); err != nil {
					t.Fatal(err)
				}
			}
			for _, g := range gates {
				passed, lost, err := g.gate.Counts()
				if err != nil || passed != g.passed || lost != g.lost {
					t.Errorf("%s: %d passed, %d were lost, %v; want %d and %d", g.what, passed, lost, err, g.passed, g.lost)
				}
			}
			// Pure ACKs: the last test of what has data and what has not.
			acks := gate(Match{ToPort: port, Mask: SYN | FIN | RST | ACK, Flags: ACK, Empty: true}, Forever, 0)
			if _, err := s.Write([]byte("y")); err != nil {
				t.Fatal(err)
			}
			if err := s.acknowledged(); err != nil {
				t.Fatal(err)
			}
			if passed, _, err := acks.Counts(); passed == 0 || err != nil {
				t.Errorf("%d ACKs, %v", passed, err)
			}
		})
	}
}

// A gate taken away lets all pass.
func TestGateIsTakenAway(t *testing.T) {
	ns := namespace(t)
	l, err := ns.Listen(netip.AddrPortFrom(ipv4, 0), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	g, err := ns.Gate("lo", Match{ToPort: l.Local().Port()})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Set(0, Forever); err != nil {
		t.Fatal(err)
	}
	c, err := ns.Start(l.Local())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := await(func() (bool, error) {
		_, lost, err := g.Counts()
		return lost > 0, err
	}); err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Connected(); err != nil { // with the SYN's retransmit
		t.Error(err)
	}
}

// What serves kernels without TCX does the same here, with two filters at once.
func TestGateAsFilter(t *testing.T) {
	ns := namespace(t)
	index, err := ns.index("lo")
	if err != nil {
		t.Fatal(err)
	}
	l, err := ns.Listen(netip.AddrPortFrom(ipv4, 0), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var gates [2]Gate
	for i, flags := range []uint8{SYN, SYN | ACK} {
		g := &gates[i]
		if err := g.load(Match{Mask: SYN | ACK, Flags: flags}); err != nil {
			t.Fatal(err)
		}
		if g.detach, err = ns.attachFilter(index, g.program.FD()); err != nil {
			t.Fatal(err)
		}
	}
	if err := gates[0].Set(0, 1); err != nil {
		t.Fatal(err)
	}
	c, err := ns.Connect(l.Local()) // with the SYN's retransmit
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i, lost := range []uint64{1, 0} {
		if p, n, err := gates[i].Counts(); p != 1 || n != lost || err != nil {
			t.Errorf("gate %d: %d passed, %d were lost, %v", i, p, n, err)
		}
		if err := gates[i].Close(); err != nil {
			t.Error(err)
		}
	}
}
