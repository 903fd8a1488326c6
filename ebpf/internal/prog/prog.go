// Package prog runs the BPF programs of the observer.
//
//  1. Load asks the kernel's type information which tracepoints it has and how
//     many arguments they take (variant.go), loads the programs for it and attaches them.
//  2. The programs count, from then on, what happens to TCP sockets in scope (bpf/).
//  3. Read copies the maps. They only ever count up; differences are the caller's.
//  4. Close detaches. So does the kernel when the process ends, however it
//     ends: nothing is pinned.
//
// All but one are BTF raw tracepoints: they need CAP_BPF and CAP_PERFMON.
// The one, port_search, is a sockops program and needs CAP_NET_ADMIN.
package prog

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// Config is the scope of the programs: the sockets that meet every condition.
type Config struct {
	Netns   uint32   // inode of the network namespace, 0: every
	TGID    uint32   // of the process that connects or listens, as this process knows it, 0: every
	Ports   []uint16 // local or remote, none: every
	Deep    bool     // exact peaks of accept queues, and the search for local ports
	Without []string // programs to leave out, by name: for tests of what they are there for
	// MostArgs are how many arguments of their tracepoints programs may use, by name:
	// for tests of what they see on older kernels.
	MostArgs map[string]uint32
}

// Programs are loaded and attached.
type Programs struct {
	// Missing are the programs that do not run, by name, and why.
	Missing map[string]string

	args     map[string]uint32 // of the tracepoints, by program
	maps     observeMaps
	vars     observeVariables
	all      *ebpf.Collection
	links    []link.Link
	examples *ringbuf.Reader
	reasons  map[uint32]string
	resets   map[uint32]string
}

// deep are the programs of deep mode: they cost something on every connection.
var deep = []string{observeProgDataReady, observeProgPortSearch}

// Load loads and attaches the programs. Those that this kernel lacks the
// tracepoint for, or refuses, are said in Missing; if it refuses all, Load fails.
func Load(c Config) (*Programs, error) {
	if err := checkCapabilities(); err != nil {
		return nil, err
	}
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, fmt.Errorf("the kernel's type information, /sys/kernel/btf/vmlinux (a kernel with CONFIG_DEBUG_INFO_BTF): %w", err)
	}
	spec, args, missing, err := specFor(kernel, c)
	if err != nil {
		return nil, err
	}
	p := &Programs{
		Missing: missing,
		args:    args,
		reasons: enumNames(kernel, "skb_drop_reason", "SKB_DROP_REASON_"),
		resets:  enumNames(kernel, "sk_rst_reason", "SK_RST_REASON_"),
	}
	if p.all, err = load(spec, missing); err != nil {
		return nil, err
	}
	if err := p.start(); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// load loads what the kernel takes of the programs, and adds the others to missing.
func load(spec *ebpf.CollectionSpec, missing map[string]string) (*ebpf.Collection, error) {
	all, err := ebpf.NewCollection(spec)
	if err == nil {
		return all, nil
	}
	for name, program := range spec.Programs {
		alone := spec.Copy()
		maps.DeleteFunc(alone.Programs, func(other string, _ *ebpf.ProgramSpec) bool { return other != name })
		one, err := ebpf.NewCollection(alone)
		if err == nil {
			one.Close()
			continue
		}
		missing[name] = explain(program, err).Error()
		delete(spec.Programs, name)
	}
	if len(spec.Programs) == 0 {
		return nil, explain(nil, err)
	}
	return ebpf.NewCollection(spec)
}

// checkCapabilities says which are missing: the kernel would only say EPERM.
func checkCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	has := func(c uint) bool { return data[c/32].Effective&(1<<(c%32)) != 0 }
	if has(unix.CAP_SYS_ADMIN) || has(unix.CAP_BPF) && has(unix.CAP_PERFMON) {
		return nil
	}
	return errors.New("loading BPF programs needs CAP_BPF and CAP_PERFMON (or root)")
}

// explain says what may be missing where the kernel says only EPERM.
func explain(program *ebpf.ProgramSpec, err error) error {
	switch {
	case !errors.Is(err, os.ErrPermission):
		return fmt.Errorf("loading BPF programs: %w", err)
	case program != nil && program.Type == ebpf.SockOps:
		return errors.New("sockops programs need CAP_NET_ADMIN")
	}
	return fmt.Errorf("loading BPF programs is not permitted, though the process has CAP_BPF and CAP_PERFMON; in a container they have to be those of the machine, and no seccomp filter may forbid bpf(2): %w", err)
}

// start attaches what was loaded.
func (p *Programs) start() error {
	if err := p.all.Assign(&p.maps); err != nil {
		return fmt.Errorf("internal error: %w", err)
	}
	if err := p.all.Assign(&p.vars); err != nil {
		return fmt.Errorf("internal error: %w", err)
	}
	// Connections of destinations that the full map has no row for go here.
	if err := p.maps.Traffic.Put(observeSubject{}, make([]observeTraffic, ebpf.MustPossibleCPU())); err != nil {
		return fmt.Errorf("map traffic: %w", err)
	}
	var err error
	if p.examples, err = ringbuf.NewReader(p.maps.Examples); err != nil {
		return fmt.Errorf("ring buffer: %w", err)
	}
	for name, program := range p.all.Programs {
		l, err := attach(program)
		if name == observeProgPortSearch && err != nil {
			p.Missing[name] = err.Error()
			continue
		}
		if err != nil {
			return fmt.Errorf("attaching %s: %w", name, err)
		}
		p.links = append(p.links, l)
	}
	return nil
}

func attach(program *ebpf.Program) (link.Link, error) {
	if program.Type() != ebpf.SockOps {
		return link.AttachTracing(link.TracingOptions{Program: program})
	}
	root, err := cgroup2()
	if err != nil {
		return nil, err
	}
	return link.AttachCgroup(link.CgroupOptions{Path: root, Attach: ebpf.AttachCGroupSockOps, Program: program})
}

// cgroup2 finds where the unified hierarchy is mounted: not everywhere is it
// /sys/fs/cgroup.
func cgroup2() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return f[1], nil
		}
	}
	return "", errors.New("no cgroup2 file system is mounted")
}

// Serve tells the programs that somebody in scope listens on a port. Listeners that
// begin to listen later they see themselves.
func (p *Programs) Serve(netns uint32, port uint16) error {
	return p.maps.Served.Put(observeServed{Netns: netns, Port: uint32(port)}, uint32(1))
}

// Close detaches and unloads the programs.
func (p *Programs) Close() {
	for _, l := range p.links {
		l.Close()
	}
	if p.examples != nil {
		p.examples.Close()
	}
	p.all.Close()
}

// The programs, by name.
const (
	DataReady        = observeProgDataReady
	KfreeSkb         = observeProgKfreeSkb
	PortSearch       = observeProgPortSearch
	ReceiveReset     = observeProgReceiveReset
	RetransmitSkb    = observeProgRetransmitSkb
	RetransmitSynack = observeProgRetransmitSynack
	SendReset        = observeProgSendReset
	SetState         = observeProgSetState
)

// HasReasons says whether the kernel tells why it drops a segment (since 5.17).
func (p *Programs) HasReasons() bool { return len(p.reasons) > 0 }

// HasSockets says whether the kernel tells at which socket it drops a segment (since
// 6.11). TCP takes a segment's device away when it has found the socket, so without
// it nothing is seen of drops at sockets.
func (p *Programs) HasSockets() bool { return p.args[KfreeSkb] >= 4 }

// HasAllResets says whether the kernel tells of RSTs that no socket sends, and why it
// sends one (since 6.10).
func (p *Programs) HasAllResets() bool { return p.args[SendReset] >= 3 }

// EnableStats makes the kernel measure the run time of all BPF programs until
// it is closed.
func EnableStats() (io.Closer, error) {
	c, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		return nil, fmt.Errorf("BPF run-time statistics need CAP_SYS_ADMIN: %w", err)
	}
	return c, nil
}

// RunTime returns how often the programs ran, and for how long, since EnableStats.
func (p *Programs) RunTime() (runs uint64, spent time.Duration, err error) {
	for name, program := range p.all.Programs {
		s, err := program.Stats()
		if err != nil {
			return 0, 0, fmt.Errorf("statistics of BPF program %s: %w", name, err)
		}
		runs += s.RunCount
		spent += s.Runtime
	}
	return runs, spent, nil
}
