package tune

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a history and the present value say: what was ours and what was before.
func TestBefore(t *testing.T) {
	for _, c := range []struct {
		what, history, now string
		ours, old          string // "" if there is nothing to undo
	}{
		{"one", "a>b", "b", "b", "a"},
		{"not made: killed after its entry", "a>b", "a", "", ""},
		{"undone by hand", "a>b b>a", "a", "", ""},
		{"foreign", "a>b", "x", "b", "a"},
		{"two", "a>b b>c", "c", "c", "a"},
		{"three", "a>b b>c c>d", "d", "d", "a"},
		{"the second not made", "a>b b>c", "b", "b", "a"},
		{"the second not made, and then a third", "a>b b>c b>d", "d", "d", "a"},
		{"the first not made", "a>b a>c", "c", "c", "a"},
		{"none of three made", "a>b a>b a>b", "a", "", ""},
		{"rolled back, and killed before the journal was emptied", "a>b b>c", "a", "", ""},
		{"foreign between", "a>b x>c", "c", "c", "x"},
		{"foreign between, then the third", "a>b x>c c>d", "d", "d", "x"},
		{"foreign between and after", "a>b x>c", "y", "c", "x"},
		{"whitespace is no change", "a>1_2 1__2>c", "c", "c", "a"},
		{"the same value again", "a>b b>b", "b", "b", "a"},
	} {
		value := func(s string) *string {
			s = strings.ReplaceAll(s, "_", " ")
			return &s
		}
		var history []entry
		for step := range strings.FieldsSeq(c.history) {
			from, to, _ := strings.Cut(step, ">")
			history = append(history, entry{Knob: "k", Old: value(from), Intended: value(to)})
		}
		ours, old, done := (&target{knob: "k"}).before(history, value(c.now))
		if c.old == "" {
			if !done {
				t.Errorf("%s: not done: %v, %v", c.what, *ours, *old)
			}
		} else if done || *ours != c.ours || *old != c.old {
			t.Errorf("%s: done %v, ours %v, old %v, want %s and %s", c.what, done, ours, old, c.ours, c.old)
		}
	}
}

// What was there before --persist is there again, also if the machine stopped
// while the file was written.
func TestPersistedFileIsPutBack(t *testing.T) {
	w := newWorld(t)
	w.options.Persist = true
	name := filepath.Join(w.options.Root, "etc/sysctl.d", persistedName)
	const theirs = "# of an admin\nnet.ipv4.tcp_tw_reuse=0\n"
	if err := os.WriteFile(name, []byte(theirs), 0o644); err != nil {
		t.Fatal(err)
	}
	before := w.everything()
	w.apply(Change{Name: "net.core.somaxconn", To: "16384"})
	contains(t, w.everything()[name], "net.ipv4.tcp_tw_reuse = 0\n")
	w.rollback()
	w.same("rolled back", w.everything(), before)

	w.apply(Change{Name: "net.core.somaxconn", To: "16384"})
	for file, text := range map[string]string{name: theirs, name + unfinished: "# Written by"} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w.rollback()
	w.same("killed while it was written", w.everything(), before)
}

// A file that the journal cannot hold byte for byte is left.
func TestPersistedFileIsNotUTF8(t *testing.T) {
	w := newWorld(t)
	w.options.Persist = true
	name := filepath.Join(w.options.Root, "etc/sysctl.d", persistedName)
	if err := os.WriteFile(name, []byte("# gr\xfc\xdfe\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := w.everything()
	err := w.ns.Do(func() error {
		_, err := Apply([]Change{{Name: "net.core.somaxconn", To: "16384"}}, w.options)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "is not UTF-8") {
		t.Errorf("it passed, or said %v", err)
	}
	w.rollback()
	w.same("rolled back", w.everything(), before)
}

func TestForeignChangeOfTheFile(t *testing.T) {
	w := newWorld(t)
	w.options.Persist = true
	before := w.everything()
	w.apply(Change{Name: "net.core.somaxconn", To: "16384"})
	name := filepath.Join(w.options.Root, "etc/sysctl.d", persistedName)
	if err := os.WriteFile(name, []byte("net.core.somaxconn = 99\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := w.rollback()
	if len(r.Left) != 1 || r.Left[0].Name != name || r.Left[0].Old != "no file" {
		t.Errorf("%+v", r)
	}
	w.options.Force = true
	w.rollback()
	w.same("forced", w.everything(), before)
}
