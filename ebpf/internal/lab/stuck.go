package lab

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of linux/userfaultfd.h.
const (
	uffdAPI            = 0xAA
	uffdioAPI          = 0xC018AA3F
	uffdioRegister     = 0xC020AA00
	uffdioZeropage     = 0xC020AA04
	registerMissing    = 1
	uffdEventPagefault = 0x12
)

type uffdAPIArg struct{ api, features, ioctls uint64 }
type uffdRegisterArg struct{ start, len, mode, ioctls uint64 }
type uffdZeropageArg struct {
	start, len, mode uint64
	zeropage         int64
}

// stuckReader is a thread in recv(2) on a socket, whose lock it holds: the
// kernel copies to a page that is not there until release brings it.
type stuckReader struct {
	fd   int // userfaultfd
	page []byte
	done chan error
}

// stick lets a thread read one byte, which must be there, and returns when the
// thread is stuck.
func stick(s *Socket) (*stuckReader, error) {
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK, 0, 0)
	if errno != 0 {
		return nil, fmt.Errorf("userfaultfd (needs CAP_SYS_PTRACE): %w", errno)
	}
	r := &stuckReader{fd: int(fd), done: make(chan error, 1)}
	if err := r.watch(); err != nil {
		return nil, errors.Join(err, r.free())
	}
	go func() {
		n, _, err := unix.Recvfrom(s.fd, r.page[:1], 0)
		if err == nil && n != 1 {
			err = fmt.Errorf("the stuck reader read %d bytes", n)
		}
		r.done <- err
	}()
	if err := r.awaitFault(); err != nil {
		return nil, errors.Join(err, r.release())
	}
	return r, nil
}

// watch maps a page whose first use is announced and then waits.
func (r *stuckReader) watch() (err error) {
	api := uffdAPIArg{api: uffdAPI}
	if err := r.ioctl(uffdioAPI, unsafe.Pointer(&api)); err != nil {
		return err
	}
	r.page, err = unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	register := uffdRegisterArg{start: r.start(), len: uint64(len(r.page)), mode: registerMissing}
	return r.ioctl(uffdioRegister, unsafe.Pointer(&register))
}

// awaitFault waits until the reader has touched the page.
func (r *stuckReader) awaitFault() error {
	var event [32]byte // struct uffd_msg
	return await(func() (bool, error) {
		n, err := unix.Read(r.fd, event[:])
		if err == unix.EAGAIN || err == unix.EINTR {
			return false, nil
		}
		return n == len(event) && event[0] == uffdEventPagefault, err
	})
}

// release brings the page and waits until the reader is back from recv(2).
func (r *stuckReader) release() error {
	zero := uffdZeropageArg{start: r.start(), len: uint64(len(r.page))}
	err := r.ioctl(uffdioZeropage, unsafe.Pointer(&zero))
	return errors.Join(err, <-r.done, r.free())
}

// free ends the watch, and with it any wait for the page.
func (r *stuckReader) free() error {
	err := unix.Close(r.fd)
	if r.page != nil {
		err = errors.Join(err, unix.Munmap(r.page))
	}
	return err
}

func (r *stuckReader) start() uint64 { return uint64(uintptr(unsafe.Pointer(&r.page[0]))) }

func (r *stuckReader) ioctl(request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(r.fd), request, uintptr(arg)); errno != 0 {
		return fmt.Errorf("userfaultfd, ioctl %#x: %w", request, errno)
	}
	return nil
}
