package page

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"hotlap/cmd/internal/load"
	"hotlap/cmd/internal/report"
	"hotlap/ebpf"
)

// maxRows bounds the tables of seconds and of events; the charts show all of them.
const maxRows = 600

// run is a report as the templates lay it out.
type run struct {
	*load.Report
	Name     string // "" where there is only one
	Title    string
	Limit    string  // what bound the run, in a sentence
	Standing string  // whether it is valid, in words
	Events   []Event // of the table; the charts have all
	more     int     // events

	Headline    []figure
	Outcomes    []tally
	StatusRows  []tally
	ErrorRows   []tally
	Latencies   []summary
	Bodies      string
	LoadFacts   []fact
	ClientFacts []fact
	KernelFacts []report.Fact
	Environs    []fact
	Sysctls     []fact
	CommandLine string
	Rows        []load.Second // of the table of seconds
}

// A figure is one of those that are read first.
type figure struct{ Name, Value, Note, Tone string }

// A tally is one of several counts, and its share of all.
type tally struct{ Name, Count, Share string }

// A summary is a row of the table of latencies.
type summary struct {
	Name string
	*load.Latency
}

// A table is rows of one kind under a caption.
type table struct {
	Caption string
	Rows    any
}

func captioned(caption string, rows any) table { return table{caption, rows} }

func newRun(name string, r *load.Report, events []Event) *run {
	v := &run{
		Report: r, Name: name, Title: title(r), Limit: limit(r.Verdict.Bound), Standing: standing(r.Verdict.Valid),
		Events: events[:min(len(events), maxRows)], more: max(0, len(events)-maxRows),
		Headline: headline(r), Outcomes: outcomes(r),
		StatusRows: tallies(r.Statuses, r.Responses), ErrorRows: tallies(r.Errors, r.Requests),
		LoadFacts: loadFacts(r), ClientFacts: clientFacts(r), KernelFacts: r.Kernel.Facts(), Environs: environment(r), Sysctls: sysctls(r),
		CommandLine: commandLine(r.Command),
		Bodies:      fmt.Sprintf("%s, %s/s", size(r.Bytes.Body), size(int64(r.Rates.Body))),
		Rows:        r.Series[:min(len(r.Series), maxRows)],
	}
	for _, s := range []summary{
		{"response time", r.ResponseTime}, {"service time", r.ServiceTime},
		{"service time, not 2xx", r.NonOKTime}, {"schedule lag", r.ScheduleLag},
	} {
		if s.Latency != nil {
			v.Latencies = append(v.Latencies, s)
		}
	}
	return v
}

func title(r *load.Report) string {
	if len(r.Load.Targets) == 0 {
		return "no target"
	}
	if n := r.Load.TargetCount; n > 1 {
		return fmt.Sprintf("%s and %s more", r.Load.Targets[0], count(int64(n-1)))
	}
	return r.Load.Targets[0]
}

func limit(b ebpf.Bound) string {
	switch b {
	case ebpf.BoundPacer:
		return "The asked rate was the limit"
	case ebpf.BoundClient:
		return "The client was the limit"
	case ebpf.BoundPath:
		return "The network was the limit"
	case ebpf.BoundServer:
		return "The server was the limit"
	}
	return "What the limit was is not known"
}

func standing(v ebpf.Valid) string {
	switch v {
	case ebpf.ValidYes:
		return "valid"
	case ebpf.ValidNo:
		return "not valid"
	}
	return "not verified"
}

func headline(r *load.Report) []figure {
	figures := []figure{{Name: "Rate", Value: rate(r.Rates.Responses), Note: asked(r)}}
	for _, p := range []struct {
		name string
		of   func(*load.Latency) float64
	}{
		{"p50", func(l *load.Latency) float64 { return l.P50 }},
		{"p99", func(l *load.Latency) float64 { return l.P99 }},
		{"p99.9", func(l *load.Latency) float64 { return l.P999 }},
	} {
		f := figure{Name: p.name + " response time", Value: none, Note: "no response with a 2xx status"}
		if r.ResponseTime != nil {
			f.Value, f.Note = duration(p.of(r.ResponseTime)), ""
		}
		if r.ServiceTime != nil {
			f.Note = "service time " + duration(p.of(r.ServiceTime))
		}
		figures = append(figures, f)
	}
	without := sum(r.Errors) + r.Unanswered + r.Unsent
	failed := figure{Name: "Errors", Value: count(without), Note: part(without, r.Requests) + " of the requests", Tone: "good"}
	if without > 0 {
		failed.Tone = "bad"
	}
	if r.Unsent > 0 {
		failed.Note += fmt.Sprintf("; %s of them never sent", count(r.Unsent))
	}
	if r.NonOK > 0 {
		failed.Note += fmt.Sprintf("; %s not 2xx", count(r.NonOK))
	}
	cost := figure{Name: "Client CPU", Value: none, Note: "no request"}
	if r.Requests > 0 {
		cost.Value, cost.Note = duration(r.Client.PerRequest), "per request"
	}
	if len(r.Client.Busy) > 0 {
		cost.Note += fmt.Sprintf("; busiest loop %.0f\u00a0%%", 100*slices.Max(r.Client.Busy))
	}
	return append(figures, failed, cost)
}

// asked says what the rate is to be compared with.
func asked(r *load.Report) string {
	switch {
	case r.Load.Loop != "open":
		return fmt.Sprintf("as fast as %s connections go", count(int64(r.Load.Connections)))
	case r.Rates.Asked > 0:
		return fmt.Sprintf("%s of %s asked", share(r.Rates.Achieved), rate(r.Rates.Asked))
	}
	return ""
}

func sum(m map[string]int64) (n int64) {
	for _, v := range m {
		n += v
	}
	return n
}

// outcomes are what requests came to: together all of them.
func outcomes(r *load.Report) []tally {
	list := []tally{}
	for _, o := range []struct {
		name string
		n    int64
	}{
		{"2xx", r.Responses - r.NonOK}, {"other status", r.NonOK}, {"error", sum(r.Errors)},
		{"unanswered at the end", r.Unanswered}, {"due and never sent", r.Unsent},
	} {
		list = append(list, tally{o.name, count(o.n), part(o.n, r.Requests)})
	}
	return list
}

// tallies lists counts, the largest first.
func tallies(m map[string]int64, of int64) []tally {
	names := slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b))
	})
	list := make([]tally, len(names))
	for i, name := range names {
		list[i] = tally{name, count(m[name]), part(m[name], of)}
	}
	return list
}

// Findings are those of the verdict, in the order of the text.
func (v *run) Findings() []ebpf.Finding { return load.SortedFindings(v.Verdict.Findings) }

// HasCurve and those after it say which charts there is something to draw for.

func (v *run) HasCurve() bool { return v.ResponseTime != nil || v.ServiceTime != nil }

func (v *run) HasFailures() bool {
	return slices.ContainsFunc(v.Series, func(s load.Second) bool { return s.Errors > 0 || s.NonOK > 0 })
}

func (v *run) HasBacklog() bool {
	return slices.ContainsFunc(v.Series, func(s load.Second) bool { return s.Backlog > 0 })
}

func (v *run) HasResponses() bool {
	return slices.ContainsFunc(v.Series, func(s load.Second) bool { return s.Response != nil })
}

func (v *run) HasServices() bool {
	return slices.ContainsFunc(v.Series, func(s load.Second) bool { return s.Service != nil })
}

// MoreEvents is how many events their table leaves out.
func (v *run) MoreEvents() int { return v.more }

// Hidden is how many seconds the table leaves out.
func (v *run) Hidden() int { return len(v.Series) - len(v.Rows) }
