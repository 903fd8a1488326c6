package tune

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// sysctlBytes is more than most settings have.
	sysctlBytes = 4 << 10
	// listBytes is more than any has: a list of every second port.
	listBytes = 256 << 10
	// writeBytes is what the kernel takes of a list in one write(2), and no second
	// one adds to it: a page, less one byte.
	writeBytes = 4095
)

// Read reads a sysctl ("net.core.somaxconn"), without the newline at its end. Of
// net.* it is that of the calling thread's network namespace.
func Read(name string) (string, error) {
	value, whole, err := read(name, sysctlBytes)
	if err == nil && !whole {
		value, _, err = read(name, listBytes)
	}
	return value, err
}

// read reads at most so much, and says whether that was all: of a list of ports
// the kernel gives in the first read(2) what fits, and nothing in a second one.
func read(name string, most int) (value string, whole bool, err error) {
	f, err := os.Open(sysctlFile(name))
	if err != nil {
		return "", false, err
	}
	defer f.Close()
	b := make([]byte, most)
	n, err := f.Read(b)
	if err != nil && err != io.EOF {
		return "", false, err
	}
	return string(bytes.TrimSuffix(b[:n], []byte{'\n'})), n < most, nil
}

// Write sets a sysctl, of the calling thread's network namespace as with Read.
// An empty value empties a list.
func Write(name, value string) error {
	// Nothing written is nothing changed: the newline is what empties a list.
	b := []byte(value + "\n")
	if len(b) > writeBytes {
		return fmt.Errorf("%s: %d bytes are more than the kernel takes at once", name, len(b))
	}
	f, err := os.OpenFile(sysctlFile(name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// writable says why a sysctl cannot be written, without writing it.
func writable(name string) error {
	f, err := os.OpenFile(sysctlFile(name), os.O_WRONLY, 0)
	if err == nil {
		return f.Close()
	}
	switch {
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("/proc/sys is mounted read-only here, as in a container: do it on the host, or run the container with --sysctl: %w", err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("needs root, or CAP_NET_ADMIN in the user namespace that owns this network namespace: %w", err)
	}
	return err
}

// sysctlFile is where procfs shows a sysctl: its dots are slashes there. None
// that the table names has a dot within a part, as an interface's name may.
func sysctlFile(name string) string {
	return "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
}

// same compares two values as the kernel does: whitespace separates.
func same(a, b string) bool {
	return strings.Join(strings.Fields(a), " ") == strings.Join(strings.Fields(b), " ")
}
