package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"hotlap/engine"
)

func runVersion(_ context.Context, std *stdio, args []string) int {
	if len(args) > 0 && args[0] != "--help" && args[0] != "-h" {
		return std.misuse("version", "takes no arguments")
	}
	revision := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = " " + s.Value[:min(12, len(s.Value))]
			}
		}
	}
	fmt.Fprintf(std.out, "hotlap %s%s %s %s/%s\n", engine.Version, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return exitOK
}
