package engine_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
)

// An idle TLS connection costs what crypto/tls keeps of it and little more,
// also when what came last was large records.
func TestTLSMemoryOfIdleConnections(t *testing.T) {
	needRealMemory(t)
	for _, version := range tlsVersions {
		for _, bytes := range []int{13, 64 << 10} {
			t.Run(fmt.Sprintf("%s/%d", tls.VersionName(version), bytes), func(t *testing.T) {
				j := job{Role: "idle", TLS: true, Connections: size(2000, 10_000), BodyBytes: bytes}
				j.Addr = answerTLS(t, version, j)
				f := measure(t, j)
				if f.PerConn > 16<<10 {
					t.Errorf("%d bytes per idle connection, want at most 16 KiB", f.PerConn)
				}
			})
		}
	}
}

// answerTLS answers every request alike, once so many are there as there are
// to be connections.
func answerTLS(t *testing.T, version uint16, j job) string {
	ca := newAuthority(t, "Test CA")
	l, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{ca.issue(t, nil)}, MinVersion: version, MaxVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", j.BodyBytes)
	answer = append(answer, make([]byte, j.BodyBytes)...)
	var waiting atomic.Int64
	all := make(chan int)
	go acceptAll(l, func(c net.Conn) {
		answerAlike(c, answer, func(n int) {
			if waiting.Add(int64(n)) == int64(j.Connections) {
				close(all)
			}
			<-all
		})
	})
	return l.Addr().(*net.TCPAddr).String()
}
