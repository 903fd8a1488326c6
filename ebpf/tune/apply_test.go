package tune

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hotlap/ebpf/internal/lab"
)

func TestApplyThenRollback(t *testing.T) {
	w := newWorld(t)
	w.set(reservedPorts, "4000,9000-9005")
	w.options.Persist = true
	before := w.everything()
	a := w.apply(someChanges()...)
	for _, c := range someChanges() {
		if got := w.get(c.Name); got != c.To {
			t.Errorf("%s is %q, want %q", c.Name, got, c.To)
		}
	}
	if len(a.Done) != 5 || len(a.Rest) != 0 || a.Done[1].From != "32768\t60999" {
		t.Errorf("%+v", a)
	}
	r := w.rollback()
	w.same("rolled back", w.everything(), before)
	if len(r.Restored) != 6 || len(r.Left) != 0 || r.Restored[1].Name != "net.ipv4.tcp_rmem" || r.Restored[5].Name != reservedPorts {
		t.Errorf("not in reverse: %+v", r)
	}
	if r := w.rollback(); len(r.Restored) != 0 || len(r.Notes) != 1 {
		t.Errorf("a second time: %+v", r)
	}
}

// kill -9 at each step of apply; then rollback, or the same with a kill -9 at each
// of its steps and another rollback: everything is as before, byte for byte.
func TestKilledAtEachStep(t *testing.T) {
	w := newWorld(t)
	w.options.Persist = true
	before := w.everything()
	apply, rollback := task{Do: "apply", Changes: someChanges()}, task{Do: "rollback"}
	killed := func(k task, at int) bool {
		k.KillAt = at
		out, killed, err := w.run(k)
		if err != nil && !killed {
			t.Fatalf("%s, to be killed at step %d: %v\n%s", k.Do, at, err, out)
		}
		return killed
	}
	steps := 1
	for ; killed(apply, steps); steps++ {
		w.rollback()
		w.same("rolled back", w.everything(), before)
		// Somebody goes on instead, and then rolls back.
		killed(apply, steps)
		w.apply(someChanges()...)
		w.rollback()
		w.same("applied again and rolled back", w.everything(), before)
		if t.Failed() {
			t.Fatalf("killed at step %d", steps)
		}
	}
	// The lock; an entry, a write and a value read back of each; the file's two.
	if want := 1 + 3*len(someChanges()) + 2 + 1; steps != want {
		t.Errorf("%d steps, want %d", steps, want)
	}
	for at := 1; killed(rollback, at); at++ {
		w.rollback()
		w.same("rollback was killed", w.everything(), before)
		w.apply(someChanges()...)
	}
	w.same("rolled back", w.everything(), before)
}

// An entry is torn when the machine stops: its write has not been made then.
func TestTornEntry(t *testing.T) {
	w := newWorld(t)
	before := w.everything()
	w.apply(Change{Name: twReuse, To: "1"})
	one := len(journalText(t, w.options))
	w.apply(Change{Name: "net.core.somaxconn", To: "16384"})
	text := journalText(t, w.options)
	for n := one; n < len(text); n += 7 {
		w.set(twReuse, "1")
		w.set("net.core.somaxconn", "4096")
		if err := os.WriteFile(filepath.Join(w.options.Journal, journalName), text[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		if n%2 == 0 { // what comes next takes its place
			w.apply(Change{Name: "net.core.somaxconn", To: "20000"})
		}
		w.rollback()
		w.same("torn", w.everything(), before)
	}
}

func TestTwoApplies(t *testing.T) {
	w := newWorld(t)
	w.options.Persist = true
	before := w.everything()
	w.apply(Change{Name: "net.core.somaxconn", To: "16384"})
	w.apply(Change{Name: "net.core.somaxconn", To: "32768"}, Change{Name: twReuse, To: "1"})
	w.apply(Change{Name: "net.core.somaxconn", To: "65535"})
	file := w.everything()[filepath.Join(w.options.Root, "etc/sysctl.d", persistedName)]
	contains(t, file, "net.core.somaxconn = 65535\n")
	contains(t, file, "net.ipv4.tcp_tw_reuse = 1\n")
	w.rollback()
	w.same("rolled back", w.everything(), before)
}

// What somebody else has changed since stays, and is said; Force undoes it.
func TestForeignChange(t *testing.T) {
	w := newWorld(t)
	before := w.everything()
	w.apply(someChanges()...)
	w.set("net.core.somaxconn", "5000")
	r := w.rollback()
	if len(r.Left) != 1 || r.Left[0] != (Left{"net.core.somaxconn", "5000", "16384", "4096"}) || w.get("net.core.somaxconn") != "5000" {
		t.Errorf("%+v", r)
	}
	if len(r.Restored) != 4 || lines(w.options) != 1 {
		t.Errorf("%d entries are left: %+v", lines(w.options), r)
	}
	w.options.Force = true
	w.rollback()
	w.same("forced", w.everything(), before)
}

// A foreign change between two applies is what the second is rolled back to.
func TestForeignChangeBetween(t *testing.T) {
	for _, force := range []bool{false, true} {
		w := newWorld(t)
		w.options.Force = force
		w.apply(Change{Name: "net.core.somaxconn", To: "16384"})
		w.set("net.core.somaxconn", "5000")
		w.apply(Change{Name: "net.core.somaxconn", To: "32768"})
		r := w.rollback()
		if got := w.get("net.core.somaxconn"); got != "5000" || len(r.Left) != 0 || lines(w.options) != 0 {
			t.Errorf("force %v: %s, %+v", force, got, r)
		}
	}
}

// What was shown and agreed to is the value that it was then: another one, of
// somebody who came in between, is not written over.
func TestForeignChangeMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.set(reservedPorts, "8080")
	change := Change{Name: reservedPorts, From: "8080", To: "8080,20000"}
	w.set(reservedPorts, "8080,9090")
	before := w.everything()
	err := w.ns.Do(func() error {
		_, err := Apply([]Change{change}, w.options)
		return err
	})
	if err == nil {
		t.Fatal("it passed")
	}
	contains(t, err.Error(), `net.ipv4.ip_local_reserved_ports has become "8080,9090" meanwhile, it was "8080"`)
	w.same("refused", w.everything(), before)
	// Two at a time want the same: that is no conflict.
	w.set(reservedPorts, "8080,20000")
	w.apply(change)
}

// A write that fails ends it; what is done is in the journal.
func TestFailedWrite(t *testing.T) {
	w := newWorld(t)
	before := w.everything()
	changes := []Change{
		{Name: "net.core.somaxconn", To: "16384"},
		{Name: "net.ipv4.tcp_rmem", To: "no-such"},
		{Name: twReuse, To: "1"},
	}
	var a *Applied
	err := w.ns.Do(func() (err error) {
		a, err = Apply(changes, w.options)
		return err
	})
	if err == nil || len(a.Done) != 1 || len(a.Rest) != 2 || w.get(twReuse) != "2" {
		t.Fatalf("%+v, %v", a, err)
	}
	contains(t, err.Error(), `net.ipv4.tcp_rmem could not be set to "no-such": `)
	w.rollback()
	w.same("rolled back", w.everything(), before)
}

// The kernel may make something else of a value, without an error.
func TestValueThatIsNotTaken(t *testing.T) {
	w := newWorld(t)
	before := w.everything()
	err := w.ns.Do(func() error {
		_, err := Apply([]Change{{Name: reservedPorts, To: "9000-9001,9003,9002"}}, w.options)
		return err
	})
	if err == nil {
		t.Fatal("a value that was not what was asked for passed")
	}
	contains(t, err.Error(), `the kernel made "9000-9003" of it`)
	w.rollback()
	w.same("rolled back", w.everything(), before)
}

func TestReadOnlySysctls(t *testing.T) {
	w := newWorld(t)
	before := w.everything()
	out, _, err := w.run(task{Do: "apply", Changes: someChanges(), ReadOnly: true})
	if err == nil {
		t.Fatal("it passed")
	}
	contains(t, out, "nothing was changed:")
	for _, c := range someChanges() {
		contains(t, out, c.Name+": /proc/sys is mounted read-only here")
	}
	w.same("read-only", w.everything(), before)
}

// One that cannot be written, or must not be, keeps all from being written.
func TestNothingHalfDone(t *testing.T) {
	for name, want := range map[string]string{
		"net.core.netdev_max_backlog": "it is the machine's", // not shown in this namespace
		"fs.nr_open":                  "it is the machine's", // shown, and it would be the machine's
		"net.ipv4.tcp_fin_timeout":    "the advice is to leave it",
		"kernel.panic":                "no knob of the table",
		"somaxconn":                   "no knob of the table",
	} {
		w := newWorld(t)
		before := w.everything()
		err := w.ns.Do(func() error {
			_, err := Apply(append(someChanges(), Change{Name: name, To: "1"}), w.options)
			return err
		})
		if err == nil {
			t.Fatalf("%s passed", name)
		}
		contains(t, err.Error(), "nothing was changed:\n"+name+": "+want)
		w.same("refused", w.everything(), before)
	}
}

// A journal that is not as it was written is not trusted, and nothing is done.
func TestCorruptJournal(t *testing.T) {
	w := newWorld(t)
	w.apply(Change{Name: "net.core.somaxconn", To: "16384"}, Change{Name: twReuse, To: "1"})
	name := filepath.Join(w.options.Journal, journalName)
	good := string(journalText(t, w.options))
	for what, bad := range map[string]string{
		"a value changed":      strings.Replace(good, "4096", "4097", 1),
		"a checksum changed":   strings.Replace(good, `"crc32":"`, `"crc32":"0`, 1),
		"no JSON":              "nonsense\n" + good,
		"an unknown field":     `{"crc32":"","entry":{},"more":1}` + "\n" + good,
		"a hole":               good[:10] + "\n" + good[10:],
		"zeros, and then more": strings.Repeat("\x00", 40) + "\n" + good,
		"another knob":         strings.Replace(good, "tcp_tw_reuse", "tcp_tw_other", 1),
	} {
		if err := os.WriteFile(name, []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		before := w.everything()
		for verb, f := range map[string]func() error{
			"rollback": func() error { _, err := Rollback(w.options); return err },
			"apply":    func() error { _, err := Apply(someChanges(), w.options); return err },
		} {
			err := w.ns.Do(f)
			if err == nil {
				t.Fatalf("%s, %s: it passed", what, verb)
			}
			contains(t, err.Error(), name+", line ")
		}
		w.same(what, w.everything(), before)
	}
}

// A checksum does not make a name one of ours: /proc/sys has more than settings
// of the network.
func TestJournalOfUnknownKnob(t *testing.T) {
	value := "1"
	e := entry{Knob: "kernel.panic", Old: &value, Intended: &value}
	b, err := e.line()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseEntry(b); err == nil {
		t.Error("it passed")
	} else {
		contains(t, err.Error(), `does not know "kernel.panic"`)
	}
}

// Where others can write, a journal may be of their making.
func TestJournalOfOthers(t *testing.T) {
	w := newWorld(t)
	w.apply(Change{Name: twReuse, To: "1"})
	before := w.everything()
	refused := func(what string) {
		t.Helper()
		for verb, f := range map[string]func() error{
			"rollback": func() error { _, err := Rollback(w.options); return err },
			"apply":    func() error { _, err := Apply([]Change{{Name: twReuse, To: "0"}}, w.options); return err },
		} {
			if err := w.ns.Do(f); err == nil || !strings.Contains(err.Error(), "is no place for the journal") {
				t.Errorf("%s, %s: %v", what, verb, err)
			}
		}
		w.same(what, w.everything(), before)
	}
	change := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, mode := range []os.FileMode{0o777 | os.ModeSticky, 0o757, 0o775} {
		change(os.Chmod(w.options.Journal, mode))
		refused(mode.String())
	}
	change(os.Chmod(w.options.Journal, 0o700))
	change(os.Chown(w.options.Journal, 65534, 0))
	refused("of nobody")
	change(os.Chown(w.options.Journal, 0, 0))
	w.rollback()
	if got := w.get(twReuse); got != "2" {
		t.Error(got)
	}
}

func TestLocked(t *testing.T) {
	w := newWorld(t)
	var other error
	w.options.step = func(string) {
		if other == nil {
			_, other = openJournal(w.options.Journal)
		}
	}
	w.apply(Change{Name: twReuse, To: "1"})
	if other == nil {
		t.Fatal("two at a time")
	}
	contains(t, other.Error(), "another hotlap tune is at work")
}

// After a reboot runtime values are not put back, the file is; another
// namespace's values are left to it.
func TestOtherBootAndNamespace(t *testing.T) {
	w := newWorld(t)
	w.options.Persist = true
	before := w.everything()
	w.apply(Change{Name: twReuse, To: "1"})
	other, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.Do(func() error {
		o := w.options
		o.Persist = false
		_, err := Apply([]Change{{Name: "net.core.somaxconn", To: "5000"}}, o)
		return err
	}); err != nil {
		t.Fatal(err)
	}

	j, err := openJournal(w.options.Journal)
	if err != nil {
		t.Fatal(err)
	}
	for i := range j.entries {
		if j.entries[i].Knob == twReuse || j.entries[i].Knob == "" {
			j.entries[i].Boot = "an earlier one"
		}
	}
	if err := j.replace(j.entries); err != nil {
		t.Fatal(err)
	}
	j.close()

	r := w.rollback()
	if len(r.Restored) != 1 || len(r.Notes) != 3 || w.get(twReuse) != "1" || lines(w.options) != 1 {
		t.Errorf("%d entries, %+v", lines(w.options), r)
	}
	w.set(twReuse, "2")
	if err := other.Do(func() error {
		r, err := Rollback(w.options)
		if err == nil && (len(r.Restored) != 1 || len(r.Notes) != 0) {
			t.Errorf("%+v", r)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	w.same("rolled back", w.everything(), before)
}

// A list of ports may be long: it is read whole, and written whole or not at all.
func TestLongList(t *testing.T) {
	w := newWorld(t)
	var set portSet
	for p := 10001; p < 11200; p += 2 {
		set[p] = true
	}
	list := set.String()
	w.set(reservedPorts, list)
	if got := w.get(reservedPorts); got != list {
		t.Errorf("%d bytes of %d", len(got), len(list))
	}
	w.set(reservedPorts, "")
	if got := w.get(reservedPorts); got != "" {
		t.Errorf("%q is left", got)
	}
	for p := 20001; p < 22200; p += 2 {
		set[p] = true
	}
	if err := w.ns.Do(func() error { return Write(reservedPorts, set.String()) }); err == nil || w.get(reservedPorts) != "" {
		t.Errorf("%v, %q", err, w.get(reservedPorts))
	}
}

// From what the machine is to what it becomes: a listener within the wider range
// is reserved, beside what was reserved before, and no client gets its port.
func TestWiderRangeReservesListeners(t *testing.T) {
	w := newWorld(t)
	w.set(portRange, "40000 40009")
	w.set(reservedPorts, "7000")
	before := w.everything()
	l, err := w.ns.Listen(netip.MustParseAddrPort("127.0.0.1:20000"), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	load := Load{Connections: 11}
	var d *Diagnosis
	w.do(func() error {
		d = Diagnose(load, ReadMachine())
		return nil
	})
	w.apply(d.Changes()...)
	if got := w.get(reservedPorts) + " " + w.get(portRange); got != "7000,20000 10240\t65535" {
		t.Error(got)
	}
	w.do(func() error {
		d = Diagnose(load, ReadMachine())
		return nil
	})
	if !d.Well() {
		t.Errorf("%q", d.Hindrances())
	}
	w.rollback()
	w.same("rolled back", w.everything(), before)
}
