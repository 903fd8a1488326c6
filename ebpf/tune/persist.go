package tune

import (
	"fmt"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// persistedName is the file in /etc/sysctl.d. What sorts after it overrides it.
const persistedName = "90-hotlap.conf"

// Persisted is the file that makes changes outlive a reboot.
type Persisted struct {
	Path string
	// Gone and New are its lines that set something, as far as they change.
	Gone, New []string
	// Notes say what may be in its way at the next boot.
	Notes []string

	text string // "" is nothing to write
}

func (o *Options) dir() string { return filepath.Join(o.Root, "etc/sysctl.d") }

func (o *Options) file() string { return filepath.Join(o.dir(), persistedName) }

// restorable says why a file that is there already could not be put back: the
// journal's JSON would change it.
func (o *Options) restorable() error {
	old, err := readFile(o.file())
	if err == nil && old != nil && !utf8.ValidString(*old) {
		err = fmt.Errorf("--persist: %s is there already, and is not UTF-8, so it could not be put back: move it away", o.file())
	}
	return err
}

// persist makes the file: of these changes, what the journal says was applied
// before in this boot and is still so, and what the file has already.
func (o *Options) persist(changes []Change, j *journal, k key) (p Persisted, err error) {
	p.Path = o.file()
	values := map[string]string{}
	old, err := readFile(p.Path)
	if err != nil {
		return p, err
	}
	if old == nil {
		old = new(string)
	}
	for name, value := range assignments(*old) {
		values[name] = value
	}
	for _, e := range j.entries {
		if e.Knob != "" && e.Boot == k.boot && e.Netns == k.netns {
			if now, err := Read(e.Knob); err == nil && same(now, *e.Intended) {
				values[e.Knob] = *e.Intended
			}
		}
	}
	for _, c := range changes {
		values[c.Name] = c.To
	}
	if len(values) > 0 {
		p.text = persistedText(values)
	}
	p.Gone, p.New = without(settings(*old), settings(p.text)), without(settings(p.text), settings(*old))
	p.Notes = o.persistNotes(values)
	return p, nil
}

func persistedText(values map[string]string) string {
	var b strings.Builder
	b.WriteString("# Written by hotlap tune apply --persist; hotlap tune rollback removes it.\n")
	for i := range Knobs {
		k := &Knobs[i]
		if value, ok := values[k.Name]; ok {
			fmt.Fprintf(&b, "\n# %s.\n%s = %s\n", k.Why, k.Name, strings.Join(strings.Fields(value), " "))
		}
	}
	return b.String()
}

// assignments reads a file as sysctl.d(5) has it.
func assignments(text string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			name, value, ok := strings.Cut(line, "=")
			if !ok || line[0] == '#' || line[0] == ';' {
				continue
			}
			// A minus lets errors pass. Slashes are as good as dots.
			name = strings.ReplaceAll(strings.TrimSpace(strings.TrimPrefix(name, "-")), "/", ".")
			if !yield(name, strings.TrimSpace(value)) {
				return
			}
		}
	}
}

// settings are the lines of such a file that set something.
func settings(text string) (lines []string) {
	for name, value := range assignments(text) {
		lines = append(lines, name+" = "+value)
	}
	return lines
}

// without is a list without what another has too.
func without(list, other []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(other, s) })
}

// persistNotes says what may be in the way at the next boot.
func (o *Options) persistNotes(values map[string]string) (notes []string) {
	for _, file := range o.overriding() {
		text, err := readFile(file)
		if err != nil || text == nil {
			continue
		}
		for name, value := range assignments(*text) {
			for ours, want := range values {
				// Names may be patterns: net.ipv4.conf.*.rp_filter.
				if match, _ := path.Match(name, ours); match && !same(value, want) {
					notes = append(notes, fmt.Sprintf("%s sets %s to %s, and comes after ours: it will override it", file, ours, value))
				}
			}
		}
	}
	slices.Sort(notes)
	if _, ok := values[conntrackMax]; ok {
		notes = append(notes, conntrackMax+" is there once the module nf_conntrack is loaded: have it loaded at boot (modules-load.d), or the line does nothing")
	}
	for _, daemon := range []string{"tuned", "bpftune"} {
		if o.runs(daemon) {
			notes = append(notes, daemon+" is active: it changes settings too, at boot or while it runs, and may undo these")
		}
	}
	return append(notes, "the limit of open files is no sysctl. /etc/security/limits.d sets it for logins (PAM), and does not reach systemd services: those need LimitNOFILE= in their unit")
}

// overriding are the files that are read after ours: sysctl --system and
// systemd-sysctl sort them by name whatever their directory, and of one name take
// the first. sysctl --system reads /etc/sysctl.conf last of all.
func (o *Options) overriding() (files []string) {
	first := map[string]string{}
	for _, dir := range []string{"etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d", "lib/sysctl.d"} {
		entries, _ := os.ReadDir(filepath.Join(o.Root, dir))
		for _, e := range entries {
			name := e.Name()
			if _, hidden := first[name]; strings.HasSuffix(name, ".conf") && name > persistedName && !hidden {
				first[name] = filepath.Join(o.Root, dir, name)
			}
		}
	}
	for _, file := range first {
		files = append(files, file)
	}
	return append(files, filepath.Join(o.Root, "etc/sysctl.conf"))
}

// runs says whether a process of this name runs.
func (o *Options) runs(name string) bool {
	all, _ := filepath.Glob(filepath.Join(o.Root, "proc/[0-9]*/comm"))
	return slices.ContainsFunc(all, func(file string) bool {
		b, err := os.ReadFile(file)
		return err == nil && strings.TrimSpace(string(b)) == name
	})
}
