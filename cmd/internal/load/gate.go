package load

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Gate is a condition on a figure of a Report or a Comparison: KEY OP VALUE, such
// as p99<5ms.
type Gate[T any] struct {
	text  string
	key   gateKey[T]
	op    string
	value float64
	open  bool
}

// OpenOnly says that the gate is about a figure that only an open loop has.
func (g *Gate[T]) OpenOnly() bool { return g.open }

// String is the gate as it was given.
func (g *Gate[T]) String() string { return g.text }

// gateKey reads a figure. Times are microseconds. NaN is that there is none.
type gateKey[T any] struct {
	unit gateUnit
	read func(T) float64
}

type gateUnit string

const (
	aTime  gateUnit = "time"
	aCount gateUnit = "count"
	aRate  gateUnit = "rate"
	aShare gateUnit = "share"
)

var gateKeys = makeGateKeys()

func makeGateKeys() map[string]gateKey[*Report] {
	count := func(read func(*Report) int64) gateKey[*Report] {
		return gateKey[*Report]{aCount, func(r *Report) float64 { return float64(read(r)) }}
	}
	failed := func(r *Report) (n int64) {
		for _, e := range r.Errors {
			n += e
		}
		return n + r.Unanswered
	}
	keys := map[string]gateKey[*Report]{
		"rate":       {aRate, func(r *Report) float64 { return r.Rates.Responses }},
		"requests":   count(func(r *Report) int64 { return r.Requests }),
		"responses":  count(func(r *Report) int64 { return r.Responses }),
		"errors":     count(failed),
		"non_2xx":    count(func(r *Report) int64 { return r.NonOK }),
		"unanswered": count(func(r *Report) int64 { return r.Unanswered }),
		"unsent":     count(func(r *Report) int64 { return r.Unsent }),
		"error_rate": {aShare, func(r *Report) float64 { return float64(failed(r)+r.Unsent) / float64(max(r.Requests, 1)) }},
		"achieved": {aShare, func(r *Report) float64 {
			if r.Load.Loop != OpenLoop {
				return math.NaN()
			}
			return r.Rates.Achieved
		}},
		"cpu": {aTime, func(r *Report) float64 { return r.Client.PerRequest }},
	}
	parts := map[string]func(*Latency) float64{
		"min": func(l *Latency) float64 { return l.Min }, "max": func(l *Latency) float64 { return l.Max },
		"mean": func(l *Latency) float64 { return l.Mean }, "stddev": func(l *Latency) float64 { return l.StdDev },
		"p50": func(l *Latency) float64 { return l.P50 }, "p75": func(l *Latency) float64 { return l.P75 },
		"p90": func(l *Latency) float64 { return l.P90 }, "p99": func(l *Latency) float64 { return l.P99 },
		"p99.9": func(l *Latency) float64 { return l.P999 }, "p99.99": func(l *Latency) float64 { return l.P9999 },
	}
	of := map[string]func(*Report) *Latency{
		"":         func(r *Report) *Latency { return r.ResponseTime },
		"service.": func(r *Report) *Latency { return r.ServiceTime },
		"lag.":     func(r *Report) *Latency { return r.ScheduleLag },
	}
	for prefix, of := range of {
		for name, part := range parts {
			keys[prefix+name] = gateKey[*Report]{aTime, func(r *Report) float64 {
				if l := of(r); l != nil {
					return part(l)
				}
				return math.NaN()
			}}
		}
	}
	return keys
}

// ratioKeys are B/A of the rows of a comparison that have one where all is well.
var ratioKeys = map[string]gateKey[*Comparison]{
	"rate": ratioKey("rate"), "p50": ratioKey("p50"), "p90": ratioKey("p90"), "p99": ratioKey("p99"), "p99.9": ratioKey("p99.9"),
	"cpu": ratioKey("CPU per request"),
}

func ratioKey(metric string) gateKey[*Comparison] {
	return gateKey[*Comparison]{aShare, func(c *Comparison) float64 {
		for _, row := range c.Rows {
			if row.Metric == metric && row.Ratio != nil {
				return *row.Ratio
			}
		}
		return math.NaN()
	}}
}

var gateOps = []string{"<=", ">=", "==", "!=", "<", ">"} // longer ones first

// ParseGate reads a gate for a run.
func ParseGate(s string) (*Gate[*Report], error) {
	return parseGate(s, gateKeys, "p99<5ms, errors==0 or rate>=20000")
}

// ParseRatioGate reads a gate for a comparison.
func ParseRatioGate(s string) (*Gate[*Comparison], error) {
	return parseGate(s, ratioKeys, "p99<=110% or rate>=0.95")
}

func parseGate[T any](s string, keys map[string]gateKey[T], examples string) (*Gate[T], error) {
	at := strings.IndexAny(s, "<>=!")
	if at < 0 {
		return nil, errors.New("want KEY OP VALUE, such as " + examples)
	}
	g := &Gate[T]{text: s}
	for _, op := range gateOps {
		if strings.HasPrefix(s[at:], op) {
			g.op = op
			break
		}
	}
	if g.op == "" {
		return nil, fmt.Errorf("%q is no comparison: want one of %s", s[at:at+1], strings.Join(gateOps, " "))
	}
	name := strings.TrimSpace(s[:at])
	key, ok := keys[name]
	if !ok {
		return nil, fmt.Errorf("%q is no figure: want one of %s", name, strings.Join(slices.Sorted(maps.Keys(keys)), " "))
	}
	g.key, g.open = key, name == "achieved" || strings.HasPrefix(name, "lag.")
	var err error
	g.value, err = key.unit.parse(strings.TrimSpace(s[at+len(g.op):]))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return g, nil
}

func (u gateUnit) parse(s string) (float64, error) {
	if u == aTime {
		if d, err := time.ParseDuration(s); err == nil && d >= 0 {
			return float64(d) / 1e3, nil
		}
		return 0, fmt.Errorf("%q is no time such as 800us, 5ms or 1.5s", s)
	}
	factor, digits := 1.0, s
	switch {
	case u == aShare && strings.HasSuffix(s, "%"):
		factor, digits = 0.01, s[:len(s)-1]
	case u != aShare && strings.HasSuffix(s, "k"):
		factor, digits = 1e3, s[:len(s)-1]
	case u != aShare && strings.HasSuffix(s, "m"):
		factor, digits = 1e6, s[:len(s)-1]
	}
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) || n < 0 {
		if u == aShare {
			return 0, fmt.Errorf("%q is no share such as 0.1%% or 0.001", s)
		}
		return 0, fmt.Errorf("%q is no number such as 0 or 20k", s)
	}
	return n * factor, nil
}

// Judge compares. A figure that is not there holds nothing.
func (g *Gate[T]) Judge(of T) GateResult {
	v := g.key.read(of)
	var holds bool
	switch g.op {
	case "<":
		holds = v < g.value
	case "<=":
		holds = v <= g.value
	case ">":
		holds = v > g.value
	case ">=":
		holds = v >= g.value
	case "==":
		holds = v == g.value
	case "!=":
		holds = !math.IsNaN(v) && v != g.value
	}
	result := GateResult{Expression: g.text, Holds: holds}
	result.Says = g.says(v, holds)
	if !math.IsNaN(v) {
		result.Value = &v
	}
	return result
}

// says is the outcome in words: of a gate that does not hold, by how much.
func (g *Gate[T]) says(v float64, holds bool) string {
	if math.IsNaN(v) {
		return "there is no such figure"
	}
	says := "it is " + g.key.unit.format(v)
	switch d := v - g.value; {
	case holds || d == 0:
	case d > 0:
		says += fmt.Sprintf(", %s over", g.key.unit.format(d))
	default:
		says += fmt.Sprintf(", %s under", g.key.unit.format(-d))
	}
	return says
}

func (u gateUnit) format(v float64) string {
	switch u {
	case aTime:
		return UnitMicros.Format(v)
	case aShare:
		return strconv.FormatFloat(100*v, 'g', 4, 64) + " %"
	case aRate:
		return strconv.FormatFloat(v, 'f', 1, 64) + "/s"
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}
