package lab

import (
	"testing"
	"time"

	"hotlap/ebpf/internal/need"
	"hotlap/ebpf/internal/procfs"
)

// make a namespace that ends with the test.
func namespace(t *testing.T) *Namespace {
	t.Helper()
	need.Root(t)
	ns, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ns.Close)
	return ns
}

// counters opens the namespace's counters.
func counters(t *testing.T, ns *Namespace) *procfs.Reader {
	t.Helper()
	var r *procfs.Reader
	err := ns.Do(func() (err error) {
		r, err = procfs.Open()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func read(t *testing.T, r *procfs.Reader) *procfs.Counters {
	t.Helper()
	var c procfs.Counters
	if err := r.Read(&c); err != nil {
		t.Fatal(err)
	}
	return &c
}

// Every injector provokes what the kernel's own counters then say, exactly.
func TestFaults(t *testing.T) {
	for _, f := range Faults() {
		t.Run(f.Name, func(t *testing.T) {
			ns := namespace(t)
			r := counters(t, ns)
			before := read(t, r)
			start := time.Now()
			p, err := f.Inject(ns)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			t.Logf("%d events, %d connections, at %v, in %v", p.Events, p.Connections, p.At, time.Since(start))
			if p.Events == 0 || p.Connections == 0 || p.Connections > p.Events {
				t.Errorf("%d events, %d connections", p.Events, p.Connections)
			}
			var d procfs.Counters
			await(func() (bool, error) {
				d = procfs.Sub(read(t, r), before)
				for _, k := range f.Counters {
					if n, _ := d.Get(k); n < p.Events {
						return false, nil
					}
				}
				return true, nil
			})
			for _, k := range f.Counters {
				if n, ok := d.Get(k); !ok || n != p.Events {
					t.Errorf("%v: %d %v, provoked %d", k, n, ok, p.Events)
				}
			}
			for k := range procfs.Counter(procfs.NumCounters) {
				if n, _ := d.Get(k); n != 0 && k.Scope() == procfs.Namespace {
					t.Logf("  %v %d", k, n)
				}
			}
		})
	}
}
