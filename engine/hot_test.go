package engine

import (
	"testing"

	"golang.org/x/sys/unix"
)

// What the tricks of the hot path gain.

// A head that is the one before is compared, not parsed.
func BenchmarkHeadMemo(b *testing.B) {
	e := testEngine(b, Config{})
	head := []byte("HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\n" +
		"Content-Type: text/plain\r\nContent-Length: 13\r\nConnection: keep-alive\r\n\r\n")
	for name, forget := range map[string]bool{"the same head": false, "another head": true} {
		b.Run(name, func(b *testing.B) {
			c := &conn{l: e.loops[0], o: &origin{}}
			k := &call{journey: journey{p: &prepared{}}}
			b.ReportAllocs()
			for b.Loop() {
				if forget {
					c.o.memo.bytes = c.o.memo.bytes[:0]
				}
				if _, n, err := c.parseHead(k, head); n != len(head) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}

// A system call that never waits is not announced to the scheduler.
func BenchmarkSocketWrite(b *testing.B) {
	fd, err := unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	data := make([]byte, 100)
	for name, write := range map[string]func([]byte) (int, error){
		"unannounced": (&socket{fd: fd}).write,
		"announced":   func(p []byte) (int, error) { return unix.Write(fd, p) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if n, err := write(data); n != len(data) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}
