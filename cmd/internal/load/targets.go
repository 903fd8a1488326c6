package load

import (
	"fmt"

	"hotlap/engine"
)

// Targets are the requests of a run, which are sent in turn.
type Targets struct {
	all   []target
	holes Holes
}

// A target is a request, or a template of one.
type target struct {
	engine.Request
	url, body *Template // nil where the request's own is sent
}

// Add adds a request. What is wrong with it shows here.
func (t *Targets) Add(e *engine.Engine, r engine.Request) error {
	n := target{Request: r}
	url, err := t.holes.Parse(r.URL)
	if err != nil {
		return fmt.Errorf("URL: %w", err)
	}
	body, err := t.holes.Parse(string(r.Body))
	if err != nil {
		return fmt.Errorf("body: %w", err)
	}
	if !url.Fixed() {
		n.url = url
	}
	if !body.Fixed() {
		n.body = body
	}
	if n.url != nil || n.body != nil {
		// {seq} begins with the first request that is sent, not with this look.
		var holes Holes
		holes.files = t.holes.files
		sample := n
		sample.url, _ = holes.Parse(r.URL)
		sample.body, _ = holes.Parse(string(r.Body))
		var filled made
		sample.fill(&filled)
		for _, l := range holes.files {
			l.next.Store(0)
		}
		if err := e.Prepare(&filled.Request); err != nil {
			return err
		}
	} else if err := e.Prepare(&n.Request); err != nil {
		return err
	}
	t.all = append(t.all, n)
	return nil
}

// Len is how many there are.
func (t *Targets) Len() int { return len(t.all) }

// URL is that of a target, holes unfilled.
func (t *Targets) URL(i int) string { return t.all[i].URL }

// made is a request that was made from a template. It is used again.
type made struct {
	engine.Request
	body []byte
}

// fill makes the next request of a template.
func (t *target) fill(m *made) {
	m.Request = t.Request
	m.Tag = m
	if t.url != nil {
		m.URL = string(t.url.Append(nil))
	}
	if t.body != nil {
		m.body = t.body.Append(m.body[:0])
		m.Body = m.body
	}
}

// A turn gives the targets to one loop, in turn.
type turn struct {
	targets *Targets
	at      int
	spare   []*made // consumed ones
}

// next is the next request.
func (t *turn) next() *engine.Request {
	target := &t.targets.all[t.at]
	if t.at++; t.at == len(t.targets.all) {
		t.at = 0
	}
	if target.url == nil && target.body == nil {
		return &target.Request
	}
	var m *made
	if last := len(t.spare) - 1; last >= 0 {
		m = t.spare[last]
		t.spare = t.spare[:last]
	} else {
		m = new(made)
	}
	target.fill(m)
	return &m.Request
}

// release takes back a request whose result was consumed.
func (t *turn) release(r *engine.Request) {
	if m, ok := r.Tag.(*made); ok {
		t.spare = append(t.spare, m)
	}
}
