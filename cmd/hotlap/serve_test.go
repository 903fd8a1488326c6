package main

import (
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// serve runs hotlap serve, and returns the URL that it says.
func serve(t *testing.T, args ...string) (p *process, url string) {
	t.Helper()
	p = start(t, append([]string{"serve"}, args...)...)
	line := p.stderr.line()
	said := regexp.MustCompile(`^listening on (http://\S+:[1-9]\d*)\n$`).FindStringSubmatch(line)
	if said == nil {
		t.Fatalf("it says %q", line)
	}
	return p, said[1]
}

// fetch gets a URL with net/http, on a connection that stays open.
func fetch(t *testing.T, url string) (status int, body string, err error) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{}, Timeout: patience}
	t.Cleanup(client.CloseIdleConnections)
	resp, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

func TestServe(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			p, url := serve(t, "-l", "127.0.0.1:0", "--loops", "2")
			if status, body, err := fetch(t, url); status != 200 || body != "Hello, World!" || err != nil {
				t.Fatalf("status %d, %q, %v", status, body, err)
			}
			// It does not wait for its clients.
			c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, "GET /delay/3600000 HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			p.signal(s)
			p.exits(0)
			if out, said := p.stdout.rest(), p.stderr.rest(); out != "" || said != "" {
				t.Errorf("at its end it says %q and %q", out, said)
			}
		})
	}
}

// Each route that --help names is one.
func TestServeRoutes(t *testing.T) {
	_, url := serve(t, "--listen", "127.0.0.1:0")
	want := map[string]struct {
		status int
		body   string
	}{
		"/":        {200, "Hello, World!"},
		"/echo":    {200, "{\"method\":\"GET\",\"target\":\"/echo\",\"headers\":{"},
		"/bytes":   {200, "01"},
		"/status":  {404, ""},
		"/delay":   {200, "/delay/2"},
		"/chunked": {200, "01"},
		"/close":   {200, "/close/2"},
	}
	routes := regexp.MustCompile(`(?m)^  (/\w*)(/N|/MS)?  `).FindAllStringSubmatch(serveUsage, -1)
	if len(routes) != len(want)+1 {
		t.Errorf("--help names %q", routes)
	}
	for _, route := range routes {
		path, argument := route[1], ""
		switch {
		case path == "/status":
			argument = "/404"
		case route[2] != "":
			argument = "/2"
		}
		status, body, err := fetch(t, url+path+argument)
		if path == "/reset" {
			if err == nil {
				t.Errorf("/reset was answered with %d and %q", status, body)
			}
			continue
		}
		w := want[path]
		if status != w.status || !strings.HasPrefix(body, w.body) || err != nil {
			t.Errorf("%s%s: status %d, %q, %v, want %d and %q", path, argument, status, body, err, w.status, w.body)
		}
	}
}

func TestServeWithParent(t *testing.T) {
	p, url := serve(t, "-l", "127.0.0.1:0", "--with-parent")
	if status, _, err := fetch(t, url); status != 200 {
		t.Fatalf("status %d, %v", status, err)
	}
	p.stdin.Close()
	p.exits(0)
}

func TestServeWhereItCannot(t *testing.T) {
	_, url := serve(t, "-l", "127.0.0.1:0")
	addr := strings.TrimPrefix(url, "http://")
	p := start(t, "serve", "-l", addr)
	p.exits(1)
	if said := p.stderr.rest(); !strings.HasPrefix(said, "hotlap serve: ") || !strings.Contains(said, addr) || !strings.Contains(said, "in use") {
		t.Errorf("a port that is taken: %q", said)
	}
}

func TestServeWarnsOthersMayConnect(t *testing.T) {
	p, _ := serve(t, "-l", "0.0.0.0:0")
	if line := p.stderr.line(); !strings.HasPrefix(line, "hotlap serve: warning: 0.0.0.0:") || !strings.HasSuffix(line, " is not loopback: other machines may connect\n") {
		t.Errorf("it says %q", line)
	}
}
