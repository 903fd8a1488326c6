package prog

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// specFor returns the programs that fit a kernel and a scope, and what is
// missing of them. It does nothing but look at type information.
func specFor(kernel *btf.Spec, c Config) (*ebpf.CollectionSpec, map[string]string, error) {
	spec, err := loadObserve()
	if err != nil {
		return nil, nil, fmt.Errorf("internal error: %w", err)
	}
	missing := map[string]string{}
	args := map[string]uint32{}
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
		return nil, nil, fmt.Errorf("internal error: %w", err)
	}
	var ports [MaxPorts]uint16
	copy(ports[:], c.Ports)
	err = errors.Join(
		vars.ScopeNetns.Set(c.Netns),
		vars.ScopeTgid.Set(c.TGID),
		vars.ScopePorts.Set(uint32(len(c.Ports))),
		vars.ScopePort.Set(ports),
		vars.KfreeSkbArgs.Set(args[observeProgKfreeSkb]),
		vars.SendResetArgs.Set(args[observeProgSendReset]),
	)
	if err != nil {
		return nil, nil, fmt.Errorf("internal error: %w", err)
	}
	return spec, missing, nil
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
