// Package need says what a test needs of its machine. Where that is missing
// the test is skipped with the reason; under CI it fails, so that no check is
// lost without notice.
package need

import (
	"os"
	"os/exec"
	"testing"
)

// Root needs root's rights.
func Root(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		missing(tb, "root: run the tests as root")
	}
}

// Tool needs a program in PATH, and returns where it is.
func Tool(tb testing.TB, name string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(tb, name+": install it")
	}
	return path
}

func missing(tb testing.TB, what string) {
	tb.Helper()
	if os.Getenv("CI") != "" {
		tb.Fatalf("this test needs %s", what)
	}
	tb.Skipf("this test needs %s", what)
}
