package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/netlink"
)

// Of linux/rtnetlink.h and linux/pkt_sched.h.
const (
	tcaKind     = 1
	tcaOptions  = 2
	tcaTBFParms = 1
	tcaTBFBurst = 6
	tcHRoot     = 0xFFFFFFFF
	// tokenBucketHandle is what tc(8) writes as 1:
	tokenBucketHandle = 1 << 16
)

// QdiscDrops lets the loopback device's queueing discipline drop n packets: a
// token bucket that is smaller than they are. They are UDP datagrams, whose sender
// is told; TCP would quietly try again. Events are the ENOBUFS that send(2) gave.
func (ns *Namespace) QdiscDrops(to netip.Addr, n int) (result *Provoked, err error) {
	p := &Provoked{At: netip.AddrPortFrom(to, discardPort)}
	defer p.end("queueing discipline drops", &result, &err)
	const burst = 500
	if err := p.tokenBucket(ns, "lo", burst); err != nil {
		return nil, err
	}
	fd, err := ns.datagrams(to)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	for range n {
		switch err := unix.Sendto(fd, make([]byte, 2*burst), 0, sockaddr(p.At)); err {
		case unix.ENOBUFS:
			p.Events++
		case nil:
			return nil, errors.New("a datagram larger than the bucket was sent")
		default:
			return nil, err
		}
	}
	p.Connections = 1 // the socket
	return p, nil
}

// discardPort: nothing ever gets there.
const discardPort = 9

// datagrams makes a UDP socket that is told of local drops.
func (ns *Namespace) datagrams(like netip.Addr) (fd int, err error) {
	err = ns.Do(func() (err error) {
		fd, err = unix.Socket(family(like), unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
		return err
	})
	if err != nil {
		return -1, err
	}
	level, option := unix.IPPROTO_IP, unix.IP_RECVERR
	if family(like) == unix.AF_INET6 {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVERR
	}
	if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// tokenBucket puts one in front of a device until Close: packets larger than
// burst bytes are dropped, all others have 1 GB/s.
func (p *Provoked) tokenBucket(ns *Namespace, device string, burst uint32) error {
	index, err := ns.index(device)
	if err != nil {
		return err
	}
	add := tcMessage(index, tokenBucketHandle, tcHRoot, 0)
	add = netlink.AppendAttribute(add, tcaKind, []byte("tbf\x00"))
	options := netlink.AppendAttribute(nil, tcaTBFParms, tokenBucketParameters())
	options = netlink.AppendAttribute(options, tcaTBFBurst, binary.NativeEndian.AppendUint32(nil, burst))
	add = netlink.AppendAttribute(add, tcaOptions|unix.NLA_F_NESTED, options)
	if err := ns.route(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, add); err != nil {
		return fmt.Errorf("tbf at %s (needs CONFIG_NET_SCH_TBF): %w", device, err)
	}
	p.undo = append(p.undo, func() error { return ns.route(unix.RTM_DELQDISC, 0, tcMessage(index, 0, tcHRoot, 0)) })
	return nil
}

// tokenBucketParameters is a struct tc_tbf_qopt.
func tokenBucketParameters() []byte {
	const (
		linkLayerEthernet = 1
		bytesPerSecond    = 1e9
		limit             = 1 << 20
	)
	b := []byte{0, linkLayerEthernet, 0, 0, 0, 0, 0, 0} // the rate's struct tc_ratespec
	b = binary.NativeEndian.AppendUint32(b, bytesPerSecond)
	b = append(b, make([]byte, 12)...) // no peak rate
	b = binary.NativeEndian.AppendUint32(b, limit)
	return append(b, make([]byte, 8)...) // buffer: given by burst; mtu: of the peak rate
}
