package tune

import "time"

// Watcher notices when somebody changes the settings that matter while a load
// runs. One goroutine uses it at a time.
type Watcher struct {
	read  func(name string) (string, error)
	names []string
	last  map[string]string // what could be read
}

// Drift is a change that was noticed.
type Drift struct {
	At   time.Time `json:"at"` // when it was noticed
	Name string    `json:"name"`
	From string    `json:"from"`
	To   string    `json:"to"`
}

// WatchSysctls begins to watch the knobs, of the calling thread's network
// namespace: Poll is called in the same.
func WatchSysctls() *Watcher {
	names := make([]string, len(Knobs))
	for i := range Knobs {
		names[i] = Knobs[i].Name
	}
	return watchSysctls(names, Read)
}

func watchSysctls(names []string, read func(string) (string, error)) *Watcher {
	w := &Watcher{read: read, names: names, last: map[string]string{}}
	w.Poll(time.Time{})
	return w
}

// Poll reads them all, in a quarter of a millisecond, and returns what has changed since the
// last time. One that cannot be read, before or now, is passed over.
func (w *Watcher) Poll(now time.Time) (changed []Drift) {
	for _, name := range w.names {
		value, err := w.read(name)
		if err != nil {
			continue
		}
		if before, known := w.last[name]; known && before != value {
			changed = append(changed, Drift{At: now, Name: name, From: before, To: value})
		}
		w.last[name] = value
	}
	return changed
}
