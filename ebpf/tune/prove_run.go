package tune

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hotlap/ebpf"
	"hotlap/ebpf/internal/lab"
)

// How an experiment goes:
//
//  1. The machine's settings are read (replica.go), and say from which value to
//     which the knob is turned.
//  2. Each run has a network namespace of its own, or two with a veth between them.
//     It is given the machine's settings, those that the experiment asks for, the knob's
//     value before and, in every second run, the value after.
//  3. The experiment's load runs there, with an observer beside it.
//  4. Judge compares the runs before with the runs after.
//
// Nothing of the host's is written.

// Runs is how many runs there are before, and how many after.
const Runs = 5

// A Proof is what an experiment did and showed.
type Proof struct {
	Knob string   `json:"knob"`
	Case string   `json:"case,omitempty"` // of several of a knob
	Load string   `json:"load"`
	From string   `json:"from"`
	To   string   `json:"to"`
	Why  string   `json:"why_from,omitempty"` // From is not the machine's value
	With []string `json:"with,omitempty"`     // other settings that are not the machine's
	// Without are settings of the machine that the namespaces would not take.
	Without []string `json:"without,omitempty"`
	Metrics []Metric `json:"metrics"`
	Before  []Run    `json:"before"`
	After   []Run    `json:"after"`
	// Verdict is "" where the experiment could not be made; Err then says why.
	Verdict Verdict       `json:"verdict,omitempty"`
	Err     error         `json:"-"`
	Error   string        `json:"error,omitempty"`
	Elapsed time.Duration `json:"elapsed_ns"`
}

// A Run is one run of a load.
type Run struct {
	Figures Figures     `json:"figures"`
	Tier    ebpf.Tier   `json:"tier"`
	Faults  ebpf.Counts `json:"faults"` // all that the observer counted, but what is 0

	refused []string // settings of the machine
}

// Median is a metric's in the runs before and after, and false if it is not known.
func (p *Proof) Median(m Metric) (before, after float64, known bool) {
	before, b := m.Median(figures(p.Before))
	after, a := m.Median(figures(p.After))
	return before, after, a && b
}

func figures(runs []Run) (list []Figures) {
	for _, r := range runs {
		list = append(list, r.Figures)
	}
	return list
}

// ErrAbsent is the error of an experiment with something that the kernel does not have.
var ErrAbsent = errors.New("not on this kernel")

// ErrPrivilege is the error of an experiment that needs more than the process may.
var ErrPrivilege = errors.New("not permitted")

// ByName finds experiments, in the order of Experiments; without names all. A
// name is that of a knob, and may lack its beginning.
func ByName(names []string) (list []*Experiment, err error) {
	all := Experiments()
	if len(names) == 0 {
		return all, nil
	}
	asked := map[string]bool{}
	for _, name := range names {
		k, known := Find(name)
		if known {
			known = slices.ContainsFunc(all, func(e *Experiment) bool { return e.Knob == k.Name })
		}
		if !known {
			var have []string
			for _, e := range all {
				have = append(have, short(e.Knob))
			}
			return nil, fmt.Errorf("no experiment is about %q; there are: %s", name, strings.Join(slices.Compact(have), ", "))
		}
		asked[k.Name] = true
	}
	for _, e := range all {
		if asked[e.Knob] {
			list = append(list, e)
		}
	}
	return list, nil
}

// CanVerify is nil where network namespaces can be made, or else ErrPrivilege.
func CanVerify() error {
	ns, err := lab.New()
	if err != nil {
		return explain(err)
	}
	ns.Close()
	return nil
}

// EnterUserNamespace makes cmd run in a user namespace of its own, as root there:
// CanVerify is then nil without any privilege. Experiments that hold packets back
// need CAP_BPF outside of it, and fail with ErrPrivilege.
func EnterUserNamespace(cmd *exec.Cmd) { lab.EnterUser(cmd) }

// Verify makes an experiment. It returns early where ctx ends, with its error in the Proof.
func Verify(ctx context.Context, e *Experiment) Proof {
	machine, err := readReplica()
	if err != nil {
		return Proof{Knob: e.Knob, Case: e.Case, Load: e.Load, Err: err, Error: err.Error()}
	}
	return e.verify(ctx, machine, true)
}

// verify without turning leaves the knob as it was: nothing may then have an effect.
func (e *Experiment) verify(ctx context.Context, machine replica, turning bool) Proof {
	start := time.Now()
	p := Proof{Knob: e.Knob, Case: e.Case, Load: e.Load, With: e.with(), Metrics: e.Metrics}
	p.Err = e.prove(ctx, &p, machine, turning)
	if p.Err == nil {
		p.Verdict = Judge(e.Metrics, figures(p.Before), figures(p.After))
	} else {
		p.Error = p.Err.Error()
	}
	p.Elapsed = time.Since(start)
	return p
}

func (e *Experiment) prove(ctx context.Context, p *Proof, machine replica, turning bool) error {
	current, known := machine[e.Knob]
	if !known {
		return fmt.Errorf("%w: it has no %s", ErrAbsent, e.Knob)
	}
	current = strings.Join(strings.Fields(current), " ")
	p.From, p.To = e.values(current)
	if p.From != current {
		p.Why = "this machine has " + current
	}
	for i := range 2 * Runs {
		// Before, after, after, before, ...: what drifts with time drifts in both.
		after := (i+1)/2%2 == 1
		turns := []string{p.From}
		if after && turning {
			turns = append(turns, p.To)
		}
		run, err := e.run(ctx, machine, turns)
		if err != nil {
			return explain(err)
		}
		p.Without = run.refused
		if after {
			p.After = append(p.After, run)
		} else {
			p.Before = append(p.Before, run)
		}
	}
	return nil
}

// explain says what a refusal is for.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", ErrPrivilege, err)
	case errors.Is(err, unix.EMFILE):
		return fmt.Errorf("%w: raise the limit of open files (ulimit -n) to %d", err, mostFiles)
	}
	return err
}

// run is one run in a namespace of its own.
func (e *Experiment) run(ctx context.Context, machine replica, turns []string) (r Run, err error) {
	if err := ctx.Err(); err != nil {
		return r, err
	}
	t := &track{ctx: ctx, from: turns[0]}
	defer func() { err = errors.Join(err, t.close()) }()
	if err := t.open(e.Pair); err != nil {
		return r, err
	}
	for _, ns := range t.namespaces() {
		err := ns.Do(func() error {
			r.refused = machine.copy()
			for _, s := range e.Setup {
				if err := Write(s.Name, s.Value); err != nil {
					return err
				}
			}
			for _, value := range turns {
				if err := Write(e.Knob, value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return r, fmt.Errorf("settings of the namespace: %w", err)
		}
	}
	file, err := t.client.File()
	if err != nil {
		return r, err
	}
	o, err := ebpf.Open(ebpf.Options{Netns: file})
	if err != nil {
		return r, err
	}
	defer o.Close()
	if r.Figures, err = e.load(t); err != nil {
		return r, err
	}
	s, err := o.Read()
	if err != nil {
		return r, err
	}
	e.observe(&r, &s)
	return r, nil
}

// observe adds what the observer counted to what the load did.
func (e *Experiment) observe(r *Run, s *ebpf.Sample) {
	r.Tier, r.Faults = s.Tier, ebpf.Counts{}
	for _, m := range e.Metrics {
		if m.Counter == "" {
			continue
		}
		n, known := s.Total.Get(m.Counter)
		if !known {
			n, known = s.Namespace.Get(m.Counter)
		}
		if known {
			r.Figures[m.Name] = float64(n)
		}
	}
	for _, k := range ebpf.Faults {
		if n := s.Total[k]; n > 0 {
			r.Faults[k] = n
		}
	}
	for _, k := range ebpf.KernelFaults {
		if n := s.Namespace[k]; n > 0 {
			r.Faults[k] = n
		}
	}
}

// track is where a load runs. Its sockets are closed with it.
type track struct {
	ctx            context.Context
	client, server *lab.Namespace // the same without a pair
	from           string         // the knob's value before
	undo           []func() error
}

func (t *track) open(pair bool) (err error) {
	if pair {
		t.client, t.server, err = lab.Pair()
		return err
	}
	t.client, err = lab.New()
	t.server = t.client
	return err
}

func (t *track) namespaces() []*lab.Namespace {
	if t.server == t.client {
		return []*lab.Namespace{t.client}
	}
	return []*lab.Namespace{t.client, t.server}
}

func (t *track) close() error {
	var errs []error
	for i := len(t.undo) - 1; i >= 0; i-- {
		errs = append(errs, t.undo[i]())
	}
	if t.client != nil {
		for _, ns := range t.namespaces() {
			ns.Close()
		}
	}
	return errors.Join(errs...)
}

// keep closes a socket at the end.
func (t *track) keep(s *lab.Socket) *lab.Socket {
	t.undo = append(t.undo, s.Abort)
	return s
}

// patience bounds every wait for something that is certain to happen: it is for
// a machine under load.
const patience = 20 * time.Second

// await asks again and again until it is so.
func (t *track) await(what string, so func() (bool, error)) error {
	for start := time.Now(); ; {
		ok, err := so()
		if err == nil && !ok && time.Since(start) > patience {
			err = errors.New("it did not happen in time")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if ok {
			return nil
		}
		if err := t.pause(time.Millisecond); err != nil {
			return err
		}
	}
}

// pause lets time pass that the kernel measures too.
func (t *track) pause(d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-t.ctx.Done():
		return t.ctx.Err()
	case <-timer.C:
		return nil
	}
}
