package page

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"html/template"
	"image"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/html"

	"hotlap/cmd/internal/need"
)

var keep = flag.String("keep", "", "a folder to leave the pages and their pictures in, to look at")

// A frame is a page in a window of its own.
type frame struct {
	page  []byte
	width int    // of the window; 1200 if 0
	click string // an element to press once the page is there
}

// frames is the page that the frames are opened in. It ends with the source of
// what each has become, and how far each is wider than its window.
const frames = `<!doctype html><html lang="en"><meta charset="utf-8"><title>frames</title><link rel="icon" href="data:,">
{{range $i, $f := .}}<iframe src="/{{$i}}" width="{{$f.Width}}" height="900" data-click="{{$f.Click}}"></iframe>{{end}}
<script>
addEventListener("load", () => {
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument;
    if (frame.dataset.click) page.querySelector(frame.dataset.click).click();
    setTimeout(() => {
      const source = document.body.appendChild(document.createElement("pre"));
      source.dataset.source = frame.getAttribute("src").slice(1);
      source.dataset.over = page.documentElement.scrollWidth - page.documentElement.clientWidth;
      source.textContent = page.documentElement.outerHTML;
    }, 100);
  }
});
</script>`

// open opens pages in headless Chromium, lets their scripts run, and returns
// what they have become. It fails the test if anything is wrong with one.
func open(t *testing.T, pages []frame) []*html.Node {
	t.Helper()
	opened, complaints := try(t, pages)
	for _, c := range complaints {
		t.Error(c)
	}
	return opened
}

// try opens pages and returns what is wrong with them too: what chromium
// complains of, the faults that a page noted, and a page that is wider than its
// window.
func try(t *testing.T, pages []frame) (opened []*html.Node, complaints []string) {
	t.Helper()
	mux := http.NewServeMux()
	type attributes struct {
		Width int
		Click string
	}
	var list []attributes
	for i, f := range pages {
		mux.HandleFunc(fmt.Sprintf("GET /%d", i), func(w http.ResponseWriter, _ *http.Request) { send(w, f.page) })
		list = append(list, attributes{cmp.Or(f.width, 1200), f.click})
	}
	var outer bytes.Buffer
	if err := template.Must(template.New("").Parse(frames)).Execute(&outer, list); err != nil {
		t.Fatal(err)
	}
	mux.HandleFunc("GET /frames", func(w http.ResponseWriter, _ *http.Request) { send(w, outer.Bytes()) })
	dom, complaints := chromium(t, mux, "/frames", "--dump-dom")
	sources := find(parse(t, dom), "pre", "data-source", "")
	if len(sources) != len(pages) {
		t.Fatalf("%d of %d pages were loaded: %q", len(sources), len(pages), complaints)
	}
	for i, source := range sources {
		if over := attribute(source, "data-over"); over != "0" {
			complaints = append(complaints, fmt.Sprintf("page %d is %s pixels wider than its window", i, over))
		}
		root := parse(t, []byte(text(source)))
		if noted := attribute(find(root, "html", "lang", "en")[0], "data-faults"); noted != "" {
			complaints = append(complaints, fmt.Sprintf("page %d noted faults: %s", i, noted))
		}
		opened = append(opened, root)
	}
	return opened, complaints
}

func send(w http.ResponseWriter, page []byte) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(page)
}

func parse(t *testing.T, page []byte) *html.Node {
	t.Helper()
	root, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// picture opens a page in a window of that size, and returns what is to be seen.
func picture(t *testing.T, name string, page []byte, width, height int, flags ...string) image.Image {
	t.Helper()
	file := filepath.Join(t.TempDir(), "picture.png")
	if *keep != "" {
		file = filepath.Join(*keep, name+".png")
	}
	flags = append(flags, "--screenshot="+file, "--hide-scrollbars", fmt.Sprintf("--window-size=%d,%d", width, height))
	_, complaints := chromium(t, site(page), "/page", flags...)
	for _, c := range complaints {
		t.Error(c)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seen, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// site is a server with one page.
func site(page []byte) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /page", func(w http.ResponseWriter, _ *http.Request) { send(w, page) })
	return mux
}

// chromium opens a path of a site in a browser of its own, which reaches nothing
// else, and returns what it wrote. It complains if a page writes to the console,
// asks for something that the site has not, or for the same again.
func chromium(t *testing.T, site *http.ServeMux, path string, flags ...string) (output []byte, complaints []string) {
	t.Helper()
	program := need.Tool(t, "chromium")
	var lock sync.Mutex
	asked := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lock.Lock()
		asked[r.URL.Path]++
		lock.Unlock()
		site.ServeHTTP(w, r)
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	home := t.TempDir() // nothing of it stays
	flags = append(flags,
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--user-data-dir="+home,
		"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
		"--virtual-time-budget=5000", "--enable-logging=stderr", "--v=0")
	command := exec.CommandContext(ctx, program, append(flags, server.URL+path)...)
	command.Env = append(os.Environ(), "HOME="+home, "TMPDIR="+home)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	// Its processes end with it.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	err := command.Run()
	server.Close()
	if err != nil {
		t.Fatalf("%v: %v\n%s", command, err, &stderr)
	}
	for line := range strings.Lines(stderr.String()) {
		if strings.Contains(line, "CONSOLE") {
			complaints = append(complaints, "on the console: "+line)
		}
	}
	for path, n := range asked {
		if _, pattern := site.Handler(httptest.NewRequest("GET", path, nil)); pattern == "" || n != 1 {
			complaints = append(complaints, fmt.Sprintf("%d requests for %s", n, path))
		}
	}
	return stdout.Bytes(), complaints
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

// words are all words of a node, with one space between them.
func words(n *html.Node) string {
	var list []string
	for node := range n.Descendants() {
		if node.Type == html.TextNode {
			list = append(list, strings.Fields(node.Data)...)
		}
	}
	return strings.Join(list, " ")
}
