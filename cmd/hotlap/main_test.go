package main

import (
	"crypto/tls"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/rogpeppe/go-internal/testscript"

	"hotlap/bench/target"
	"hotlap/cmd/internal/need"
)

// The test binary is the command too: stories in testdata run hotlap as users
// do.
func TestMain(m *testing.M) {
	if os.Getenv("GORACE") == "" {
		os.Setenv("GORACE", "atexit_sleep_ms=0") // or each hotlap takes a second more under the race detector
	}
	testscript.Main(m, map[string]func(){"hotlap": main})
}

func TestStories(t *testing.T) { runStories(t, "testdata") }

// TestRootStories are those of BPF programs and network namespaces.
func TestRootStories(t *testing.T) {
	need.Root(t)
	runStories(t, "testdata/root")
}

// runStories runs a folder's *.txtar. TARGET is a target server, SECURE another
// one with TLS, whose CA is in ca.pem, MIRROR answers each request with its own
// bytes, REFUSED is a port where no one listens.
func runStories(t *testing.T, dir string) {
	server, err := target.Start(target.Options{Addr: "127.0.0.1:0", Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	cert, ca, err := target.MakeCertificate()
	if err != nil {
		t.Fatal(err)
	}
	secure, err := target.Start(target.Options{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = secure.Close() })
	mirror, refused := startMirror(t), refusingAddress(t)
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(env *testscript.Env) error {
			env.Setenv("TARGET", "http://"+server.Addr())
			env.Setenv("SECURE", "https://"+secure.Addr())
			env.Setenv("MIRROR", "http://"+mirror)
			env.Setenv("REFUSED", "http://"+refused)
			env.Setenv("GORACE", os.Getenv("GORACE"))
			return os.WriteFile(env.WorkDir+"/ca.pem", ca, 0o666)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":  exits,
			"expand": expand,
			"pack":   pack,
		},
	})
}

// exits CODE COMMAND [ARG]...: the command ends with this exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG]...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

// expand FILE...: environment variables in the files are replaced.
func expand(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o666))
	}
}

// pack FILE FILE.gz|FILE.zst: compresses a file.
func pack(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: pack FILE FILE.gz|FILE.zst")
	}
	f, err := os.Create(ts.MkAbs(args[1]))
	ts.Check(err)
	defer f.Close()
	var w io.WriteCloser = gzip.NewWriter(f)
	if strings.HasSuffix(args[1], ".zst") {
		w, err = zstd.NewWriter(f)
		ts.Check(err)
	}
	_, err = io.WriteString(w, ts.ReadFile(args[0]))
	ts.Check(err)
	ts.Check(w.Close())
}
