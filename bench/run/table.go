package main

import (
	"fmt"
	"strings"

	"hotlap/bench/sample"
)

// row is one client at one depth.
type row struct {
	depth  int
	client string
	cpu    spread // microseconds per request
	rate   spread // requests per second
	ratio  spread // of cpu to the floor's
}

func rowsOf(depth int, clients []client, samples map[string][]sample.Sample) []row {
	floor := each(samples[floorName], (*sample.Sample).CPUus)
	var rows []row
	for _, c := range clients {
		cpu := each(samples[c.name], (*sample.Sample).CPUus)
		rows = append(rows, row{
			depth: depth, client: c.name, cpu: spreadOf(cpu),
			rate:  spreadOf(each(samples[c.name], (*sample.Sample).Rate)),
			ratio: spreadOf(ratios(cpu, floor)),
		})
	}
	return rows
}

func each(samples []sample.Sample, f func(*sample.Sample) float64) []float64 {
	v := make([]float64, len(samples))
	for i := range samples {
		v[i] = f(&samples[i])
	}
	return v
}

// table is the rows in Markdown.
func table(rows []row) string {
	var b strings.Builder
	b.WriteString("| depth | client | CPU us/request | requests/s | CPU, times the floor | limit |\n")
	b.WriteString("|--:|:--|--:|--:|--:|:--|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %d | %s | %.3f (%.3f-%.3f) | %.0f | %s | %s |\n", r.depth, r.client,
			r.cpu.median, r.cpu.min, r.cpu.max, r.rate.median, r.times(), r.verdict())
	}
	return b.String()
}

func (r *row) times() string {
	if r.client == floorName {
		return "1"
	}
	return fmt.Sprintf("%.2f (%.2f-%.2f)", r.ratio.median, r.ratio.min, r.ratio.max)
}

// verdict judges the engine, the client that has a limit.
func (r *row) verdict() string {
	limit, ok := limits[r.depth]
	switch {
	case r.client != engineName || !ok:
		return ""
	case r.ratio.median <= limit:
		return fmt.Sprintf("%g: met", limit)
	}
	return fmt.Sprintf("%g: **missed**", limit)
}
