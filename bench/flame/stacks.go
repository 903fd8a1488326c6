package main

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// A node is a function as it was called along one path from the root. Its
// count covers everything it called.
type node struct {
	frame
	count  int
	callee map[frame]*node
}

// A frame is a function and the kind of code it belongs to.
type frame struct {
	name string
	kind kind
}

type kind uint8

const (
	other  kind = iota // libraries, the process itself
	kernel             // below a system call or an interrupt
	golang             // the runtime and the standard library
	ours               // hotlap
)

// read counts the stacks that perf script prints: a line with the command,
// then one indented line per frame, innermost first, then an empty line.
func read(r io.Reader) (*node, error) {
	root := &node{frame: frame{name: "all"}}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20) // names of generic functions can be long
	var command string
	var stack []frame
	flush := func() {
		if command != "" {
			root.add(append(stack, frame{name: command}))
		}
		command, stack = "", stack[:0]
	}
	for lines.Scan() {
		l := lines.Text()
		switch {
		case strings.TrimSpace(l) == "":
			flush()
		case l[0] == ' ' || l[0] == '\t':
			stack = append(stack, parseFrame(l))
		default:
			flush()
			command = strings.TrimSpace(l)
		}
	}
	flush()
	return root, lines.Err()
}

// parseFrame reads "  ADDRESS SYMBOL (OBJECT)".
func parseFrame(l string) frame {
	_, l, _ = strings.Cut(strings.TrimSpace(l), " ")
	name, object := l, ""
	if i := strings.LastIndex(l, " ("); i >= 0 {
		name, object = l[:i], strings.Trim(l[i+1:], "()")
	}
	return frame{name, kindOf(name, object)}
}

func kindOf(name, object string) kind {
	switch {
	case strings.HasPrefix(object, "[kernel") || strings.HasSuffix(object, ".ko"):
		return kernel
	case strings.HasPrefix(name, "hotlap/") || strings.HasPrefix(name, "main."):
		return ours
	}
	for _, pkg := range []string{"runtime", "internal/", "syscall.", "sync", "time."} {
		if strings.HasPrefix(name, pkg) {
			return golang
		}
	}
	return other
}

// add counts one stack, given innermost first.
func (n *node) add(stack []frame) {
	n.count++
	for _, f := range slices.Backward(stack) {
		next := n.callee[f]
		if next == nil {
			next = &node{frame: f}
			if n.callee == nil {
				n.callee = make(map[frame]*node)
			}
			n.callee[f] = next
		}
		n = next
		n.count++
	}
}

// callees are in the order of their names, so that two graphs can be compared
// by eye.
func (n *node) callees() []*node {
	return slices.SortedFunc(maps.Values(n.callee), func(a, b *node) int { return strings.Compare(a.name, b.name) })
}

// depth is the height of the tallest stack.
func (n *node) depth() int {
	d := 0
	for _, c := range n.callee {
		d = max(d, c.depth())
	}
	return d + 1
}

// fold writes the stacks that end in n or above it: "a;b;c COUNT".
func (n *node) fold(w io.Writer, path string) {
	own := n.count
	for _, c := range n.callees() {
		below := c.name
		if path != "" {
			below = path + ";" + c.name
		}
		c.fold(w, below)
		own -= c.count
	}
	if own > 0 && path != "" {
		fmt.Fprintf(w, "%s %d\n", path, own)
	}
}
