package ebpf

import (
	"errors"
	"slices"
	"testing"
	"time"

	"hotlap/ebpf/internal/need"
	"hotlap/ebpf/internal/prog"
)

func TestSelfTest(t *testing.T) {
	need.Root(t)
	for _, c := range checks() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			row := c.prove(Options{}, 10*settleFor)
			t.Logf("provoked %d on %d connections; missed %d times", row.Provoked, row.Connections, row.Missed)
			for _, f := range slices.Concat(row.Observed, row.Kernel) {
				if f.Value != f.Want {
					t.Errorf("%s (%s) is %d, want %d", f.Name, f.Source, f.Value, f.Want)
				}
			}
			if !row.Passed() {
				t.Errorf("did not pass: %v", row.Err)
			}
		})
	}
}

func TestMissedEvents(t *testing.T) {
	c := check{programs: []string{prog.RetransmitSkb}}
	ours := func(n uint64) Figure { return Figure{Source: prog.RetransmitSkb, Value: n, Want: 5} }
	theirs := func(n uint64) Figure { return Figure{Source: "/proc", Value: n, Want: 5} }
	for _, test := range []struct {
		name             string
		observed, kernel []Figure
		err              error
		want             bool
	}{
		{"one of ours", []Figure{ours(4)}, []Figure{theirs(5)}, nil, true},
		{"all of ours", []Figure{ours(0)}, []Figure{theirs(5)}, nil, true},
		{"one of two figures", []Figure{theirs(5), ours(4)}, []Figure{theirs(5)}, nil, true},
		{"more than there were", []Figure{ours(6)}, []Figure{theirs(5)}, nil, false},
		{"not by a program", []Figure{theirs(4), ours(5)}, []Figure{theirs(5)}, nil, false},
		{"the kernel's too", []Figure{ours(4)}, []Figure{theirs(4)}, nil, false},
		{"the kernel has no counter", []Figure{ours(4)}, nil, nil, false},
		{"not observed", nil, []Figure{theirs(5)}, nil, false},
		{"not provoked", []Figure{ours(4)}, []Figure{theirs(5)}, errors.New("failed"), false},
	} {
		row := Check{Observed: test.observed, Kernel: test.kernel, Err: test.err}
		if got := c.missedEvents(&row); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

// A row proves something only if it fails where its program is not there.
func TestRowsFailWithoutTheirProgram(t *testing.T) {
	need.Root(t)
	tried := map[string]bool{}
	for _, c := range checks() {
		for _, program := range c.programs {
			if tried[program] {
				continue
			}
			tried[program] = true
			t.Run(program, func(t *testing.T) {
				t.Parallel()
				row := c.run(Options{without: []string{program}}, 10*time.Millisecond)
				if row.Err != nil {
					t.Fatal(row.Err)
				}
				if row.Passed() {
					t.Errorf("%q passes without %s: %v", c.name, program, row.Observed)
				}
			})
		}
	}
	for _, programs := range counts {
		for _, program := range programs {
			if !tried[program] {
				t.Errorf("no row depends on %s", program)
			}
		}
	}
}
