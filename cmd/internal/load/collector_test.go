package load

import (
	"bytes"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"hotlap/engine"
)

// A lap is a run without an engine: the test says what each loop sent, and how
// it ended.
type lap struct {
	t *testing.T
	*Run
	at   time.Time
	log  []Distributions
	most int // seconds that waited to be complete
}

func newLap(t *testing.T, o Options) *lap {
	l := &lap{t: t, at: time.Unix(1_700_000_000, 0)}
	targets := &Targets{all: make([]target, 1)}
	if o.Loops == 0 {
		o.Loops = 1
	}
	l.Run = New(nil, targets, o, func(d *Distributions) {
		copied := func(h *hdrhistogram.Histogram) *hdrhistogram.Histogram { return hdrhistogram.Import(h.Export()) }
		l.most = max(l.most, len(l.collector.seconds))
		l.log = append(l.log, Distributions{copied(d.Response), copied(d.Service), d.At})
	})
	for _, p := range l.parts {
		p.started = l.at
	}
	return l
}

// takes has a loop take the requests that are due at now.
func (l *lap) takes(loop int, now time.Duration) (n int) {
	l.t.Helper()
	batch, due := make([]*engine.Request, 1000), make([]time.Duration, 1000)
	n, _, _ = l.timed[loop].NextDue(now, batch, due)
	return n
}

// What went wrong in the warm-up alone is in no figure, and is not told either.
func TestWarmUpLeavesNoTrace(t *testing.T) {
	l := newLap(t, Options{WarmUp: time.Second, Duration: time.Second})
	l.ends(0, 100*ms, 0, 200*ms, failed(engine.Connect))
	l.ends(0, 1100*ms, 1100*ms, 1200*ms, status(200, 5))
	l.ends(0, 1300*ms, 0, 1400*ms, failed(engine.Closed))
	r := l.over(2 * time.Second)
	balanced(t, r)
	if r.Requests != 2 || len(r.ErrorExamples) != 1 || r.ErrorExamples["closed"] == "" {
		t.Errorf("%d requests, examples %q", r.Requests, r.ErrorExamples)
	}

	l = newLap(t, Options{WarmUp: time.Second, Duration: time.Second})
	l.ends(0, 100*ms, 0, 200*ms, failed(engine.Connect))
	if r := l.over(500 * ms); r.Requests != 0 || r.Seconds != 0 || r.Series == nil || len(r.Series) != 0 || len(r.ErrorExamples) != 0 {
		t.Errorf("ended in the warm-up: %+v", r)
	}
}

// A fate is how a request ended.
type fate func(*engine.Result)

func status(code int, body int64) fate {
	return func(r *engine.Result) { r.Status, r.Bytes = code, body }
}

func failed(kind engine.Kind) fate {
	return func(r *engine.Result) { r.Err, r.Time.Sent = &engine.Error{Kind: kind}, 0 }
}

// ends has a request end that was due, and sent, at these times.
func (l *lap) ends(loop int, due, sent, at time.Duration, f fate) {
	l.t.Helper()
	r := &engine.Result{Request: &engine.Request{}}
	r.Start = l.at.Add(due)
	r.Time.Sent, r.Time.Total = sent-due, at-due
	f(r)
	if err := l.parts[loop].Put([]*engine.Result{r}); err != nil {
		l.t.Fatal(err)
	}
}

// over ends the run at a time, and returns its report.
func (l *lap) over(at time.Duration) *Report {
	l.stopAt.Store(min(l.stopAt.Load(), int64(at)))
	for _, p := range l.timed {
		p.leave(at)
	}
	for _, p := range l.parts {
		l.collector.hand(p)
	}
	whole, series := l.collector.finish()
	return l.report(whole, series, engine.Stats{})
}

const ms = time.Millisecond

// balanced wants each counted request to be exactly one of the four.
func balanced(t *testing.T, r *Report) {
	t.Helper()
	if sum := r.Responses + sumOf(r.Errors) + r.Unanswered + r.Unsent; sum != r.Requests {
		t.Errorf("%d requests: %d responses, errors %v, %d unanswered, %d unsent", r.Requests, r.Responses, r.Errors, r.Unanswered, r.Unsent)
	}
}

// isAbout says that a histogram of three digits holds this time.
func isAbout(us float64, want time.Duration) bool {
	return math.Abs(us*1e3-float64(want)) <= float64(want)/500
}

func TestClosedLoopCounts(t *testing.T) {
	l := newLap(t, Options{Duration: 3 * time.Second, WarmUp: time.Second})
	l.ends(0, 900*ms, 900*ms, 1100*ms, status(200, 5)) // of the warm-up, though answered later: in the rate alone
	l.ends(0, 1000*ms, 1001*ms, 1011*ms, status(200, 7))
	l.ends(0, 1020*ms, 1020*ms, 1040*ms, status(204, 0))
	l.ends(0, 1050*ms, 1050*ms, 1090*ms, status(503, 3))
	l.ends(0, 1100*ms, 0, 1150*ms, failed(engine.Closed))
	l.ends(0, 1100*ms, 0, 1600*ms, failed(engine.Timeout))
	l.ends(0, 3990*ms, 3990*ms, 4100*ms, status(200, 1)) // came when the sending was over
	l.ends(0, 3900*ms, 0, 4900*ms, failed(engine.Canceled))
	l.ends(0, 4000*ms, 4000*ms, 4001*ms, status(200, 1)) // would be of the time after
	r := l.over(5 * time.Second)
	balanced(t, r)
	if r.Requests != 7 || r.Responses != 4 || r.NonOK != 1 || r.Unanswered != 1 || r.Unsent != 0 || r.Bytes.Body != 11 {
		t.Errorf("%+v", r)
	}
	if !maps.Equal(r.Errors, map[string]int64{"closed": 1, "timeout": 1}) || !maps.Equal(r.Statuses, map[string]int64{"200": 2, "204": 1, "503": 1}) {
		t.Errorf("errors %v, statuses %v", r.Errors, r.Statuses)
	}
	if r.Seconds != 3 || r.Rates.Responses != 4.0/3 || r.Rates.Asked != 0 || r.Rates.Achieved != 0 {
		t.Errorf("in %v s, rates %+v: four responses came in three seconds", r.Seconds, r.Rates)
	}
	// Service times are those of 2xx responses, from written. Response times run
	// from taken, and who waited in vain is in them with the time waited.
	if s := r.ServiceTime; s.Count != 3 || !isAbout(s.Min, 10*ms) || !isAbout(s.Max, 110*ms) {
		t.Errorf("service time %+v", s)
	}
	if s := r.ResponseTime; s.Count != 5 || !isAbout(s.Min, 11*ms) || !isAbout(s.Max, time.Second) || !isAbout(s.P75, 500*ms) {
		t.Errorf("response time %+v", s)
	}
	if s := r.NonOKTime; s.Count != 1 || !isAbout(s.Max, 40*ms) {
		t.Errorf("time of what is not 2xx %+v", s)
	}
	if r.ScheduleLag != nil {
		t.Errorf("a closed loop has no schedule, its lag is %+v", r.ScheduleLag)
	}
}

func TestOpenLoopCounts(t *testing.T) {
	l := newLap(t, Options{From: 10, To: 10, Duration: time.Second, WarmUp: time.Second})
	late := func(held, late time.Duration) fate {
		return func(r *engine.Result) { r.Status, r.Time.Held, r.Time.Late = 200, held, late }
	}
	if n := l.takes(0, 1699*ms); n != 17 {
		t.Fatalf("%d requests were taken, want the 10 of the warm-up and 7", n)
	}
	for i := range 10 { // the warm-up
		l.ends(0, time.Duration(i)*100*ms, time.Duration(i)*100*ms, time.Duration(i)*100*ms+5*ms, late(9*ms, 9*ms))
	}
	l.ends(0, 1000*ms, 1010*ms, 1030*ms, late(0, 500*time.Microsecond))
	l.ends(0, 1100*ms, 1150*ms, 1160*ms, late(48*ms, 2*ms))
	l.ends(0, 1200*ms, 1200*ms, 1300*ms, status(500, 0))
	l.ends(0, 1300*ms, 0, 1400*ms, failed(engine.Read))
	l.ends(0, 1400*ms, 0, 1800*ms, failed(engine.Timeout))
	l.ends(0, 1500*ms, 1500*ms, 2200*ms, late(0, 0)) // comes after the end, and counts by its due time
	l.ends(0, 1600*ms, 0, 3000*ms, failed(engine.Canceled))
	// Those due at 1700, 1800 and 1900 ms are never taken.
	r := l.over(3 * time.Second)
	balanced(t, r)
	if r.Requests != 10 || r.Responses != 4 || r.NonOK != 1 || r.Unanswered != 1 || r.Unsent != 3 {
		t.Errorf("%+v", r)
	}
	if r.Rates.Asked != 10 || r.Rates.Responses != 4 || r.Rates.Achieved != 0.4 {
		t.Errorf("rates %+v", r.Rates)
	}
	if s := r.ServiceTime; s.Count != 3 || !isAbout(s.Min, 10*ms) || !isAbout(s.Max, 700*ms) {
		t.Errorf("service time %+v", s)
	}
	// Answers 30, 60 and 700 ms; the timeout 400; ages 1400, and 1300, 1200, 1100.
	if s := r.ResponseTime; s.Count != 8 || !isAbout(s.Min, 30*ms) || !isAbout(s.Max, 1400*ms) || !isAbout(s.Mean, 773_750*time.Microsecond) {
		t.Errorf("response time %+v", s)
	}
	if s := r.ScheduleLag; s.Count != 4 || !isAbout(s.Max, 2*ms) {
		t.Errorf("schedule lag %+v", s)
	}
	if r.Client.Late != 1 || r.Client.Held != 1 {
		t.Errorf("%d late, %d held, want 1 and 1", r.Client.Late, r.Client.Held)
	}
}

// After a signal what would have been due does not count.
func TestStoppedOpenLoop(t *testing.T) {
	for _, o := range []Options{
		{From: 10, To: 10, Duration: 10 * time.Second},
		{From: 10, To: 10, Count: 100},
	} {
		l := newLap(t, o)
		l.takes(0, 550*ms)
		for i := range 6 {
			at := time.Duration(i) * 100 * ms
			l.ends(0, at, at, at+ms, status(200, 0))
		}
		r := l.over(850 * ms)
		balanced(t, r)
		if r.Requests != 9 || r.Responses != 6 || r.Unsent != 3 || r.Seconds != 0.85 {
			t.Errorf("%d requests, %d responses, %d unsent in %v s: want 9, 6 and 3 in 0.85", r.Requests, r.Responses, r.Unsent, r.Seconds)
		}
	}
}

// A count is reached exactly, and no request is due beyond it.
func TestUnsentOfACount(t *testing.T) {
	l := newLap(t, Options{From: 1000, To: 1000, Count: 7, Loops: 2})
	if l.takes(0, time.Minute) != 4 || l.takes(1, 1500*time.Microsecond) != 1 {
		t.Fatal("the loops took other shares than 4 and 1")
	}
	r := l.over(time.Minute)
	if r.Requests != 2 || r.Unsent != 2 {
		t.Errorf("%d requests, %d unsent: want the 2 that loop 1 had left", r.Requests, r.Unsent)
	}
}

func TestShares(t *testing.T) {
	for _, c := range []struct {
		count int64
		loops int
		want  []int64
	}{
		{10, 1, []int64{10}}, {10, 3, []int64{4, 3, 3}}, {11, 3, []int64{4, 4, 3}}, {3, 3, []int64{1, 1, 1}}, {2, 3, []int64{1, 1, 0}},
	} {
		o := Options{Count: c.count, Loops: c.loops}
		for loop, want := range c.want {
			if got := o.share(loop); got != want {
				t.Errorf("loop %d of %d sends %d of %d, want %d", loop, c.loops, got, c.count, want)
			}
		}
	}
	if (&Options{Loops: 2}).share(1) != math.MaxInt64 {
		t.Error("without a count a loop has an end")
	}
}

// Seconds are there in order, whichever loop is behind, and also those in which
// nothing ended.
func TestSeries(t *testing.T) {
	l := newLap(t, Options{Duration: 10 * time.Second, WarmUp: 2 * time.Second, Loops: 2})
	at := func(s float64) time.Duration { return 2*time.Second + time.Duration(s*1e9) }
	answered := func(loop int, s float64) { l.ends(loop, at(s), at(s), at(s)+10*ms, status(200, 2)) }
	answered(0, 0.1)
	answered(0, 1.1)
	answered(0, 1.2)
	l.ends(0, at(4), 0, at(4.5), failed(engine.Timeout))
	answered(1, 0.2)
	answered(1, 4.1)
	l.ends(1, at(4.2), at(4.2), at(4.3), status(404, 1))
	r := l.over(12 * time.Second)
	want := []struct{ responses, nonOK, errors, body int64 }{{2, 0, 0, 4}, {2, 0, 0, 4}, {}, {}, {2, 1, 1, 3}, {}, {}, {}, {}, {}}
	if len(r.Series) != len(want) {
		t.Fatalf("%d seconds, want %d: %+v", len(r.Series), len(want), r.Series)
	}
	for i, w := range want {
		s := r.Series[i]
		if s.At != float64(i) || s.Responses != w.responses || s.NonOK != w.nonOK || s.Errors != w.errors || s.Body != w.body {
			t.Errorf("second %d: %+v, want %+v", i, s, w)
		}
		if (s.Service == nil) != (w.responses == 0) || (s.Response == nil) != (w.responses+w.errors == 0) {
			t.Errorf("second %d: response time %+v, service time %+v", i, s.Response, s.Service)
		}
	}
	if b := r.Series[4].Response; !isAbout(b.Max, 500*ms) || !isAbout(b.Min, 10*ms) {
		t.Errorf("second 4: response time %+v", b)
	}
	if len(l.log) != len(want) || l.log[3].At != 3*time.Second || l.log[4].Service.TotalCount() != 1 {
		t.Errorf("%d seconds were told, want %d", len(l.log), len(want))
	}
}

// A loop to which nothing comes holds up neither the series nor the memory of
// its seconds; what it tells later is counted where it belongs.
func TestSilentLoop(t *testing.T) {
	const n = 100
	l := newLap(t, Options{Duration: n * time.Second, Loops: 2})
	at := func(second int) time.Duration { return time.Duration(second)*time.Second + 100*ms }
	l.ends(1, at(3), at(3), at(3)+10*ms, status(200, 2))
	for second := range n {
		l.ends(0, at(second), at(second), at(second)+20*ms, status(200, 2))
	}
	l.ends(1, at(n-1), at(n-1), at(n-1)+10*ms, failed(engine.Timeout))
	r := l.over(n * time.Second)
	if len(r.Series) != n || r.Responses != n+1 {
		t.Fatalf("%d seconds, %d responses, want %d and %d", len(r.Series), r.Responses, n, n+1)
	}
	for i, s := range r.Series {
		want := int64(1)
		if i == 3 {
			want = 2
		}
		if s.Responses != want {
			t.Errorf("second %d has %d responses, want %d", i, s.Responses, want)
		}
	}
	if l.most > patience+1 {
		t.Errorf("%d seconds waited for the silent loop, want at most %d", l.most, patience+1)
	}
}

// The backlog is what is due and not sent, also of seconds in which nothing
// ended.
func TestBacklog(t *testing.T) {
	l := newLap(t, Options{From: 100, To: 100, Duration: 10 * time.Second, Loops: 2})
	for loop := range 2 {
		if n := l.takes(loop, 99*ms); n != 5 {
			t.Fatalf("loop %d took %d of the first tenth of a second, want 5", loop, n)
		}
		for i := range 5 { // the server stands still until 3.5 s
			due := time.Duration(i)*20*ms + time.Duration(loop)*10*ms
			at := due + ms
			if i == 4 {
				at = 3500 * ms
			}
			l.ends(loop, due, due, at, status(200, 0))
		}
	}
	r := l.over(4 * time.Second)
	if r.Unsent != 390 {
		t.Errorf("%d unsent, want 390", r.Unsent)
	}
	want := []int64{90, 190, 290, 390}
	for i, s := range r.Series {
		if s.Backlog != want[i] {
			t.Errorf("at the end of second %d the backlog is %d, want %d", i, s.Backlog, want[i])
		}
	}
	if len(r.Series) != len(want) {
		t.Errorf("%d seconds, want %d", len(r.Series), len(want))
	}
}

// What the live line shows are complete seconds.
func TestRecent(t *testing.T) {
	l := newLap(t, Options{Duration: 10 * time.Second})
	if last, rates := l.collector.recent(3); last != nil || rates != nil {
		t.Errorf("before the first second there is %+v and %v", last, rates)
	}
	for s := range 5 {
		for i := range s + 1 {
			at := time.Duration(s)*time.Second + time.Duration(i)*ms
			l.ends(0, at, at, at+ms, status(200, 0))
		}
	}
	l.over(5 * time.Second)
	last, rates := l.collector.recent(3)
	if last.At != 4 || last.Responses != 5 || len(rates) != 3 || rates[0] != 3 || rates[2] != 5 {
		t.Errorf("the last second is %+v, the last three had %v responses", last, rates)
	}
}

// The log is the standard one: its own reader gives back what went in.
func TestHDRLog(t *testing.T) {
	start := time.UnixMilli(1_700_000_000_000)
	log := NewHDRLog(start, "a comment")
	whole := [2]*hdrhistogram.Histogram{newHistogram(), newHistogram()}
	for s := range 3 {
		d := &Distributions{newHistogram(), newHistogram(), time.Duration(s) * time.Second}
		for i := range 1000 {
			record(d.Response, time.Duration(i+1)*ms, 1)
			record(whole[0], time.Duration(i+1)*ms, 1)
			if s != 1 { // a second in which all timed out
				record(d.Service, time.Duration(i+1)*time.Microsecond, 1)
				record(whole[1], time.Duration(i+1)*time.Microsecond, 1)
			}
		}
		log.Add(d)
	}
	text, err := log.Text()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(text, []byte("#[a comment]\n")) {
		t.Errorf("it begins with %.40q", text)
	}
	reader := hdrhistogram.NewHistogramLogReader(bytes.NewReader(text))
	got := [2]*hdrhistogram.Histogram{newHistogram(), newHistogram()}
	tags := map[string]int{"response": 0, "service": 1}
	lines := 0
	for {
		h, err := reader.NextIntervalHistogram()
		if err != nil {
			t.Fatal(err)
		}
		if h == nil {
			break
		}
		kind, ok := tags[h.Tag()]
		if !ok {
			t.Fatalf("an interval with tag %q", h.Tag())
		}
		second := h.StartTimeMs() - start.UnixMilli()
		if second%1000 != 0 || second < 0 || second > 2000 || h.EndTimeMs()-h.StartTimeMs() != 1000 {
			t.Errorf("an interval from %d to %d ms", second, h.EndTimeMs()-start.UnixMilli())
		}
		got[kind].Merge(h)
		lines++
	}
	if lines != 5 {
		t.Errorf("%d intervals, want 5", lines)
	}
	for i, h := range got {
		if !h.Equals(whole[i]) {
			t.Errorf("distribution %d does not come back", i)
		}
	}
}

// Results that came together leave what they leave one by one: each figure, second,
// peer and example.
func TestTogetherOrOneByOne(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, o := range []Options{
		{WarmUp: time.Second, Duration: 3 * time.Second},
		{WarmUp: time.Second, Duration: 3 * time.Second, From: 1000, To: 1000},
	} {
		together, alone := newLap(t, o), newLap(t, o)
		peers := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2")}
		few := func(n int) time.Duration { return time.Duration(rnd.IntN(n)) }
		var last engine.Result
		for at := time.Duration(0); at < 4*time.Second; at += 40 * ms {
			var results []*engine.Result
			for range 50 {
				r := last
				if rnd.IntN(4) == 0 { // else it is like the one before
					r = engine.Result{Request: &engine.Request{}}
					r.Start, r.Remote = together.at.Add(at+few(2)*ms), peers[few(2)]
					r.Time = engine.Times{Total: (5 + 20*few(2)) * ms, Sent: few(3) * ms, Held: few(2), Late: few(3) * ms}
					r.Status, r.Bytes = 200+300*rnd.IntN(2), int64(few(3))
					if rnd.IntN(5) == 0 {
						failed([]engine.Kind{engine.Timeout, engine.Closed, engine.Canceled}[few(3)])(&r)
					}
				}
				if last = r; r.Request != nil {
					results = append(results, &r)
				}
			}
			for _, r := range results {
				if err := alone.parts[0].Put([]*engine.Result{r}); err != nil {
					t.Fatal(err)
				}
			}
			if err := together.parts[0].Put(results); err != nil {
				t.Fatal(err)
			}
		}
		if a, b := together.parts[0], alone.parts[0]; !slices.Equal(a.peers, b.peers) || len(a.peers) != 2 || a.examples != b.examples {
			t.Errorf("peers %v and %v, examples %q and %q", a.peers, b.peers, a.examples, b.examples)
		}
		a, b := together.over(5*time.Second), alone.over(5*time.Second)
		a.Client = b.Client // of this process
		if !reflect.DeepEqual(a, b) || a.Requests == 0 {
			t.Errorf("together %+v\nalone %+v", a, b)
		}
		if !reflect.DeepEqual(together.log, alone.log) {
			t.Error("the histograms of seconds differ")
		}
	}
}
