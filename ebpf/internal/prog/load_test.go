package prog

import (
	"testing"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"hotlap/ebpf/internal/need"
)

// A program that a kernel refuses takes nothing but itself away.
func TestRefusedProgram(t *testing.T) {
	need.Root(t)
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	spec, _, missing, err := specFor(kernel, Config{Deep: true})
	if err != nil {
		t.Fatal(err)
	}
	want := len(spec.Programs) - 1
	spec.Programs[KfreeSkb].Instructions = asm.Instructions{asm.Return()} // of nothing: the verifier refuses it
	all, err := load(spec, missing)
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	if len(all.Programs) != want || len(missing) != 1 || missing[KfreeSkb] == "" {
		t.Errorf("%d programs are loaded, %v is missing: want %d, and kfree_skb alone", len(all.Programs), missing, want)
	}
}

func TestAllProgramsAreRefused(t *testing.T) {
	need.Root(t)
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	spec, _, missing, err := specFor(kernel, Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range spec.Programs {
		program.Instructions = asm.Instructions{asm.Return()}
	}
	if _, err := load(spec, missing); err == nil {
		t.Error("there is no error")
	}
}
