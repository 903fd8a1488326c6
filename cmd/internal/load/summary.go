package load

import (
	"strconv"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"hotlap/engine"
)

// curveSteps is how many points the curve has for each halving of the distance
// to 100 %.
const curveSteps = 5

// latencyOf summarizes a histogram; nil if it is empty.
func latencyOf(h *hdrhistogram.Histogram) *Latency {
	if h == nil || h.TotalCount() == 0 {
		return nil
	}
	v := h.ValueAtPercentilesSlice([]float64{50, 75, 90, 99, 99.9, 99.99})
	l := &Latency{
		Count: h.TotalCount(), Min: us(h.Min()), Mean: h.Mean() / 1e3, StdDev: h.StdDev() / 1e3, Max: us(h.Max()),
		P50: us(v[0]), P75: us(v[1]), P90: us(v[2]), P99: us(v[3]), P999: us(v[4]), P9999: us(v[5]),
	}
	for _, b := range h.CumulativeDistributionWithTicks(curveSteps) {
		l.Curve = append(l.Curve, [2]float64{b.Quantile, us(b.ValueAt)})
	}
	return l
}

func briefOf(h *hdrhistogram.Histogram) *Brief {
	if h.TotalCount() == 0 {
		return nil
	}
	v := h.ValueAtPercentilesSlice([]float64{50, 90, 99, 99.9})
	return &Brief{Min: us(h.Min()), P50: us(v[0]), P90: us(v[1]), P99: us(v[2]), P999: us(v[3]), Max: us(h.Max())}
}

func us(ns int64) float64 { return float64(ns) / 1e3 }

// summary is what the series says of a second.
func (w *window) summary(warmUp time.Duration) Second {
	return Second{
		At: (w.from - warmUp).Seconds(), Length: 1,
		Responses: w.responses, NonOK: w.counts.nonOK, Errors: w.failed() + w.unanswered, Body: w.bytes,
		Response: briefOf(w.response), Service: briefOf(w.service),
	}
}

// fill puts what was measured into the report.
func (w *window) fill(r *Report) {
	r.Responses, r.NonOK, r.Unanswered, r.Unsent = w.responses, w.counts.nonOK, w.unanswered, w.unsent
	r.Requests = w.responses + w.failed() + w.unanswered + w.unsent
	r.Errors, r.Statuses = map[string]int64{}, map[string]int64{}
	for kind, n := range w.errors {
		if n > 0 {
			r.Errors[engine.Kind(kind).String()] = n
		}
	}
	for status, n := range w.statuses {
		if n > 0 {
			r.Statuses[strconv.Itoa(status)] = n
		}
	}
	r.Bytes.Body = w.bytes
	r.ResponseTime, r.ServiceTime = latencyOf(w.response), latencyOf(w.service)
	r.NonOKTime, r.ScheduleLag = latencyOf(w.times.nonOK), latencyOf(w.lag)
	r.Client.Late, r.Client.Held = w.late, w.held

	if r.Seconds <= 0 {
		return
	}
	r.Rates.Responses = float64(w.inTime) / r.Seconds
	r.Rates.Body = float64(w.bytes) / r.Seconds
	if w.lag != nil {
		r.Rates.Responses = float64(w.responses) / r.Seconds
		r.Rates.Asked = float64(r.Requests) / r.Seconds
		r.Rates.Achieved = float64(w.responses) / float64(max(r.Requests, 1))
	}
}
