package load

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// A Template is text with holes that every request fills anew:
//
//	{seq}        0, 1, 2 ... in the whole run
//	{rand:A:B}   a whole number from A to B, both included
//	{line:FILE}  the lines of FILE in turn, over again at its end
//
// Only exactly these are holes; other braces are text.
type Template struct {
	texts []string // one more than holes
	holes []hole
}

// A hole appends what fills it.
type hole interface{ fill(b []byte) []byte }

// Holes makes templates. Those that it makes share the count of {seq} and the
// place in each file, across loops.
type Holes struct {
	seq   atomic.Int64
	files map[string]*lines
}

// lineBytesMost is how much a {line:FILE} may hold in memory.
const lineBytesMost = 256 << 20

// Parse reads a template. An error is that of a file, or of a range that is
// none.
func (h *Holes) Parse(s string) (*Template, error) {
	t := &Template{}
	text := 0
	for at := 0; ; {
		open := strings.IndexByte(s[at:], '{')
		if open < 0 {
			break
		}
		open += at
		end := strings.IndexByte(s[open:], '}')
		if end < 0 {
			break
		}
		end += open + 1
		filler, err := h.hole(s[open+1 : end-1])
		if err != nil {
			return nil, err
		}
		if at = open + 1; filler != nil {
			t.texts, t.holes = append(t.texts, s[text:open]), append(t.holes, filler)
			text, at = end, end
		}
	}
	t.texts = append(t.texts, s[text:])
	return t, nil
}

// Fixed says that every request has the same text.
func (t *Template) Fixed() bool { return len(t.holes) == 0 }

// Append appends the text of one request.
func (t *Template) Append(b []byte) []byte {
	for i, filler := range t.holes {
		b = filler.fill(append(b, t.texts[i]...))
	}
	return append(b, t.texts[len(t.holes)]...)
}

// hole reads what is between braces; nil if that is no hole.
func (h *Holes) hole(s string) (hole, error) {
	if s == "seq" {
		return (*sequence)(&h.seq), nil
	}
	if bounds, ok := strings.CutPrefix(s, "rand:"); ok {
		a, b, _ := strings.Cut(bounds, ":")
		from, err1 := strconv.ParseInt(a, 10, 64)
		to, err2 := strconv.ParseInt(b, 10, 64)
		switch {
		case err1 != nil || err2 != nil:
			return nil, nil
		case from > to || to-from < 0 || to-from+1 <= 0:
			return nil, fmt.Errorf("{%s}: want {rand:A:B} with A at most B", s)
		}
		return random{from, to - from + 1}, nil
	}
	if name, ok := strings.CutPrefix(s, "line:"); ok && name != "" {
		return h.open(name)
	}
	return nil, nil
}

type sequence atomic.Int64

func (s *sequence) fill(b []byte) []byte {
	return strconv.AppendInt(b, (*atomic.Int64)(s).Add(1)-1, 10)
}

type random struct{ from, n int64 }

func (r random) fill(b []byte) []byte { return strconv.AppendInt(b, r.from+rand.Int64N(r.n), 10) }

// lines are those of a file.
type lines struct {
	all  []string
	next atomic.Int64
}

func (l *lines) fill(b []byte) []byte {
	n := l.next.Add(1) - 1
	return append(b, l.all[n%int64(len(l.all))]...)
}

// open reads a file once, whatever the number of its holes.
func (h *Holes) open(name string) (hole, error) {
	if l := h.files[name]; l != nil {
		return l, nil
	}
	info, err := os.Stat(name)
	if err == nil && info.Size() > lineBytesMost {
		err = fmt.Errorf("open %s: %d bytes, at most %d", name, info.Size(), lineBytesMost)
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, fmt.Errorf("{line:%s}: %w", name, err)
	}
	l := &lines{}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			l.all = append(l.all, line)
		}
	}
	if len(l.all) == 0 {
		return nil, fmt.Errorf("{line:%s}: the file has no lines", name)
	}
	if h.files == nil {
		h.files = make(map[string]*lines)
	}
	h.files[name] = l
	return l, nil
}
