package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A server is what clients load. It is started for every run of a client, so
// that none meets what another left, and so that it counts one client's
// requests.
type server struct {
	name  string
	start func(ctx context.Context, cpu int) (*serving, error)
}

// serving is a server that runs.
type serving struct {
	addr string
	cmd  *exec.Cmd
	stop func() (*seen, error) // seen is nil if the server does not count
}

// seen is what a server counted.
type seen struct {
	requests, connections int64
	deepest               int64 // requests that came together, at most; 0: not counted
}

func (v *seen) UnmarshalJSON(b []byte) error {
	var w struct{ Requests, Connections, Deepest int64 }
	err := json.Unmarshal(b, &w)
	*v = seen{w.Requests, w.Connections, w.Deepest}
	return err
}

// confirm compares what a client says it did with what came in.
func (v *seen) confirm(l load, claimed int64) error {
	inFlight := int64(l.connections) * int64(l.depth)
	switch {
	case claimed > v.requests:
		return fmt.Errorf("it claims %d answers, the server had %d requests", claimed, v.requests)
	case claimed < v.requests*9/10-inFlight: // some leave out a warm-up
		return fmt.Errorf("it claims %d answers only, the server had %d requests", claimed, v.requests)
	case l.closing && v.connections < v.requests:
		return fmt.Errorf("it sent %d requests over %d connections, not one each", v.requests, v.connections)
	case !l.closing && v.connections > 2*int64(l.connections)+16:
		return fmt.Errorf("it opened %d connections, not %d", v.connections, l.connections)
	case v.deepest > int64(l.depth), v.deepest > 0 && l.rate == 0 && v.deepest < int64(l.depth):
		return fmt.Errorf("at most %d of its requests came together, not %d", v.deepest, l.depth)
	}
	return nil
}

// sinkServer answers all requests at almost no cost: bench/floor/sink.c.
func sinkServer(args ...string) server {
	return server{"the sink", func(ctx context.Context, cpu int) (*serving, error) {
		cmd := command(ctx, buildDir+"/sink", args...)
		pipe, err := cmd.StdoutPipe()
		if err == nil {
			err = startOn(cpu, cmd)
		}
		if err != nil {
			return nil, fmt.Errorf("sink: %w", err)
		}
		out := bufio.NewReader(pipe)
		port, err := out.ReadString('\n')
		if err != nil {
			return nil, errors.Join(errors.New("sink: it printed no port"), terminate(cmd))
		}
		stop := func() (*seen, error) { return stopSink(cmd, out) }
		return &serving{"127.0.0.1:" + strings.TrimSpace(port), cmd, stop}, nil
	}}
}

// stopSink ends the sink and reads what it counted.
func stopSink(cmd *exec.Cmd, out io.Reader) (*seen, error) {
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		return nil, fmt.Errorf("sink: it ended early: %w", err)
	}
	v := new(seen)
	err := json.NewDecoder(out).Decode(v)
	if err := errors.Join(err, cmd.Wait()); err != nil {
		return nil, fmt.Errorf("sink: it did not say what it counted: %w", err)
	}
	return v, nil
}

// hotlapServer is hotlap serve; at addr, or where there is a port for "".
func hotlapServer(addr string, flags ...string) server {
	return server{"hotlap serve", func(ctx context.Context, cpu int) (*serving, error) {
		at := addr
		if at == "" {
			var err error
			if at, err = freePort(); err != nil {
				return nil, err
			}
		}
		cmd := command(ctx, buildDir+"/hotlap", append([]string{"serve", "-l", at}, flags...)...)
		if err := startOn(cpu, cmd); err != nil {
			return nil, err
		}
		if err := listening(at); err != nil {
			return nil, errors.Join(err, terminate(cmd))
		}
		return &serving{at, cmd, func() (*seen, error) { return nil, terminate(cmd) }}, nil
	}}
}

// nginxServer is nginx with all that costs time per request switched off.
// secure is what its configuration has for TLS.
func nginxServer(scheme, secure string) server {
	return server{"nginx", func(ctx context.Context, cpu int) (*serving, error) {
		addr, err := freePort()
		if err != nil {
			return nil, err
		}
		dir, err := filepath.Abs(nginxDir)
		if err == nil {
			err = os.MkdirAll(dir, 0o755)
		}
		if err == nil {
			err = os.WriteFile(dir+"/conf", fmt.Appendf(nil, nginxConf, dir, addr, secure), 0o644)
		}
		if err != nil {
			return nil, err
		}
		cmd := command(ctx, "nginx", "-p", dir, "-c", dir+"/conf", "-e", dir+"/error.log")
		if err := startOn(cpu, cmd); err != nil {
			return nil, fmt.Errorf("%w: install nginx", err)
		}
		if err := listening(addr); err != nil {
			return nil, errors.Join(fmt.Errorf("%w: see %s/error.log", err, nginxDir), terminate(cmd))
		}
		before, err := nginxSeen(ctx, scheme+"://"+addr)
		if err != nil {
			return nil, errors.Join(err, terminate(cmd))
		}
		stop := func() (*seen, error) {
			after, err := nginxSeen(ctx, scheme+"://"+addr)
			// The question itself is one more of each.
			v := seen{requests: after.requests - before.requests - 1, connections: after.connections - before.connections - 1}
			return &v, errors.Join(err, terminate(cmd))
		}
		return &serving{addr, cmd, stop}, nil
	}}
}

const nginxDir = buildDir + "/nginx"

// nginxConf takes the folder, the address, and what is to be said about TLS.
const nginxConf = `daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 16384; multi_accept on; }
http {
 access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; tcp_nodelay on;
 client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3; uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
 server {
  listen %[2]s backlog=16384 %[3]s
  location = /status { stub_status; }
  location / { return 200 "Hello, World!"; }
 }
}
`

var nginxCounts = regexp.MustCompile(`(?m)^ *(\d+) (\d+) (\d+) *$`)

// nginxSeen asks nginx what it counted since its start.
func nginxSeen(ctx context.Context, base string) (v seen, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/status", nil)
	if err != nil {
		return v, err
	}
	resp, err := unverified.Do(req)
	if err != nil {
		return v, fmt.Errorf("nginx: %w", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return v, fmt.Errorf("nginx: %w", err)
	}
	return parseNginxStatus(string(body))
}

// parseNginxStatus reads the line "accepts handled requests" of stub_status.
func parseNginxStatus(text string) (v seen, err error) {
	m := nginxCounts.FindStringSubmatch(text)
	if m == nil {
		return v, fmt.Errorf("nginx: no counts in its status %q", text)
	}
	v.connections, err = strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return v, err
	}
	v.requests, err = strconv.ParseInt(m[3], 10, 64)
	return v, err
}

// freePort finds a port nobody listens on, below those that the kernel gives to who
// asks for any: no connection takes it before the server does.
func freePort() (addr string, err error) {
	for range 100 {
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))); err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", err
}

// A server that does not listen after this will not.
const (
	serveTries = 3000
	serveWait  = 10 * time.Millisecond
)

// listening waits until a server accepts connections.
func listening(addr string) error {
	for range serveTries {
		if c, err := net.Dial("tcp", addr); err == nil {
			return c.Close()
		}
		time.Sleep(serveWait)
	}
	return fmt.Errorf("nothing listens on %s", addr)
}

// terminate asks a server to end as a user would. Ending by a signal is what it
// says with its exit code.
func terminate(cmd *exec.Cmd) error {
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		return fmt.Errorf("%s ended early: %w", cmd.Path, err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return err
	}
	return nil
}

func cpuSeconds(cmd *exec.Cmd) float64 {
	return (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
}
