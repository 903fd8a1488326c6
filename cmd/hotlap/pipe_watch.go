package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// watchClient closes gone when nobody can read out any more, or when the
// process parent, if it is not 0, has ended. The end of the input alone is no
// sign: a client may close it and read on.
//
// The parent is watched as a process. PR_SET_PDEATHSIG would watch the thread
// that started us, and clients start us from threads that end before they do.
func watchClient(out, parent int, gone chan<- struct{}) error {
	watched := []unix.PollFd{{Fd: int32(out)}} // POLLERR and POLLHUP need no asking
	if parent != 0 {
		fd, err := unix.PidfdOpen(parent, 0)
		if err != nil {
			return fmt.Errorf("--parent %d: %w", parent, err)
		}
		watched = append(watched, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	go func() {
		for {
			if n, err := unix.Poll(watched, -1); err == unix.EINTR {
				continue
			} else if err != nil || n > 0 { // an error: EFAULT or ENOMEM, nothing to go on with
				close(gone)
				return
			}
		}
	}()
	return nil
}
