package page

import (
	"bytes"
	"context"
	"flag"
	"image"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/html"

	"hotlap/cmd/internal/need"
)

var keep = flag.String("keep", "", "a folder to leave the pages and their pictures in, to look at")

// A browser opens one page in headless Chromium.
type browser struct {
	t    *testing.T
	page []byte
	args []string // more flags
}

// dom opens the page, lets its scripts run, and returns what it has become. It
// fails the test if anything went wrong in the page.
func (b *browser) dom() *html.Node {
	b.t.Helper()
	stdout := b.run("--dump-dom")
	root, err := html.Parse(bytes.NewReader(stdout))
	if err != nil {
		b.t.Fatal(err)
	}
	if faults := attribute(find(root, "html", "lang", "en")[0], "data-faults"); faults != "" {
		b.t.Errorf("the page noted faults: %s", faults)
	}
	return root
}

// picture opens the page in a window of that size, and returns what is to be
// seen.
func (b *browser) picture(name string, width, height int) image.Image {
	b.t.Helper()
	file := filepath.Join(b.t.TempDir(), name)
	if *keep != "" {
		file = filepath.Join(*keep, name)
	}
	b.run("--screenshot="+file, "--hide-scrollbars", "--window-size="+strconv.Itoa(width)+","+strconv.Itoa(height))
	f, err := os.Open(file)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	picture, err := png.Decode(f)
	if err != nil {
		b.t.Fatal(err)
	}
	return picture
}

// run serves the page to a Chromium of its own, and fails the test if that
// writes to the console, or asks for more than the page.
func (b *browser) run(args ...string) []byte {
	b.t.Helper()
	chromium := need.Tool(b.t, "chromium")
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(b.page)
	}))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	args = append(args,
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--user-data-dir="+b.t.TempDir(),
		"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
		"--virtual-time-budget=3000", "--enable-logging=stderr", "--v=0")
	command := exec.CommandContext(ctx, chromium, append(append(args, b.args...), server.URL+"/page")...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	// Its processes end with it.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	err := command.Run()
	server.Close()
	if err != nil {
		b.t.Fatalf("%v: %v\n%s", command, err, &stderr)
	}
	for line := range strings.Lines(stderr.String()) {
		if strings.Contains(line, "CONSOLE") {
			b.t.Errorf("on the console: %s", line)
		}
	}
	if len(asked) != 1 {
		b.t.Errorf("the page asked for more than itself: %q", asked)
	}
	return stdout.Bytes()
}

// find lists the elements of that name that have an attribute, in order; of
// that value, if it is not "".
func find(n *html.Node, element, name, value string) (list []*html.Node) {
	for node := range n.Descendants() {
		if node.Type != html.ElementNode || element != "" && node.Data != element {
			continue
		}
		if got, ok := lookup(node, name); ok && (value == "" || got == value) {
			list = append(list, node)
		}
	}
	return list
}

func lookup(n *html.Node, name string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

func attribute(n *html.Node, name string) string {
	value, _ := lookup(n, name)
	return value
}

// text is all text in a node.
func text(n *html.Node) string {
	var b strings.Builder
	for node := range n.Descendants() {
		if node.Type == html.TextNode {
			b.WriteString(node.Data)
		}
	}
	return b.String()
}
