package ebpf

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"hotlap/ebpf/internal/prog"
)

func TestSub(t *testing.T) {
	at := netip.MustParseAddrPort("10.0.0.1:80")
	began := time.Unix(1000, 0)
	bpf, runs := 5*time.Millisecond, uint64(50)
	later, laterRuns := 7*time.Millisecond, uint64(90)
	before := Sample{
		At: began, Elapsed: time.Second, Total: Counts{RSTsIn: 3, Drops: 1},
		Reasons:      Reasons{Drops: {"SOCKET_BACKLOG": 1}},
		Listeners:    []Listener{{Cookie: 1, Peak: 2, Counts: Counts{AcceptOverflows: 4}}},
		Destinations: []Destination{{Addr: at, Counts: Counts{Connects: 10}, TCP: &Evidence{Busy: time.Second, MinRTT: time.Millisecond}}},
		Namespace:    Counts{"ListenDrops": 7}, Gauges: Counts{"CurrEstab": 9},
		Examples: []Example{{At: began.Add(-time.Second)}},
		Cost:     Cost{CPU: time.Millisecond, BPF: &bpf, BPFRuns: &runs},
	}
	after := Sample{
		At: began.Add(2 * time.Second), Elapsed: 3 * time.Second, Total: Counts{RSTsIn: 5, Drops: 1},
		Reasons: Reasons{Drops: {"SOCKET_BACKLOG": 1}, RSTsIn: {"ESTABLISHED": 2}},
		Listeners: []Listener{
			{Cookie: 1, Peak: 3, Counts: Counts{AcceptOverflows: 6}},
			{Cookie: 2, Counts: Counts{AcceptOverflows: 1}}, // began to listen meanwhile
		},
		Destinations: []Destination{{Addr: at, Counts: Counts{Connects: 15}, TCP: &Evidence{Busy: 3 * time.Second, MinRTT: time.Millisecond}}},
		Namespace:    Counts{"ListenDrops": 2}, Gauges: Counts{"CurrEstab": 4}, // its namespace counts anew
		Examples: []Example{{At: began.Add(-time.Second)}, {At: began.Add(time.Second)}},
		Cost:     Cost{CPU: 3 * time.Millisecond, BPF: &later, BPFRuns: &laterRuns},
	}
	kept, err := json.Marshal([]Sample{after, before})
	if err != nil {
		t.Fatal(err)
	}
	d := Sub(after, before)
	for what, pair := range map[string][2]any{
		"elapsed":       {d.Elapsed, 2 * time.Second},
		"total":         {d.Total, Counts{RSTsIn: 2, Drops: 0}},
		"reasons":       {d.Reasons, Reasons{RSTsIn: {"ESTABLISHED": 2}}},
		"overflows":     {[]uint64{d.Listeners[0].Counts[AcceptOverflows], d.Listeners[1].Counts[AcceptOverflows]}, []uint64{2, 1}},
		"peak":          {d.Listeners[0].Peak, uint32(3)},
		"connects":      {d.Destinations[0].Counts[Connects], uint64(5)},
		"evidence":      {*d.Destinations[0].TCP, Evidence{Busy: 2 * time.Second, MinRTT: time.Millisecond}},
		"went down":     {d.Namespace["ListenDrops"], uint64(0)},
		"gauge":         {d.Gauges["CurrEstab"], uint64(4)},
		"examples":      {len(d.Examples), 1},
		"cost":          {d.Cost.CPU, 2 * time.Millisecond},
		"cost of BPF":   {*d.Cost.BPF, 2 * time.Millisecond},
		"runs of BPF":   {*d.Cost.BPFRuns, uint64(40)},
		"unknown still": {len(d.Host), 0},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s: %v, want %v", what, pair[0], pair[1])
		}
	}
	if now, err := json.Marshal([]Sample{after, before}); err != nil || string(now) != string(kept) {
		t.Errorf("Sub changed what it was given: %v", err)
	}
}

func TestHistogram(t *testing.T) {
	for i := range prog.Buckets {
		if from, to := prog.BucketFrom(i), prog.BucketFrom(i+1); to <= from || (i > 4 && float64(to) > 1.26*float64(from)) {
			t.Errorf("bucket %d is from %v to %v", i, from, to)
		}
	}
	var h Histogram
	if h.Quantile(0.5) != 0 {
		t.Error("an empty histogram has a median")
	}
	h[8], h[40] = 99, 1 // from 8 us, from 2048 us
	if p50, p100 := h.Quantile(0.5), h.Quantile(1); p50 != 10*time.Microsecond || p100 != 2560*time.Microsecond {
		t.Errorf("median %v, longest %v", p50, p100)
	}
	b, err := json.Marshal(h)
	if err != nil || string(b) != "[[8,99],[2048,1]]" {
		t.Errorf("%s %v", b, err)
	}
	var again Histogram
	if err := json.Unmarshal(b, &again); err != nil || again != h {
		t.Errorf("%v is read as %v: %v", h, again, err)
	}
	if err := json.Unmarshal([]byte("[[9,1]]"), &again); err == nil {
		t.Error("a bucket that is none is taken")
	}
}

func TestSYNTimeouts(t *testing.T) {
	for _, test := range []struct {
		retries, linear int
		most            time.Duration
		want            []time.Duration // seconds
	}{
		{6, 0, synTimeoutMax, []time.Duration{1, 3, 7, 15, 31, 63, 127}},
		{6, 4, synTimeoutMax, []time.Duration{1, 2, 3, 4, 5, 7, 11, 19, 35, 67, 131}},
		{0, 0, synTimeoutMax, []time.Duration{1}},
		{8, 0, synTimeoutMax, []time.Duration{1, 3, 7, 15, 31, 63, 127, 247, 367}},
		{4, 0, 3 * time.Second, []time.Duration{1, 3, 6, 9, 12}},
		{3, 0, time.Second, []time.Duration{1, 2, 3, 4}},
	} {
		got := synTimeouts(test.retries, test.linear, test.most)
		for i := range got {
			got[i] /= time.Second
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%d retries, %d linear: %v s, want %v", test.retries, test.linear, got, test.want)
		}
	}
}

// What of a destination's evidence is new is not known if all of it was not.
func TestSubEvidence(t *testing.T) {
	known, unknown := Destination{TCP: &Evidence{Busy: 3}}, Destination{}
	for _, test := range []struct {
		name          string
		before, after []Destination
		want          *Evidence
	}{
		{"known", []Destination{known}, []Destination{known}, &Evidence{}},
		{"a new destination", nil, []Destination{known}, &Evidence{Busy: 3}},
		{"unknown before", []Destination{unknown}, []Destination{known}, nil},
		{"unknown after", []Destination{known}, []Destination{unknown}, nil},
	} {
		got := Sub(Sample{Destinations: test.after}, Sample{Destinations: test.before}).Destinations[0].TCP
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}

// A listener counts all it refused in one; the namespace says why.
func TestAttribute(t *testing.T) {
	type namespace struct{ overflows, others uint64 }
	for _, test := range []struct {
		name      string
		namespace namespace
		drops     uint64
		full      bool
		want      refused
	}{
		{"overflows alone", namespace{5, 0}, 5, true, refused{5, 5, 0}},
		{"overflows, and the queue was emptied since", namespace{5, 0}, 5, false, refused{5, 5, 0}},
		{"another cause alone", namespace{0, 5}, 5, false, refused{5, 0, 5}},
		{"both, this one full", namespace{5, 3}, 5, true, refused{5, 5, 0}},
		{"both, this one not full", namespace{5, 3}, 3, false, refused{3, 0, 3}},
		{"both, all at this one", namespace{5, 3}, 8, true, refused{8, 5, 3}},
		{"the counters are read later", namespace{7, 0}, 5, true, refused{5, 5, 0}},
		{"some refused at the last ACK", namespace{5, 0}, 8, true, refused{5, 5, 0}},
		{"thrown away, and not refused", namespace{0, 0}, 5, true, refused{}},
	} {
		q := queues{overflows: test.namespace.overflows, others: test.namespace.others}
		k := queue{Listener: Listener{Limit: 4}}
		if test.full {
			k.Queue = 5
		}
		q.attribute(&k, test.drops, true)
		if k.refused != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, k.refused, test.want)
		}
		if exact := test.want.overflow > 0; k.PeakExact != exact || (exact && k.Peak != 5) {
			t.Errorf("%s: peak %d, exact %v", test.name, k.Peak, k.PeakExact)
		}
	}
}
