package procfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/netlink"
)

const (
	// firstFileBytes is more than the largest of the files on most machines:
	// netstat has 4 KiB, dev and softnet_stat grow by 128 bytes with each device
	// and each CPU.
	firstFileBytes = 16 << 10
	// maxFileBytes bounds one file: 8000 devices.
	maxFileBytes = 1 << 20
)

// Reader reads the counters of one network namespace. One goroutine uses it at
// a time.
type Reader struct {
	file   [numFiles]*os.File // nil: this kernel has no such file
	qdiscs *netlink.Conn      // nil: refused
	buf    []byte
	into   *Counters
	// addQdisc is made once: a closure made at every reading is an allocation.
	addQdisc func(kind uint16, body []byte) error
}

// Open opens the counters of the calling thread's network namespace.
//
// A file that is not there, or may not be read, is not an error: its counters
// are absent. That snmp and netstat are both missing is one: then nothing of
// TCP is known.
func Open() (*Reader, error) {
	r := &Reader{buf: make([]byte, firstFileBytes)}
	r.addQdisc = r.qdisc
	for i, name := range files {
		f, err := os.Open("/proc/thread-self/net/" + name)
		switch {
		case err == nil:
			r.file[i] = f
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		default:
			r.Close()
			return nil, fmt.Errorf("procfs: %w", err)
		}
	}
	if r.file[fromSNMP] == nil && r.file[fromNetstat] == nil {
		r.Close()
		return nil, errors.New("procfs: no snmp and no netstat in /proc/thread-self/net: is /proc mounted?")
	}
	if c, err := netlink.Open(unix.NETLINK_ROUTE); err == nil {
		r.qdiscs = c
	}
	return r, nil
}

// Close closes the files.
func (r *Reader) Close() error {
	var errs []error
	for _, f := range r.file {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	if r.qdiscs != nil {
		errs = append(errs, r.qdiscs.Close())
	}
	return errors.Join(errs...)
}

// Read reads all counters into c, whose old values go.
func (r *Reader) Read(c *Counters) error {
	*c = Counters{}
	for i, f := range r.file {
		if f == nil {
			continue
		}
		b, err := r.readFile(f)
		if err != nil {
			return err
		}
		parse(c, source(i), b)
	}
	if r.qdiscs != nil {
		return r.readQdiscs(c)
	}
	return nil
}

func parse(c *Counters, from source, b []byte) {
	switch from {
	case fromSNMP, fromNetstat:
		parsePairs(c, from, b)
	case fromSockstat:
		parseSockstat(c, b)
	case fromSoftnet:
		parseSoftnet(c, b)
	case fromDevices:
		parseDevices(c, b)
	case fromConntrack:
		parseConntrack(c, b)
	}
}

// readFile reads a file of /proc from its beginning. Such a file gives only
// some of itself at a time; a read of nothing is its end.
func (r *Reader) readFile(f *os.File) ([]byte, error) {
	for n := 0; ; {
		if n == len(r.buf) {
			if n >= maxFileBytes {
				return nil, fmt.Errorf("procfs: %s has more than %d bytes", f.Name(), maxFileBytes)
			}
			r.buf = append(r.buf, make([]byte, n)...)
		}
		m, err := unix.Pread(int(f.Fd()), r.buf[n:], int64(n))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, fmt.Errorf("procfs: read %s: %w", f.Name(), err)
		case m == 0:
			return r.buf[:n], nil
		}
		n += max(m, 0)
	}
}

// readQdiscs adds up the queueing disciplines. A dump that a change interrupts
// may count one twice or not at all: then its counters are absent this time.
func (r *Reader) readQdiscs(c *Counters) error {
	for _, k := range [...]Counter{QdiscDrops, QdiscRequeues, QdiscOverlimits} {
		c.Set(k, 0)
	}
	r.into = c
	var all [sizeofTcMsg]byte
	err := r.qdiscs.Dump(unix.RTM_GETQDISC, all[:], r.addQdisc)
	if errors.Is(err, netlink.ErrInterrupted) {
		for _, k := range [...]Counter{QdiscDrops, QdiscRequeues, QdiscOverlimits} {
			c.value[k], c.present[k] = 0, false
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("procfs: queueing disciplines: %w", err)
	}
	return nil
}

// Of linux/rtnetlink.h and linux/gen_stats.h.
const (
	sizeofTcMsg     = 20
	tcaStats2       = 7
	tcaStatsQueue   = 3
	queueDrops      = 8 // offsets in struct gnet_stats_queue
	queueRequeues   = 12
	queueOverlimits = 16
	sizeofQueue     = 20
	tcmParent       = 12 // offset of tcm_parent in struct tcmsg
	tcHRoot         = 0xFFFFFFFF
)

// qdisc adds the root disciplines alone: a root with children counts theirs.
func (r *Reader) qdisc(_ uint16, b []byte) error {
	if len(b) < sizeofTcMsg {
		return netlink.ErrMalformed
	}
	if binary.NativeEndian.Uint32(b[tcmParent:]) != tcHRoot {
		return nil
	}
	var malformed error
	err := netlink.Attributes(b[sizeofTcMsg:], func(kind uint16, v []byte) {
		if kind != tcaStats2 {
			return
		}
		malformed = netlink.Attributes(v, func(kind uint16, v []byte) {
			if kind == tcaStatsQueue && len(v) >= sizeofQueue {
				r.into.add(QdiscDrops, uint64(binary.NativeEndian.Uint32(v[queueDrops:])))
				r.into.add(QdiscRequeues, uint64(binary.NativeEndian.Uint32(v[queueRequeues:])))
				r.into.add(QdiscOverlimits, uint64(binary.NativeEndian.Uint32(v[queueOverlimits:])))
			}
		})
	})
	return errors.Join(err, malformed)
}
