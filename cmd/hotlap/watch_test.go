package main

import (
	"strings"
	"testing"
	"time"

	"hotlap/cmd/internal/need"
	"hotlap/ebpf"
)

// What is asked for by name is had or refused; what is not, is done without.
func TestUnmet(t *testing.T) {
	const noSockets, noPrograms, noStats = "no sock_diag here", "needs CAP_BPF\n\tand CAP_PERFMON", "needs CAP_SYS_ADMIN"
	spent := time.Duration(1)
	for _, c := range []struct {
		options ebpf.Options
		tier    ebpf.Tier
		unseen  []string
		cost    *time.Duration
		want    string
	}{
		{tier: ebpf.TierProc, unseen: []string{noSockets, noPrograms}},
		{options: ebpf.Options{Most: ebpf.TierProc}, tier: ebpf.TierProc, unseen: []string{noSockets, noPrograms}},
		{options: ebpf.Options{Most: ebpf.TierDiag}, tier: ebpf.TierDiag, unseen: []string{noPrograms}},
		{options: ebpf.Options{Most: ebpf.TierBPF, Deep: true, RunStats: true}, tier: ebpf.TierBPF, cost: &spent},

		{options: ebpf.Options{Most: ebpf.TierDiag}, tier: ebpf.TierProc, unseen: []string{noSockets, noPrograms},
			want: "--tier diag is not possible; without it the tier is proc: " + noSockets},
		{options: ebpf.Options{Most: ebpf.TierBPF}, tier: ebpf.TierProc, unseen: []string{noSockets, noPrograms},
			want: "--tier bpf is not possible; without it the tier is proc: needs CAP_BPF and CAP_PERFMON"},
		{options: ebpf.Options{Deep: true}, tier: ebpf.TierDiag, unseen: []string{noPrograms},
			want: "--deep needs BPF programs; without it the tier is diag: needs CAP_BPF and CAP_PERFMON"},
		{options: ebpf.Options{RunStats: true}, tier: ebpf.TierBPF, unseen: []string{noStats},
			want: "--run-stats is not possible; without it the tier is bpf: needs CAP_SYS_ADMIN"},
		{options: ebpf.Options{Deep: true}, tier: ebpf.TierDiag,
			want: "--deep needs BPF programs; without it the tier is diag: the reason is not known"},
	} {
		s := ebpf.Sample{Tier: c.tier}
		s.Cost.BPF = c.cost
		for _, why := range c.unseen {
			s.Unseen = append(s.Unseen, ebpf.Unseen{What: "something", Why: why})
		}
		got := ""
		if err := unmet(c.options, s); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%+v, tier %s: %q, want %q", c.options, c.tier, got, c.want)
		}
	}
}

// Without privileges the tier that is possible is taken and named, unless more was
// asked for.
func TestWatchWithoutRoot(t *testing.T) {
	need.Root(t)
	const capabilities = "loading BPF programs needs CAP_BPF and CAP_PERFMON (or root)\n"
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"", exitOK, "hotlap watch  tier diag  "},
		{"--json", exitOK, `"tier":"diag"`},
		{"--tier diag", exitOK, "hotlap watch  tier diag  "},
		{"--tier proc", exitOK, "hotlap watch  tier proc  "},
		{"--tier bpf", exitFailed, "hotlap watch: --tier bpf is not possible; without it the tier is diag: " + capabilities},
		{"--deep", exitFailed, "hotlap watch: --deep needs BPF programs; without it the tier is diag: " + capabilities},
		{"--all-netns", exitFailed, "hotlap watch: --all-netns needs BPF programs; without it the tier is diag: " + capabilities},
		{"--run-stats", exitFailed, "hotlap watch: --run-stats is not possible; without it the tier is diag: " + capabilities},
	} {
		out, code := asNobody(t, append([]string{"watch", "-d", "1ms"}, strings.Fields(c.args)...)...)
		if code != c.code || !strings.Contains(out, c.want) || code != exitOK && out != c.want {
			t.Errorf("%s: exit code %d, want %d\n%s\nwant in it: %s", c.args, code, c.code, out, c.want)
		}
	}
}

// A signal is how it is meant to end.
func TestWatchInterrupted(t *testing.T) {
	for _, c := range endings {
		p := start(t, "watch", "--tier", "proc", "--json", "-i", "1ms")
		p.stdout.line()
		p.signal(c.signal)
		p.exits(exitOK)
		if said := p.stderr.rest(); said != "" {
			t.Errorf("%v: it says %q", c.signal, said)
		}
	}
}
