package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"hotlap/ebpf"
)

// Serve answers requests for /metrics on l with what the observer sees, until
// ctx ends.
func Serve(ctx context.Context, l net.Listener, o *ebpf.Observer) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		s, err := o.Read()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = io.WriteString(w, Metrics(s)) // a client that went away has no use for it
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Metrics writes a Sample in Prometheus's text format. All start with hotlap_;
// what is not known is left out.
func Metrics(s ebpf.Sample) string {
	m := metrics{}
	m.add("info", "gauge", "The tier of the observer.", "1", "tier", string(s.Tier))
	m.counts("all", s.Total)
	for counter, reasons := range s.Reasons {
		for reason, n := range reasons {
			m.add(string(counter)+"_by_reason_total", "counter", "The same by the kernel's reason, errno or state.", fmt.Sprint(n), "reason", reason)
		}
	}
	for _, l := range s.Listeners {
		labels := []string{"listener", l.Addr.String(), "cookie", fmt.Sprint(l.Cookie)}
		if !l.Closed {
			m.add("accept_queue", "gauge", "Connections that wait to be accepted.", fmt.Sprint(l.Queue), labels...)
			m.add("accept_queue_limit", "gauge", "The accept queue holds one more.", fmt.Sprint(l.Limit), labels...)
			m.add("accept_queue_peak", "gauge", "The longest accept queue seen.", fmt.Sprint(l.Peak), labels...)
		}
		m.counts("listener", l.Counts, labels...)
	}
	for _, v := range s.Servers {
		m.counts("server", v.Counts, "server", v.Addr.String())
	}
	for _, d := range s.Destinations {
		m.counts("destination", d.Counts, "destination", d.Addr.String())
		for _, q := range []float64{0.5, 0.99, 1} {
			if d.ConnectLatency.Count() > 0 {
				m.add("connect_seconds", "gauge", "Quantiles of the time that connects took, since the start.",
					fmt.Sprint(d.ConnectLatency.Quantile(q).Seconds()), "destination", d.Addr.String(), "quantile", fmt.Sprint(q))
			}
		}
	}
	m.kernel("namespace", "counter", s.Namespace)
	m.kernel("host", "counter", s.Host)
	m.kernel("present", "gauge", s.Gauges)
	m.add("observer_cpu_seconds_total", "counter", "CPU time of the observer's thread.", fmt.Sprint(s.Cost.CPU.Seconds()))
	return m.String()
}

// metrics are the lines by metric: a metric's lines have to be together.
type metrics map[string][]string

func (m metrics) add(name, kind, help, value string, labels ...string) {
	name = "hotlap_" + name
	if m[name] == nil {
		m[name] = []string{fmt.Sprintf("# HELP %s %s", name, help), fmt.Sprintf("# TYPE %s %s", name, kind)}
	}
	var pairs []string
	for i := 0; i+1 < len(labels); i += 2 {
		pairs = append(pairs, fmt.Sprintf("%s=%q", labels[i], labels[i+1]))
	}
	set := ""
	if len(pairs) > 0 {
		set = "{" + strings.Join(pairs, ",") + "}"
	}
	m[name] = append(m[name], name+set+" "+value)
}

func (m metrics) counts(of string, c ebpf.Counts, labels ...string) {
	prefix, help := "", "See hotlap watch --help."
	if of != "all" {
		prefix, help = of+"_", "Of one "+of+": see hotlap watch --help."
	}
	for k, n := range c {
		m.add(prefix+string(k)+"_total", "counter", help, fmt.Sprint(n), labels...)
	}
}

func (m metrics) kernel(scope, kind string, c ebpf.Counts) {
	name := "kernel_" + scope
	if kind == "counter" {
		name += "_total"
	}
	for k, n := range c {
		m.add(name, kind, "The kernel's own counters, by the kernel's names.", fmt.Sprint(n), "counter", string(k))
	}
}

func (m metrics) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(m)) {
		slices.Sort(m[name][2:])
		for _, line := range m[name] {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}
