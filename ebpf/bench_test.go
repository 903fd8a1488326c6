package ebpf

import "testing"

// BenchmarkObserver is what each part of an observer's work takes.
func BenchmarkObserver(b *testing.B) {
	w, err := open(Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer w.close()
	for _, part := range []struct {
		name string
		do   func()
	}{
		{"poll", w.poll},
		{"counters", w.readCounters},
		{"evidence", func() {
			w.evidence.took = 0 // it is always time
			w.readEvidence(0, false)
		}},
		{"sample", func() {
			if _, err := w.sample(false); err != nil {
				b.Fatal(err)
			}
		}},
	} {
		b.Run(part.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				part.do()
			}
		})
	}
}
