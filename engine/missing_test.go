package engine

import (
	"os"
	"testing"
)

// Missing skips a test that needs what this machine has not. In CI a skipped
// test is a test nobody runs: there it fails.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("needs %s", what)
	}
	t.Skipf("needs %s", what)
}
