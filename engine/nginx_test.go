package engine_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"hotlap/engine"
)

const nginxConf = `
daemon off;
master_process off;
worker_processes 1;
pid %[1]s/pid;
error_log stderr warn;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  %[3]s
  server { listen %[2]s; location / { return 200 "$request_uri"; } }
}
`

// nginx closes each connection 1000 requests in (keepalive_requests), in the
// middle of a pipeline. Nobody may notice: every id once, every body its own
// URI, no error, no attempt charged.
func TestNginx(t *testing.T) {
	addr := startNginx(t, "", "")
	for _, depth := range []int{engine.PipelineAuto, 32, 1} {
		t.Run(depthName(depth), func(t *testing.T) {
			n := size(100_000, 1_000_000)
			c := &uriCheck{t: t, base: "http://" + addr, n: n, seen: make([]uint8, n)}
			stats := runEngine(t, engine.Config{Connections: 64, PerHost: 64, Pipeline: depth, KeepBody: true}, c, c)
			c.settle(stats)
			t.Logf("%d requests in %v, %d connections, %d replays", n, stats.Elapsed, stats.Connects, stats.Replays)
		})
	}
}

// startNginx starts nginx; listen follows the address, more goes before the
// server.
func startNginx(t *testing.T, listen, more string) (addr string) {
	path, dir := needTool(t, "nginx"), t.TempDir()
	addr = freeAddr(t)
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir, addr+listen, more), 0o600); err != nil {
		t.Fatal(err)
	}
	awaitListener(t, addr, startTool(t, exec.Command(path, "-p", dir, "-c", conf, "-e", "stderr")))
	return addr
}

// freeAddr is a loopback address nobody listens on: a moment ago, at least. Its
// port is below those that the kernel gives to who asks for any.
func freeAddr(t testing.TB) string {
	t.Helper()
	var err error
	for range 100 {
		var l net.Listener
		if l, err = net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))); err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal(err)
	return ""
}

// awaitListener waits until a child listens, or is dead.
func awaitListener(t testing.TB, addr string, dead <-chan error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(patience); time.Now().Before(until); {
		if c, err := net.Dial("tcp4", addr); err == nil {
			c.Close()
			return
		}
		select {
		case err := <-dead:
			t.Fatalf("the server ended before it listened: %v", err)
		case <-tick.C:
		}
	}
	t.Fatalf("nobody listens on %s", addr)
}

// uriCheck asks for n distinct URLs and wants each one's path as its body.
type uriCheck struct {
	t     testing.TB
	base  string
	n     int
	given int
	seen  []uint8
	wrong int
}

func (c *uriCheck) Next(ctx context.Context, batch []*engine.Request) (int, error) {
	n := min(len(batch), c.n-c.given)
	for i := range n {
		id := c.given + i
		batch[i] = &engine.Request{URL: fmt.Sprintf("%s/item/%d?q=%d", c.base, id, id), Tag: id}
	}
	if c.given += n; c.given == c.n {
		return n, io.EOF
	}
	return n, nil
}

func (c *uriCheck) Put(results []*engine.Result) error {
	for _, r := range results {
		id := r.Request.Tag.(int)
		c.seen[id]++
		want := fmt.Sprintf("/item/%d?q=%d", id, id)
		if r.Err != nil || r.Status != 200 || string(r.Body) != want {
			if c.wrong++; c.wrong <= 10 {
				c.t.Errorf("%s: status %d, body %q, %v", want, r.Status, r.Body, r.Err)
			}
		}
	}
	return nil
}

func (c *uriCheck) settle(s engine.Stats) {
	c.t.Helper()
	for id, n := range c.seen {
		if n != 1 {
			if c.wrong++; c.wrong <= 10 {
				c.t.Errorf("id %d has %d results", id, n)
			}
		}
	}
	if s.Requests != int64(c.n) || s.Responses != int64(c.n) || s.Retries != 0 {
		c.t.Errorf("stats: %+v", s)
	}
}
