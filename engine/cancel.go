package engine

// Cancel ends the requests that which picks as Canceled: of those that a Run
// has taken from its source and that have not ended. Their results go to the
// sink like any others. It is called on the loops, once for each request in
// flight; it must be quick and must not call the engine.
//
// A Source that calls it from Next reaches all that it returned before.
func (e *Engine) Cancel(which func(*Request) bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for r := range e.runs {
		for _, p := range r.parts {
			p.l.post(func(now int64) { p.cancel(which, now) })
		}
	}
}

// cancel ends the part's calls that which picks. They are picked before the
// first of them ends: its end may be the end of others on its connection.
func (p *part) cancel(which func(*Request) bool, now int64) {
	var picked []*call
	for k := p.calls; k != nil; k = k.down {
		if which(k.request) {
			picked = append(picked, k)
		}
	}
	for _, k := range picked {
		if k.state != callFree {
			p.l.abandon(k, now, Canceled, "the request was canceled")
		}
	}
}
