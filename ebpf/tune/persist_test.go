package tune

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A root with files, for Options.Root.
func newRoot(t *testing.T, files map[string]string) string {
	root := t.TempDir()
	for name, text := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestPersistedText(t *testing.T) {
	text := persistedText(map[string]string{portRange: "10240\t65535", twReuse: "1"})
	var rest []string
	comment := false
	for line := range strings.Lines(text) {
		switch line = strings.TrimSpace(line); {
		case line == "":
		case line[0] == '#':
			comment = true
		case !comment:
			t.Errorf("%q has no comment", line)
		default:
			comment = false
			rest = append(rest, line)
		}
	}
	if got := strings.Join(rest, "; "); got != "net.ipv4.ip_local_port_range = 10240 65535; net.ipv4.tcp_tw_reuse = 1" {
		t.Error(got)
	}
}

func TestPersistNotes(t *testing.T) {
	o := Options{Root: newRoot(t, map[string]string{
		"etc/sysctl.d/10-first.conf":        "net.core.somaxconn = 1\n",
		"etc/sysctl.d/99-local.conf":        "# comment\n; comment\n-net/core/somaxconn = 128\nnet.ipv4.tcp_tw_reuse=1\nnonsense\n",
		"usr/lib/sysctl.d/99-local.conf":    "net.core.somaxconn = 2\n", // hidden by the one in /etc
		"usr/lib/sysctl.d/95-pattern.conf":  "net.ipv4.tcp_tw_r* = 0\n",
		"run/sysctl.d/99-no-effect.disable": "net.core.somaxconn = 3\n",
		"etc/sysctl.conf":                   "net.core.somaxconn=512",
		"proc/7/comm":                       "bpftune\n",
		"proc/8/comm":                       "untuned\n",
	})}
	notes := o.persistNotes(map[string]string{"net.core.somaxconn": "16384", twReuse: "1", conntrackMax: "524288"})
	want := []string{
		o.Root + "/etc/sysctl.conf sets net.core.somaxconn to 512, and comes after ours",
		o.Root + "/etc/sysctl.d/99-local.conf sets net.core.somaxconn to 128, and",
		o.Root + "/usr/lib/sysctl.d/95-pattern.conf sets net.ipv4.tcp_tw_reuse to 0, and",
		"nf_conntrack_max is there once the module nf_conntrack is loaded",
		"bpftune is active",
		"does not reach systemd services",
	}
	if len(notes) != len(want) {
		t.Fatalf("%d notes, want %d:\n%s", len(notes), len(want), strings.Join(notes, "\n"))
	}
	for i := range want {
		contains(t, notes[i], want[i])
	}
}

// Files and directories of sysctl.d are the machine's: another namespace's
// values have no place there.
func TestPersistNeedsTheInitialNamespace(t *testing.T) {
	w := newWorld(t)
	w.options.Persist, w.options.anywhere = true, false
	before := w.everything()
	err := w.ns.Do(func() error {
		_, err := Apply(someChanges(), w.options)
		return err
	})
	if err == nil {
		t.Fatal("it passed")
	}
	contains(t, err.Error(), "--persist is for the initial network namespace")
	w.same("refused", w.everything(), before)
}

// What was applied before without --persist is in the file too.
func TestPersistWhatWasApplied(t *testing.T) {
	w := newWorld(t)
	before := w.everything()
	w.apply(Change{Name: "net.core.somaxconn", To: "16384"}, Change{Name: twReuse, To: "1"})
	w.set(twReuse, "0") // no longer ours
	w.options.Persist = true
	a := w.apply()
	text := w.everything()[a.File]
	contains(t, text, "net.core.somaxconn = 16384\n")
	if strings.Contains(text, twReuse+" =") {
		t.Error(text)
	}
	w.set(twReuse, "2")
	w.rollback()
	w.same("rolled back", w.everything(), before)
}

func TestNothingToPersist(t *testing.T) {
	w := newWorld(t)
	before := w.everything()
	w.options.Persist = true
	if a := w.apply(); a.File != "" {
		t.Errorf("%+v", a)
	}
	w.same("nothing applied", w.everything(), before)
}

// What Apply would write, and what will be in its way, is known before.
func TestPreview(t *testing.T) {
	w := newWorld(t)
	w.options.Persist = true
	w.apply(Change{Name: twReuse, To: "1"})
	name := filepath.Join(w.options.Root, "etc/sysctl.d", persistedName)
	if err := os.WriteFile(name, []byte("# kept\nnet.core.somaxconn=99\nvm.swappiness = 10\nnet.ipv4.tcp_tw_reuse = 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	local := filepath.Join(w.options.Root, "etc/sysctl.d/99-local.conf")
	if err := os.WriteFile(local, []byte("net.core.somaxconn = 128\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := w.everything()
	changes := []Change{{Name: "net.core.somaxconn", To: "16384"}}
	preview := func(o Options) (p Persisted, err error) {
		w.do(func() error {
			p, err = Preview(changes, o)
			return nil
		})
		return p, err
	}
	p, err := preview(w.options)
	if err != nil {
		t.Fatal(err)
	}
	if p.Path != name || strings.Join(p.Gone, "; ") != "net.core.somaxconn = 99; vm.swappiness = 10" || strings.Join(p.New, "; ") != "net.core.somaxconn = 16384" {
		t.Errorf("%+v", p)
	}
	if len(p.Notes) == 0 {
		t.Fatal("no notes")
	}
	contains(t, p.Notes[0], local+" sets net.core.somaxconn to 128, and comes after ours")
	w.same("previewed", w.everything(), before)

	// It is what is written then.
	a := w.apply(changes...)
	if strings.Join(a.Notes, "; ") != strings.Join(p.Notes, "; ") || a.File != name {
		t.Errorf("%+v", a)
	}
	if p, err = preview(w.options); err != nil || len(p.Gone)+len(p.New) != 0 {
		t.Errorf("applied already: %+v, %v", p, err)
	}

	// All that is in the way is said at once, before anything is locked.
	o := w.options
	o.Journal, changes = filepath.Join(name, "journal"), []Change{{Name: "net.ipv4.tcp_fin_timeout", To: "1"}}
	if p, err = preview(o); err == nil {
		t.Fatal("it passed")
	}
	contains(t, err.Error(), "the advice is to leave it")
	contains(t, err.Error(), "the journal's directory: "+o.Journal)
	if p.Path != name {
		t.Errorf("what would be written is not said: %+v", p)
	}
	if err := os.Chmod(w.options.Journal, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err = preview(w.options); err == nil || !strings.Contains(err.Error(), "is no place for the journal") {
		t.Errorf("%v", err)
	}
}
