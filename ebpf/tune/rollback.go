package tune

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// RolledBack is what became of the changes in the journal.
type RolledBack struct {
	Restored []Change `json:"restored"`
	// Left are those whose value is no longer ours; they stay in the journal.
	Left []Left `json:"left,omitempty"`
	// Notes say what else the journal has.
	Notes []string `json:"notes,omitempty"`
}

// Left is a change that was not undone.
type Left struct {
	Name string `json:"name"`
	// Value is what it has now, Ours what was written, Old what it was before.
	Value string `json:"value"`
	Ours  string `json:"ours"`
	Old   string `json:"old"`
}

// Rollback undoes what the journal has of the calling thread's network namespace
// in this boot, and what was persisted, the last first. A value that somebody has
// changed since stays, unless Force says otherwise.
func Rollback(o Options) (*RolledBack, error) {
	o.complete()
	r := &RolledBack{Restored: []Change{}}
	if _, err := os.Stat(filepath.Join(o.Journal, journalName)); errors.Is(err, fs.ErrNotExist) {
		r.Notes = []string{"there is no journal in " + o.Journal + ": nothing was applied, or all of it was rolled back"}
		return r, nil
	}
	k, err := thisKey()
	if err != nil {
		return r, err
	}
	j, err := openJournal(o.Journal)
	if err != nil {
		return r, err
	}
	defer j.close()
	o.step("locked the journal")
	q := question{k, o.anywhere || initialNamespace()}
	var errs []error
	undone := map[string]bool{}
	for _, h := range slices.Backward(q.histories(j.entries)) {
		left, err := r.undo(h, &o)
		errs = append(errs, err)
		undone[h[0].Knob] = !left && err == nil
		o.step("undid " + h[0].Knob)
	}
	kept := slices.DeleteFunc(slices.Clone(j.entries), func(e entry) bool {
		return q.gone(e) || q.ours(e) && undone[e.Knob]
	})
	r.note(q, j.entries)
	errs = append(errs, j.replace(kept))
	return r, errors.Join(errs...)
}

// A question is which entries are to be undone here and now.
type question struct {
	key   key
	files bool // this is where the file is ours
}

func (q *question) ours(e entry) bool {
	if e.Knob == "" {
		return q.files
	}
	return e.Boot == q.key.boot && e.Netns == q.key.netns
}

// gone: runtime values ended with the boot they were set in.
func (q *question) gone(e entry) bool { return e.Knob != "" && e.Boot != q.key.boot }

// histories are the entries to be undone, together for each knob, in the order of
// their last changes.
func (q *question) histories(all []entry) (histories [][]entry) {
	for _, e := range all {
		if !q.ours(e) {
			continue
		}
		h := []entry{e}
		if i := slices.IndexFunc(histories, func(h []entry) bool { return h[0].Knob == e.Knob }); i >= 0 {
			h = append(histories[i], e)
			histories = slices.Delete(histories, i, i+1)
		}
		histories = append(histories, h)
	}
	return histories
}

func (r *RolledBack) note(q question, all []entry) {
	gone, elsewhere, booted := 0, 0, false
	for _, e := range all {
		switch {
		case q.gone(e):
			gone++
		case !q.ours(e):
			elsewhere++
		case e.Boot != q.key.boot:
			booted = true
		}
	}
	if gone > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d changes were made before the last reboot, and ended with it", gone))
	}
	if booted {
		r.Notes = append(r.Notes, "what the file in /etc/sysctl.d had was set when the machine came up, and stays until it goes down")
	}
	if elsewhere > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d changes were made in another network namespace: roll them back there", elsewhere))
	}
}

// undo puts back one value, if it is ours.
func (r *RolledBack) undo(history []entry, o *Options) (left bool, err error) {
	t := target{o, history[0].Knob}
	now, err := t.read()
	if err != nil {
		return false, err
	}
	ours, old, done := t.before(history, now)
	switch {
	case done:
		return false, t.clean()
	case !t.same(now, ours) && !o.Force:
		r.Left = append(r.Left, Left{Name: t.name(), Value: t.show(now), Ours: t.show(ours), Old: t.show(old)})
		return true, nil
	}
	if err := t.write(old); err != nil {
		return false, err
	}
	o.step("restored " + t.knob)
	if again, err := t.read(); err != nil || !t.same(again, old) {
		return false, errors.Join(err, fmt.Errorf("%s could not be put back to %q: it is %q", t.name(), t.show(old), t.show(again)))
	}
	r.Restored = append(r.Restored, Change{Name: t.name(), Scope: t.scope(), From: t.show(now), To: t.show(old)})
	return false, nil
}

// A target is where values are put back: a knob, or the file.
type target struct {
	o    *Options
	knob string
}

// before gives what we wrote last and what was there before our first change, or
// before the first after somebody else's: the history is followed back as long as
// each change began with what the one before it had written. Done: there is
// nothing to undo.
//
// An entry does not say that its change was made (see entry). One that was not
// shows in what follows, the next entry's old value or the present one: it is
// still the entry's own old value.
func (t *target) before(history []entry, now *string) (ours, old *string, done bool) {
	last := len(history) - 1
	for last >= 0 && t.same(now, history[last].Old) && !t.same(now, history[last].Intended) {
		last--
	}
	if last < 0 {
		return nil, nil, true
	}
	ours, old = history[last].Intended, history[last].Old
	for i := last - 1; i >= 0; i-- {
		if e := &history[i]; t.same(e.Intended, old) {
			old = e.Old
		} else if !t.same(e.Old, old) {
			break
		}
	}
	return ours, old, t.same(now, old)
}

func (t *target) name() string {
	if t.knob == "" {
		return t.o.file()
	}
	return t.knob
}

// scope is the machine's for the file, which is read when it comes up.
func (t *target) scope() Scope {
	if k, ok := Find(t.knob); ok {
		return k.Scope
	}
	return Host
}

func (t *target) read() (*string, error) {
	if t.knob == "" {
		return readFile(t.name())
	}
	value, err := Read(t.knob)
	return &value, err
}

func (t *target) write(value *string) error {
	switch {
	case t.knob != "":
		return Write(t.knob, *value)
	case value == nil:
		return removeFile(t.name())
	}
	return writeFile(t.name(), []byte(*value))
}

// clean removes what a crash has left of a file that was being written.
func (t *target) clean() error {
	if t.knob == "" {
		if err := os.Remove(t.name() + unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (t *target) same(a, b *string) bool {
	switch {
	case a == nil || b == nil:
		return a == b
	case t.knob == "":
		return *a == *b
	}
	return same(*a, *b)
}

// show is a value for people.
func (t *target) show(value *string) string {
	switch {
	case value == nil:
		return "no file"
	case t.knob == "":
		return fmt.Sprintf("a file of %d bytes", len(*value))
	}
	return *value
}
