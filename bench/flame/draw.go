package main

import (
	"fmt"
	"html"
	"io"
)

const (
	graphWidth  = 1400.0
	frameHeight = 17
	header      = 30
	minWidth    = 0.4 // narrower frames cannot be seen: left out, with all above them
	charWidth   = 6.6
)

var colours = [...]string{other: "#e3c878", kernel: "#e58a5f", golang: "#9fb4cc", ours: "#86bb78"}

// draw writes the graph as one SVG without scripts; the full name and share of
// a frame are its tooltip.
func draw(w io.Writer, root *node, title string) {
	height := header + (root.depth()+1)*frameHeight
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %d" width="%g" font-family="monospace" font-size="11">`+"\n",
		graphWidth, height, graphWidth)
	fmt.Fprintf(w, `<rect width="100%%" height="100%%" fill="#fdfdfb"/><text x="6" y="19" font-size="13">%s: %d samples; `+
		`green: hotlap, blue: Go, orange: kernel, yellow: others</text>`+"\n", html.EscapeString(title), root.count)
	p := picture{w: w, total: root.count, bottom: height - frameHeight - 2}
	p.frame(root, 0, 0)
	fmt.Fprintln(w, "</svg>")
}

type picture struct {
	w      io.Writer
	total  int
	bottom int // y of the lowest row
}

// frame draws n, begun after so many samples, and above it what it called.
func (p *picture) frame(n *node, begin, level int) {
	scale := graphWidth / float64(p.total)
	width := float64(n.count) * scale
	if width < minWidth {
		return
	}
	x, y := float64(begin)*scale, p.bottom-level*frameHeight
	fmt.Fprintf(p.w, `<g><title>%s: %.2f%%</title><rect x="%.2f" y="%d" width="%.2f" height="%d" fill="%s" stroke="#fdfdfb" stroke-width="0.6"/>`,
		html.EscapeString(n.name), 100*float64(n.count)/float64(p.total), x, y, width, frameHeight-1, colours[n.kind])
	if text := fit(n.name, width); text != "" {
		fmt.Fprintf(p.w, `<text x="%.2f" y="%d">%s</text>`, x+3, y+12, html.EscapeString(text))
	}
	fmt.Fprintln(p.w, "</g>")
	for _, c := range n.callees() {
		p.frame(c, begin, level+1)
		begin += c.count
	}
}

// fit shortens a name to what a frame of that width shows; the end of a Go
// name says more than its import path.
func fit(name string, width float64) string {
	most := int((width - 6) / charWidth)
	switch {
	case most < 3:
		return ""
	case len(name) <= most:
		return name
	}
	return ".." + name[len(name)-most+2:]
}
