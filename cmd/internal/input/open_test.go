package input

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

func gzipped(t *testing.T, text string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return b.Bytes()
}

func zstandard(t *testing.T, text string) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll([]byte(text), nil)
}

func TestOpen(t *testing.T) {
	const text = "http://a/1\nhttp://a/2\n"
	gz, zst := gzipped(t, text), zstandard(t, text)
	for _, c := range []struct {
		name    string
		content []byte
		want    string
		err     string
	}{
		{"plain.txt", []byte(text), text, ""},
		{"empty.txt", nil, "", ""},
		{"short.txt", []byte("("), "(", ""},
		{"x.gz", gz, text, ""},
		{"two-members.gz", append(append([]byte{}, gz...), gz...), text + text, ""},
		{"x.zst", zst, text, ""},
		{"two-frames.zst", append(append([]byte{}, zst...), zst...), text + text, ""},
		{"gzip-without-its-name", gz, text, ""},
		{"zstd-without-its-name", zst, text, ""},
		{"cut.gz", gz[:len(gz)-5], text, "unexpected EOF"},
		{"cut.zst", zst[:len(zst)-5], "", "unexpected EOF"},
		{"empty.gz", nil, "", "unexpected EOF"},
		{"plain.gz", []byte(text), "", "invalid header"},
	} {
		path := filepath.Join(t.TempDir(), c.name)
		if err := os.WriteFile(path, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		if err == nil && string(got) != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), path)) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.err)
		}
		if part, ok := f.Fraction(); err == nil && ok && part != 1 {
			t.Errorf("%s: %v of it was read", c.name, part)
		}
		f.Raw.Close()
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{dir: "is a directory", dir + "/none": "no such file"} {
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A pipe has no size, and its first byte is passed on before there is a second.
func TestWrapPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	f, err := Wrap(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 10)
	if n, err := f.Read(buf); n != 1 || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
	if _, ok := f.Fraction(); ok {
		t.Error("a pipe has a size")
	}
}
