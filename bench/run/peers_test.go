package main

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"hotlap/bench/sample"
)

// What clients printed when they were run.
func TestReadRecorded(t *testing.T) {
	for _, c := range []struct {
		file string
		read func([]byte) (sample.Sample, error)
		want sample.Sample
	}{
		{"wrk.txt", readSample, sample.Sample{Client: "wrk", Requests: 709624, Seconds: 1.002843, P50us: 337}},
		{"h2load.txt", readH2load, sample.Sample{Requests: 1359848, Seconds: 2}},
		{"ab.txt", readAB, sample.Sample{Requests: 28313, Seconds: 1.001}},
		{"bombardier.json", readBombardier, sample.Sample{Requests: 13076, Seconds: 1.003430474, P50us: 4678}},
		{"vegeta.json", readVegeta, sample.Sample{Requests: 13455, Errors: 5, Seconds: 1.001591863, P50us: 2293.256}},
		{"hey.txt", readHey, sample.Sample{Requests: 4514, Seconds: 1.0053, P50us: 8000}},
		{"k6.json", readK6, sample.Sample{Requests: 1475, Seconds: 1.064879003, P50us: 22233.576}},
		{"openssl.txt", readSTime, sample.Sample{Requests: 332, Seconds: 2}},
	} {
		out, err := os.ReadFile("testdata/" + c.file)
		if err != nil {
			t.Fatal(err)
		}
		switch got, err := c.read(out); {
		case err != nil:
			t.Errorf("%s: %v", c.file, err)
		case got != c.want:
			t.Errorf("%s: got %+v, want %+v", c.file, got, c.want)
		}
		if _, err := c.read([]byte("Segmentation fault\n")); err == nil {
			t.Errorf("%s: what is no report was read", c.file)
		}
	}
}

// Clients that were not at hand, by what they document.
func TestReadDocumented(t *testing.T) {
	for _, c := range []struct {
		name, out string
		read      func([]byte) (sample.Sample, error)
		want      sample.Sample
	}{
		{"gcannon", `{"elapsed_sec":2.001,"requests":12,"responses":10,"latency_us":{"avg":9,"p50":7,"p99":20},
			"status":{"2xx":9,"3xx":0,"4xx":1,"5xx":0,"other":0},"errors":{"connect":2,"read":1,"timeout":0}}`,
			readGcannon, sample.Sample{Requests: 10, Errors: 4, Seconds: 2.001, P50us: 7}},
		{"oha", `{"summary":{"total":1.5},"latencyPercentiles":{"p50":0.25,"p99":1},
			"statusCodeDistribution":{"200":7,"503":2},"errorDistribution":{"aborted due to deadline":64,"connection closed":1}}`,
			readOha, sample.Sample{Requests: 7, Errors: 3, Seconds: 1.5, P50us: 250_000}},
	} {
		got, err := c.read([]byte(c.out))
		if err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v, want %+v", c.name, got, err, c.want)
		}
	}
}

func TestFailuresOfPeersAreErrors(t *testing.T) {
	for name, c := range map[string]struct {
		read func([]byte) (sample.Sample, error)
		out  string
	}{
		"h2load":     {readH2load, "finished in 2.00s,\n 8 succeeded, 1 failed, 1 errored, 0 timeout"},
		"ab":         {readAB, "Time taken for tests:   1.0 seconds\nComplete requests: 9\nFailed requests: 0\nNon-2xx responses: 2\n 50%  1\n"},
		"k6":         {readK6, `{"metrics":{"http_reqs":{"count":9,"rate":9},"http_req_failed":{"passes":2}}}`},
		"hey":        {readHey, "Total: 1.0 secs\n 50%% in 0.1 secs\n[200] 5 responses\n[502] 1 responses\n"},
		"bombardier": {readBombardier, `{"result":{"timeTakenSeconds":1,"req2xx":5,"req5xx":1,"others":1}}`},
	} {
		s, err := c.read([]byte(c.out))
		if err == nil {
			err = s.Check()
		}
		if err == nil {
			t.Errorf("%s: a run with failures was taken", name)
		}
	}
}

// What each peer is told where the load asks for something special.
func TestPeersAreTold(t *testing.T) {
	deep := load{addr: "127.0.0.1:80", path: "/", connections: 64, depth: 8, duration: time.Second}
	closing := load{addr: "127.0.0.1:80", path: "/", connections: 64, depth: 1, closing: true, duration: time.Second}
	for name, c := range map[string]struct{ deep, closing string }{
		"wrk":        {"-- 8", "-- 1 close"},
		"wrk2":       {"-- 8", "-- 1 close"},
		"gcannon":    {"-p 8", "-r 1"},
		"h2load":     {"-m 8", ""},
		"ab":         {"", "-n 20000000 http"}, // and no -k
		"bombardier": {"", "-H Connection: close"},
		"oha":        {"", "--disable-keepalive"},
		"vegeta":     {"", "-keepalive=false"},
		"hey":        {"", "-disable-keepalive"},
		"k6":         {"", "--no-connection-reuse"},
	} {
		peer := named(peers(), name)[0]
		for _, told := range []struct {
			load load
			want string
		}{{deep, c.deep}, {closing, c.closing}} {
			cannot := peer.cannot != nil && peer.cannot(told.load) != ""
			switch args := strings.Join(peer.args(told.load), " "); {
			case cannot != (told.want == ""):
				t.Errorf("%s: cannot is %v for %+v", name, cannot, told.load)
			case !cannot && !strings.Contains(args, told.want):
				t.Errorf("%s is run as %q, want %q in it", name, args, told.want)
			}
		}
	}
	names := []string{"wrk", "wrk2", "h2load", "ab", "bombardier", "vegeta", "hey", "oha", "gcannon", "k6"}
	if got := named(peers(), names...); len(got) != len(names) || len(peers()) != len(names) {
		t.Errorf("%d of %d peers are known", len(got), len(names))
	}
	if slices.Contains(named(peers(), "ab")[0].args(closing), "-k") {
		t.Error("ab keeps connections it is to close")
	}
}

func TestReadBench(t *testing.T) {
	report := func(version, responses, rest string) []byte {
		return []byte(`{"version":` + version + `,"responses":` + responses + `,"rates":{"responses_per_s":500},
			"response_time_us":{"p50":8,"p99":9,"p99_9":10}` + rest + `}`)
	}
	for _, c := range []struct {
		name string
		out  []byte
		want sample.Sample
	}{
		{"closed", report("1", "1000", ""), sample.Sample{Requests: 1000, Seconds: 2, P50us: 8}},
		{"open", report("1", "1000", `,"unsent":5,"schedule_lag_us":{"p50":1,"p99":3}`),
			sample.Sample{Requests: 1000, Seconds: 2, P50us: 8, LagP50us: 1, LagP99us: 3}},
		{"failures", report("1", "1000", `,"non_2xx":1,"unanswered":2,"errors":{"timeout":3,"connect":4}`),
			sample.Sample{Requests: 1000, Errors: 10, Seconds: 2, P50us: 8}},
		{"observed", report("1", "1000", `,"client":{"user_s":1,"system_s":0.5},"kernel":{"cost":{"cpu_ns":5000000}}`),
			sample.Sample{Requests: 1000, Seconds: 2, P50us: 8, LoadSeconds: 1.5, ObserverSeconds: 0.005}},
		{"observed and measured", report("1", "1000", `,"client":{"user_s":1,"system_s":0.5},"kernel":{"cost":{"cpu_ns":5000000,"bpf_runs":7,"bpf_ns":15000000}}`),
			sample.Sample{Requests: 1000, Seconds: 2, P50us: 8, LoadSeconds: 1.5, ObserverSeconds: 0.005, BPFRuns: 7, BPFSeconds: 0.015}},
	} {
		if got, err := readBench(c.out); err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v, want %+v", c.name, got, err, c.want)
		}
	}
	s := sample.Sample{LoadSeconds: 1.5, ServerSeconds: 0.5, ObserverSeconds: 0.005, BPFRuns: 7, BPFSeconds: 0.015}
	if got := addedFigure.of(&s); got != 1 {
		t.Errorf("20 ms of 2 s are %v %%", got)
	}
	if s.BPFRuns = 0; s.Added() != 0 {
		t.Error("a cost that was not measured is told")
	}
	for name, out := range map[string][]byte{
		"of another version": report("2", "1000", ""),
		"without responses":  []byte(`{"version":1,"responses":0,"response_time_us":null}`),
		"no JSON":            []byte("requests 5\n"),
	} {
		if _, err := readBench(out); err == nil {
			t.Errorf("a report %s was taken", name)
		}
	}
}
