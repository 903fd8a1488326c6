package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// buildAll compiles all that is compared here: the programs in C, and those of
// this module.
func buildAll(ctx context.Context) error {
	for _, name := range []string{"cost", "floor", "sink", "sleeper"} {
		err := build(ctx, "cc", "-O2", "-Wall", "-Wextra", "-std=gnu11",
			"-o", buildDir+"/"+name, "bench/floor/"+name+".c")
		if err != nil {
			return err
		}
	}
	for name, pkg := range map[string]string{"enginebench": "./bench/enginebench", "hotlap": "./cmd/hotlap"} {
		if err := build(ctx, "go", "build", "-o", buildDir+"/"+name, pkg); err != nil {
			return err
		}
	}
	return nil
}

func build(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w\n%s", name, args, err, out)
	}
	return nil
}

// peerDir is where peers are looked for before PATH.
const peerDir = buildDir + "/bin"

// peerModules are the peers that the Go module proxy has.
var peerModules = []string{
	"github.com/codesenberg/bombardier@latest",
	"github.com/tsenart/vegeta/v12@latest",
	"github.com/rakyll/hey@latest",
}

// installPeers puts them into peerDir.
func installPeers(ctx context.Context) error {
	dir, err := filepath.Abs(peerDir)
	if err != nil {
		return err
	}
	if err := os.Setenv("GOBIN", dir); err != nil {
		return err
	}
	for _, module := range peerModules {
		fmt.Fprintln(os.Stderr, "go install", module)
		if err := build(ctx, "go", "install", module); err != nil {
			return err
		}
	}
	return nil
}
