package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"hotlap/bench/sample"
)

// commandFlags is the benchmark of the whole command: URLs from a file, JSONL
// to a file, both processes on the CPUs they find.
func commandFlags(fs *flag.FlagSet) func(context.Context) (string, error) {
	c := contest{duration: maxDuration, clientCPU: anyCPU, serverCPU: anyCPU}
	c.flags(fs, 3)
	urls := fs.Int("urls", 2_000_000, "distinct URLs")
	fetchArgs := fs.String("fetch", "-p 16 -c 64 --per-host 64", "further arguments of hotlap fetch")
	keep := fs.Bool("keep", false, "keep the files of URLs and of results")
	return func(ctx context.Context) (string, error) {
		if err := c.check(); err != nil {
			return "", err
		}
		if *urls < 1 || *urls > 100_000_000 {
			return "", errors.New("want 1 to 100000000 URLs")
		}
		addr, err := freePort() // the same for all rounds: the URLs name it
		if err != nil {
			return "", err
		}
		in, out := buildDir+"/urls.txt", buildDir+"/results.jsonl"
		if !*keep {
			defer func() { _ = errors.Join(os.Remove(in), os.Remove(out)) }() // scratch: what stays is overwritten
		}
		if err := writeURLs(in, addr, *urls); err != nil {
			return "", err
		}
		outcomes, err := c.play(ctx, []scene{{
			name:    "fetch",
			about:   fmt.Sprintf("`hotlap fetch -i FILE -o FILE %s` against `hotlap serve`.", *fetchArgs),
			server:  hotlapServer(addr),
			clients: []client{fetchClient(in, out, *urls, strings.Fields(*fetchArgs))},
			figures: []figure{rateFigure, cpuFigure, serverCPUFigure, memoryFigure},
		}})
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("# The whole command, %d distinct URLs\n\n"+
			"Client and server on the same CPUs, %d rounds; medians, and in brackets the least and the most. After each\n"+
			"round every line of the output was checked: each id once, status 200, the body its own path.\n%s",
			*urls, c.rounds, text(outcomes)), failed(outcomes)
	}
}

// fetchClient is hotlap fetch; its results are read back and checked.
func fetchClient(in, out string, urls int, more []string) client {
	return client{
		name: hotlapName,
		args: func(load) []string {
			return append([]string{buildDir + "/hotlap", "fetch", "-i", in, "-o", out}, more...)
		},
		read: func([]byte) (sample.Sample, error) {
			return sample.Sample{Requests: int64(urls)}, verifyFile(out, urls)
		},
	}
}

// writeURLs makes the input: n URLs, all different, each answered with its own path.
func writeURLs(path, addr string, n int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(f, 1<<20)
	for i := range n {
		fmt.Fprintf(b, "http://%s%s\n", addr, pathOf(i+1))
	}
	return errors.Join(b.Flush(), f.Close())
}

// pathOf is the path in the nth line of the input, from 1.
func pathOf(line int) string { return fmt.Sprintf("/item/%08d", line) }
