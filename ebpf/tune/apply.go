package tune

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// A Change is a value that a knob is to be given.
type Change struct {
	Name  string `json:"name"`
	Scope Scope  `json:"scope"`
	// From is the value that it was decided on: Apply does not write over another. ""
	// is any.
	From string `json:"from"`
	To   string `json:"to"`
	Why  string `json:"why,omitempty"`
	Risk string `json:"risk,omitempty"`
}

// Changes are what was advised, in the order in which it is to be written: of
// these knobs, or of all if there are none.
func (d *Diagnosis) Changes(only ...string) []Change {
	all := []Change{}
	wanted := map[string]bool{}
	for _, name := range only {
		if k, ok := Find(name); ok {
			wanted[k.Name], wanted[k.First] = true, true
		}
	}
	for _, a := range d.Advice {
		if a.Want == "" || a.Elsewhere || len(only) > 0 && !wanted[a.Name] {
			continue
		}
		c := Change{Name: a.Name, Scope: a.Scope, From: a.Value, To: a.Want, Why: a.Why, Risk: a.Risk}
		if a.Case != "" {
			c.Why = a.Case + ". In general: " + a.Why
		}
		all = append(all, c)
	}
	return all
}

// Options say how changes are made and undone.
type Options struct {
	// Journal is the directory of the journal; "" is JournalDir.
	Journal string
	// Persist writes what was applied into a file of sysctl.d too.
	Persist bool
	// Root is where /etc, /run, /usr and /proc of Persist are; "" is /.
	Root string
	// Force undoes what somebody else has changed since.
	Force bool

	anywhere bool         // for tests: Persist from any namespace
	step     func(string) // for tests: called at each step, with what was done
}

func (o *Options) complete() {
	if o.Journal == "" {
		o.Journal = JournalDir
	}
	if o.Root == "" {
		o.Root = "/"
	}
	if o.step == nil {
		o.step = func(string) {}
	}
}

// Applied is what became of changes.
type Applied struct {
	Done []Change `json:"done"`
	// Rest was not written, as something before it failed.
	Rest []Change `json:"rest,omitempty"`
	// File is what Persist wrote; "" is nothing.
	File  string   `json:"file,omitempty"`
	Notes []string `json:"notes,omitempty"`
}

// Apply makes changes in the calling thread's network namespace. Those that can
// be seen to be impossible keep all from being made; one that fails ends it.
func Apply(changes []Change, o Options) (*Applied, error) {
	o.complete()
	a := &Applied{Done: []Change{}, Rest: slices.Clone(changes)}
	if err := o.possible(changes); err != nil {
		return a, fmt.Errorf("nothing was changed:\n%w", err)
	}
	if len(changes) == 0 && !o.Persist {
		return a, nil
	}
	k, err := thisKey()
	if err != nil {
		return a, err
	}
	j, err := openJournal(o.Journal)
	if err != nil {
		return a, err
	}
	defer j.close()
	o.step("locked the journal")
	w := &writer{journal: j, key: k, step: o.step}
	for i, c := range changes {
		if a.Rest = changes[i:]; same(c.From, c.To) {
			continue
		}
		if err := w.change(&c); err != nil {
			return a, err
		}
		a.Done, a.Rest = append(a.Done, c), changes[i+1:]
	}
	if o.Persist {
		p, err := o.persist(changes, j, k)
		if err != nil {
			return a, err
		}
		if err := w.file(p); err != nil {
			return a, err
		}
		if a.Notes = p.Notes; p.text != "" {
			a.File = p.Path
		}
	}
	return a, nil
}

// possible looks for what cannot be written, without writing.
func (o *Options) possible(changes []Change) error {
	var errs []error
	for _, c := range changes {
		if err := c.possible(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.Name, err))
		}
	}
	if o.Persist {
		if !o.anywhere && !initialNamespace() {
			errs = append(errs, errors.New("--persist is for the initial network namespace: a file of sysctl.d is not this namespace's"))
		} else if err := makeable(o.dir()); err != nil {
			errs = append(errs, fmt.Errorf("--persist needs to write into %s: %w", o.dir(), err))
		} else if err := o.restorable(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Preview says what is known of an Apply before it: what it would write into
// sysctl.d, and, as its error, what would keep it from anything. It writes and
// locks nothing.
func Preview(changes []Change, o Options) (Persisted, error) {
	o.complete()
	if len(changes) == 0 && !o.Persist {
		return Persisted{}, nil
	}
	j := &journal{dir: o.Journal}
	k, err := thisKey()
	err = errors.Join(o.possible(changes), err, j.possible(), j.read())
	if !o.Persist || !o.anywhere && !initialNamespace() {
		return Persisted{}, err
	}
	p, perr := o.persist(changes, j, k)
	return p, errors.Join(err, perr)
}

func (c *Change) possible() error {
	k, ok := Find(c.Name)
	switch {
	case !ok || k.Name != c.Name:
		return errors.New("no knob of the table")
	case k.Leave:
		return fmt.Errorf("the advice is to leave it: %s", k.Why)
	case k.Scope == Host && !initialNamespace():
		return errors.New("it is the machine's: change it in the initial network namespace")
	}
	return writable(c.Name)
}

// writer makes changes that are in the journal first.
type writer struct {
	journal *journal
	key     key
	step    func(string)
}

func (w *writer) record(knob string, old *string, intended string) error {
	e := entry{Time: time.Now().UTC(), Boot: w.key.boot, Netns: w.key.netns, Knob: knob, Old: old, Intended: &intended}
	if err := w.journal.append(e); err != nil {
		return fmt.Errorf("the journal in %s: %w", w.journal.dir, err)
	}
	w.step("recorded " + knob)
	return nil
}

// change writes one value. From becomes what it was at that moment.
func (w *writer) change(c *Change) error {
	old, err := Read(c.Name)
	if err != nil {
		return err
	}
	if c.From != "" && !same(old, c.From) && !same(old, c.To) {
		return fmt.Errorf("%s has become %q meanwhile, it was %q: look at it again", c.Name, old, c.From)
	}
	c.From = old
	if len(old) >= writeBytes {
		return fmt.Errorf("%s: its list is longer than the kernel takes at once, so it could not be put back: not changed", c.Name)
	}
	if err := w.record(c.Name, &old, c.To); err != nil {
		return err
	}
	err = Write(c.Name, c.To)
	w.step("wrote " + c.Name)
	now, readErr := Read(c.Name)
	if err == nil {
		err = readErr
	}
	if err == nil && same(now, c.To) {
		w.step("read back " + c.Name)
		return nil
	}
	if err == nil {
		err = fmt.Errorf("the kernel made %q of it", now)
	}
	err = fmt.Errorf("%s could not be set to %q: %w", c.Name, c.To, err)
	if readErr == nil && !same(now, old) {
		err = errors.Join(err, Write(c.Name, old))
	}
	return err
}

// file writes the file of sysctl.d.
func (w *writer) file(p Persisted) error {
	if p.text == "" {
		return nil
	}
	old, err := readFile(p.Path)
	if err != nil || old != nil && *old == p.text {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(p.Path), 0o755); err != nil {
		return err
	}
	if err := w.record("", old, p.text); err != nil {
		return err
	}
	if err := writeFile(p.Path, []byte(p.text)); err != nil {
		return fmt.Errorf("--persist: %w", err)
	}
	w.step("wrote " + p.Path)
	return nil
}

// readFile is nil for a file that is not there.
func readFile(name string) (*string, error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	text := string(b)
	return &text, err
}
