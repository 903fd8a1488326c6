package page

import (
	"strconv"
	"strings"

	"hotlap/cmd/internal/load"
)

// pair is two runs as the templates lay them out.
type pair struct {
	*load.Comparison
	Runs    [2]*run
	Title   string
	Summary string
	Table   []compared
	Load    []comparedFact
	Environ []comparedFact
}

// compared is a row of the table of figures.
type compared struct {
	Metric, Ratio string
	A, B          sample
	Verdict       load.Outcome
	Tone          string // "good", "bad" or ""
	Why           string
}

// A sample is a figure of one run.
type sample struct{ Value, Spread, Whole string }

// A comparedFact is a fact of both runs.
type comparedFact struct {
	Name, A, B string
	Differs    bool
}

func newPair(a, b *load.Report, c *load.Comparison) *pair {
	p := &pair{
		Comparison: c, Title: title(a), Summary: summarize(c),
		Runs: [2]*run{newRun(c.A.Name, a, nil), newRun(c.B.Name, b, nil)},
	}
	if other := title(b); other != p.Title {
		p.Title += " and " + other
	}
	for _, r := range c.Rows {
		p.Table = append(p.Table, compared{
			Metric: r.Metric, Ratio: ratio(r.Ratio), A: newSample(r.Unit, r.A), B: newSample(r.Unit, r.B),
			Verdict: r.Verdict, Tone: map[load.Outcome]string{load.Better: "good", load.Worse: "bad"}[r.Verdict], Why: r.Why,
		})
	}
	p.Load = side(p.Runs[0].LoadFacts, p.Runs[1].LoadFacts)
	p.Environ = append(side(p.Runs[0].Environs, p.Runs[1].Environs), side(p.Runs[0].Sysctls, p.Runs[1].Sysctls)...)
	return p
}

// summarize says in a sentence what the rows say of B.
func summarize(c *load.Comparison) string {
	in := map[load.Outcome][]string{}
	for _, r := range c.Rows {
		in[r.Verdict] = append(in[r.Verdict], r.Metric)
	}
	var parts []string
	for _, o := range []load.Outcome{load.Better, load.Worse} {
		if len(in[o]) > 0 {
			parts = append(parts, string(o)+" in "+strings.Join(in[o], ", "))
		}
	}
	switch {
	case len(parts) > 0:
		return "B is " + strings.Join(parts, "; ")
	case len(in[load.NoDifference]) > 0:
		return "No difference that exceeds the runs' own spread"
	case len(in[load.TooShort]) > 0:
		return "The runs are too short to tell"
	}
	return "These runs do not tell"
}

func newSample(u load.Unit, s *load.Sample) sample {
	if s == nil {
		return sample{none, none, none}
	}
	w := sample{Value: figureOf(u, s.Value), Spread: none, Whole: figureOf(u, s.Whole)}
	if s.Spread != nil {
		w.Spread = figureOf(u, s.Spread.Low) + " to " + figureOf(u, s.Spread.High)
	}
	return w
}

func figureOf(u load.Unit, x float64) string {
	switch u {
	case load.UnitPerSecond:
		return rate(x)
	case load.UnitShare:
		return share(x)
	}
	return duration(x)
}

// side puts the facts of two runs side by side, by name.
func side(a, b []fact) []comparedFact {
	var list []comparedFact
	at := map[string]int{}
	for _, f := range a {
		at[f.Name] = len(list)
		list = append(list, comparedFact{f.Name, f.Value, none, true})
	}
	for _, f := range b {
		i, ok := at[f.Name]
		if !ok {
			list = append(list, comparedFact{f.Name, none, f.Value, true})
			continue
		}
		list[i].B, list[i].Differs = f.Value, f.Value != list[i].A
	}
	return list
}

// ratio writes how many times one figure is the other.
func ratio(x *float64) string {
	if x == nil {
		return none
	}
	return "×" + strconv.FormatFloat(*x, 'f', 3, 64)
}

// HasCurve and those after it say which charts there is something to draw for.

func (p *pair) HasCurve() bool     { return p.Runs[0].HasCurve() || p.Runs[1].HasCurve() }
func (p *pair) HasSeries() bool    { return len(p.Runs[0].Series) > 0 || len(p.Runs[1].Series) > 0 }
func (p *pair) HasFailures() bool  { return p.Runs[0].HasFailures() || p.Runs[1].HasFailures() }
func (p *pair) HasResponses() bool { return p.Runs[0].HasResponses() || p.Runs[1].HasResponses() }
