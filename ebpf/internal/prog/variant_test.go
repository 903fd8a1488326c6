package prog

import (
	"maps"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// The type information in testdata is of kernels that do not run here: 6.1 and
// 6.12 are Debian's (6.1.176, 6.12.117, cloud-amd64), 6.18 is the one that the
// tests were written on; testdata/trim.go cut it down. That of 5.15 could not be
// had: it is 6.1's without what came later.
func kernelTypes(t *testing.T, version string) *btf.Spec {
	t.Helper()
	if version == "5.15" {
		return before517(t, kernelTypes(t, "6.1"))
	}
	spec, err := btf.LoadSpec("testdata/" + version + ".btf")
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// before517 takes away the reasons of drops.
func before517(t *testing.T, from *btf.Spec) *btf.Spec {
	t.Helper()
	builder, err := btf.NewBuilder(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for typ, err := range from.All() {
		if err != nil {
			t.Fatal(err)
		}
		switch typ := typ.(type) {
		case *btf.Enum:
			continue
		case *btf.Typedef:
			if typ.Name == "btf_trace_kfree_skb" {
				function := typ.Type.(*btf.Pointer).Target.(*btf.FuncProto)
				function.Params = function.Params[:3]
			}
		}
		if _, err := builder.Add(typ); err != nil {
			t.Fatal(err)
		}
	}
	spec, err := builder.Spec()
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func TestVariantsAreChosenFromTypeInformation(t *testing.T) {
	for _, test := range []struct {
		kernel               string
		kfreeSkb, sendReset  uint32
		missing              []string
		reasons, resetReason bool
	}{
		{"5.15", 2, 2, []string{DataReady}, false, false},
		{"6.1", 3, 2, []string{DataReady}, true, false},
		{"6.12", 4, 3, nil, true, true},
		{"6.18", 4, 3, nil, true, true},
	} {
		t.Run(test.kernel, func(t *testing.T) {
			kernel := kernelTypes(t, test.kernel)
			spec, _, missing, err := specFor(kernel, Config{Deep: true})
			if err != nil {
				t.Fatal(err)
			}
			var vars observeVariableSpecs
			var kfreeSkb, sendReset uint32
			if err := spec.Assign(&vars); err != nil {
				t.Fatal(err)
			}
			if err := vars.KfreeSkbArgs.Get(&kfreeSkb); err != nil {
				t.Fatal(err)
			}
			if err := vars.SendResetArgs.Get(&sendReset); err != nil {
				t.Fatal(err)
			}
			if kfreeSkb != test.kfreeSkb || sendReset != test.sendReset {
				t.Errorf("kfree_skb has %d arguments, tcp_send_reset %d: want %d, %d", kfreeSkb, sendReset, test.kfreeSkb, test.sendReset)
			}
			if got := slices.Sorted(maps.Keys(missing)); !slices.Equal(got, test.missing) {
				t.Errorf("missing %v, want %v", missing, test.missing)
			}
			if got := len(enumNames(kernel, "skb_drop_reason", "SKB_DROP_REASON_")) > 0; got != test.reasons {
				t.Errorf("reasons of drops known: %v", got)
			}
			if got := len(enumNames(kernel, "sk_rst_reason", "SK_RST_REASON_")) > 0; got != test.resetReason {
				t.Errorf("reasons of resets known: %v", got)
			}
		})
	}
}

// The same reason has another number in each kernel.
func TestReasonsGoByName(t *testing.T) {
	numbers := map[uint32]bool{}
	for _, kernel := range []string{"6.1", "6.12", "6.18"} {
		for number, name := range enumNames(kernelTypes(t, kernel), "skb_drop_reason", "SKB_DROP_REASON_") {
			if name == "SOCKET_BACKLOG" {
				numbers[number] = true
			}
		}
	}
	if len(numbers) < 2 {
		t.Errorf("SOCKET_BACKLOG is %v in all kernels: the names need not be read", numbers)
	}
}

// Every field and value that the programs read is found in every kernel, but
// for what the variant for that kernel does not reach.
func TestRelocation(t *testing.T) {
	for kernel, unreached := range map[string][]string{
		"5.15": {"kfree_skb"}, // compares reasons where it has 3 arguments
		"6.1":  nil, "6.12": nil, "6.18": nil,
	} {
		t.Run(kernel, func(t *testing.T) {
			types := kernelTypes(t, kernel)
			spec, _, _, err := specFor(types, Config{Deep: true})
			if err != nil {
				t.Fatal(err)
			}
			var poisoned []string
			relocated := 0
			for name, program := range spec.Programs {
				n, bad := relocate(t, program, types)
				relocated += n
				if bad {
					poisoned = append(poisoned, name)
				}
			}
			if relocated < 100 {
				t.Errorf("only %d relocations: are the objects without them?", relocated)
			}
			if !slices.Equal(poisoned, unreached) {
				t.Errorf("programs that read what is not there: %v, want %v", poisoned, unreached)
			}
		})
	}
}

// relocate relocates a program for a kernel, and says how many places it has,
// and whether some could not be.
func relocate(t *testing.T, program *ebpf.ProgramSpec, kernel *btf.Spec) (n int, poisoned bool) {
	t.Helper()
	var relocations []*btf.CORERelocation
	var places []*asm.Instruction
	for i := range program.Instructions {
		if r := btf.CORERelocationMetadata(&program.Instructions[i]); r != nil {
			relocations = append(relocations, r)
			places = append(places, &program.Instructions[i])
		}
	}
	fixups, err := btf.CORERelocate(relocations, []*btf.Spec{kernel}, program.ByteOrder, func(btf.Type) (btf.TypeID, error) { return 0, nil })
	if err != nil {
		t.Fatalf("%s: %v", program.Name, err)
	}
	for i, fixup := range fixups {
		if err := fixup.Apply(places[i]); err != nil {
			t.Errorf("%s: %v: %v", program.Name, relocations[i], err)
		}
		// The verifier refuses what could not be relocated, if it can be reached.
		if places[i].Constant == btf.COREBadRelocationSentinel {
			t.Logf("%s: %v is not there", program.Name, relocations[i])
			poisoned = true
		}
	}
	return len(fixups), poisoned
}
