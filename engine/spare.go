package engine

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An ended socket is to be closed. It is orderly if the peer's FIN is known of, and
// nothing but connect(2) chooses where the socket connects from.
type ended struct {
	fd      int
	orderly bool
	remote  netip.Addr
}

// spares are sockets whose connections are over, to be connected again. To a
// server within the machine that saves a fifth of the CPU time of a request that
// has a connection of its own: the kernel need not make a socket, a file and
// their place in the poller, nor take them apart. connect(2) to AF_UNSPEC
// dissolves what is left of a connection (tcp_disconnect in net/ipv4/tcp.c), and
// the next has a port of its own, as ever.
//
// It begins its numbers where the last one ended, and not where a new socket
// would, beyond those that the same two ports had last. A server that has those
// ports in TIME_WAIT tells the new connection from the old one by its timestamps,
// then; without them (net.ipv4.tcp_timestamps 0) every second one would be
// taken for a stray segment, and be made a second later. So they must be there.
//
// Owner: the loop.
type spares struct {
	v4, v6 []int
}

// sparesMost is how many are kept: as many as can end in one batch of events.
const sparesMost = eventsMost

func (s *spares) of(a netip.Addr) *[]int {
	if a.Is4() {
		return &s.v4
	}
	return &s.v6
}

// keep closes the connection of a socket whose peer, within the machine, has
// closed its side. Where that is acknowledged, as it mostly is at once, nothing is
// left to be waited for and the socket is kept; else it says false.
func (s *spares) keep(e ended) bool {
	if !e.orderly || !e.remote.IsLoopback() || len(s.v4)+len(s.v6) >= sparesMost {
		return false
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(e.fd), unix.SHUT_WR, 0); errno != 0 {
		return false
	}
	if !overWithTimestamps(e.fd) || dissolve(e.fd) != nil {
		return false
	}
	list := s.of(e.remote)
	*list = append(*list, e.fd)
	return true
}

// overWithTimestamps says whether nothing is left of a connection, which had
// timestamps. In LAST_ACK a socket that is dissolved would answer that ACK with an RST.
func overWithTimestamps(fd int) bool {
	const closed, timestamps = 7, 1                           // TCP_CLOSE, TCPI_OPT_TIMESTAMPS
	var info struct{ state, _, _, _, _, options, _, _ uint8 } // as struct tcp_info begins
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	return errno == 0 && info.state == closed && info.options&timestamps != 0
}

// take returns a socket to connect to this address, or -1. In the middle of a batch
// there is none: one of its events may be about what the socket was before. A
// socket that is made instead gets the descriptor of a spare.
func (s *spares) take(to netip.Addr, between bool) int {
	if between && to.IsLoopback() {
		if fd := pop(s.of(to)); fd >= 0 {
			return fd
		}
	}
	fd := pop(&s.v4)
	if fd < 0 {
		fd = pop(&s.v6)
	}
	if fd >= 0 {
		_ = unix.Close(fd)
	}
	return -1
}

func (s *spares) close() {
	for _, fd := range append(s.v4, s.v6...) {
		_ = unix.Close(fd)
	}
	*s = spares{}
}

// pop takes the last one of the list, which was used last; -1 if it is empty.
func pop(list *[]int) int {
	last := len(*list) - 1
	if last < 0 {
		return -1
	}
	fd := (*list)[last]
	*list = (*list)[:last]
	return fd
}

func dissolve(fd int) error {
	none := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&none)), unsafe.Sizeof(none))
	if errno != 0 {
		return errno
	}
	return nil
}
