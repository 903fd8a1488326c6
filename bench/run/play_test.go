package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"hotlap/bench/sample"
)

// harness makes a test run as main does: at the module's root, with all
// programs built, on a thread that stays.
func harness(t *testing.T, tools ...string) contest {
	t.Helper()
	if runtime.NumCPU() < 2 {
		missing(t, "two CPUs")
	}
	runtime.LockOSThread() // until the test ends: its children die with the thread
	t.Chdir("../..")
	t.Setenv("PATH", os.Getenv("PATH")) // puts back what follows
	if err := prepareChildren(); err != nil {
		t.Fatal(err)
	}
	for _, tool := range append(tools, "cc") {
		if _, err := exec.LookPath(tool); err != nil {
			missing(t, tool)
		}
	}
	if err := os.MkdirAll(buildDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := buildAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	return contest{rounds: 1, duration: time.Second, clientCPU: 0, serverCPU: 1}
}

func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("this test needs %s", what)
	}
	t.Skipf("this test needs %s", what)
}

// The real tools, as briefly as they can be run. Those that are not needed
// above may be absent.
func TestQuick(t *testing.T) {
	c := harness(t, "wrk", "h2load", "ab", "nginx")
	compare, open := c, c
	compare.only = "sink-depth-8|sink-close|nginx-depth-1|latency/floor|wrk|h2load|ab|bombardier|vegeta|wrk2"
	open.only = "20k|lag"
	for _, played := range []struct {
		contest contest
		scenes  []scene
		count   int
	}{{compare, compareScenes(), 4}, {open, openScenes(10_000), 2}} {
		outcomes, err := played.contest.play(t.Context(), played.scenes)
		if err != nil {
			t.Fatal(err)
		}
		if len(outcomes) != played.count {
			t.Errorf("%d scenes were played, want %d", len(outcomes), played.count)
		}
		for i := range outcomes {
			checkQuick(t, &outcomes[i])
		}
		t.Log(text(outcomes))
	}
}

// What an observer costs is measured where the kernel was asked to, and nowhere else.
func TestQuickObserve(t *testing.T) {
	if os.Geteuid() != 0 {
		missing(t, "root")
	}
	c := harness(t)
	c.only = "close/" + observedCost
	outcomes, err := c.play(t.Context(), observeScenes())
	if err != nil {
		t.Fatal(err)
	}
	o := &outcomes[0]
	checkQuick(t, o)
	for client, measured := range map[string]bool{unobserved: false, observedCost: true} {
		s := o.results[client].samples[0]
		if s == nil {
			t.Fatalf("%s: %v", client, o.results[client].failure)
		}
		for _, f := range []figure{addedFigure, observerFigure, runsFigure, runFigure} {
			if (f.of(s) > 0) != measured {
				t.Errorf("%s: %v %s", client, f.of(s), f.name)
			}
		}
	}
	t.Log(text(outcomes))
}

// checkQuick wants of each client that ran the figure that its scene is about.
func checkQuick(t *testing.T, o *outcome) {
	for _, cl := range o.scene.clients {
		r := o.results[cl.name]
		switch first := o.scene.figures[0]; {
		case r.not != "":
		case r.failure != nil:
			t.Errorf("%s: %s: %v", o.scene.name, cl.name, r.failure)
		case first.of(r.samples[0]) <= 0 && !(cl.name == "h2load" && first.name == p50Figure.name):
			t.Errorf("%s: %s has no %s", o.scene.name, cl.name, first.name)
		}
	}
}

// A client that fails, or says what its server did not see, spoils nothing but
// its own row.
func TestFailingClients(t *testing.T) {
	c := harness(t)
	shell := func(name, script string) client {
		return client{name: name, read: readSample, args: func(load) []string { return []string{"sh", "-c", script} }}
	}
	sc := scene{
		name: "failing", server: sinkServer(), load: load{path: "/", connections: 1, depth: 1}, figures: []figure{cpuFigure},
		clients: []client{
			shell("breaks", "echo first; echo out of luck >&2; exit 3"),
			shell("boasts", `echo '{"requests":1000000,"seconds":1}'`),
			shell("errs", `echo '{"requests":1,"errors":2,"seconds":1}'`),
			shell("mumbles", "echo done"),
			{name: "none", program: "no-such-load-generator"},
			floorClient(),
		},
	}
	o, err := c.playScene(t.Context(), sc)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"breaks":  "exit status 3: out of luck",
		"boasts":  "claims 1000000 answers, the server had 0",
		"errs":    "2 of its requests failed",
		"mumbles": "no JSON object: done",
	} {
		if err := o.results[name].failure; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	if o.results["none"].not != "absent" {
		t.Errorf("what is not installed is %q", o.results["none"].not)
	}
	floor := o.results[floorName]
	if floor.failure != nil || floor.samples[0].Served != floor.samples[0].Requests+1 { // it measures the response first
		t.Errorf("floor: %+v, %v", floor.samples[0], floor.failure)
	}
}

// What a program used is its own, not that of who started it.
func TestCost(t *testing.T) {
	harness(t)
	ours := make([]byte, 64<<20)
	for i := range ours {
		ours[i] = 1
	}
	if err := exec.Command(buildDir+"/cost", costFile, "sh", "-c", "true").Run(); err != nil {
		t.Fatal(err)
	}
	runtime.KeepAlive(ours)
	var s sample.Sample
	if err := readCost(&s); err != nil {
		t.Fatal(err)
	}
	if s.PeakBytes <= 0 || s.PeakBytes > int64(len(ours))/2 || s.UserSeconds+s.SysSeconds <= 0 {
		t.Errorf("a shell that does nothing: %+v", s)
	}
	var exit *exec.ExitError
	if err := exec.Command(buildDir+"/cost", costFile, "sh", "-c", "exit 7").Run(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("exit 7 became %v", err)
	}
}

func TestSleeper(t *testing.T) {
	harness(t)
	out, err := exec.Command(buildDir+"/sleeper", "-R", "1000", "-d", "1").Output()
	if err != nil {
		t.Fatal(err)
	}
	s, err := readSample(out)
	if err != nil {
		t.Fatal(err)
	}
	if s.Requests != 1000 || s.Seconds < 0.999 || s.LagP50us <= 0 || s.LagP99us < s.LagP50us {
		t.Errorf("got %+v", s)
	}
}

func TestSink(t *testing.T) {
	harness(t)
	const host = "Host: a\r\n\r\n"
	for _, c := range []struct {
		name, requests string
		answers        int
		says           string // of the connection
		ends           bool
		seen           seen
	}{
		{"one", "GET / HTTP/1.1\r\n" + host, 1, "", false, seen{1, 1, 1}},
		{"three at once", strings.Repeat("GET / HTTP/1.1\r\n"+host, 3), 3, "", false, seen{3, 1, 3}},
		{"close", "GET / HTTP/1.1\r\nConnection: close\r\n" + host, 1, "close", true, seen{1, 1, 1}},
		{"HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", 1, "close", true, seen{1, 1, 1}},
		{"HTTP/1.0, kept alive", "GET / HTTP/1.0\r\nconnection: Keep-Alive\r\n\r\n", 1, "keep-alive", false, seen{1, 1, 1}},
		{"of other sizes", "GET / HTTP/1.1\r\n" + host + "GET /longer HTTP/1.1\r\n" + host, 2, "", false, seen{2, 1, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			runtime.LockOSThread()
			server, err := sinkServer().start(t.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			conversation(t, server.addr, c.requests, c.answers, c.says, c.ends)
			got, err := server.stop()
			if err != nil || *got != c.seen {
				t.Errorf("it saw %+v, %v, want %+v", got, err, c.seen)
			}
		})
	}
}

// conversation sends requests in one write and wants answers of 160 bytes.
func conversation(t *testing.T, addr, requests string, answers int, says string, ends bool) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, requests)
	r := bufio.NewReader(conn)
	for i := range answers {
		answer := make([]byte, 160)
		if _, err := io.ReadFull(r, answer); err != nil {
			t.Fatalf("answer %d: %v", i+1, err)
		}
		head, body, _ := strings.Cut(string(answer), "\r\n\r\n")
		if want := fmt.Sprintf("Content-Length: %d", len(body)); !strings.HasPrefix(head, "HTTP/1.1 200 OK\r\n") || !strings.Contains(head, want) {
			t.Errorf("answer %d: %q, want %s", i+1, answer, want)
		}
		if got := strings.Contains(head, "Connection: "); got != (says != "") || !strings.Contains(head, says) {
			t.Errorf("answer %d: %q, want it to say %q", i+1, answer, says)
		}
	}
	if ends {
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("after the last answer: %v, want the end", err)
		}
	}
}
