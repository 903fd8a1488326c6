package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"hotlap/cmd/internal/need"
	"hotlap/ebpf/tune"
)

// five are runs that differ by little, or by as much as their figures do.
func five(rows ...map[string]float64) (list []tune.Run) {
	for i := range 5 {
		list = append(list, tune.Run{Figures: rows[i%len(rows)]})
	}
	return list
}

func TestProofText(t *testing.T) {
	type figures = map[string]float64
	metrics := []tune.Metric{
		{Name: "drops", Kind: tune.Benefit, Least: 10},
		{Name: "p99", Unit: "s", Kind: tune.Benefit, Least: 0.5},
		{Name: "resets", Kind: tune.Harm, Least: 5},
		{Name: "kept", Unit: "%", Kind: tune.Shown, Least: 1},
	}
	for _, c := range []struct {
		proof tune.Proof
		want  string
	}{
		{tune.Proof{
			Knob: "net.core.somaxconn", Load: "a burst", From: "128", To: "16384", Metrics: metrics, Verdict: tune.Effective,
			Before: five(figures{"drops": 312, "p99": 1.04, "resets": 0, "kept": 25}),
			After:  five(figures{"drops": 0, "p99": 0.0009, "resets": 0, "kept": 100}),
		}, `
somaxconn 128 -> 16384: drops 312 -> 0, p99 1.04 s -> 0.9 ms: effective
    no harm seen in: resets 0 -> 0
    also: kept 25 % -> 100 %
    load: a burst
`},
		{tune.Proof{
			Knob: "net.ipv4.x", Case: "on loopback", Load: "a burst", From: "1", To: "0", Metrics: metrics, Verdict: tune.Trade,
			Why: "this machine has 0", With: []string{"y 1", "z 2"}, Without: []string{"net.ipv4.w"},
			Before: five(figures{"drops": 312, "resets": 0}),
			After:  five(figures{"drops": 0, "resets": 30}),
		}, `
x 1 -> 0 (on loopback): drops 312 -> 0, p99 not known, resets 0 -> 30: trade
    also: kept not known
    load: a burst
    with: y 1, z 2
    note: this machine has 0
    not given to the namespaces: net.ipv4.w
`},
		{tune.Proof{
			Knob: "net.ipv4.x", Load: "a burst", From: "1", To: "0", Metrics: metrics[:1], Verdict: tune.Inconclusive,
			Before: five(figures{"drops": 100}, figures{"drops": 200}),
			After:  five(figures{"drops": 90}, figures{"drops": 150}),
		}, `
x 1 -> 0: drops 100 -> 90 (100 to 200 -> 90 to 150): inconclusive
    load: a burst
`},
		{tune.Proof{Knob: "net.ipv4.x", Case: "under bbr", Err: errors.New("not on this kernel")}, `
x (under bbr): not tried: not on this kernel
`},
	} {
		if got := proofText(c.proof); got != c.want {
			t.Errorf("got %s\nwant %s", got, c.want)
		}
	}
}

// verify runs the command with its output in files.
func verify(t *testing.T, args ...string) (code int, out, complaints string) {
	t.Helper()
	var files [2]*os.File
	for i, name := range []string{"out", "err"} {
		f, err := os.Create(filepath.Join(t.TempDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	code = runTune(context.Background(), &stdio{os.Stdin, files[0], files[1]}, append([]string{"verify"}, args...))
	var texts [2]string
	for i, f := range files {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(b)
	}
	return code, texts[0], texts[1]
}

var bucketsLine = regexp.MustCompile(`(?m)^tcp_max_tw_buckets \d+ -> 50: connections made 100 -> 300, closes without TIME_WAIT 0 -> 250: trade$`)

func TestTuneVerify(t *testing.T) {
	code, out, complaints := verify(t, "--help")
	if code != exitOK || out != tuneVerifyUsage || complaints != "" {
		t.Errorf("%d %s %s", code, out, complaints)
	}
	for arg, want := range map[string]string{"--nonsense": "unknown flag", "nonsense": `no experiment is about "nonsense"; there are: somaxconn, `} {
		code, out, complaints := verify(t, arg)
		if code != exitUsage || out != "" || !strings.Contains(complaints, "hotlap tune verify: "+want) {
			t.Errorf("%s: %d %s %s", arg, code, out, complaints)
		}
	}

	need.Root(t)
	code, out, complaints = verify(t, "tcp_max_tw_buckets")
	if code != exitOK || !bucketsLine.MatchString(out) || !strings.Contains(out, "netdev_max_backlog ") || complaints != "" {
		t.Errorf("%d %s %s", code, out, complaints)
	}
	code, out, complaints = verify(t, "--json", "net.ipv4.tcp_max_tw_buckets")
	var document struct {
		Globals []string
		Proofs  []struct {
			Knob, Verdict string
			Before, After []struct {
				Tier    string
				Figures map[string]float64
				Faults  map[string]uint64
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &document); err != nil {
		t.Fatal(err)
	}
	if code != exitOK || complaints != "" || len(document.Globals) == 0 || len(document.Proofs) != 1 {
		t.Fatalf("%d %s %s", code, out, complaints)
	}
	p := document.Proofs[0]
	if p.Knob != "net.ipv4.tcp_max_tw_buckets" || p.Verdict != "trade" || len(p.Before) != tune.Runs || len(p.After) != tune.Runs {
		t.Errorf("%+v", p)
	}
	for _, r := range p.After {
		if r.Tier != "bpf" || r.Figures["connections made"] != 300 || r.Faults["TCPTimeWaitOverflow"] != 250 {
			t.Errorf("%+v", r)
		}
	}
}

// Without any privilege it works in a user namespace of its own, but for what
// needs CAP_BPF.
func TestTuneVerifyUnprivileged(t *testing.T) {
	need.Root(t)
	self, err := os.Open("/proc/self/exe") // this program may lie where only root may look
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cmd := exec.Command("/proc/self/fd/3", "tune", "verify", "tcp_max_tw_buckets", "tcp_abort_on_overflow")
	cmd.Args[0] = "hotlap"
	cmd.ExtraFiles = []*os.File{self}
	cmd.Dir = "/"
	cmd.Env = []string{"GORACE=atexit_sleep_ms=0"}
	const nobody = 65534
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitFailed {
		t.Errorf("%v", err)
	}
	for _, want := range []string{"In a user namespace", "tcp_abort_on_overflow 0 -> 1: not tried: not permitted: ", "CAP_BPF"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if !bucketsLine.Match(out) {
		t.Errorf("%s", out)
	}
}
