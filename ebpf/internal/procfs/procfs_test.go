package procfs

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

// present gives what a reading has, by name.
func present(c *Counters) map[string]uint64 {
	m := map[string]uint64{}
	for k := range Counter(NumCounters) {
		if v, ok := c.Get(k); ok {
			m[k.String()] = v
		}
	}
	return m
}

func TestParse(t *testing.T) {
	type counts = map[string]uint64
	for _, c := range []struct {
		name string
		from source
		text string
		want counts
	}{
		{"snmp", fromSNMP, "Ip: Forwarding InDiscards\nIp: 2 64\nIcmpMsg: InType3\nIcmpMsg: 2656\n" +
			"Tcp: RtoMin MaxConn RetransSegs InErrs OutRsts\nTcp: 200 -1 402509 0 18446744073709551615\n",
			counts{"Ip.InDiscards": 64, "RetransSegs": 402509, "Tcp.InErrs": 0, "OutRsts": 1<<64 - 1}},
		{"netstat of a later kernel", fromNetstat, "TcpExt: New ListenOverflows ListenDrops\nTcpExt: 9 0 7\nIpExt: InOctets\nIpExt: 5\nMPTcpExt: ListenDrops\nMPTcpExt: 8\n",
			counts{"ListenOverflows": 0, "ListenDrops": 7}},
		{"a field of another group's name", fromSNMP, "Udp: InErrs\nUdp: 4\n", counts{}},
		{"fewer values than names", fromNetstat, "TcpExt: ListenOverflows ListenDrops\nTcpExt: 3\n", counts{"ListenOverflows": 3}},
		{"names alone", fromNetstat, "TcpExt: ListenOverflows\n", counts{}},
		{"no end of line", fromNetstat, "TcpExt: ListenOverflows\nTcpExt: 3", counts{"ListenOverflows": 3}},
		{"not a number, too large a number", fromNetstat, "TcpExt: ListenOverflows ListenDrops\nTcpExt: x 18446744073709551616\n", counts{}},
		{"groups out of step", fromNetstat, "TcpExt: ListenOverflows\nIpExt: 3\n", counts{}},
		{"nothing", fromNetstat, "", counts{}},
		{"sockstat", fromSockstat, "sockets: used 12\nTCP: inuse 1 orphan 0 tw 5 alloc 2 mem 3\nUDP: inuse 7 mem 256\n",
			counts{"sockstat.TCP.inuse": 1, "sockstat.TCP.orphan": 0, "sockstat.TCP.tw": 5, "sockstat.TCP.alloc": 2, "sockstat.TCP.mem": 3}},
		{"sockstat without a last value", fromSockstat, "TCP: inuse 1 orphan\n", counts{"sockstat.TCP.inuse": 1}},
		{"softnet, two CPUs", fromSoftnet, "092cfa42 00000001 0000001f 0 0 0 0 0 0 0 00000002 0 0 0 0\nffffffff 000000ff 0000001d 0 0 0 0 0 0 0 00000000 0 1 0 0\n",
			counts{"softnet.dropped": 256, "softnet.time_squeeze": 60, "softnet.flow_limit_count": 2}},
		{"softnet of an older kernel", fromSoftnet, "1 2 3 0 0 0 0 0 0 0\n", counts{"softnet.dropped": 2, "softnet.time_squeeze": 3}},
		{"devices", fromDevices, "Inter-|   Receive | Transmit\n face |bytes packets errs drop\n" +
			"    lo: 10 3 0 1 0 0 0 0 10 3 0 0 0 0 0 0\neth0:1:11 7 2 3 4 0 0 0 68 6 5 6 7 0 0 0\n",
			counts{"dev.rx.errs": 2, "dev.rx.drop": 4, "dev.rx.fifo": 4, "dev.tx.errs": 5, "dev.tx.drop": 6, "dev.tx.fifo": 7}},
		{"conntrack, two CPUs", fromConntrack, "entries  clashres insert_failed drop early_drop icmp_error\n" +
			"0000001f  00000000 00000001 00000010 00000000 00000000\n0000001f  00000000 00000002 00000020 00000000 00000000\n",
			counts{"nf_conntrack.entries": 31, "nf_conntrack.insert_failed": 3, "nf_conntrack.drop": 48, "nf_conntrack.early_drop": 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got Counters
			parse(&got, c.from, []byte(c.text))
			if p := present(&got); !reflect.DeepEqual(p, c.want) {
				t.Errorf("got %v, want %v", p, c.want)
			}
		})
	}
}

func TestSub(t *testing.T) {
	var before, after Counters
	for _, c := range []struct {
		k             Counter
		before, after uint64
		want          uint64
	}{
		{ListenDrops, 5, 35, 30},
		{ListenOverflows, 5, 5, 0},
		{DeviceRxDropped, 9, 3, 0},                      // a device went away
		{CurrEstab, 9, 3, 3},                            // a gauge
		{SoftnetDropped, 1<<32 - 1 + 7, 1<<32 + 17, 11}, // no CPU wrapped
		{SoftnetTimeSqueeze, 1<<32 - 1 + 7, 4 + 7, 5},   // one did
		{QdiscDrops, 9, 3, 0},
	} {
		before.Set(c.k, c.before)
		after.Set(c.k, c.after)
		d := Sub(&after, &before)
		if got, ok := d.Get(c.k); got != c.want || !ok {
			t.Errorf("%v: %d - %d = %d %v, want %d", c.k, c.after, c.before, got, ok, c.want)
		}
	}
	after.Set(TCPBacklogDrop, 4)
	d := Sub(&after, &before)
	if _, ok := d.Get(TCPBacklogDrop); ok {
		t.Error("a counter that was absent before has a difference")
	}
}

// Every counter is found where the table says: no two share a name or a place.
func TestTable(t *testing.T) {
	names, places := map[string]bool{}, map[string]bool{}
	for k := range Counter(NumCounters) {
		d := definitions[k]
		place := fmt.Sprint(d.from, d.group, d.field, d.column)
		if d.name == "" || d.scope == 0 || names[d.name] || places[place] {
			t.Errorf("counter %d: %+v", k, d)
		}
		names[d.name], places[place] = true, true
	}
}

// This machine's own files have the counters every supported kernel has, and no
// total goes down. That they count what they should is tested where it is
// provoked, in package lab.
func TestRead(t *testing.T) {
	r, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var before, after Counters
	for _, c := range []*Counters{&before, &after} {
		if err := r.Read(c); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range []Counter{ActiveOpens, RetransSegs, OutRsts, ListenOverflows, ListenDrops, TCPReqQFullDrop,
		TCPBacklogDrop, TCPRcvQDrop, RcvPruned, TCPTimeWaitOverflow, TCPSynRetrans, TCPTimeWait, SoftnetDropped, DeviceRxDropped} {
		was, known := before.Get(k)
		is, still := after.Get(k)
		if !known || !still || is < was && definitions[k].kind == total {
			t.Errorf("%v: %d (present: %v), then %d (present: %v)", k, was, known, is, still)
		}
	}
}

func TestReadAllocatesLittle(t *testing.T) {
	r, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var c Counters
	perRun := testing.AllocsPerRun(20, func() {
		if err := r.Read(&c); err != nil {
			t.Fatal(err)
		}
	})
	// Two for each netlink datagram: the addresses of its sender.
	if perRun > 10 {
		t.Errorf("%v allocations a reading", perRun)
	}
}

// A file larger than the buffer is read whole, one beyond the bound is refused.
func TestReadFile(t *testing.T) {
	for size, ok := range map[int]bool{0: true, 7: true, 8: true, 9: true, 1000: true, maxFileBytes - 1: true, maxFileBytes + 1: false} {
		fd, err := unix.MemfdCreate("counters", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), "counters")
		want := bytes.Repeat([]byte("x"), size)
		if _, err := f.Write(want); err != nil {
			t.Fatal(err)
		}
		r := Reader{buf: make([]byte, 8)}
		got, err := r.readFile(f)
		if ok != (err == nil) || ok && !bytes.Equal(got, want) {
			t.Errorf("%d bytes: read %d, %v", size, len(got), err)
		}
		f.Close()
	}
}

func BenchmarkRead(b *testing.B) {
	r, err := Open()
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	var c Counters
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Read(&c); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for from := range source(numFiles) {
		b, err := os.ReadFile("/proc/self/net/" + files[from])
		if err == nil {
			f.Add(uint8(from), b)
		}
	}
	f.Fuzz(func(t *testing.T, from uint8, b []byte) {
		if from >= uint8(numFiles) {
			return
		}
		var c Counters
		parse(&c, source(from), b)
		for k := range Counter(NumCounters) {
			if _, ok := c.Get(k); ok && definitions[k].from != source(from) {
				t.Errorf("%v was found in %s", k, files[from])
			}
		}
	})
}
