package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hotlap/bench/target"
	"hotlap/cmd/internal/need"
)

// startTargetServer runs a target server for the length of the test.
func startTargetServer(t *testing.T) (url string) {
	t.Helper()
	s, err := target.Start(target.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return "http://" + s.Addr()
}

// wants looks for each piece in what hotlap said.
func wants(t *testing.T, said string, pieces ...string) {
	t.Helper()
	for _, piece := range pieces {
		if !strings.Contains(said, piece) {
			t.Errorf("no %q in:\n%s", piece, said)
		}
	}
}

// The signals that end a run, and the exit codes that tell of them.
var endings = []struct {
	signal syscall.Signal
	code   int
}{
	{syscall.SIGINT, 130},
	{syscall.SIGTERM, 143},
}

// What is in flight at the signal finishes, though the input stays open.
func TestSignalLetsRequestsFinish(t *testing.T) {
	for _, c := range endings {
		t.Run(c.signal.String(), func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			p := start(t, "fetch", "--per-host", "2")
			p.give(s.url+"/1", s.url+"/2", s.url+"/3")
			held := s.await("/1", "/2")
			held[0].answer()
			if r := p.stdout.result(); r.ID != 1 || r.Status != 200 || r.Body != "/1" {
				t.Fatalf("first result: %+v", r)
			}
			third := s.await("/3")

			p.signal(c.signal)
			held[1].answer() // the two seconds that these have are long
			third[0].answer()

			got := results(t, p.stdout.rest())
			for _, r := range got {
				if r.Status != 200 || r.Body != fmt.Sprintf("/%d", r.ID) || r.Error.Kind != "" {
					t.Errorf("after the signal: %+v", r)
				}
			}
			if len(got) != 2 {
				t.Errorf("%d results after the signal, want 2", len(got))
			}
			p.exits(c.code)
			wants(t, p.stderr.rest(), "requests   3 in ", "statuses   200 3\n", "ended      early: by a signal\n")
		})
	}
}

// What does not finish is cut after the grace: each request that was taken
// from the input has its line, and the rest of the input is left alone.
func TestSignalCutsTheRest(t *testing.T) {
	const lines = 100_000
	for _, c := range endings {
		t.Run(c.signal.String(), func(t *testing.T) {
			t.Parallel()
			s, dir := newStage(t), t.TempDir()
			input, summary := filepath.Join(dir, "urls"), filepath.Join(dir, "summary.json")
			if err := os.WriteFile(input, []byte(strings.Repeat(s.url+"/held\n", lines)), 0o666); err != nil {
				t.Fatal(err)
			}
			p := start(t, "fetch", "-i", input, "-c", "2", "--summary", summary)
			held := s.await("/held")
			s.await("/held")
			held[0].answer()
			first := p.stdout.result()
			s.await("/held")

			p.signal(c.signal)
			got := results(t, p.stdout.rest())
			p.exits(c.code)
			if took := time.Since(p.interrupted); took < interruptGrace {
				t.Errorf("over after %v: requests in flight have %v", took, interruptGrace)
			}
			if first.Status != 200 {
				t.Errorf("the one that was answered: %+v", first)
			}
			phases := map[string]int{}
			for _, r := range got {
				if phases[r.Error.Phase]++; r.Error.Kind != "canceled" || r.Status != 0 {
					t.Fatalf("cut by a signal: %+v", r)
				}
			}
			if phases["head"] != 2 || phases["head"]+phases["queue"] != len(got) {
				t.Errorf("canceled in %v: two had been sent", phases)
			}
			got = append(got, first)
			checkLedger(t, got)
			if len(got) >= lines {
				t.Errorf("all of the input was taken, with two connections that are held")
			}
			wants(t, p.stderr.rest(), "statuses   200 1\n", "ended      early: by a signal\n")
			wants(t, readFile(t, summary), fmt.Sprintf("\"requests\": %d,\n", len(got)), "\"responses\": 1,\n", `"ended": "signal"`)
		})
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// At full speed, too, each request that was taken has one line.
func TestSignalAtFullSpeed(t *testing.T) {
	url := startTargetServer(t)
	for _, c := range endings {
		t.Run(c.signal.String(), func(t *testing.T) {
			p := start(t, "fetch", "-p", "auto", "-c", "4")
			p.giveWithoutEnd(url + "/x")
			var got []result
			for range 2000 {
				got = append(got, p.stdout.result())
			}
			p.signal(c.signal)
			got = append(got, results(t, p.stdout.rest())...)
			p.exits(c.code)
			checkLedger(t, got)
			for _, r := range got {
				if ok := r.Status == 200 && r.Body == "/x"; !ok && r.Error.Kind != "canceled" {
					t.Fatalf("got %+v", r)
				}
			}
			wants(t, p.stderr.rest(), "ended      early: by a signal\n")
		})
	}
}

// A second signal waits for nothing: no canceled line, no summary.
func TestSecondSignal(t *testing.T) {
	s := newStage(t)
	p := start(t, "fetch", "--per-host", "2")
	p.give(s.url+"/1", s.url+"/2")
	s.await("/1", "/2")[0].answer()
	if r := p.stdout.result(); r.ID != 1 {
		t.Fatalf("first result: %+v", r)
	}

	// Two signals that are sent at once may arrive as one: somebody presses
	// Ctrl-C until it is gone.
	press, late := time.NewTicker(10*time.Millisecond), time.After(patience)
	defer press.Stop()
	for gone := false; !gone; {
		_ = p.cmd.Process.Signal(syscall.SIGINT)
		select {
		case <-p.ended:
			gone = true
		case <-press.C:
		case <-late:
			t.Fatal("it does not end")
		}
	}
	p.exits(130)
	if out, err := p.stdout.rest(), p.stderr.rest(); out != "" || err != "" {
		t.Errorf("it left with %q and %q", out, err)
	}
}

// Who started it may have it ignore a signal, as nohup and shells do.
func TestIgnoredSignal(t *testing.T) {
	s := newStage(t)
	p := startCommand(t, exec.Command("sh", "-c", `trap "" INT; exec hotlap fetch`))
	p.give(s.url + "/1")
	held := s.await("/1")
	p.signal(syscall.SIGINT)
	p.signal(syscall.SIGTERM)
	held[0].answer()
	p.exits(143)
	if got := results(t, p.stdout.rest()); len(got) != 1 || got[0].Status != 200 {
		t.Errorf("got %+v", got)
	}
}

// When nobody reads the output any more, the run ends without a word.
func TestClosedOutput(t *testing.T) {
	t.Run("at full speed", func(t *testing.T) {
		p := start(t, "fetch", "-p", "auto")
		p.giveWithoutEnd(startTargetServer(t) + "/bytes/100")
		p.stdout.line()
		p.stdout.f.Close()
		p.exits(1)
		if said := p.stderr.rest(); said != "" {
			t.Errorf("it says %q", said)
		}
	})
	t.Run("while requests and the input wait", func(t *testing.T) {
		s, summary := newStage(t), filepath.Join(t.TempDir(), "summary.json")
		p := start(t, "fetch", "--summary", summary)
		p.give(s.url + "/1")
		s.await("/1")[0].answer()
		p.stdout.line()
		p.stdout.f.Close()
		p.give(s.url+"/2", s.url+"/3")
		s.await("/2", "/3")[0].answer() // and the other one never
		p.exits(1)
		if said := p.stderr.rest(); said != "" {
			t.Errorf("it says %q", said)
		}
		wants(t, readFile(t, summary), `"ended": "output"`)
	})
	t.Run("from the start", func(t *testing.T) {
		s := newStage(t)
		p := start(t, "fetch", s.url+"/1")
		held := s.await("/1")
		p.stdout.f.Close()
		held[0].answer()
		p.exits(1)
		if said := p.stderr.rest(); said != "" {
			t.Errorf("it says %q", said)
		}
	})
}

// tinyDisk mounts a file system with room for size bytes, for the length of
// the test.
func tinyDisk(t *testing.T, size int) (dir string) {
	t.Helper()
	need.Root(t)
	dir = t.TempDir()
	switch err := unix.Mount("hotlap-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); {
	case errors.Is(err, unix.EPERM) && os.Getenv("CI") == "":
		t.Skip("this test needs to mount a tmpfs: root may not, here") // in a container
	case err != nil:
		t.Fatalf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount the tmpfs: %v", err)
		}
	})
	return dir
}

// A full disk ends the run, and the output ends with a whole line.
func TestFullDisk(t *testing.T) {
	const size = 64 << 10
	url := startTargetServer(t)
	for _, c := range []struct{ name, script string }{
		{"-o", `exec hotlap fetch -o "$1"`},
		{"a redirection", `exec hotlap fetch >"$1"`},
		{"a redirection that appends", `exec hotlap fetch >>"$1"`},
	} {
		for _, body := range []int{10, 777, size / 3} { // a part of the last page is missing, or several pages
			t.Run(fmt.Sprintf("%s, %d bytes", c.name, body), func(t *testing.T) {
				out := filepath.Join(tinyDisk(t, size), "out.jsonl")
				p := startCommand(t, exec.Command("sh", "-c", c.script, "sh", out))
				p.giveWithoutEnd(fmt.Sprintf("%s/bytes/%d", url, body))
				p.exits(1)
				checkCutOutput(t, readFile(t, out), size-4096-body-1000)
				wants(t, p.stderr.rest(), "ended      early: by its output\n", ": no space left on device\n")
			})
		}
	}
}

// So does a limit of the file's size, for which no root is needed.
func TestFileSizeLimit(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.jsonl")
	p := startCommand(t, exec.Command("sh", "-c", `ulimit -f 64; exec hotlap fetch -o "$1"`, "sh", out))
	p.giveWithoutEnd(startTargetServer(t) + "/bytes/777")
	p.exits(1)
	checkCutOutput(t, readFile(t, out), 64*512-2000) // ulimit counts in 512 or 1024 bytes
	wants(t, p.stderr.rest(), "ended      early: by its output\n", "hotlap fetch: write "+out+": file too large\n")
}

// checkCutOutput wants whole lines, and as many as there was room for.
func checkCutOutput(t *testing.T, text string, least int) {
	t.Helper()
	seen := map[int]bool{}
	for _, r := range results(t, text) {
		if r.Status != 200 || seen[r.ID] {
			t.Fatalf("result %+v, seen before: %v", r, seen[r.ID])
		}
		seen[r.ID] = true
	}
	if len(text) < least {
		t.Errorf("%d bytes were written, there was room for at least %d", len(text), least)
	}
}
