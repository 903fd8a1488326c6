package load

import (
	"bytes"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Distributions are those of one second, in nanoseconds.
type Distributions struct {
	Response *hdrhistogram.Histogram
	Service  *hdrhistogram.Histogram
	At       time.Duration // when the second began, since the start of the measured part
}

// An HDRLog is a histogram log: an interval a second and kind of time, tagged
// "response" and "service", values in nanoseconds. Other tools read and merge it
// (HdrHistogram's HistogramLogProcessor, for one).
type HDRLog struct {
	text   bytes.Buffer
	w      *hdrhistogram.HistogramLogWriter
	start  time.Time
	failed error
}

// NewHDRLog begins a log; start is that of the measured part, or close to it.
func NewHDRLog(start time.Time, comment string) *HDRLog {
	l := &HDRLog{start: start}
	l.w = hdrhistogram.NewHistogramLogWriter(&l.text)
	ms := start.UnixMilli()
	l.check(l.w.OutputComment("[" + comment + "]"))
	l.check(l.w.OutputLogFormatVersion())
	l.check(l.w.OutputStartTime(ms))
	l.w.SetBaseTime(ms)
	l.check(l.w.OutputLegend())
	return l
}

// Add logs a second.
func (l *HDRLog) Add(d *Distributions) {
	for _, h := range []struct {
		tag string
		*hdrhistogram.Histogram
	}{{"response", d.Response}, {"service", d.Service}} {
		if h.TotalCount() == 0 {
			continue
		}
		at := l.start.Add(d.At)
		h.SetTag(h.tag)
		h.SetStartTimeMs(at.UnixMilli())
		h.SetEndTimeMs(at.Add(time.Second).UnixMilli())
		l.check(l.w.OutputIntervalHistogram(h.Histogram))
	}
}

func (l *HDRLog) check(err error) {
	if l.failed == nil {
		l.failed = err
	}
}

// Text is the log.
func (l *HDRLog) Text() ([]byte, error) { return l.text.Bytes(), l.failed }
