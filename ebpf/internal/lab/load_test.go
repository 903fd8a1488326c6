package lab

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/diag"
)

// The small steps of a load, in the order of a connection's life.
func TestLoadSteps(t *testing.T) {
	ns := namespace(t)
	l, err := ns.Listen(netip.AddrPortFrom(ipv4, 0), 5)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if s, err := l.TryAccept(); s != nil || err != nil {
		t.Errorf("nobody has connected: %v, %v", s, err)
	}
	if err := l.Relisten(0); err != nil { // one fits
		t.Fatal(err)
	}
	client, err := ns.Connect(l.Local())
	if err != nil {
		t.Fatal(err)
	}
	if err := awaitQueue(l, 1); err != nil {
		t.Fatal(err)
	}
	if n, err := l.Queue(); n != 1 || err != nil {
		t.Errorf("%d in the queue, %v", n, err)
	}
	refused, err := ns.Start(l.Local())
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := refused.TryConnected(); ok || err != nil {
		t.Errorf("no answer yet, and it is connected: %v, %v", ok, err)
	}
	if err := await(func() (bool, error) {
		n, err := ns.Drops(l)
		return n == 1, err
	}); err != nil {
		t.Errorf("the refused SYN was not counted: %v", err)
	}
	if _, err := ns.Drops(client); err == nil {
		t.Error("a connection is no listener")
	}
	if err := refused.Close(); err != nil {
		t.Error(err)
	}

	if ok, err := client.TryConnected(); !ok || err != nil {
		t.Errorf("it is connected: %v, %v", ok, err)
	}
	server, err := l.TryAccept()
	if server == nil || err != nil {
		t.Fatalf("somebody has connected: %v, %v", server, err)
	}
	b := make([]byte, 8)
	if n, ok, err := client.TryRead(b); n != 0 || ok || err != nil {
		t.Errorf("nothing is there: %d, %v, %v", n, ok, err)
	}
	if _, err := server.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := client.poll(unix.POLLIN); err != nil {
		t.Fatal(err)
	}
	if n, ok, err := client.TryRead(b); n != 1 || !ok || err != nil {
		t.Errorf("a byte is there: %d, %v, %v", n, ok, err)
	}

	// The client's FIN is the first: the server reads the end, and the client waits.
	if err := client.Shutdown(); err != nil {
		t.Fatal(err)
	}
	if err := server.poll(unix.POLLIN); err != nil {
		t.Fatal(err)
	}
	if n, ok, err := server.TryRead(b); n != 0 || !ok || err != nil {
		t.Errorf("the end: %d, %v, %v", n, ok, err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if _, err := client.Read(b); err != nil {
		t.Error(err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if all, err := ns.Sockets(diag.Filter{States: []diag.State{diag.TimeWait}}); len(all) != 1 || err != nil {
		t.Errorf("in TIME_WAIT: %v, %v", all, err)
	}

	// An abort leaves nothing behind, and its peer is told.
	if client, err = ns.Connect(l.Local()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	if err := client.Congestion("reno"); err != nil {
		t.Error(err)
	}
	if err := client.Congestion("nonsense"); err == nil {
		t.Error("a congestion control that there is not")
	}
	if err := server.Abort(); err != nil {
		t.Error(err)
	}
	if err := client.poll(unix.POLLIN); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := client.TryRead(b); ok || err != unix.ECONNRESET {
		t.Errorf("it was aborted: %v, %v", ok, err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if all, err := ns.Sockets(diag.Filter{States: []diag.State{diag.TimeWait}}); len(all) != 1 || err != nil {
		t.Errorf("in TIME_WAIT: %v, %v", all, err)
	}
}
