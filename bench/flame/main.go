// Flame draws what perf saw as a flame graph.
//
//	perf script --no-inline -F comm,ip,sym,dso -i perf.data | flame [-folded FILE] > out.svg
//
// A frame's width is its share of the samples; what it called stands on top of
// it. With -folded the stacks are also written as text, one per line with its
// count, the form other tools read.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
)

func main() {
	folded := flag.String("folded", "", "also write folded stacks to this `file`")
	title := flag.String("title", "CPU time", "written above the graph")
	flag.Parse()
	if err := run(*folded, *title); err != nil {
		fmt.Fprintln(os.Stderr, "flame:", err)
		os.Exit(1)
	}
}

func run(folded, title string) error {
	root, err := read(os.Stdin)
	if err != nil {
		return err
	}
	if root.count == 0 {
		return errors.New("no samples in the input")
	}
	if folded != "" {
		f, err := os.Create(folded)
		if err != nil {
			return err
		}
		w := bufio.NewWriter(f)
		root.fold(w, "")
		if err := errors.Join(w.Flush(), f.Close()); err != nil {
			return err
		}
	}
	w := bufio.NewWriter(os.Stdout)
	draw(w, root, title)
	return w.Flush()
}
