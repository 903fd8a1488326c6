package page

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"hotlap/cmd/internal/load"
	"hotlap/ebpf"
)

// A story is what happens in a run that never was: simulate makes the report
// that it would have had.
type story struct {
	seconds  int
	rate     func(second int) int // responses per second
	service  float64              // microseconds, of a usual response
	stall    func(second int) time.Duration
	failing  func(second int) float64 // share of the requests that end with an error
	open     bool
	perStall int // requests in a second that the stall touches, per thousand
}

func steady(n int) func(int) int { return func(int) int { return n } }

// simulate is deterministic. It records a sample of the requests of each second,
// as many as give a smooth curve, and counts all.
func simulate(s story) *load.Report {
	random := rand.New(rand.NewPCG(4, 2))
	newHistogram := func() *hdrhistogram.Histogram { return hdrhistogram.New(1, int64(time.Hour/time.Microsecond), 3) }
	response, service := newHistogram(), newHistogram()
	r := &load.Report{
		Version: load.ReportVersion, Tool: "hotlap 1.2", Started: time.Date(2026, 11, 24, 18, 0, 0, 0, time.UTC), Ended: "done",
		Command:  []string{"hotlap", "bench", "-c", "64", "-d", fmt.Sprintf("%ds", s.seconds), "-H", "Accept: text/html", "http://127.0.0.1:8080/catalog/item?id={rand:1:100000}"},
		Errors:   map[string]int64{},
		Statuses: map[string]int64{},
		Seconds:  float64(s.seconds),
	}
	for at := range s.seconds {
		ofResponse, ofService := newHistogram(), newHistogram()
		sent := s.rate(at)
		second := load.Second{At: float64(at), Length: 1}
		if s.failing != nil {
			second.Errors = int64(float64(sent) * s.failing(at))
			second.NonOK = second.Errors / 2
		}
		second.Responses = int64(sent) - second.Errors
		second.Body = second.Responses * 812
		for range min(second.Responses, 2000) {
			took := s.service * math.Exp(0.35*random.NormFloat64()+max(0, random.ExpFloat64()-4)/2)
			waited := 0.0
			if s.stall != nil && s.stall(at) > 0 && random.IntN(1000) < s.perStall {
				waited = random.Float64() * float64(s.stall(at).Microseconds())
			}
			served := took
			if random.IntN(64) == 0 {
				served += waited // a request that was on the wire as the stall began
			}
			_ = ofResponse.RecordValue(int64(took + waited)) // in range
			_ = ofService.RecordValue(int64(served))
		}
		second.Response, second.Service = brief(ofResponse), brief(ofService)
		if s.stall != nil && s.stall(at) > 0 {
			second.Backlog = int64(s.stall(at).Seconds() * float64(sent))
		}
		response.Merge(ofResponse)
		service.Merge(ofService)
		r.Series = append(r.Series, second)
		r.Requests += int64(sent)
		r.Responses += second.Responses
		r.NonOK += second.NonOK
		r.Bytes.Body += second.Body
		if second.Errors > 0 {
			r.Errors["timeout"] += second.Errors * 2 / 3
			r.Errors["closed"] += second.Errors - second.Errors*2/3
		}
	}
	if r.Responses > 0 {
		r.Statuses["200"] = r.Responses - r.NonOK
	}
	if r.NonOK > 0 {
		r.Statuses["503"] = r.NonOK
	}
	r.ResponseTime, r.ServiceTime = latency(response), latency(service)
	r.Rates = load.Rates{Responses: float64(r.Responses) / max(r.Seconds, 1), Body: float64(r.Bytes.Body) / max(r.Seconds, 1)}
	r.Load = load.Load{
		Targets: []string{"http://127.0.0.1:8080/catalog/item"}, TargetCount: 1, Loop: "closed",
		Connections: 64, Pipeline: 1, Loops: 1, Duration: float64(s.seconds), Timeout: 10, KeepAlive: true,
	}
	if s.open {
		r.Load.Loop, r.Load.Arrivals = "open", "constant"
		r.Load.RampFrom, r.Load.Rate = float64(s.rate(0)), float64(s.rate(s.seconds-1))
		r.Rates.Asked = float64(r.Requests) / r.Seconds
		r.Rates.Achieved = r.Rates.Responses / r.Rates.Asked
	}
	runQueue, steal, throttled, shares := 0.0123, 0.004, 0.0, true
	r.Client = load.Client{
		User: 2.1, System: 6.4, PerRequest: 9.57, Busy: []float64{0.871}, RunQueue: &runQueue, Steal: &steal, Throttled: &throttled,
		SharesCPUs: &shares, Connections: 64, MaxRSS: 27 << 20,
	}
	r.Verdict = ebpf.Judge(ebpf.Sample{}, ebpf.ClientFigures{
		Elapsed: time.Duration(r.Seconds) * time.Second, Requests: r.Requests, Open: s.open, Asked: r.Rates.Asked, Achieved: r.Rates.Responses,
		Held: r.NonOK, Busy: r.Client.Busy, CPU: 8 * time.Second, CPUs: 2, Loopback: true, ServerCPUs: true,
	})
	r.Environment = load.Environment{
		Kernel: "6.18.5", CPU: "AMD EPYC 9R14", CPUs: 2, AllowedCPU: 2, Memory: 8 << 30, Go: "go1.26.1", NoFile: 20000,
		Sysctls: map[string]string{"net.ipv4.ip_local_port_range": "32768 60999", "net.ipv4.tcp_tw_reuse": "2", "net.core.somaxconn": "4096"},
	}
	return r
}

func latency(h *hdrhistogram.Histogram) *load.Latency {
	if h.TotalCount() == 0 {
		return nil
	}
	at := func(p float64) float64 { return float64(h.ValueAtQuantile(p)) }
	l := &load.Latency{
		Count: h.TotalCount(), Min: float64(h.Min()), Mean: h.Mean(), StdDev: h.StdDev(), Max: float64(h.Max()),
		P50: at(50), P75: at(75), P90: at(90), P99: at(99), P999: at(99.9), P9999: at(99.99),
	}
	for _, bracket := range h.CumulativeDistributionWithTicks(5) {
		l.Curve = append(l.Curve, [2]float64{bracket.Quantile, float64(bracket.ValueAt)})
	}
	return l
}

func brief(h *hdrhistogram.Histogram) *load.Brief {
	if h.TotalCount() == 0 {
		return nil
	}
	at := func(p float64) float64 { return float64(h.ValueAtQuantile(p)) }
	return &load.Brief{Min: float64(h.Min()), P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: float64(h.Max())}
}

// The runs that the tests draw.

// stalls is a server that stands still for 200 ms every fifth second.
func stalls() *load.Report {
	return simulate(story{seconds: 30, rate: steady(20000), service: 850, open: true, perStall: 200, stall: func(at int) time.Duration {
		if at%5 == 3 {
			return 200 * time.Millisecond
		}
		return 0
	}})
}

// burst is a closed loop in which a fifth of the requests fail for a while.
func burst() *load.Report {
	r := simulate(story{seconds: 30, rate: func(at int) int { return 96000 + 1500*(at*7%5) }, service: 640, failing: func(at int) float64 {
		if 12 <= at && at < 16 {
			return 0.2 - 0.04*math.Abs(float64(at)-13.5)
		}
		return 0
	}})
	r.Gates = []load.GateResult{{Expression: "p99<5ms", Says: "it is 3.2ms", Holds: true}, {Expression: "errors==0", Says: "it is 7, 7 over", Holds: false}, {Expression: "rate>=20000", Says: "it is 30000.0/s", Holds: true}}
	return r
}

// ramp ends beyond what the server can do.
func ramp() *load.Report {
	return simulate(story{seconds: 60, rate: func(at int) int { return 1000 + 1000*at }, service: 700, open: true, perStall: 600, stall: func(at int) time.Duration {
		return time.Duration(max(0, at-45)) * 60 * time.Millisecond
	}})
}

func oneSecond() *load.Report { return simulate(story{seconds: 1, rate: steady(500), service: 900}) }

// oneResponse is the least there can be a time of.
func oneResponse() *load.Report { return simulate(story{seconds: 1, rate: steady(1), service: 900}) }

// nothing is a run that was ended before it began.
func nothing() *load.Report {
	r := simulate(story{seconds: 0})
	r.Ended = "signal"
	return r
}

func errorsOnly() *load.Report {
	return simulate(story{seconds: 8, rate: steady(300), failing: func(int) float64 { return 1 }})
}

// huge has figures at the end of what their types hold.
func huge() *load.Report {
	r := simulate(story{seconds: 12, rate: steady(900), service: 3e9})
	r.Requests, r.Responses, r.Bytes.Body = math.MaxInt64, math.MaxInt64, math.MaxInt64
	r.Rates.Responses, r.Client.PerRequest, r.Client.MaxRSS = 1e300, 1e300, math.MaxInt64
	r.Series[5].Responses = math.MaxInt64
	r.Series[6].Response.Max = 1e300
	r.ResponseTime.Count = math.MaxInt64
	return r
}

// hostile has texts that would break out of wherever they are put.
func hostile() *load.Report {
	const text = `</script><script>document.title="owned"</script><img src=x onerror=alert(1)>"'` + "`${alert(1)}<!--\u2028 \x00 javascript:alert(1)"
	r := burst()
	r.Tool, r.Ended, r.Command = text, text, []string{text, "-H", text}
	r.Load.Targets, r.Load.Arrivals = []string{"javascript:alert(1)//" + text, text}, text
	r.Errors, r.Statuses = map[string]int64{text: 3}, map[string]int64{text: 1}
	r.Gates = []load.GateResult{{Expression: text, Says: text}}
	r.Verdict = ebpf.Verdict{Bound: text, Valid: text, Why: text, Findings: []ebpf.Finding{{Code: text, Subject: text, Evidence: text, Advice: text, Source: text, Scope: text, Sure: text}}}
	r.Environment = load.Environment{Kernel: text, CPU: text, Go: text, Sysctls: map[string]string{text: text}}
	return r
}

// long is an hour.
func long() *load.Report {
	r := stalls()
	seconds := slices.Repeat(r.Series, 3600/len(r.Series))
	for i := range seconds {
		seconds[i].At = float64(i)
	}
	r.Series, r.Seconds = seconds, float64(len(seconds))
	return r
}
