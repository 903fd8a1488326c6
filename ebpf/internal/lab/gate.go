package lab

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// Forever is more packets than there ever will be.
const Forever = 1 << 62

// Match chooses TCP segments, of IPv4 and IPv6.
type Match struct {
	// ToPort and FromPort: 0 is any.
	ToPort, FromPort uint16
	// Of the flags in Mask those in Flags are set and the others are not.
	Mask, Flags uint8
	// Payload: with data only. Empty: without data only.
	Payload, Empty bool
}

// TCP's flags.
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
)

// Gate stands where packets come into a device, before TCP, and lets some of
// them pass and others not. A packet it loses is lost on the way, as far as TCP
// can tell.
type Gate struct {
	budget  *ebpf.Map // [pass, lose]: what may still pass, what then is still lost
	counts  *ebpf.Map // [passed, lost]
	program *ebpf.Program
	detach  func() error
}

// Gate puts a gate for the segments that match into a device of the namespace.
// At first all pass. It needs CAP_BPF and CAP_NET_ADMIN.
func (ns *Namespace) Gate(device string, m Match) (*Gate, error) {
	index, err := ns.index(device)
	if err != nil {
		return nil, err
	}
	g := &Gate{}
	if err := g.load(m); err != nil {
		g.Close()
		return nil, err
	}
	g.detach, err = ns.attachTCX(index, g.program)
	if errors.Is(err, ebpf.ErrNotSupported) {
		g.detach, err = ns.attachFilter(index, g.program.FD())
	}
	if err != nil {
		g.Close()
		return nil, fmt.Errorf("lab: attach a gate to %s: %w", device, err)
	}
	return g, nil
}

// attachTCX puts a program where packets come into a device, and returns how it
// is taken away.
func (ns *Namespace) attachTCX(index int, program *ebpf.Program) (detach func() error, err error) {
	err = ns.Do(func() error {
		l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: program, Attach: ebpf.AttachTCXIngress})
		if err == nil {
			detach = l.Close
		}
		return err
	})
	return detach, err
}

// gateName is the program's, as bpftool(8) shows it.
const gateName = "hotlap_gate"

func (g *Gate) load(m Match) (err error) {
	array := &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 16, MaxEntries: 1}
	if g.budget, err = ebpf.NewMap(array); err != nil {
		return fmt.Errorf("lab: a gate's map (needs CAP_BPF): %w", err)
	}
	if g.counts, err = ebpf.NewMap(array); err != nil {
		return fmt.Errorf("lab: a gate's map: %w", err)
	}
	g.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: gateName, Type: ebpf.SchedCLS, License: "GPL",
		Instructions: gateProgram(m, g.budget.FD(), g.counts.FD()),
	})
	if err != nil {
		return fmt.Errorf("lab: a gate's program (needs CAP_BPF and CAP_NET_ADMIN): %w", err)
	}
	return nil
}

// Set says what becomes of the next packets: pass of them pass, the lose after
// them are lost, and all others pass.
func (g *Gate) Set(pass, lose int64) error {
	if err := g.budget.Put(uint32(0), [2]int64{pass, lose}); err != nil {
		return fmt.Errorf("lab: set a gate: %w", err)
	}
	return nil
}

// Counts says how many of the packets that matched passed and were lost.
func (g *Gate) Counts() (passed, lost uint64, err error) {
	var n [2]uint64
	if err := g.counts.Lookup(uint32(0), &n); err != nil {
		return 0, 0, fmt.Errorf("lab: read a gate: %w", err)
	}
	return n[0], n[1], nil
}

// Close takes the gate away: all packets pass.
func (g *Gate) Close() error {
	var errs []error
	if g.detach != nil {
		errs = append(errs, g.detach())
	}
	if g.program != nil {
		errs = append(errs, g.program.Close())
	}
	for _, m := range []*ebpf.Map{g.budget, g.counts} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}

// What a program of TCX or a filter returns.
const (
	tcxNext = -1
	tcxDrop = 2
)

// Where things are in a frame and its headers.
const (
	etherType     = 12
	ip            = 14
	ipv4Length    = ip + 2
	ipv4Protocol  = ip + 9
	ipv6Length    = ip + 4
	ipv6Protocol  = ip + 6
	ipv6End       = ip + 40
	tcpFromPort   = 0
	tcpToPort     = 2
	tcpDataOffset = 12
	tcpFlags      = 13
)

// gateProgram is the gate. R6 is the packet, R7 where TCP's header begins, R8
// where the packet ends. Loads from the packet put host order in R0, and a load
// beyond its end ends the program: the packet passes.
func gateProgram(m Match, budget, counts int) asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadAbs(etherType, asm.Half),
		asm.JEq.Imm(asm.R0, 0x0800, "ipv4"),
		asm.JEq.Imm(asm.R0, 0x86dd, "ipv6"),
		asm.Ja.Label("next"),

		asm.LoadAbs(ipv4Protocol, asm.Byte).WithSymbol("ipv4"),
		asm.JNE.Imm(asm.R0, 6, "next"),
		asm.LoadAbs(ipv4Length, asm.Half),
		asm.Mov.Reg(asm.R8, asm.R0),
		asm.Add.Imm(asm.R8, ip),
		asm.LoadAbs(ip, asm.Byte),
		asm.And.Imm(asm.R0, 0xf),
		asm.LSh.Imm(asm.R0, 2),
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.Add.Imm(asm.R7, ip),
		asm.Ja.Label("tcp"),

		asm.LoadAbs(ipv6Protocol, asm.Byte).WithSymbol("ipv6"),
		asm.JNE.Imm(asm.R0, 6, "next"),
		asm.LoadAbs(ipv6Length, asm.Half),
		asm.Mov.Reg(asm.R8, asm.R0),
		asm.Add.Imm(asm.R8, ipv6End),
		asm.Mov.Imm(asm.R7, ipv6End),

		asm.LoadInd(asm.R0, asm.R7, tcpFlags, asm.Byte).WithSymbol("tcp"),
		asm.And.Imm(asm.R0, int32(m.Mask)),
		asm.JNE.Imm(asm.R0, int32(m.Flags), "next"),
	}
	if m.FromPort != 0 {
		p = append(p, asm.LoadInd(asm.R0, asm.R7, tcpFromPort, asm.Half), asm.JNE.Imm(asm.R0, int32(m.FromPort), "next"))
	}
	if m.ToPort != 0 {
		p = append(p, asm.LoadInd(asm.R0, asm.R7, tcpToPort, asm.Half), asm.JNE.Imm(asm.R0, int32(m.ToPort), "next"))
	}
	if m.Payload || m.Empty {
		p = append(p,
			asm.LoadInd(asm.R0, asm.R7, tcpDataOffset, asm.Byte),
			asm.RSh.Imm(asm.R0, 4),
			asm.LSh.Imm(asm.R0, 2),
			asm.Sub.Reg(asm.R8, asm.R7),
			asm.Sub.Reg(asm.R8, asm.R0),
		)
		if m.Payload {
			p = append(p, asm.JSLE.Imm(asm.R8, 0, "next"))
		} else {
			p = append(p, asm.JSGT.Imm(asm.R8, 0, "next"))
		}
	}
	return append(p, gateBudget(budget, counts)...)
}

// gateBudget decides about a packet that matches. R6 is the budget from here
// on, R7 the counts. Packets may come in on several CPUs at once.
func gateBudget(budget, counts int) asm.Instructions {
	const pass, lose = 0, 8   // in the budget
	const passed, lost = 0, 8 // in the counts
	var p asm.Instructions
	for _, m := range []struct {
		reg asm.Register
		fd  int
	}{{asm.R6, budget}, {asm.R7, counts}} {
		p = append(p,
			asm.StoreImm(asm.RFP, -4, 0, asm.Word),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -4),
			asm.LoadMapPtr(asm.R1, m.fd),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "next"),
			asm.Mov.Reg(m.reg, asm.R0),
		)
	}
	return append(p,
		asm.Mov.Imm(asm.R1, -1),
		fetchAdd(asm.R6, asm.R1, pass),
		asm.JSGT.Imm(asm.R1, 0, "pass"),
		asm.Mov.Imm(asm.R1, -1),
		fetchAdd(asm.R6, asm.R1, lose),
		asm.JSGT.Imm(asm.R1, 0, "lose"),

		asm.Mov.Imm(asm.R1, 1).WithSymbol("pass"),
		asm.AddAtomic.Mem(asm.R7, asm.R1, asm.DWord, passed),
		asm.Mov.Imm(asm.R0, tcxNext).WithSymbol("next"),
		asm.Return(),

		asm.Mov.Imm(asm.R1, 1).WithSymbol("lose"),
		asm.AddAtomic.Mem(asm.R7, asm.R1, asm.DWord, lost),
		asm.Mov.Imm(asm.R0, tcxDrop),
		asm.Return(),
	)
}

// fetchAdd adds src to a 64-bit word and gives its old value in src. cilium/ebpf
// (v0.22.0) does not write the part of the operation that is in the constant.
func fetchAdd(dst, src asm.Register, offset int16) asm.Instruction {
	const bpfFetch = 1
	add := asm.FetchAdd.Mem(dst, src, asm.DWord, offset)
	add.Constant = bpfFetch
	return add
}
