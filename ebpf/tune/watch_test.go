package tune

import (
	"errors"
	"reflect"
	"testing"
	"time"
)

func TestWatcher(t *testing.T) {
	values := map[string]string{"a": "1", "b": "2"}
	read := func(name string) (string, error) {
		if v, ok := values[name]; ok {
			return v, nil
		}
		return "", errors.New("absent")
	}
	w := watchSysctls([]string{"a", "b", "c"}, read)
	at := time.Unix(100, 0)
	poll := func(want ...Drift) {
		t.Helper()
		if got := w.Poll(at); !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		at = at.Add(time.Second)
	}
	poll()
	values["b"] = "3"
	poll(Drift{time.Unix(101, 0), "b", "2", "3"})
	poll()
	values["c"] = "4" // it appears: a module was loaded
	delete(values, "a")
	poll()
	values["c"], values["a"], values["b"] = "5", "7", "2"
	poll(Drift{time.Unix(104, 0), "a", "1", "7"}, Drift{time.Unix(104, 0), "b", "3", "2"}, Drift{time.Unix(104, 0), "c", "4", "5"})
}

// Somebody else changes a setting of the namespace.
func TestWatchSysctls(t *testing.T) {
	w := newWorld(t)
	var watcher *Watcher
	var changed []Drift
	w.do(func() error {
		watcher = WatchSysctls()
		return nil
	})
	w.set("net.core.somaxconn", "77")
	w.do(func() error {
		changed = watcher.Poll(time.Unix(1, 0))
		return nil
	})
	if want := (Drift{time.Unix(1, 0), "net.core.somaxconn", "4096", "77"}); len(changed) != 1 || changed[0] != want {
		t.Errorf("%+v", changed)
	}
}

func BenchmarkPoll(b *testing.B) {
	w := WatchSysctls()
	b.ReportAllocs()
	for b.Loop() {
		w.Poll(time.Time{})
	}
}
