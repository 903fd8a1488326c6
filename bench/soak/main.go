// Soak runs the engine's black-box tests at their full figures: the faulty
// server for millions of requests, non-idempotent requests, a million URLs per
// depth from nginx, and memory over five million requests. It takes tens of
// minutes, prints its seed, and ends with the tests' verdict.
//
//	go run ./bench/soak [-seed N] [-run REGEXP]
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"time"
)

func main() {
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the faulty server and its clients")
	run := flag.String("run", "^(TestFaulty|TestNonIdempotent|TestNginx|TestMemory)", "which tests")
	limit := flag.Duration("limit", 4*time.Hour, "give up after")
	flag.Parse()
	fmt.Printf("seed %d\n", *seed)
	cmd := exec.Command("go", "test", "./engine", "-count=1", "-v", "-run", *run, "-timeout", limit.String(),
		"-args", "-soak", fmt.Sprintf("-seed=%d", *seed))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}
