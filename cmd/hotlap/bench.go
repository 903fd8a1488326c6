package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"hotlap/cmd/internal/input"
	"hotlap/cmd/internal/load"
	"hotlap/cmd/internal/page"
	"hotlap/cmd/internal/progress"
	"hotlap/cmd/internal/report"
	"hotlap/ebpf"
	"hotlap/ebpf/tune"
	"hotlap/engine"
)

func runBench(ctx context.Context, std *stdio, args []string) int {
	if len(args) > 0 && args[0] == "compare" {
		return runCompare(std, args[1:])
	}
	o, err := parseBench(std, args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprint(std.out, benchUsage)
		return exitOK
	case err == errNoInput:
		fmt.Fprint(std.err, benchUsage)
		return exitUsage
	case err != nil:
		return std.misuse("bench", "%v", err)
	}
	limitProcessors(o.engine.Loops)
	b := &benching{o: o, std: std}
	if code := b.open(); code != exitOK {
		return code
	}
	defer b.engine.Close()
	defer b.o.load.Kernel.Close()
	if !o.load.Open() {
		warnBeforehand(std, tune.Bench, &o.engine, o.urls, o.load.Count, o.progress)
	}
	return b.run(ctx)
}

// benching is one run of the command.
type benching struct {
	o       *benchOptions
	std     *stdio
	engine  *engine.Engine
	targets load.Targets
	log     *load.HDRLog // nil without --hdr
}

// open prepares all that the run needs; what is wrong shows before any load.
func (b *benching) open() (code int) {
	err := canWrite(b.o.json, b.o.html, b.o.hdr)
	if err != nil {
		b.complain(err)
		return exitFailed
	}
	if b.engine, err = engine.New(b.o.engine); err != nil {
		b.complain(err)
		if errors.As(err, new(syscall.Errno)) {
			return exitFailed
		}
		return exitUsage
	}
	if err := b.readTargets(); err != nil {
		b.complain(err)
		_ = b.engine.Close()
		return exitUsage
	}
	if b.o.load.Kernel, err = b.o.observe.open(&b.o.engine, b.urls); err != nil {
		b.complain(err)
		_ = b.engine.Close()
		return exitFailed
	}
	return exitOK
}

// canWrite looks whether files that flags name can be written.
func canWrite(names ...string) error {
	for _, name := range names {
		if name == "" || name == "-" {
			continue
		}
		if err := report.CanWrite(name); err != nil {
			return err
		}
	}
	return nil
}

// urls are those of all targets.
func (b *benching) urls(yield func(string) bool) {
	for i := range b.targets.Len() {
		if !yield(b.targets.URL(i)) {
			return
		}
	}
}

func (b *benching) complain(err error) { b.std.complain("bench", "%v", err) }

// targetsMost is how many requests -i may have: they are kept in memory.
const targetsMost = 1_000_000

// readTargets reads all requests, as fetch would.
func (b *benching) readTargets() (err error) {
	opts := input.Options{Method: b.o.method, Body: b.o.body}
	var src *input.Source
	if b.o.input == "" {
		src = input.Args(b.o.urls, opts)
	} else {
		file, err := b.openInput()
		if err != nil {
			return err
		}
		src = input.Lines(file, opts)
	}
	defer src.Stop()
	batch := make([]*engine.Request, 256)
	for {
		n, err := src.Next(context.Background(), batch)
		results := make([]*engine.Result, n)
		for i, r := range batch[:n] {
			if err := b.addTarget(r); err != nil {
				return err
			}
			results[i] = &engine.Result{Request: r}
		}
		src.Release(results)
		if err != nil {
			break
		}
	}
	if err := src.Err(); err != nil {
		return err
	}
	if b.targets.Len() == 0 {
		return errors.New("-i: there is no request in it")
	}
	return nil
}

func (b *benching) openInput() (*input.File, error) {
	if b.o.input == "-" {
		return input.Wrap(b.std.in)
	}
	return input.Open(b.o.input)
}

// addTarget copies a request, which is the source's.
func (b *benching) addTarget(r *engine.Request) error {
	place := input.ItemOf(r).Place()
	if r.Err != nil {
		return fmt.Errorf("%s: %w", place, r.Err)
	}
	if b.targets.Len() == targetsMost {
		return fmt.Errorf("%s: more than %d requests", place, targetsMost)
	}
	own := engine.Request{Method: strings.Clone(r.Method), URL: strings.Clone(r.URL), Body: bytes.Clone(r.Body), Timeout: r.Timeout}
	for _, f := range r.Header {
		own.Header = append(own.Header, engine.Field{Name: strings.Clone(f.Name), Value: strings.Clone(f.Value)})
	}
	if err := b.targets.Add(b.engine, own); err != nil {
		return fmt.Errorf("%s: %w", place, err)
	}
	return nil
}

func (b *benching) run(ctx context.Context) int {
	run := load.New(b.engine, &b.targets, b.o.load, func(d *load.Distributions) {
		if b.log != nil {
			b.log.Add(d)
		}
	})
	run.Start()
	if b.o.hdr != "" {
		b.log = load.NewHDRLog(time.Now().Add(b.o.load.WarmUp), "hotlap bench: times in nanoseconds, tagged response and service")
	}
	interruption := awaitInterruption(run.Stop, run.Abandon)
	meter := b.startMeter(run)
	r, err := run.Do(ctx)
	if meter != nil {
		meter.Stop()
	}
	interruption.end()
	b.complete(r)
	if interruption.code() != 0 {
		r.Ended = load.Signal
	} else if err == nil && !b.refuses(r) {
		for _, g := range b.o.gates {
			r.Gates = append(r.Gates, g.Judge(r))
		}
	}
	return b.finish(r, err, interruption.code())
}

// complete fills in what the run itself does not know.
func (b *benching) complete(r *load.Report) {
	c, l := &b.o.engine, &b.o.load
	r.Tool, r.Command = "hotlap "+engine.Version, b.o.command
	r.Load = load.Load{
		TargetCount: b.targets.Len(), Loop: load.ClosedLoop, Rate: l.To, RampFrom: l.From,
		Connections: c.Connections, Pipeline: c.Pipeline, Loops: c.Loops,
		Duration: l.Duration.Seconds(), Count: l.Count, WarmUp: l.WarmUp.Seconds(), Timeout: l.Timeout.Seconds(),
		KeepAlive: !b.o.noKeepAlive,
	}
	if l.Open() {
		r.Load.Loop, r.Load.Arrivals = load.OpenLoop, b.o.poisson
	}
	for i := range min(b.targets.Len(), 10) {
		r.Load.Targets = append(r.Load.Targets, withoutUser(b.targets.URL(i)))
	}
	r.Environment = load.ReadEnvironment()
	if r.Load.Local = allLocal(r.Peers); r.Load.Local {
		r.Client.SharesCPUs = load.SharesCPUs(r.Peers)
	}
	r.Judge()
}

// allLocal says that all addresses are this machine's.
func allLocal(peers []netip.AddrPort) bool {
	own := map[netip.Addr]bool{}
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own[p.Addr()] = true
		}
	}
	for _, p := range peers {
		if a := p.Addr().Unmap().WithZone(""); !a.IsLoopback() && !own[a] {
			return false
		}
	}
	return len(peers) > 0
}

// refuses says that --require-valid ends the run before gates are judged. A run
// in which nothing was answered fails for that.
func (b *benching) refuses(r *load.Report) bool {
	return b.o.requireValid && r.Verdict.Valid != ebpf.ValidYes && r.Responses > 0
}

// finish writes the report and returns the exit code.
func (b *benching) finish(r *load.Report, err error, signal int) int {
	if werr := b.write(r); werr != nil {
		b.complain(werr)
		return exitFailed
	}
	switch {
	case signal != 0:
		return signal
	case err != nil:
		b.complain(err)
		return exitFailed
	case b.refuses(r):
		b.std.complain("bench", "--require-valid: the run is %s", map[ebpf.Valid]string{ebpf.ValidNo: "not valid", ebpf.ValidUnverified: "not verified"}[r.Verdict.Valid])
		return exitInvalid
	}
	code := b.std.breached("bench", r.Gates)
	if code == exitOK && r.Responses == 0 {
		b.std.complain("bench", "nothing was answered%s", firstError(r))
		code = exitFailed
	}
	return code
}

// breached says which gates do not hold, and returns the exit code.
func (s *stdio) breached(command string, gates []load.GateResult) (code int) {
	for _, g := range gates {
		if !g.Holds {
			s.complain(command, "--assert %s is breached: %s", g.Expression, g.Says)
			code = exitGate
		}
	}
	return code
}

func firstError(r *load.Report) string {
	for _, message := range r.ErrorExamples {
		return ": " + message
	}
	return ""
}

func (b *benching) write(r *load.Report) error {
	if err := b.std.writeJSON(b.o.json, r); err != nil {
		return err
	}
	if b.o.html != "" {
		var text bytes.Buffer
		if err := page.Write(&text, r, page.Faults(r.Kernel)...); err != nil {
			return err
		}
		if err := report.WriteFile(b.o.html, text.Bytes()); err != nil {
			return err
		}
	}
	if b.log != nil {
		text, err := b.log.Text()
		if err == nil {
			err = report.WriteFile(b.o.hdr, text)
		}
		if err != nil {
			return err
		}
	}
	if b.o.json == "-" {
		return nil
	}
	return r.WriteText(b.std.out, progress.Color(b.std.out))
}

// writeJSON writes what --json FILE|- asks for: nothing without a name.
func (s *stdio) writeJSON(name string, v any) error {
	if name == "" {
		return nil
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false) // p99<5ms stays readable
	e.SetIndent("", "  ")
	err := e.Encode(v)
	switch {
	case err != nil:
		return err
	case name == "-":
		_, err = s.out.Write(text.Bytes())
		return err
	}
	return report.WriteFile(name, text.Bytes())
}

// startMeter shows how the run goes, if that is to be shown.
func (b *benching) startMeter(run *load.Run) *progress.Meter {
	if b.o.progress == "never" {
		return nil
	}
	redraw := progress.CanRedraw(b.std.err)
	interval := time.Second
	if b.o.load.Duration > time.Minute || b.o.load.Count > 0 {
		interval = progress.PrintEvery
	}
	return progress.Start(b.std.err, redraw, interval, load.Live(run, redraw))
}

// readReport reads what --json has written.
func readReport(name string) (*load.Report, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	r := &load.Report{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: no report of hotlap bench --json: %w", name, err)
	}
	if r.Version != load.ReportVersion {
		return nil, fmt.Errorf("%s: a report of version %d, this hotlap reads version %d", name, r.Version, load.ReportVersion)
	}
	return r, nil
}
