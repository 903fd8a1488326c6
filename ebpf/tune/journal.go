package tune

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// JournalDir is where the journal is, if nothing else is said.
const JournalDir = "/var/lib/hotlap"

const (
	journalName = "tune.jsonl"
	lockName    = "tune.lock"
	// journalMost bounds what is read: thousands of applies.
	journalMost = 16 << 20
)

// A key names a network namespace of one run of the kernel. The inode numbers of
// namespaces come again, their cookies do not.
type key struct {
	boot  string
	netns uint64
}

// thisKey is that of the calling thread's namespace.
func thisKey() (key, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return key{}, fmt.Errorf("the boot's id: %w", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return key{}, err
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return key{}, fmt.Errorf("SO_NETNS_COOKIE, by which the journal tells network namespaces apart, needs Linux 5.14: %w", err)
	}
	return key{strings.TrimSpace(string(b)), cookie}, nil
}

// An entry is one change, written before it is made: that it is there does not say
// that the change was made.
type entry struct {
	Time time.Time `json:"time"`
	Boot string    `json:"boot_id"`
	// Netns is SO_NETNS_COOKIE.
	Netns uint64 `json:"netns_cookie"`
	// Knob is a sysctl's name, or empty: then it is the persisted file.
	Knob string `json:"knob,omitempty"`
	// Old is null for a file that was not there.
	Old      *string `json:"old"`
	Intended *string `json:"intended"`
}

// journal is the journal, locked.
type journal struct {
	dir     string
	lock    *os.File
	entries []entry
	whole   int64 // bytes of entries that are complete
}

// openJournal makes the directory if it must, locks and reads the journal.
func openJournal(dir string) (j *journal, err error) {
	_, unmade := os.Stat(dir)
	err = os.MkdirAll(dir, 0o755)
	if err == nil && unmade != nil { // what is on disk in it must be found there
		err = syncDir(filepath.Dir(dir))
	}
	if err != nil {
		return nil, fmt.Errorf("the journal's directory: %w: be root, or name another with --journal", err)
	}
	if err := trusted(dir); err != nil {
		return nil, err
	}
	j = &journal{dir: dir}
	j.lock, err = os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("the journal's lock: %w: be root, or name another directory with --journal", err)
	}
	err = unix.Flock(int(j.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("another hotlap tune is at work with the journal in %s: run this again when it has ended", dir)
	}
	if err == nil {
		err = j.read()
	}
	if err != nil {
		j.lock.Close()
		return nil, err
	}
	return j, nil
}

// possible looks for what would keep a journal from being written, without making
// or locking it.
func (j *journal) possible() error {
	if err := makeable(j.dir); err != nil {
		return fmt.Errorf("the journal's directory: %s: %w: be root, or name another with --journal", j.dir, err)
	}
	if _, err := os.Stat(j.dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return trusted(j.dir)
}

// makeable says why a directory, which may not be there yet, could not be written
// into.
func makeable(dir string) error {
	err := unix.Access(dir, unix.W_OK|unix.X_OK)
	if above := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && above != dir {
		return makeable(above)
	}
	return err
}

// trusted refuses a directory in which somebody else can put a journal of his own
// making, or a link: what is in it is written to the kernel and to /etc.
func trusted(dir string) error {
	var s unix.Stat_t
	if err := unix.Stat(dir, &s); err != nil {
		return fmt.Errorf("the journal's directory: %w", err)
	}
	if s.Mode&0o022 != 0 || s.Uid != 0 && int(s.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is no place for the journal: others can write there (mode %o, owner %d), and rollback does what it says. Name a directory of your own with --journal, or one that is not there yet",
			dir, s.Mode&0o7777, s.Uid)
	}
	return nil
}

// close unlocks it.
func (j *journal) close() { j.lock.Close() }

func (j *journal) path() string { return filepath.Join(j.dir, journalName) }

// read reads the entries. The last one may be torn: whoever wrote it has not come
// to the change itself. Anything else that is not as it was written ends it: a
// wrong value must not be written to the kernel.
func (j *journal) read() error {
	f, err := os.Open(j.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, journalMost+1))
	if err != nil {
		return err
	}
	if len(text) > journalMost {
		return fmt.Errorf("%s has more than %d bytes: it is no journal of hotlap tune", j.path(), journalMost)
	}
	for n := 1; ; n++ {
		line, rest, ok := bytes.Cut(text, []byte{'\n'})
		if !ok {
			return nil
		}
		e, err := parseEntry(line)
		if err != nil {
			return fmt.Errorf("%s, line %d: %w: nothing was changed. Values can be put back by hand from its lines (old); then move it away", j.path(), n, err)
		}
		j.entries = append(j.entries, e)
		j.whole += int64(len(line)) + 1
		text = rest
	}
}

// A line is an entry with the CRC-32 (IEEE) of its bytes.
type line struct {
	CRC   string          `json:"crc32"`
	Entry json.RawMessage `json:"entry"`
}

func parseEntry(b []byte) (e entry, err error) {
	var l line
	if err := strict(b, &l); err != nil {
		return e, err
	}
	if l.CRC != sum(l.Entry) {
		return e, fmt.Errorf("the entry is not as it was written: CRC-32 %s, not %s", sum(l.Entry), l.CRC)
	}
	if err := strict(l.Entry, &e); err != nil {
		return e, err
	}
	if e.Intended == nil || e.Knob != "" && e.Old == nil {
		return e, errors.New("the entry lacks a value")
	}
	if _, known := Find(e.Knob); e.Knob != "" && !known {
		return e, fmt.Errorf("this hotlap does not know %q", e.Knob)
	}
	return e, nil
}

func strict(b []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return fmt.Errorf("no entry: %w", err)
	}
	if d.More() {
		return errors.New("no entry: more than one value")
	}
	return nil
}

func sum(b []byte) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE(b)) }

func (e *entry) line() ([]byte, error) {
	b, err := json.Marshal(e)
	if err == nil {
		b, err = json.Marshal(line{sum(b), b})
	}
	return append(b, '\n'), err
}

// append puts an entry on disk. When it returns, the change may be made.
func (j *journal) append(e entry) error {
	b, err := e.line()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(j.path(), os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(j.whole); err != nil { // a torn entry goes
		return err
	}
	if _, err := f.WriteAt(b, j.whole); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if j.whole == 0 {
		if err := syncDir(j.dir); err != nil {
			return err
		}
	}
	j.whole += int64(len(b))
	j.entries = append(j.entries, e)
	return nil
}

// replace leaves these entries alone in the journal, and no file without any.
func (j *journal) replace(entries []entry) error {
	if len(entries) == 0 {
		j.entries, j.whole = nil, 0
		return removeFile(j.path())
	}
	var text []byte
	for i := range entries {
		b, err := entries[i].line()
		if err != nil {
			return err
		}
		text = append(text, b...)
	}
	if err := writeFile(j.path(), text); err != nil {
		return err
	}
	j.entries, j.whole = entries, int64(len(text))
	return nil
}

// unfinished is what a file is called until it is whole.
const unfinished = ".new"

// writeFile replaces a file as a whole, or not at all.
func writeFile(name string, text []byte) error {
	f, err := os.OpenFile(name+unfinished, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(name))
}

// removeFile removes a file, and what a crash has left of its successor.
func removeFile(name string) error {
	for _, n := range []string{name, name + unfinished} {
		if err := os.Remove(n); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return syncDir(filepath.Dir(name))
}

// syncDir makes what a directory has of names last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
