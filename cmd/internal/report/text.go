package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func statusName(status int) string { return strconv.Itoa(status) }

// WriteText tells the summary to people, a line for each thing that there is to
// tell. Errors are red if color is set.
func (s *Summary) WriteText(w io.Writer, color bool) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s "+format+"\n", append([]any{name}, args...)...)
	}
	line("requests", "%s in %s, %s/s", Count(s.Requests), seconds(s.Seconds), Count(int64(s.Rate)))
	if len(s.Statuses) > 0 {
		line("statuses", "%s", ByCount(s.Statuses))
	}
	if s.Errors > 0 {
		text := fmt.Sprintf("%s (%s)", Count(s.Errors), ByCount(s.ErrorKinds))
		if color {
			text = "\x1b[31m" + text + "\x1b[0m"
		}
		line("errors", "%s", text)
	}
	if s.Retries > 0 || s.Replays > 0 {
		line("again", "%s retries, %s replays after closes", Count(s.Retries), Count(s.Replays))
	}
	line("bodies", "%s%s", Bytes(s.Bytes), truncated(s.Truncated))
	if s.Latency != nil {
		line("latency", "%s", s.Latency)
		line("in all", "%s", s.Total)
	}
	line("client", "%s connections, %s CPU%s, %s peak memory",
		Count(s.Connections), seconds(s.CPU), s.cpuPerRequest(), Bytes(s.PeakMemory))
	for i, f := range s.Kernel.Facts() {
		line([]string{"kernel", ""}[min(i, 1)], "%s: %s", f.Name, f.Value)
	}
	if s.Ended != Done {
		line("ended", "early: %s", map[string]string{Signal: "by a signal", Input: "by its input", Output: "by its output"}[s.Ended])
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func truncated(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %s truncated", Count(n))
}

func (s *Summary) cpuPerRequest() string {
	if s.Requests == 0 {
		return ""
	}
	own := s.CPU
	if s.Kernel != nil {
		own -= (s.Kernel.Cost.Setup + s.Kernel.Cost.CPU).Seconds()
	}
	return fmt.Sprintf(" (%.2f us/request)", max(0, own)/float64(s.Requests)*1e6)
}

func (l *Latency) String() string {
	return fmt.Sprintf("p50 %s  p90 %s  p99 %s  p99.9 %s  max %s",
		micros(l.P50), micros(l.P90), micros(l.P99), micros(l.P999), micros(l.Max))
}

// ByCount lists counts, the largest first.
func ByCount(m map[string]int64) string {
	keys := slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		if m[a] != m[b] {
			return int(min(max(m[b]-m[a], -1), 1))
		}
		return strings.Compare(a, b)
	})
	for i, k := range keys {
		keys[i] = k + " " + Count(m[k])
	}
	return strings.Join(keys, ", ")
}

// Count writes a number with its thousands apart.
func Count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for at := len(digits) - 3; at > 0 && digits[at-1] != '-'; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

// Bytes writes a size in the largest unit that it fills.
func Bytes(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	size, unit := float64(n)/1024, 0
	for size >= 1024 {
		size, unit = size/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", size, units[unit])
}

func seconds(s float64) string {
	return roundTo3(time.Duration(s * float64(time.Second))).String()
}

func micros(us int64) string { return roundTo3(time.Duration(us) * time.Microsecond).String() }

// roundTo3 rounds to three digits.
func roundTo3(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d >= 1000*unit {
		unit *= 10
	}
	return d.Round(unit)
}

// WriteFile writes the summary as JSON: the file appears whole, or stays as it
// was. What is no regular file, such as a pipe, is written to.
func (s *Summary) WriteFile(name string) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return WriteFile(name, append(text, '\n'))
}

// WriteFile puts text in the place of a file at once, by rename, so that
// nobody sees half of it. What is no regular file is written to.
func WriteFile(name string, text []byte) error {
	if real, err := filepath.EvalSymlinks(name); err == nil {
		name = real
	}
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return writeTo(name, text, os.O_WRONLY)
	}
	temp := fmt.Sprintf("%s.%d.tmp", name, os.Getpid())
	err := writeTo(temp, text, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err == nil {
		err = os.Rename(temp, name)
	}
	if err != nil {
		os.Remove(temp)
	}
	return err
}

func writeTo(name string, text []byte, flag int) error {
	f, err := os.OpenFile(name, flag, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// CanWrite says early what would keep WriteFile from writing.
func CanWrite(name string) error {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return fmt.Errorf("write %s: is a directory", name)
	} else if err == nil && !info.Mode().IsRegular() {
		return nil
	}
	dir := filepath.Dir(name)
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
