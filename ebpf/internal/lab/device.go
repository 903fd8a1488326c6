package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/netlink"
)

// The addresses of a Pair, of the first and the second namespace.
var (
	PairIPv4 = [2]netip.Addr{netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("10.99.0.2")}
	PairIPv6 = [2]netip.Addr{netip.MustParseAddr("fd99::1"), netip.MustParseAddr("fd99::2")}
)

// PairDevice is the name of the device in both namespaces of a Pair.
const PairDevice = "veth0"

// vethInfoPeer is VETH_INFO_PEER of linux/veth.h.
const vethInfoPeer = 1

// Pair makes two namespaces with a veth between them, and the addresses
// PairIPv4 and PairIPv6.
func Pair() (a, b *Namespace, err error) {
	if a, err = New(); err != nil {
		return nil, nil, err
	}
	if b, err = New(); err != nil {
		a.Close()
		return nil, nil, err
	}
	if err = connect(a, b); err != nil {
		a.Close()
		b.Close()
		return nil, nil, fmt.Errorf("lab: veth pair: %w", err)
	}
	return a, b, nil
}

func connect(a, b *Namespace) error {
	var other *os.File
	if err := b.Do(func() (err error) {
		other, err = os.Open("/proc/thread-self/ns/net")
		return err
	}); err != nil {
		return err
	}
	defer other.Close()
	if err := a.route(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, vethMessage(int(other.Fd()))); err != nil {
		return err
	}
	for i, ns := range [2]*Namespace{a, b} {
		if err := ns.up(PairDevice); err != nil {
			return err
		}
		if err := ns.AddAddress(PairDevice, netip.PrefixFrom(PairIPv4[i], 24)); err != nil {
			return err
		}
		if err := ns.AddAddress(PairDevice, netip.PrefixFrom(PairIPv6[i], 64)); err != nil {
			return err
		}
	}
	return nil
}

// route does one rtnetlink request in the namespace.
func (ns *Namespace) route(kind, flags uint16, body []byte) error {
	return ns.Do(func() error {
		c, err := netlink.Open(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer c.Close()
		return c.Do(kind, flags, body)
	})
}

// up sets a device up.
func (ns *Namespace) up(device string) error {
	index, err := ns.index(device)
	if err != nil {
		return err
	}
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], unix.IFF_UP)
	binary.NativeEndian.PutUint32(b[12:], unix.IFF_UP)
	if err := ns.route(unix.RTM_NEWLINK, 0, b); err != nil {
		return fmt.Errorf("lab: set %s up: %w", device, err)
	}
	return nil
}

// AddAddress gives a device of the namespace one more address.
func (ns *Namespace) AddAddress(device string, address netip.Prefix) error {
	index, err := ns.index(device)
	if err != nil {
		return err
	}
	family := byte(unix.AF_INET)
	if address.Addr().Is6() {
		family = unix.AF_INET6
	}
	b := []byte{family, byte(address.Bits()), 0, 0}
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = netlink.AppendAttribute(b, unix.IFA_LOCAL, address.Addr().AsSlice())
	b = netlink.AppendAttribute(b, unix.IFA_ADDRESS, address.Addr().AsSlice())
	// Nobody else is there: an IPv6 address need not first be probed for a second.
	b = netlink.AppendAttribute(b, unix.IFA_FLAGS, binary.NativeEndian.AppendUint32(nil, unix.IFA_F_NODAD))
	if err := ns.route(unix.RTM_NEWADDR, unix.NLM_F_CREATE, b); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("lab: address %v of %s: %w", address, device, err)
	}
	return nil
}

// index finds a device of the namespace.
func (ns *Namespace) index(device string) (index int, err error) {
	err = ns.Do(func() error {
		i, err := net.InterfaceByName(device)
		if err != nil {
			return fmt.Errorf("lab: device %s: %w", device, err)
		}
		index = i.Index
		return nil
	})
	return index, err
}

// vethMessage asks for a veth with its other end in the namespace of a descriptor.
func vethMessage(other int) []byte {
	name := append([]byte(PairDevice), 0)
	peer := make([]byte, unix.SizeofIfInfomsg)
	peer = netlink.AppendAttribute(peer, unix.IFLA_IFNAME, name)
	peer = netlink.AppendAttribute(peer, unix.IFLA_NET_NS_FD, binary.NativeEndian.AppendUint32(nil, uint32(other)))
	info := netlink.AppendAttribute(nil, unix.IFLA_INFO_KIND, []byte("veth"))
	info = netlink.AppendAttribute(info, unix.IFLA_INFO_DATA|unix.NLA_F_NESTED, netlink.AppendAttribute(nil, vethInfoPeer|unix.NLA_F_NESTED, peer))
	b := make([]byte, unix.SizeofIfInfomsg)
	b = netlink.AppendAttribute(b, unix.IFLA_IFNAME, name)
	return netlink.AppendAttribute(b, unix.IFLA_LINKINFO|unix.NLA_F_NESTED, info)
}
