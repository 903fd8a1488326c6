package diag

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/netlink"
)

// Of linux/inet_diag.h and linux/sock_diag.h.
const (
	requestBytes = 56 // struct inet_diag_req_v2
	messageBytes = 72 // struct inet_diag_msg

	diagInfo      = 2 // attributes: INET_DIAG_INFO, ...
	diagSKMemInfo = 7
	diagSKV6Only  = 11
	diagCgroupID  = 21
)

// Indices of SK_MEMINFO.
const (
	memReceive = iota
	memReceiveLimit
	memTransmit
	memSendLimit
	memForward
	memSend
	memOption
	memBacklog
	memDrops
)

// request is an inet_diag_req_v2.
type request struct {
	family              uint8
	info                bool
	states              uint32
	localPort, peerPort uint16
}

func (r request) put(b *[requestBytes]byte) {
	b[0] = r.family
	b[1] = unix.IPPROTO_TCP
	b[2] = 1 << (diagSKMemInfo - 1)
	if r.info {
		b[2] |= 1 << (diagInfo - 1)
	}
	binary.NativeEndian.PutUint32(b[4:], r.states)
	binary.BigEndian.PutUint16(b[8:], r.localPort)
	binary.BigEndian.PutUint16(b[10:], r.peerPort)
	// INET_DIAG_NOCOOKIE: any socket.
	binary.NativeEndian.PutUint64(b[48:], ^uint64(0))
}

// parse reads an inet_diag_msg and its attributes into s.
func parse(s *Socket, b []byte) (v6only bool, err error) {
	*s = Socket{}
	if len(b) < messageBytes {
		return false, netlink.ErrMalformed
	}
	family := b[0]
	s.State = State(b[1])
	s.Local = addrPort(family, b[8:], b[4:])
	s.Peer = addrPort(family, b[24:], b[6:])
	s.Interface = binary.NativeEndian.Uint32(b[40:])
	// The cookie is two words, the lower first, on either byte order.
	s.Cookie = uint64(binary.NativeEndian.Uint32(b[44:])) | uint64(binary.NativeEndian.Uint32(b[48:]))<<32
	s.Receive = binary.NativeEndian.Uint32(b[56:])
	s.Send = binary.NativeEndian.Uint32(b[60:])
	s.UID = binary.NativeEndian.Uint32(b[64:])
	s.Inode = binary.NativeEndian.Uint32(b[68:])
	err = netlink.Attributes(b[messageBytes:], func(kind uint16, v []byte) {
		switch kind {
		case diagSKMemInfo:
			s.Memory = memory(v)
		case diagInfo:
			s.InfoBytes = copyInfo(&s.Info, v)
		case diagSKV6Only:
			v6only = len(v) > 0 && v[0] != 0
		case diagCgroupID:
			if len(v) >= 8 {
				s.Cgroup = binary.NativeEndian.Uint64(v)
			}
		}
	})
	return v6only, err
}

func addrPort(family uint8, addr, port []byte) netip.AddrPort {
	var a netip.Addr
	if family == unix.AF_INET {
		a = netip.AddrFrom4([4]byte(addr))
	} else {
		a = netip.AddrFrom16([16]byte(addr))
	}
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port))
}

// memory reads SK_MEMINFO. sk_drops came with Linux 4.7; a shorter one is unknown.
func memory(v []byte) Memory {
	if len(v) < 4*(memDrops+1) {
		return Memory{}
	}
	at := func(i int) uint32 { return binary.NativeEndian.Uint32(v[4*i:]) }
	return Memory{
		Known:          true,
		ReceiveBytes:   at(memReceive),
		ReceiveLimit:   at(memReceiveLimit),
		TransmitBytes:  at(memTransmit),
		SendLimit:      at(memSendLimit),
		ForwardBytes:   at(memForward),
		SendBytes:      at(memSend),
		OptionMemBytes: at(memOption),
		BacklogBytes:   at(memBacklog),
		Drops:          at(memDrops),
	}
}

// copyInfo copies what the kernel has of struct tcp_info, which grows at its end
// from one version to the next.
func copyInfo(info *unix.TCPInfo, v []byte) int {
	return copy(unsafe.Slice((*byte)(unsafe.Pointer(info)), unsafe.Sizeof(*info)), v)
}
