package prog

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// specFor returns the programs that fit a kernel and a scope, how many arguments
// they use of their tracepoints, and what is missing of them.
func specFor(kernel *btf.Spec, c Config) (spec *ebpf.CollectionSpec, args map[string]uint32, missing map[string]string, err error) {
	if spec, err = loadObserve(); err != nil {
		return nil, nil, nil, fmt.Errorf("internal error: %w", err)
	}
	args, missing = map[string]uint32{}, map[string]string{}
	for name, program := range spec.Programs {
		switch {
		case slices.Contains(c.Without, name):
			missing[name] = "left out"
		case !c.Deep && slices.Contains(deep, name):
			missing[name] = "deep mode only"
		case program.Type != ebpf.Tracing:
			continue
		default:
			n, err := tracepointArgs(kernel, program.AttachTo)
			if most, limited := c.MostArgs[name]; limited {
				n = min(n, most)
			}
			if err == nil {
				args[name] = n
				continue
			}
			missing[name] = err.Error()
		}
		delete(spec.Programs, name)
	}
	var vars observeVariableSpecs
	if err := spec.Assign(&vars); err != nil {
		return nil, nil, nil, fmt.Errorf("internal error: %w", err)
	}
	var ports [1 << 16 / 64]uint64
	for _, port := range c.Ports {
		ports[port/64] |= 1 << (port % 64)
	}
	pids, err := pidsOf(c.TGID)
	if err != nil {
		return nil, nil, nil, err
	}
	err = errors.Join(
		vars.ScopeNetns.Set(c.Netns),
		vars.ScopeTgid.Set(c.TGID),
		vars.ScopePorts.Set(uint32(len(c.Ports))),
		vars.ScopePort.Set(ports),
		vars.PidnsDev.Set(pids.dev),
		vars.Pidns.Set(pids.inode),
		vars.KfreeSkbArgs.Set(args[observeProgKfreeSkb]),
		vars.SendResetArgs.Set(args[observeProgSendReset]),
	)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("internal error: %w", err)
	}
	return spec, args, missing, nil
}

// firstPIDs is the inode of the machine's first PID namespace
// (include/linux/proc_ns.h: PROC_PID_INIT_INO).
const firstPIDs = 0xEFFFFFFC

// pidNamespace is a PID namespace as bpf_get_ns_current_pid_tgid names it; zero
// is the machine's first.
type pidNamespace struct{ dev, inode uint64 }

// pidsOf is the PID namespace of this process, by whose numbers it knows all
// others. Outside the first one BPF programs can name only processes that are in
// the same, which tgid, if it is not 0, has to be.
func pidsOf(tgid uint32) (p pidNamespace, err error) {
	own, err := pidNamespaceOf("self")
	if err != nil || own.inode == firstPIDs {
		return p, err
	}
	if tgid != 0 {
		its, err := pidNamespaceOf(fmt.Sprint(tgid))
		if err != nil {
			return p, err
		}
		if its != own {
			return p, fmt.Errorf("process %d is in another PID namespace than this one, which BPF programs can look into only from the machine's first", tgid)
		}
	}
	return own, nil
}

func pidNamespaceOf(process string) (p pidNamespace, err error) {
	file := "/proc/" + process + "/ns/pid"
	var s unix.Stat_t
	if err := unix.Stat(file, &s); err != nil {
		return p, fmt.Errorf("%s: %w", file, err)
	}
	// The kernel's own form of a device number (include/linux/kdev_t.h: MKDEV).
	return pidNamespace{uint64(unix.Major(s.Dev))<<20 | uint64(unix.Minor(s.Dev)), s.Ino}, nil
}

// tracepointArgs returns how many arguments a tracepoint of this kernel has:
// kfree_skb had 2, got a reason in 5.17 and a socket in 6.11; tcp_send_reset got
// a reason in 6.10. BTF has a typedef for each, to a function whose first parameter
// is not of the tracepoint.
func tracepointArgs(kernel *btf.Spec, name string) (uint32, error) {
	var typedef *btf.Typedef
	if err := kernel.TypeByName("btf_trace_"+name, &typedef); err != nil {
		return 0, fmt.Errorf("this kernel has no tracepoint %s", name)
	}
	pointer, ok := btf.UnderlyingType(typedef.Type).(*btf.Pointer)
	if !ok {
		return 0, fmt.Errorf("tracepoint %s: its type is %v", name, typedef.Type)
	}
	function, ok := pointer.Target.(*btf.FuncProto)
	if !ok || len(function.Params) == 0 {
		return 0, fmt.Errorf("tracepoint %s: its type is %v", name, pointer.Target)
	}
	return uint32(len(function.Params) - 1), nil
}

// enumNames returns the names of an enumeration's values, without their prefix.
// The values differ between kernels, the names hardly. A kernel without the
// enumeration has none.
func enumNames(kernel *btf.Spec, enum, prefix string) map[uint32]string {
	names := map[uint32]string{}
	var t *btf.Enum
	if kernel.TypeByName(enum, &t) != nil {
		return names
	}
	for _, v := range t.Values {
		names[uint32(v.Value)] = strings.TrimPrefix(v.Name, prefix)
	}
	return names
}
