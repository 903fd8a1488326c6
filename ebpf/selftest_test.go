package ebpf

import (
	"slices"
	"testing"
	"time"

	"hotlap/ebpf/internal/need"
)

func TestSelfTest(t *testing.T) {
	need.Root(t)
	for _, c := range checks() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			row := c.run(Options{}, 10*settleFor)
			t.Logf("provoked %d on %d connections", row.Provoked, row.Connections)
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
