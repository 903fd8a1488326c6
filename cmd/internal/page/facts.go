package page

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"hotlap/cmd/internal/load"
	"hotlap/cmd/internal/report"
)

// A fact is a row of a table of settings or figures.
type fact struct{ Name, Value string }

func loadFacts(r *load.Report) []fact {
	l := &r.Load
	facts := []fact{
		{"targets", strings.Join(l.Targets, "\n")},
		{"loop", l.Loop},
	}
	if more := l.TargetCount - len(l.Targets); more > 0 {
		facts[0].Value += fmt.Sprintf("\nand %s more", count(int64(more)))
	}
	if l.Loop == "open" {
		asked := rate(l.Rate)
		if l.RampFrom != l.Rate {
			asked = rate(l.RampFrom) + " to " + asked
		}
		facts = append(facts, fact{"rate", asked}, fact{"arrivals", l.Arrivals})
	}
	length := setting(l.Duration)
	if l.Count > 0 {
		length = count(l.Count) + " requests"
	}
	return append(facts,
		fact{"connections", count(int64(l.Connections))},
		fact{"pipeline depth", count(int64(l.Pipeline))},
		fact{"event loops", count(int64(l.Loops))},
		fact{"length", length},
		fact{"warm-up, not counted", setting(l.WarmUp)},
		fact{"timeout", setting(l.Timeout)},
		fact{"keep-alive", yesNo(l.KeepAlive)},
	)
}

func clientFacts(r *load.Report) []fact {
	c := &r.Client
	busy := make([]string, len(c.Busy))
	for i, b := range c.Busy {
		busy[i] = share(b)
	}
	shares := "not known"
	if c.SharesCPUs != nil {
		shares = yesNo(*c.SharesCPUs)
	}
	return []fact{
		{"CPU time, user", seconds(c.User)},
		{"CPU time, system", seconds(c.System)},
		{"CPU time per request", duration(c.PerRequest)},
		{"busy share of each loop", strings.Join(busy, ", ")},
		{"waited for a CPU", known(c.RunQueue, seconds)},
		{"held back by its cgroup", known(c.Throttled, seconds)},
		{"CPU time taken by the hypervisor", known(c.Steal, share)},
		{"sent late by its own fault", count(c.Late)},
		{"due while every connection was busy", count(c.Held)},
		{"connections not closed, though asked to", count(c.Lingered)},
		{"a server shares its CPUs", shares},
		{"connections opened", count(c.Connections)},
		{"peak memory", size(c.MaxRSS)},
	}
}

func known(x *float64, write func(float64) string) string {
	if x == nil {
		return "not known"
	}
	return write(*x)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func environment(r *load.Report) []fact {
	e := &r.Environment
	return []fact{
		{"hotlap", r.Tool},
		{"kernel", e.Kernel},
		{"CPU", e.CPU},
		{"CPUs", fmt.Sprintf("%d, of which the client may use %d", e.CPUs, e.AllowedCPU)},
		{"memory", size(e.Memory)},
		{"Go", e.Go},
		{"open files", fmt.Sprintf("at most %d", e.NoFile)},
	}
}

func sysctls(r *load.Report) []fact {
	facts := []fact{}
	for _, name := range slices.Sorted(maps.Keys(r.Environment.Sysctls)) {
		facts = append(facts, fact{name, r.Environment.Sysctls[name]})
	}
	return facts
}

// commandLine writes a command as a shell takes it.
func commandLine(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = word
		if word == "" || strings.ContainsFunc(word, special) {
			quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

// special says whether a shell may take a character for something else.
func special(c rune) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.ContainsRune("-_./:=,@%+", c):
		return false
	}
	return true
}

// Faults are what the observer of a run saw go wrong, as events: each in the
// middle of its second, where the charts have what was counted around it.
func Faults(k *report.Kernel) (events []Event) {
	if k == nil {
		return nil
	}
	for _, e := range k.Events {
		for _, f := range e.Told() {
			events = append(events, Event{At: e.At + e.Length/2, Kind: f.Name, Label: f.Value + " " + f.Name})
		}
	}
	return events
}
