// Package need says what a test of the observer needs of its machine. Where
// that is missing the test is skipped with the reason; under CI it fails, so
// that no check is lost without notice.
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
		Missing(tb, "root: run the tests as root")
	}
}

// Tool needs a program in PATH or /usr/sbin, and returns where it is.
func Tool(tb testing.TB, name string) string {
	tb.Helper()
	for _, p := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(p); err == nil {
			return path
		}
	}
	Missing(tb, name+": install it")
	return ""
}

// Missing ends a test that needs what this machine does not have.
func Missing(tb testing.TB, what string) {
	tb.Helper()
	if os.Getenv("CI") != "" {
		tb.Fatalf("this test needs %s", what)
	}
	tb.Skipf("this test needs %s", what)
}
