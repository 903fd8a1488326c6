package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/netlink"
)

// Before Linux 6.6 there is no TCX. A BPF filter of the older tc(8) kind stands at
// the same place, and goes with the namespace where it is not taken away.

// Of linux/pkt_sched.h and linux/pkt_cls.h.
const (
	tcHClsact       = 0xFFFFFFF1
	tcHIngress      = 0xFFFFFFF2 // TC_H_CLSACT's TC_H_MIN_INGRESS
	clsactHandle    = 0xFFFF0000
	tcaBPFFD        = 6
	tcaBPFName      = 7
	tcaBPFFlags     = 8
	tcaBPFActDirect = 1 // what the program returns is what is done
	ethPAll         = 3
)

// attachFilter puts a program where packets come into a device, and returns how
// it is taken away.
func (ns *Namespace) attachFilter(index, program int) (detach func() error, err error) {
	clsact := tcMessage(index, clsactHandle, tcHClsact, 0)
	clsact = netlink.AppendAttribute(clsact, tcaKind, []byte("clsact\x00"))
	err = ns.route(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_EXCL, clsact)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("clsact (needs CONFIG_NET_SCH_INGRESS): %w", err)
	}
	// A filter is named by its priority, which here is its own.
	info := ns.filters.Add(1)<<16 | uint32(networkOrder(ethPAll))
	filter := tcMessage(index, 0, tcHIngress, info)
	filter = netlink.AppendAttribute(filter, tcaKind, []byte("bpf\x00"))
	options := netlink.AppendAttribute(nil, tcaBPFFD, binary.NativeEndian.AppendUint32(nil, uint32(program)))
	options = netlink.AppendAttribute(options, tcaBPFName, []byte(gateName+"\x00"))
	options = netlink.AppendAttribute(options, tcaBPFFlags, binary.NativeEndian.AppendUint32(nil, tcaBPFActDirect))
	filter = netlink.AppendAttribute(filter, tcaOptions|unix.NLA_F_NESTED, options)
	if err := ns.route(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_EXCL, filter); err != nil {
		return nil, fmt.Errorf("bpf filter (needs CONFIG_NET_CLS_BPF and CAP_NET_ADMIN): %w", err)
	}
	return func() error {
		return ns.route(unix.RTM_DELTFILTER, 0, tcMessage(index, 0, tcHIngress, info))
	}, nil
}

// tcMessage is a struct tcmsg.
func tcMessage(index int, handle, parent, info uint32) []byte {
	b := make([]byte, 4, 128)
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = binary.NativeEndian.AppendUint32(b, handle)
	b = binary.NativeEndian.AppendUint32(b, parent)
	return binary.NativeEndian.AppendUint32(b, info)
}

func networkOrder(n uint16) uint16 {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return bits.ReverseBytes16(n)
	}
	return n
}
