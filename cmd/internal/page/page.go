// Package page draws the report of a run, and the comparison of two, as one
// page of HTML that needs nothing else: no network, no other file, which its
// own content security policy forbids.
//
//  1. Write takes a load.Report apart into rows of text (run.go, facts.go,
//     units.go), and WriteComparison a load.Comparison too (pair.go).
//  2. The templates lay them out; all figures are there without scripts.
//  3. The report itself goes along as JSON, from which charts.js draws the
//     charts in the browser, by plot.js, which has uPlot do it.
package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"strings"

	"hotlap/cmd/internal/load"
)

//go:embed *.html
var layouts embed.FS

var (
	//go:embed uplot/uPlot.min.css
	uplotStyle string
	//go:embed style.css
	ownStyle string

	//go:embed faults.js
	faults string
	//go:embed uplot/uPlot.iife.min.js
	uplot string
	//go:embed uplot/LICENSE
	uplotLicense string // which goes with every copy: each page is one
	//go:embed plot.js
	plot string
	//go:embed charts.js
	charts string

	styles  = []string{uplotStyle, ownStyle}
	scripts = []string{faults, "/*\n" + uplotLicense + "*/\n" + uplot, plot, charts}
)

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"duration": duration, "count": count, "captioned": captioned,
}).ParseFS(layouts, "*.html"))

// An Event is a mark on the time axis of all charts that have one.
type Event struct {
	At    float64 `json:"t_s"`  // since the start of the measured part
	Kind  string  `json:"kind"` // such as "drop"
	Label string  `json:"label"`
}

// Write writes the page of a run.
func Write(w io.Writer, r *load.Report, events ...Event) error {
	return execute(w, "run.html", newRun("", r, events), drawn{Runs: []*load.Report{r}, Events: events})
}

// WriteComparison writes the page of two runs. The comparison is what
// load.Compare says of them; the names of its runs are shown.
func WriteComparison(w io.Writer, a, b *load.Report, c *load.Comparison) error {
	return execute(w, "compare.html", newPair(a, b, c), drawn{Runs: []*load.Report{a, b}})
}

// drawn is what charts.js draws.
type drawn struct {
	Runs   []*load.Report `json:"runs"`
	Events []Event        `json:"events"`
}

// document is what the templates lay out: a View, and what surrounds it.
type document struct {
	View    any
	Policy  string
	Styles  []template.CSS
	Scripts []template.JS
	Data    template.JS
}

// execute makes the whole page before it writes any of it.
func execute(w io.Writer, layout string, view any, data drawn) error {
	// Marshal escapes <, > and &, so that no text can end the script element.
	text, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	d := document{
		View:   view,
		Policy: policy(styles, scripts),
		Data:   template.JS(text),
	}
	for _, style := range styles {
		d.Styles = append(d.Styles, template.CSS(style))
	}
	for _, script := range scripts {
		d.Scripts = append(d.Scripts, template.JS(script))
	}
	var page bytes.Buffer
	if err := templates.ExecuteTemplate(&page, layout, d); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	_, err = w.Write(page.Bytes())
	return err
}

// policy allows exactly these styles and scripts, the icon, and nothing else.
func policy(styles, scripts []string) string {
	hashes := func(texts []string) string {
		list := make([]string, len(texts))
		for i, text := range texts {
			sum := sha256.Sum256([]byte(text))
			list[i] = "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
		}
		return strings.Join(list, " ")
	}
	return "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; " +
		"style-src " + hashes(styles) + "; script-src " + hashes(scripts)
}
