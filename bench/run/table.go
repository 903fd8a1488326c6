package main

import (
	"fmt"
	"strings"
)

// text is all outcomes in Markdown.
func text(outcomes []outcome) string {
	var b strings.Builder
	for i := range outcomes {
		outcomes[i].write(&b)
	}
	return b.String()
}

func (o *outcome) write(b *strings.Builder) {
	sc := &o.scene
	fmt.Fprintf(b, "\n## %s\n\n%s\n\n| client |", sc.name, sc.about)
	for _, f := range sc.figures {
		fmt.Fprintf(b, " %s |", f.name)
	}
	if sc.base != "" {
		fmt.Fprintf(b, " %s, times that of %s |", sc.figures[0].name, sc.base)
	}
	b.WriteString("\n|:--|" + strings.Repeat("--:|", o.columns()) + "\n")
	for _, cl := range sc.clients {
		o.writeRow(b, cl.name)
	}
	b.WriteString("\n")
	for _, cl := range sc.clients {
		if r := o.results[cl.name]; r.failure != nil {
			fmt.Fprintf(b, "- %s failed in %d of %d rounds: %s\n", cl.name, r.failures(), r.rounds, oneLine(r.failure.Error()))
		}
	}
	for _, l := range sc.limits {
		fmt.Fprintf(b, "- %s\n", l.text(o))
	}
	for _, i := range sc.between {
		fmt.Fprintf(b, "- %s\n", i.text(o))
	}
}

func (o *outcome) columns() int {
	if o.scene.base != "" {
		return len(o.scene.figures) + 1
	}
	return len(o.scene.figures)
}

func (o *outcome) writeRow(b *strings.Builder, name string) {
	fmt.Fprintf(b, "| %s |", name)
	r := o.results[name]
	if why := r.noFigures(); why != "" {
		fmt.Fprintf(b, " %s |%s\n", why, strings.Repeat(" |", o.columns()-1))
		return
	}
	for _, f := range o.scene.figures {
		fmt.Fprintf(b, " %s |", f.cell(spreadOf(o.values(name, f))))
	}
	if o.scene.base != "" {
		first := o.scene.figures[0]
		fmt.Fprintf(b, " %s |", ratio.cell(spreadOf(ratios(o.values(name, first), o.values(o.scene.base, first)))))
	}
	b.WriteString("\n")
}

// noFigures says why a client has none, if that is so.
func (r *result) noFigures() string {
	switch {
	case r.not != "":
		return r.not
	case r.failures() == r.rounds:
		return "failed"
	}
	return ""
}

func (r *result) failures() int {
	n := 0
	for _, s := range r.samples {
		if s == nil {
			n++
		}
	}
	return n
}

// maxReason bounds what a failing client may add to the report, in bytes.
const maxReason = 200

// oneLine makes a message fit into a list.
func oneLine(message string) string {
	message = strings.Join(strings.Fields(message), " ")
	if len(message) > maxReason {
		message = strings.ToValidUTF8(message[:maxReason], "") + "..."
	}
	return message
}
