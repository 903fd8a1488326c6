package engine_test

import (
	"flag"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"hotlap/engine"
)

// The same tests run at two sizes: small enough for every CI run, and with
// -soak at the full figures (`make soak`).
var (
	soak     = flag.Bool("soak", false, "run at the full figures: millions of requests, minutes to hours")
	seedFlag = flag.Uint64("seed", 0, "seed of the faulty server and its clients; 0: HOTLAP_SEED, or a new one")
)

// patience is how long a test waits for what must happen. It bounds a hang and
// is never a measure of speed.
const patience = 60 * time.Second

// size is n, or full with -soak.
func size(n, full int) int {
	if *soak {
		return full
	}
	return n
}

var chooseSeed = sync.OnceValue(func() uint64 {
	if *seedFlag != 0 {
		return *seedFlag
	}
	if s, err := strconv.ParseUint(os.Getenv("HOTLAP_SEED"), 10, 64); err == nil && s != 0 {
		return s
	}
	return uint64(time.Now().UnixNano())
})

// seed returns the seed of this process and prints it if t fails.
func seed(t testing.TB) uint64 {
	s := chooseSeed()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d: run again with HOTLAP_SEED=%d", s, s)
		}
	})
	return s
}

// needTool skips the test where the tool is missing, but fails it in CI: there
// a skipped test is a test nobody runs.
func needTool(t testing.TB, name string) string {
	t.Helper()
	for _, p := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(p); err == nil {
			return path
		}
	}
	missing(t, name+", which is not installed")
	return ""
}

var missing = engine.Missing
