package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"hotlap/cmd/internal/input"
	"hotlap/cmd/internal/observe"
	"hotlap/cmd/internal/output"
	"hotlap/cmd/internal/progress"
	"hotlap/cmd/internal/report"
	"hotlap/ebpf/tune"
	"hotlap/engine"
)

func runFetch(ctx context.Context, std *stdio, args []string) int {
	o, err := parseFetch(std, args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprint(std.out, fetchUsage)
		return exitOK
	case err == errNoInput:
		fmt.Fprint(std.err, fetchUsage)
		return exitUsage
	case err != nil:
		return std.misuse("fetch", "%v", err)
	}
	limitProcessors(o.engine.Loops)
	f := &fetching{o: o, std: std, report: report.NewCollector()}
	defer func() { f.watch.Close() }()
	if code := f.open(); code != exitOK {
		return code
	}
	warnBeforehand(std, tune.Fetch, &o.engine, o.urls, int64(len(o.urls)), o.progress)
	return f.run(ctx)
}

// fetching is one run of the command. It is the engine's Sink.
type fetching struct {
	o      *fetchOptions
	std    *stdio
	engine *engine.Engine
	file   *input.File // nil where URLs are arguments
	source *input.Source
	out    *os.File
	writer *output.Writer
	report *report.Collector
	cancel context.CancelFunc
	done   atomic.Int64 // results that came
	signal *interruption
	watch  *observe.Watch // nil: nobody watches the kernel
	kernel *report.Kernel // what it saw
}

// Put implements engine.Sink.
func (f *fetching) Put(results []*engine.Result) error {
	f.report.Add(results)
	f.done.Add(int64(len(results)))
	err := f.writer.Put(results)
	f.source.Release(results)
	return err
}

// idle says that every request has its result.
func (f *fetching) idle() bool { return f.done.Load() == f.source.Taken() }

// open opens all that the run needs; what is wrong shows before anything is
// sent.
func (f *fetching) open() (code int) {
	if err := f.openInput(); err != nil {
		f.complain(err)
		return exitUsage
	}
	var err error
	if f.engine, err = engine.New(f.o.engine); err != nil {
		f.complain(err)
		if errors.As(err, new(syscall.Errno)) {
			return exitFailed
		}
		return exitUsage
	}
	if f.watch, err = f.o.observe.open(&f.o.engine, slices.Values(f.o.urls)); err != nil {
		f.complain(err)
		return exitFailed
	}
	f.o.limitMemory(f.engine.MaxInFlight())
	f.startInput()
	if err := f.openOutput(); err != nil {
		f.complain(err)
		return exitFailed
	}
	f.writer = output.NewWriter(f.out, output.Options{
		Bodies: f.o.engine.KeepBody, Headers: f.o.engine.KeepHead, TLS: f.o.tlsInfo, Idle: f.idle,
		Fail: func(error) { f.cancel() },
	})
	return exitOK
}

func (f *fetching) openInput() (err error) {
	switch f.o.input {
	case "":
	case "-":
		f.file, err = input.Wrap(f.std.in)
	default:
		f.file, err = input.Open(f.o.input)
	}
	return err
}

func (f *fetching) startInput() {
	o := input.Options{Method: f.o.method, Body: f.o.body}
	if f.o.strict {
		o.Check = f.engine.Prepare
	}
	if f.file == nil {
		f.source = input.Args(f.o.urls, o)
	} else {
		f.source = input.Lines(f.file, o)
	}
}

// openOutput opens the output. The input is not destroyed by naming it twice,
// and a summary that could not be written is noticed before the run.
func (f *fetching) openOutput() (err error) {
	if f.o.summary != "" {
		if err := report.CanWrite(f.o.summary); err != nil {
			return err
		}
		if f.file != nil && sameFile(f.o.summary, f.file.Raw) {
			return fmt.Errorf("%s is both input and summary", f.o.summary)
		}
	}
	if f.o.output == "-" {
		f.out = f.std.out
		return f.summaryIsNotOutput()
	}
	if f.out, err = os.OpenFile(f.o.output, os.O_WRONLY|os.O_CREATE, 0o666); err != nil {
		return err
	}
	info, err := f.out.Stat()
	if err != nil {
		return err
	}
	if f.file != nil && sameFile(f.o.output, f.file.Raw) {
		return fmt.Errorf("%s is both input and output", f.o.output)
	}
	if err := f.summaryIsNotOutput(); err != nil {
		return err
	}
	if info.Mode().IsRegular() {
		return f.out.Truncate(0)
	}
	return nil
}

func (f *fetching) summaryIsNotOutput() error {
	if f.o.summary != "" && sameFile(f.o.summary, f.out) {
		return fmt.Errorf("%s is both output and summary", f.o.summary)
	}
	return nil
}

// sameFile says whether a name is that of an open regular file.
func sameFile(name string, f *os.File) bool {
	named, err1 := os.Stat(name)
	open, err2 := f.Stat()
	return err1 == nil && err2 == nil && open.Mode().IsRegular() && os.SameFile(named, open)
}

func (f *fetching) complain(err error) { f.std.complain("fetch", "%v", err) }

func (f *fetching) run(ctx context.Context) int {
	ctx, cancel := context.WithCancel(ctx)
	f.cancel = cancel
	f.signal = awaitInterruption(f.source.Stop, f.cancel)
	meter := f.startMeter()
	f.watch.Begin()
	stats, err := f.engine.Run(ctx, f.source, f)
	f.kernel = f.watch.End()
	f.signal.end()
	if meter != nil {
		meter.Stop()
	}
	cancel()
	f.source.Stop()
	_ = f.engine.Close() // nothing is in flight
	if f.o.tls.keyLogOut != nil {
		_ = f.o.tls.keyLogOut.Close()
	}
	return f.finish(stats, err, f.closeOutput())
}

// closeOutput writes what is held back, and says what went wrong with the
// output, now or before.
func (f *fetching) closeOutput() error {
	err := f.writer.Close()
	if f.out != f.std.out {
		if cerr := f.out.Close(); err == nil {
			err = cerr
		}
	}
	return err
}

// finish tells how it went, and returns the exit code.
func (f *fetching) finish(stats engine.Stats, err, outputErr error) int {
	code, ended := f.verdict(err, outputErr)
	summary := f.report.Summarize(stats, ended)
	summary.Kernel = f.kernel
	if !errors.Is(outputErr, syscall.EPIPE) { // who reads us has gone: no reason to say a word
		_ = summary.WriteText(f.std.err, progress.Color(f.std.err))
		switch {
		case outputErr != nil:
			f.complain(outputErr)
		case ended == report.Input:
			f.complain(f.source.Err())
		case code == exitFailed:
			f.complain(err)
		}
	}
	if f.o.summary != "" {
		if err := summary.WriteFile(f.o.summary); err != nil {
			f.complain(err)
			return exitFailed
		}
	}
	return code
}

// verdict is the exit code and what ended the run. A broken output comes
// first: the results are not complete, whatever else happened.
func (f *fetching) verdict(err, outputErr error) (code int, ended string) {
	switch signal := f.signal.code(); {
	case outputErr != nil:
		return exitFailed, report.Output
	case signal != 0:
		return signal, report.Signal
	case err != nil:
		return exitFailed, report.Output
	case f.source.Err() != nil:
		return exitUsage, report.Input
	case f.o.fail && f.report.Failing() > 0:
		return exitGate, report.Done
	}
	return exitOK, report.Done
}

// startMeter shows progress, if it is to be shown: by default where it has a
// terminal for itself.
func (f *fetching) startMeter() *progress.Meter {
	redraw := progress.CanRedraw(f.std.err)
	switch f.o.progress {
	case "never":
		return nil
	case "auto":
		if !redraw || progress.IsTerminal(f.out) {
			return nil
		}
	}
	return progress.Start(f.std.err, redraw, progress.PrintEvery, progress.Lines(f.sample, redraw))
}

func (f *fetching) sample() progress.Sample {
	stats := f.engine.Stats()
	s := progress.Sample{
		At: time.Now(), Done: f.done.Load(), InFlight: stats.InFlight, Errors: stats.Failed(),
	}
	switch total, known := f.source.Total(); {
	case known:
		s.Total = total
	case f.file != nil:
		s.Read, _ = f.file.Fraction()
	}
	return s
}
