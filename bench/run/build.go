package main

import (
	"context"
	"fmt"
	"os/exec"
)

// buildC compiles the floor client and the sink server.
func buildC(ctx context.Context) error {
	for _, name := range []string{"floor", "sink"} {
		err := build(ctx, "cc", "-O2", "-Wall", "-Wextra", "-std=gnu11",
			"-o", buildDir+"/"+name, "bench/floor/"+name+".c")
		if err != nil {
			return err
		}
	}
	return nil
}

// buildGo compiles a command of this module.
func buildGo(ctx context.Context, name, pkg string) error {
	return build(ctx, "go", "build", "-o", buildDir+"/"+name, pkg)
}

func build(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w\n%s", name, args, err, out)
	}
	return nil
}
