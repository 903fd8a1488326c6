package load

import (
	"math"
	"strings"
	"testing"
)

// gated is a report with a figure of its own for each key.
func gated() *Report {
	latency := func(base float64) *Latency {
		return &Latency{Min: base, P50: base + 1, P75: base + 2, P90: base + 3, P99: base + 4, P999: base + 5, P9999: base + 6,
			Max: base + 7, Mean: base + 8, StdDev: base + 9}
	}
	return &Report{
		Load:     Load{Loop: OpenLoop},
		Requests: 1000, Responses: 900, NonOK: 30, Unanswered: 25, Unsent: 15,
		Errors: map[string]int64{"timeout": 40, "closed": 20},
		Rates:  Rates{Responses: 90.5, Asked: 100, Achieved: 0.9},
		Client: Client{PerRequest: 4.5}, ResponseTime: latency(1000), ServiceTime: latency(500), ScheduleLag: latency(10),
	}
}

func TestGateKeys(t *testing.T) {
	want := map[string]float64{
		"rate": 90.5, "requests": 1000, "responses": 900, "errors": 85, "error_rate": 0.1, "non_2xx": 30, "unanswered": 25,
		"unsent": 15, "achieved": 0.9, "cpu": 4.5,
	}
	for i, part := range []string{"min", "p50", "p75", "p90", "p99", "p99.9", "p99.99", "max", "mean", "stddev"} {
		want[part], want["service."+part], want["lag."+part] = 1000+float64(i), 500+float64(i), 10+float64(i)
	}
	for key := range gateKeys {
		value := "1"
		if gateKeys[key].unit == aTime {
			value = "1us"
		}
		g, err := ParseGate(key + ">=" + value)
		if err != nil {
			t.Errorf("%s: %v", key, err)
			continue
		}
		if r := g.Judge(gated()); r.Value == nil || math.Abs(*r.Value-want[key]) > 1e-9 {
			t.Errorf("%s is %v, want %v", key, r.Value, want[key])
		}
		delete(want, key)
	}
	if len(want) > 0 {
		t.Errorf("no keys: %v", want)
	}
}

func TestGateSyntax(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "want KEY OP VALUE"},
		{"p99", "want KEY OP VALUE"},
		{"p99 5ms", "want KEY OP VALUE"},
		{"p99=5ms", `"=" is no comparison: want one of <= >= == != < >`},
		{"p99!5ms", `"!" is no comparison`},
		{"p98<5ms", `"p98" is no figure: want one of achieved cpu error_rate errors `},
		{"<5ms", `"" is no figure`},
		{"P99<5ms", `"P99" is no figure`},
		{"p99<", `p99: "" is no time such as`},
		{"p99<5", `"5" is no time such as`},
		{"p99<fast", `"fast" is no time such as`},
		{"p99<-5ms", `"-5ms" is no time`},
		{"p99<5ms<6ms", `is no time`},
		{"p99=<5ms", `"=" is no comparison`},
		{"p99<<5ms", `"<5ms" is no time`},
		{"errors==", `errors: "" is no number such as`},
		{"errors==none", `"none" is no number`},
		{"errors==-1", `"-1" is no number`},
		{"errors==nan", `"nan" is no number`},
		{"errors<inf", `"inf" is no number`},
		{"errors<5%", `"5%" is no number`},
		{"rate>=20 000", `is no number`},
		{"rate>=5ms", `"5ms" is no number`},
		{"error_rate<1k", `"1k" is no share such as 0.1% or 0.001`},
		{"error_rate<%", `"%" is no share`},
		{"achieved>=-1", `"-1" is no share`},
	} {
		if _, err := ParseGate(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.text, err, c.want)
		}
	}
}

func TestGateJudges(t *testing.T) {
	for _, c := range []struct {
		text  string
		holds bool
		says  string
	}{
		{"p99<5ms", true, "it is 1ms"},
		{"p99<1.004ms", false, "it is 1ms"},
		{"p99<=1.004ms", true, "it is 1ms"},
		{"p99<1ms", false, "it is 1ms, 4µs over"},
		{"p99>1ms", true, "it is 1ms"},
		{"p99>=2004us", false, "it is 1ms, 1ms under"},
		{" p99 <= 0.0015s ", true, "it is 1ms"},
		{"service.p99<400us", false, "it is 504µs, 104µs over"},
		{"lag.p99<1ms", true, "it is 14µs"},
		{"errors==0", false, "it is 85, 85 over"},
		{"errors!=85", false, "it is 85"},
		{"errors!=0", true, "it is 85"},
		{"errors==85", true, "it is 85"},
		{"requests>=1k", true, "it is 1000"},
		{"requests>=0.002m", false, "it is 1000, 1000 under"},
		{"rate>=20000", false, "it is 90.5/s, 19909.5/s under"},
		{"rate>=90.5", true, "it is 90.5/s"},
		{"rate>90.5", false, "it is 90.5/s"},
		{"error_rate<0.1%", false, "it is 10 %, 9.9 % over"},
		{"error_rate<=0.1", true, "it is 10 %"},
		{"achieved>=99.9%", false, "it is 90 %, 9.9 % under"},
		{"cpu<4us", false, "it is 4.5µs, 500ns over"},
	} {
		g, err := ParseGate(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		r := g.Judge(gated())
		if r.Expression != c.text || r.Holds != c.holds || r.Says != c.says {
			t.Errorf("%s: holds: %v, says %q; want %v, %q", c.text, r.Holds, r.Says, c.holds, c.says)
		}
	}
}

// A figure that a run has not does not pass for a good one.
func TestGateWithoutFigure(t *testing.T) {
	for _, text := range []string{"p99<5ms", "p99>=0s", "p99!=1s", "service.max<1h", "lag.p50<1s", "achieved>=0", "achieved!=1"} {
		g, err := ParseGate(text)
		if err != nil {
			t.Fatal(err)
		}
		if r := g.Judge(&Report{Load: Load{Loop: ClosedLoop}}); r.Holds || r.Value != nil || r.Says != "there is no such figure" {
			t.Errorf("%s: %+v", text, r)
		}
	}
}

func TestRatioGates(t *testing.T) {
	c := &Comparison{}
	for i, f := range comparedFigures {
		ratio := 0.5 + float64(i)
		c.Rows = append(c.Rows, Row{Metric: f.name, Ratio: &ratio})
	}
	c.Rows[2].Ratio = nil // p90
	for _, c1 := range []struct {
		text  string
		holds bool
		says  string
	}{
		{"rate>=95%", false, "it is 50 %, 45 % under"},
		{"rate>=0.5", true, "it is 50 %"},
		{"p50<=1.1", false, "it is 150 %, 40 % over"},
		{"p99<350%", false, "it is 350 %"},
		{"p99.9>4", true, "it is 450 %"},
		{"cpu<7.5", false, "it is 750 %"},
		{"p90<=1000%", false, "there is no such figure"},
	} {
		g, err := ParseRatioGate(c1.text)
		if err != nil {
			t.Errorf("%s: %v", c1.text, err)
			continue
		}
		if r := g.Judge(c); r.Holds != c1.holds || r.Says != c1.says {
			t.Errorf("%s: holds: %v, says %q; want %v, %q", c1.text, r.Holds, r.Says, c1.holds, c1.says)
		}
	}
	for text, want := range map[string]string{
		"p99": "want KEY OP VALUE, such as p99<=110% or rate>=0.95", "p99<5ms": `"5ms" is no share`,
		"errors==0": `"errors" is no figure: want one of cpu p50 p90 p99 p99.9 rate`,
	} {
		if _, err := ParseRatioGate(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
