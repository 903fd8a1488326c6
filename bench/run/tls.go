package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"hotlap/bench/sample"
	"hotlap/bench/target"
)

// secured is the comparison over TLS 1.3 against nginx. Pipelined requests it
// answers one write each, and so bounds what depth can gain; hotlap serve does
// not.
type secured struct {
	rounds, connections  int
	duration             time.Duration
	clientCPU, serverCPU int
}

// What the engine's CPU per request may be, in multiples of wrk's at depth 1.
const (
	tlsLimit   = 1.10 // at depth 1
	tlsLimit16 = 0.35 // at depth 16
)

const (
	tlsWrk      = "wrk, depth 1"
	tlsEngine   = "hotlap, depth 1"
	tlsNginx16  = "hotlap, depth 16"
	tlsEngine16 = "hotlap, depth 16, hotlap serve"
)

func tlsFlags(fs *flag.FlagSet) func(context.Context) (string, error) {
	var s secured
	fs.IntVar(&s.rounds, "rounds", 7, "rounds; each runs every client once")
	fs.IntVar(&s.connections, "c", 64, "connections")
	fs.DurationVar(&s.duration, "d", 2*time.Second, "how long one client runs in one round, in whole seconds")
	fs.IntVar(&s.clientCPU, "client-cpu", 0, "the CPU clients run on")
	fs.IntVar(&s.serverCPU, "server-cpu", 1, "the CPU nginx runs on")
	return func(ctx context.Context) (string, error) {
		if s.rounds < 1 || s.rounds > 1000 || s.duration < time.Second || s.duration > time.Minute {
			return "", errors.New("want 1 to 1000 rounds of 1s to 1m")
		}
		for _, tool := range []string{"wrk", "openssl"} {
			if _, err := exec.LookPath(tool); err != nil {
				return "", fmt.Errorf("%s is not installed", tool)
			}
		}
		if err := errors.Join(buildGo(ctx, "enginebench", "./bench/enginebench"), buildGo(ctx, "hotlap", "./cmd/hotlap")); err != nil {
			return "", err
		}
		return s.report(ctx)
	}
}

func (s *secured) report(ctx context.Context) (string, error) {
	addr, stop, err := s.startNginx(ctx)
	if err != nil {
		return "", err
	}
	defer stop()
	serveAt, err := freePort()
	if err != nil {
		return "", err
	}
	serve, err := startServe(ctx, s.serverCPU, serveAt, "--tls")
	if err != nil {
		return "", err
	}
	defer func() { _ = stopServe(serve) }() // its work is done
	samples := make(map[string][]sample.Sample)
	handshakes := make(map[string][]float64)
	for round := range s.rounds {
		if err := s.round(ctx, addr, serveAt, round, samples, handshakes); err != nil {
			return "", err
		}
	}
	return s.text(samples, handshakes), nil
}

// round runs every client once, each round beginning with another.
func (s *secured) round(ctx context.Context, addr, serveAt string, round int, samples map[string][]sample.Sample, handshakes map[string][]float64) error {
	seconds := strconv.Itoa(int(s.duration.Seconds()))
	clients := []client{
		{name: tlsWrk, read: readJSON, args: func(l load) []string {
			return []string{"wrk", "-t", "1", "-c", strconv.Itoa(l.connections), "-d", l.duration.String(),
				"-s", "bench/run/pipeline.lua", "https://" + l.addr + "/", "--", "1"}
		}},
		{name: tlsEngine, ownCPU: true, read: readJSON, args: engineArgs("-tls")},
		{name: tlsNginx16, ownCPU: true, read: readJSON, args: engineArgs("-tls", "-p", "16")},
		{name: tlsEngine16, ownCPU: true, read: readJSON, args: engineArgs("-tls", "-p", "16")},
		{name: "hotlap, full handshakes", ownCPU: true, read: readJSON, args: engineArgs("-tls", "-close", "-noresume")},
		{name: "hotlap, resumed", ownCPU: true, read: readJSON, args: engineArgs("-tls", "-close")},
	}
	for i := range clients {
		c := &clients[(round+i)%len(clients)]
		l := load{addr, s.connections, 1, s.duration}
		if c.name == tlsEngine16 {
			l.addr = serveAt
		}
		got, err := c.run(ctx, s.clientCPU, l)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "round %d/%d: %s: %.2f us of CPU a request, %.0f requests/s\n",
			round+1, s.rounds, c.name, got.CPUus(), got.Rate())
		samples[c.name] = append(samples[c.name], got)
	}
	for _, how := range []string{"-new", "-reuse"} {
		out, err := outputOn(s.clientCPU, command(ctx, "openssl", "s_time", "-connect", addr, how, "-time", seconds, "-tls1_3"))
		rate, ok := readSTime(out)
		if !ok { // its exit code says nothing
			return fmt.Errorf("openssl s_time %s: no rate in its output: %w\n%s", how, err, out)
		}
		handshakes[how] = append(handshakes[how], rate)
	}
	return nil
}

var sTime = regexp.MustCompile(`(\d+) connections in (\d+) real seconds`)

// readSTime reads connections per second of real time.
func readSTime(out []byte) (float64, bool) {
	m := sTime.FindSubmatch(out)
	if m == nil {
		return 0, false
	}
	n, err1 := strconv.ParseFloat(string(m[1]), 64)
	d, err2 := strconv.ParseFloat(string(m[2]), 64)
	return n / d, err1 == nil && err2 == nil && d > 0
}

func (s *secured) text(samples map[string][]sample.Sample, handshakes map[string][]float64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Client CPU per https request, TLS 1.3, %d connections, one loop, nginx\n\n"+
		"Client pinned to one CPU, nginx to another. %d rounds of %v, in each round every client once; medians,\n"+
		"and in brackets the least and the most. The ratio is taken within each round.\n\n"+
		"| client | CPU us/request | requests/s | CPU, times wrk's | limit |\n|:--|--:|--:|--:|:--|\n",
		s.connections, s.rounds, s.duration)
	base := each(samples[tlsWrk], (*sample.Sample).CPUus)
	for _, c := range []struct {
		name  string
		limit float64
	}{{tlsWrk, 0}, {tlsEngine, tlsLimit}, {tlsNginx16, 0}, {tlsEngine16, tlsLimit16}} {
		cpu := each(samples[c.name], (*sample.Sample).CPUus)
		used, ratio := spreadOf(cpu), spreadOf(ratios(cpu, base))
		verdict := ""
		switch {
		case c.limit == 0:
		case ratio.median <= c.limit:
			verdict = fmt.Sprintf("%.2f: met", c.limit)
		default:
			verdict = fmt.Sprintf("%.2f: **missed**", c.limit)
		}
		fmt.Fprintf(&b, "| %s | %.2f (%.2f-%.2f) | %.0f | %.2f (%.2f-%.2f) | %s |\n", c.name, used.median, used.min, used.max,
			spreadOf(each(samples[c.name], (*sample.Sample).Rate)).median, ratio.median, ratio.min, ratio.max, verdict)
	}
	b.WriteString("\nOne connection per request, with a request each; openssl s_time sends none, and has one connection at a time.\n\n" +
		"| client | connections/s | CPU us each |\n|:--|--:|--:|\n")
	for _, name := range []string{"hotlap, full handshakes", "hotlap, resumed"} {
		rate, cpu := spreadOf(each(samples[name], (*sample.Sample).Rate)), spreadOf(each(samples[name], (*sample.Sample).CPUus))
		fmt.Fprintf(&b, "| %s | %.0f (%.0f-%.0f) | %.0f |\n", name, rate.median, rate.min, rate.max, cpu.median)
	}
	for _, how := range []string{"-new", "-reuse"} {
		rate := spreadOf(handshakes[how])
		fmt.Fprintf(&b, "| openssl s_time %s | %.0f (%.0f-%.0f) | |\n", how, rate.median, rate.min, rate.max)
	}
	return b.String()
}

// startNginx starts nginx with TLS 1.3 and a certificate made now.
func (s *secured) startNginx(ctx context.Context) (addr string, stop func(), err error) {
	dir, err := filepath.Abs(buildDir + "/nginx")
	if err != nil {
		return "", nil, err
	}
	if err := errors.Join(os.MkdirAll(dir, 0o755), writeCertificate(dir)); err != nil {
		return "", nil, err
	}
	if addr, err = freePort(); err != nil {
		return "", nil, err
	}
	conf := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 4096; }
http { access_log off; keepalive_requests 1000000000;
 client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3; uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
 ssl_certificate %[1]s/cert.pem; ssl_certificate_key %[1]s/key.pem; ssl_protocols TLSv1.3; ssl_session_cache shared:x:10m;
 server { listen %[2]s ssl; location / { return 200 "Hello, World!"; } } }
`, dir, addr)
	if err := os.WriteFile(dir+"/conf", []byte(conf), 0o644); err != nil {
		return "", nil, err
	}
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		nginx = "/usr/sbin/nginx"
	}
	ctx, cancel := context.WithCancel(ctx)
	cmd := command(ctx, nginx, "-p", dir, "-c", dir+"/conf", "-e", dir+"/error.log")
	if err := startOn(s.serverCPU, cmd); err != nil {
		cancel()
		return "", nil, err
	}
	stop = func() { cancel(); _ = cmd.Wait() } // it ends by our kill: that is no error
	for range serveTries {
		if c, err := net.Dial("tcp", addr); err == nil {
			return addr, stop, c.Close()
		}
		time.Sleep(serveWait)
	}
	stop()
	return "", nil, errors.New("nginx does not listen: see " + dir + "/error.log")
}

func writeCertificate(dir string) error {
	cert, _, err := target.MakeCertificate()
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return err
	}
	var chain []byte
	for _, der := range cert.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return errors.Join(os.WriteFile(dir+"/cert.pem", chain, 0o644),
		os.WriteFile(dir+"/key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
}
