package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

const script = `enginebench 
	ffffffff81a0b1c2 tcp_sendmsg ([kernel.kallsyms])
	          4a1b2c runtime/internal/syscall.Syscall6 (/b/enginebench)
	          5d0e1f hotlap/engine.(*conn).send (/b/enginebench)

enginebench 
	          5d0e1f hotlap/engine.(*conn).send (/b/enginebench)

other task 
	    7f0011223344 [unknown] (/lib/libc.so.6)
	          500000 f[go.shape.struct { A int }] (/b/x)
`

func TestFold(t *testing.T) {
	root, err := read(strings.NewReader(script))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	root.fold(&b, "")
	want := `enginebench;hotlap/engine.(*conn).send;runtime/internal/syscall.Syscall6;tcp_sendmsg 1
enginebench;hotlap/engine.(*conn).send 1
other task;f[go.shape.struct { A int }];[unknown] 1
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestKinds(t *testing.T) {
	for _, c := range []struct {
		line string
		want frame
	}{
		{" ffffffff81a0b1c2 tcp_sendmsg ([kernel.kallsyms])", frame{"tcp_sendmsg", kernel}},
		{" ffffffffc0 veth_xmit (/lib/modules/veth.ko)", frame{"veth_xmit", kernel}},
		{" 4a hotlap/engine.(*conn).send (/b/hotlap)", frame{"hotlap/engine.(*conn).send", ours}},
		{" 4a runtime.mallocgc (/b/hotlap)", frame{"runtime.mallocgc", golang}},
		{" 4a [unknown] (/lib/libc.so.6)", frame{"[unknown]", other}},
	} {
		if got := parseFrame(c.line); got != c.want {
			t.Errorf("parseFrame(%q) = %v, want %v", c.line, got, c.want)
		}
	}
}

func TestDrawIsXMLWithEveryFrame(t *testing.T) {
	root, err := read(strings.NewReader(script))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	draw(&b, root, "a <title> & more")
	frames := 0
	for d := xml.NewDecoder(&b); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "title" {
			frames++
		}
	}
	if want := 8; frames != want { // the root, two commands, five functions
		t.Errorf("%d frames drawn, want %d", frames, want)
	}
}

func TestFitKeepsTheEnd(t *testing.T) {
	for _, c := range []struct {
		width float64
		want  string
	}{{10, ""}, {1000, "hotlap/engine.run"}, {6 + 8*charWidth, "..ne.run"}} {
		if got := fit("hotlap/engine.run", c.width); got != c.want {
			t.Errorf("width %g: %q, want %q", c.width, got, c.want)
		}
	}
}
