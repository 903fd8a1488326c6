package tune

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"hotlap/ebpf/internal/lab"
	"hotlap/ebpf/internal/need"
)

// verdicts are what the experiments find, by knob and case.
var verdicts = map[string]Verdict{
	"net.core.somaxconn":                            Effective,
	"net.ipv4.ip_local_port_range":                  Effective,
	"net.ipv4.tcp_tw_reuse between hosts":           Effective,
	"net.ipv4.tcp_tw_reuse on loopback":             NoEffect,
	"net.ipv4.tcp_max_syn_backlog cookies on":       NoEffect,
	"net.ipv4.tcp_max_syn_backlog cookies off":      Effective,
	"net.ipv4.tcp_fin_timeout":                      NoEffect,
	"net.ipv4.tcp_max_tw_buckets":                   Trade,
	"net.ipv4.tcp_abort_on_overflow":                Harmful,
	"net.ipv4.tcp_slow_start_after_idle under reno": Effective,
	"net.ipv4.tcp_slow_start_after_idle under bbr":  NoEffect,
}

// defaults are the kernel's of what the verdicts depend on: this machine may have
// been tuned.
var defaults = replica{
	somaxconn: "4096", portRange: "32768 60999", twReuse: "2", maxTWBuckets: "131072", timestamps: "1",
	"net.ipv4.tcp_max_syn_backlog": "2048", "net.ipv4.tcp_fin_timeout": "60", "net.ipv4.tcp_abort_on_overflow": "0",
	"net.ipv4.tcp_slow_start_after_idle": "1", "net.ipv4.tcp_syncookies": "1",
}

// proving is held by a test that makes them all: twice all need more files than a
// process may have open here and there.
var proving sync.Mutex

// proveAll makes all experiments, all at a time, as they wait more than they work,
// and lets check look at each.
func proveAll(t *testing.T, turning bool, check func(t *testing.T, p *Proof)) {
	t.Helper()
	proving.Lock()
	defer proving.Unlock()
	machine, err := readReplica()
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(machine, defaults)
	all := Experiments()
	proofs := make([]Proof, len(all))
	var wait sync.WaitGroup
	for i, e := range all {
		wait.Go(func() { proofs[i] = e.verify(context.Background(), machine, turning) })
	}
	wait.Wait()
	for i := range proofs {
		p := &proofs[i]
		t.Run(strings.ReplaceAll(all[i].name(), " ", "_"), func(t *testing.T) {
			t.Logf("%s -> %s in %v", p.From, p.To, p.Elapsed)
			for _, m := range p.Metrics {
				t.Logf("%s: %v -> %v", m.Name, m.values(figures(p.Before)), m.values(figures(p.After)))
			}
			if errors.Is(p.Err, ErrAbsent) {
				need.Missing(t, p.Err.Error())
			}
			if p.Err != nil {
				t.Fatal(p.Err)
			}
			check(t, p)
		})
	}
}

// What the experiments find is what the table of knobs says, and the host's
// settings and devices are what they were.
func TestExperiments(t *testing.T) {
	t.Parallel()
	need.Root(t)
	before := host(t)
	proveAll(t, true, func(t *testing.T, p *Proof) {
		if len(p.Without) > 0 {
			t.Errorf("not given to the namespaces: %v", p.Without)
		}
		if want := verdicts[strings.TrimSuffix(p.Knob+" "+p.Case, " ")]; p.Verdict != want {
			t.Errorf("%s, want %s", p.Verdict, want)
		}
		for _, r := range append(p.Before, p.After...) {
			for _, m := range p.Metrics {
				if _, known := r.Figures[m.Name]; !known {
					t.Errorf("%s is not known", m.Name)
				}
			}
		}
		if also := checks[p.Knob]; also != nil {
			also(t, p)
		}
	})
	if after := host(t); !maps.Equal(after, before) {
		t.Errorf("the host was touched:\n%v\nbefore:\n%v", after, before)
	}
}

// checks are what else is known of an experiment's figures.
var checks = map[string]func(*testing.T, *Proof){
	// What the observer counted is what connect(2) said.
	portRange: func(t *testing.T, p *Proof) { alike(t, p, noPort.Name, exhausted.Name) },
	twReuse:   func(t *testing.T, p *Proof) { alike(t, p, noPort.Name, exhausted.Name) },
	// TCPTimeWaitOverflow is the connections closed without TIME_WAIT.
	maxTWBuckets: func(t *testing.T, p *Proof) {
		for _, r := range append(p.Before, p.After...) {
			f := r.Figures
			if f["closes without TIME_WAIT"] != f["connections made"]-f["in TIME_WAIT"] {
				t.Errorf("%v", f)
			}
		}
	},
	// The knob was turned: it does what it is for, which is not TIME_WAIT.
	"net.ipv4.tcp_fin_timeout": func(t *testing.T, p *Proof) {
		before, after, _ := p.Median(Metric{Name: "orphans in FIN_WAIT2"})
		if before != closed || after != 0 {
			t.Errorf("orphans in FIN_WAIT2: %v -> %v", before, after)
		}
	},
}

func alike(t *testing.T, p *Proof, a, b string) {
	t.Helper()
	for _, r := range append(p.Before, p.After...) {
		if r.Figures[a] != r.Figures[b] {
			t.Errorf("%s: %v; %s: %v", a, r.Figures[a], b, r.Figures[b])
		}
	}
}

// host is what of the machine an experiment must not touch.
func host(t *testing.T) map[string]string {
	t.Helper()
	settings, err := readReplica()
	if err != nil {
		t.Fatal(err)
	}
	devices, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range devices {
		settings["device "+d.Name] = fmt.Sprint(d.Index)
	}
	return settings
}

// An experiment shows something only if it shows nothing where nothing is done.
func TestExperimentsWithoutTurning(t *testing.T) {
	t.Parallel()
	need.Root(t)
	proveAll(t, false, func(t *testing.T, p *Proof) {
		if p.Verdict != NoEffect {
			t.Errorf("%s, and the knob was not turned", p.Verdict)
		}
	})
}

// Each experiment is about a knob of the table, judges a benefit and a harm, and
// has a verdict that a test expects.
func TestExperimentsAreNamed(t *testing.T) {
	for _, e := range Experiments() {
		if k, known := Find(e.Knob); !known || k.Name != e.Knob {
			t.Errorf("%s is no knob", e.Knob)
		}
		if verdicts[e.name()] == "" {
			t.Errorf("%s: no verdict is expected", e.name())
		}
		kinds := map[Kind]int{}
		for _, m := range e.Metrics {
			kinds[m.Kind]++
			if m.Least <= 0 {
				t.Errorf("%s: every difference of %s matters", e.name(), m.Name)
			}
		}
		if kinds[Benefit] == 0 || kinds[Harm] == 0 {
			t.Errorf("%s: %v", e.name(), kinds)
		}
	}
	if len(Experiments()) != len(verdicts) {
		t.Errorf("%d experiments, %d verdicts", len(Experiments()), len(verdicts))
	}
}

// Loads with thousands of connections have ports enough where the machine has few.
func TestExperimentsWithFewPorts(t *testing.T) {
	need.Root(t)
	machine, err := readReplica()
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(machine, defaults)
	machine[portRange], machine[reservedPorts] = "50000 50099", "50000-50049"
	for _, e := range []*Experiment{acceptBurst(), halfOpenBurst("cookies off", "0")} {
		from, _ := e.values(machine[e.Knob])
		if _, err := e.run(context.Background(), machine, []string{from}); err != nil {
			t.Errorf("%s: %v", e.name(), err)
		}
	}
}

func TestValues(t *testing.T) {
	queue := raise(2048, 16384)
	for _, c := range []struct {
		values            func(string) (string, string)
		current, from, to string
	}{
		{queue, "128", "128", "16384"},
		{queue, "4096", "4096", "16384"},
		{queue, "8192", "2048", "16384"}, // more than the load fills
		{queue, "65535", "2048", "16384"},
		{turn("2", "1"), "0", "0", "1"},
		{turn("2", "1"), "1", "2", "1"},
		{widen, "32768 60999", "32768 60999", "10240 65535"},
		{widen, "15000 20000", "15000 20000", "10240 65535"},
		{widen, "10240 65535", "32768 60999", "10240 65535"},
		{widen, "1024 65535", "32768 60999", "10240 65535"},
	} {
		if from, to := c.values(c.current); from != c.from || to != c.to {
			t.Errorf("%q: %q -> %q, want %q -> %q", c.current, from, to, c.from, c.to)
		}
	}
}

func TestByName(t *testing.T) {
	all, err := ByName(nil)
	if err != nil || len(all) != len(Experiments()) {
		t.Errorf("%d experiments, %v", len(all), err)
	}
	// In the order of the table, each once.
	some, err := ByName([]string{"tcp_tw_reuse", "net.core.somaxconn", "tcp_tw_reuse"})
	if err != nil || len(some) != 3 || some[0].Knob != somaxconn || some[1].Knob != twReuse || some[2].Knob != twReuse {
		t.Errorf("%v, %v", some, err)
	}
	for _, name := range []string{"tcp_rmem", "nonsense", ""} { // a knob without an experiment
		if _, err := ByName([]string{name}); err == nil || !strings.Contains(err.Error(), "somaxconn, ip_local_port_range") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A congestion control that the kernel does not have is named, with those that
// it has; no module is loaded for it.
func TestAbsent(t *testing.T) {
	need.Root(t)
	p := Verify(context.Background(), windowAfterIdle("nonsense"))
	if !errors.Is(p.Err, ErrAbsent) || !strings.Contains(p.Error, "reno") || p.Verdict != "" {
		t.Errorf("%q: %v", p.Verdict, p.Err)
	}
	e := timeWaitBuckets()
	e.Knob = "net.ipv4.nonsense"
	if p := Verify(context.Background(), e); !errors.Is(p.Err, ErrAbsent) || !strings.Contains(p.Error, "nonsense") {
		t.Errorf("%q: %v", p.Verdict, p.Err)
	}
}

func TestVerifyIsCanceled(t *testing.T) {
	need.Root(t)
	ctx, cancel := context.WithCancel(context.Background())
	e := timeWaitBuckets()
	load := e.load
	e.load = func(t *track) (Figures, error) {
		cancel()
		return load(t)
	}
	if p := Verify(ctx, e); !errors.Is(p.Err, context.Canceled) || p.Verdict != "" {
		t.Errorf("%q: %v", p.Verdict, p.Err)
	}
}

// A namespace that is given the settings of another has them all.
func TestReplica(t *testing.T) {
	need.Root(t)
	changed := map[string]string{
		somaxconn: "77", portRange: "20000 30000", "net.ipv4.tcp_rmem": "4096 50000 600000", "net.ipv4.tcp_syncookies": "0",
		// The second must not begin before the first, as in a new namespace it would.
		"net.ipv4.ip_unprivileged_port_start": "1500", reservedPorts: "8080,9000-9010",
	}
	read := func(ns *lab.Namespace) (r replica) {
		t.Helper()
		if err := ns.Do(func() (err error) {
			r, err = readReplica()
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return r
	}
	var spaces [2]*lab.Namespace
	for i := range spaces {
		ns, err := lab.New()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(ns.Close)
		spaces[i] = ns
	}
	for name, value := range changed {
		if _, err := spaces[0].SetSysctl(name, value); err != nil {
			t.Fatal(err)
		}
	}
	want := read(spaces[0])
	give := func(r replica) (refused []string) {
		if err := spaces[1].Do(func() error {
			refused = r.copy()
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return refused
	}
	if refused := give(want); len(refused) > 0 {
		t.Errorf("refused: %v", refused)
	}
	got := read(spaces[1])
	if !maps.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	for name, value := range changed {
		if !same(got[name], value) {
			t.Errorf("%s is %q, want %q", name, got[name], value)
		}
	}
	if len(got) < 50 {
		t.Errorf("only %d settings", len(got))
	}
	// What is no value is named; what the namespace has not is the machine's.
	if refused := give(replica{somaxconn: "many", "net.core.netdev_max_backlog": "1"}); !slices.Equal(refused, []string{somaxconn}) {
		t.Errorf("refused: %v", refused)
	}
}

const userNamespaceVar = "HOTLAP_TEST_TUNE_USER_NAMESPACE"

// Without any privilege nothing can be tried, and what is needed is said; in a user
// namespace experiments work but for those that hold packets back.
func TestVerifyInUserNamespace(t *testing.T) {
	const selfFD = 3 // this program may lie where only root may look
	self := os.NewFile(selfFD, "self")
	stage := os.Getenv(userNamespaceVar)
	next := map[string]string{"": "nobody", "nobody": "inside"}[stage]
	if stage == "" {
		need.Root(t)
		var err error
		if self, err = os.Open("/proc/self/exe"); err != nil {
			t.Fatal(err)
		}
		defer self.Close()
	}
	if stage == "nobody" {
		if err := CanVerify(); !errors.Is(err, ErrPrivilege) || !strings.Contains(err.Error(), "CAP_SYS_ADMIN") {
			t.Errorf("it says: %v", err)
		}
	}
	if stage == "inside" {
		insideUserNamespace(t)
		return
	}
	cmd := exec.Command(fmt.Sprintf("/proc/self/fd/%d", selfFD), "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.ExtraFiles = []*os.File{self}
	cmd.Dir = "/"
	cmd.Env = []string{userNamespaceVar + "=" + next, "GORACE=atexit_sleep_ms=0"}
	if stage == "nobody" {
		EnterUserNamespace(cmd)
	} else {
		const id = 65534
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
	}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
}

func insideUserNamespace(t *testing.T) {
	if err := CanVerify(); err != nil {
		t.Fatal(err)
	}
	for _, e := range []*Experiment{localPorts(), timeWaitBuckets()} {
		if p := Verify(context.Background(), e); p.Err != nil || p.Verdict != verdicts[e.name()] {
			t.Errorf("%s: %s, %v", e.name(), p.Verdict, p.Err)
		}
	}
	if p := Verify(context.Background(), abortOnOverflow()); !errors.Is(p.Err, ErrPrivilege) || !strings.Contains(p.Error, "CAP_BPF") {
		t.Errorf("it says: %q, %v", p.Verdict, p.Err)
	}
}
