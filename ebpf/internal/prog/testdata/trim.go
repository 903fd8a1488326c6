//go:build ignore

// Trim cuts the type information of a kernel down to what the tests need: the
// tracepoints, the enumerations, and the structs that the programs read, with every
// member where it was.
//
//	apt-get download linux-image-6.1.0-50-cloud-amd64 # or another
//	(take boot/vmlinuz-* from it, unpack the vmlinux in it: scripts/extract-vmlinux of Linux)
//	objcopy --dump-section .BTF=full.btf vmlinux
//	go run trim.go full.btf 6.1.btf
package main

import (
	"log"
	"os"

	"github.com/cilium/ebpf/btf"
)

var tracepoints = []string{
	"kfree_skb", "inet_sock_set_state", "tcp_retransmit_skb", "tcp_retransmit_synack",
	"tcp_send_reset", "tcp_receive_reset", "tcp_destroy_sock", "sk_data_ready",
}

var enums = []string{"skb_drop_reason", "sk_rst_reason"}

var structs = map[string]bool{
	"sk_buff": true, "net_device": true, "net": true, "ns_common": true, "in6_addr": true,
	"sock": true, "sock_common": true, "inet_sock": true, "inet_connection_sock": true, "tcp_sock": true,
	"request_sock": true, "minmax": true, "minmax_sample": true, "tcp_skb_cb": true,
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: go run trim.go FULL TRIMMED")
	}
	full, err := btf.LoadSpec(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	builder, err := btf.NewBuilder(nil, nil)
	if err != nil {
		log.Fatal(err)
	}
	add := func(t btf.Type) {
		if _, err := builder.Add(t); err != nil {
			log.Fatal(err)
		}
	}
	t := trimmer{}
	for _, name := range tracepoints {
		var typedef *btf.Typedef
		if err := full.TypeByName("btf_trace_"+name, &typedef); err == nil {
			add(t.trim(typedef))
		}
	}
	for _, name := range enums {
		var enum *btf.Enum
		if err := full.TypeByName(name, &enum); err == nil {
			add(enum)
		}
	}
	for name := range structs {
		var s *btf.Struct
		if err := full.TypeByName(name, &s); err != nil {
			log.Fatal(name, ": ", err)
		}
		add(t.trim(s))
	}
	out, err := builder.Marshal(nil, nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(os.Args[2], out, 0o666); err != nil {
		log.Fatal(err)
	}
}

// trimmer remembers what it has trimmed: types refer to each other in circles.
type trimmer map[btf.Type]btf.Type

func (t trimmer) trim(from btf.Type) btf.Type {
	if done, ok := t[from]; ok {
		return done
	}
	switch from := from.(type) {
	case *btf.Struct:
		if from.Name != "" && !structs[from.Name] {
			return t.blank(from, from.Size)
		}
		to := &btf.Struct{Name: from.Name, Size: from.Size}
		t[from] = to
		to.Members = t.members(from.Members)
		return to
	case *btf.Union:
		if from.Name != "" {
			return t.blank(from, from.Size)
		}
		to := &btf.Union{Size: from.Size}
		t[from] = to
		to.Members = t.members(from.Members)
		return to
	case *btf.Pointer:
		to := &btf.Pointer{}
		t[from] = to
		to.Target = t.trim(from.Target)
		return to
	case *btf.Typedef:
		to := &btf.Typedef{Name: from.Name}
		t[from] = to
		to.Type = t.trim(from.Type)
		return to
	case *btf.Array:
		to := *from
		t[from] = &to
		to.Type = t.trim(from.Type)
		return &to
	case *btf.FuncProto:
		to := &btf.FuncProto{Return: t.trim(from.Return)}
		t[from] = to
		for _, p := range from.Params {
			to.Params = append(to.Params, btf.FuncParam{Name: p.Name, Type: t.trim(p.Type)})
		}
		return to
	case *btf.Const:
		to := &btf.Const{}
		t[from] = to
		to.Type = t.trim(from.Type)
		return to
	case *btf.Volatile:
		to := &btf.Volatile{}
		t[from] = to
		to.Type = t.trim(from.Type)
		return to
	case *btf.TypeTag:
		return t.trim(from.Type)
	case *btf.Fwd:
		return &btf.Void{}
	}
	return from
}

// blank is a struct without its members: it keeps its place.
func (t trimmer) blank(from btf.Type, size uint32) btf.Type {
	to := &btf.Struct{Name: from.TypeName() + "_trimmed", Size: size}
	t[from] = to
	return to
}

func (t trimmer) members(from []btf.Member) []btf.Member {
	to := make([]btf.Member, len(from))
	for i, m := range from {
		to[i] = m
		to[i].Type = t.trim(m.Type)
	}
	return to
}
