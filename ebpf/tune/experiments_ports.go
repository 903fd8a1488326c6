package tune

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"hotlap/ebpf/internal/diag"
	"hotlap/ebpf/internal/lab"
)

// keptPorts: of each so many local ports one is left, the others are reserved.
// So all of a range is used up by few connections.
const keptPorts = 256

// sparePorts is a list for ip_local_reserved_ports. It fits into one write(2).
func sparePorts() string {
	var b strings.Builder
	for first := 0; first < 1<<16; first += keptPorts {
		fmt.Fprintf(&b, "%d-%d,", first+1, first+keptPorts-1)
	}
	return strings.TrimSuffix(b.String(), ",")
}

// localPorts: connections that stay open, to one destination.
func localPorts() *Experiment {
	const n = (widestHigh+1)/keptPorts - widestLow/keptPorts
	return &Experiment{
		Knob:  portRange,
		Load:  fmt.Sprintf("%d connections, open at once, to one destination", n),
		Setup: []Setting{{reservedPorts, sparePorts()}},
		Metrics: []Metric{
			noPort, exhausted,
			{Name: "longest connect", Unit: "s", Kind: Harm, Least: 0.5},
		},
		values: widen,
		load: func(t *track) (Figures, error) {
			l, err := t.listen(16)
			if err != nil {
				return nil, err
			}
			failed, longest := 0, time.Duration(0)
			for range n {
				start := time.Now()
				client, server, ok, err := t.connect(l)
				if err != nil {
					return nil, err
				}
				longest = max(longest, time.Since(start))
				if !ok {
					failed++
					continue
				}
				t.keep(client)
				t.keep(server)
			}
			return Figures{noPort.Name: float64(failed), "longest connect": longest.Seconds()}, nil
		},
	}
}

// widen gives clients the widest range; a machine that has it already is compared
// with the kernel's default.
func widen(current string) (from, to string) {
	from, to = "32768 60999", fmt.Sprintf("%d %d", widestLow, widestHigh)
	var low, high int
	if _, err := fmt.Sscan(current, &low, &high); err == nil && (low > widestLow || high < widestHigh) {
		from = current
	}
	return from, to
}

// portReuse: as many connections as there are ports, and when reuse would be
// allowed, as many again.
func portReuse(name string, pair bool) *Experiment {
	return &Experiment{
		Knob: twReuse, Case: name, Pair: pair,
		Load:    fmt.Sprintf("%d connections over %d ports, each closed by the client, and after tcp_tw_reuse_delay as many again", churned, churned),
		Setup:   []Setting{{reservedPorts, ""}, {portRange, churnedPorts}},
		Metrics: []Metric{noPort, exhausted, {Name: "connections made", Kind: Shown, Least: 1}, resets},
		values:  turn("2", "1"),
		load: func(t *track) (Figures, error) {
			delay, err := t.reuseDelay()
			if err != nil {
				return nil, err
			}
			l, err := t.listen(16)
			if err != nil {
				return nil, err
			}
			first, err := t.churn(l, churned)
			if err != nil {
				return nil, err
			}
			if err := t.pause(delay); err != nil {
				return nil, err
			}
			second, err := t.churn(l, churned)
			made := first + second
			return Figures{noPort.Name: float64(2*churned - made), "connections made": float64(made)}, err
		},
	}
}

// churnedPorts are as many as the connections of a round.
const churnedPorts = "20000 20099"

// churn makes n connections, one after the other, each closed by the client
// first, and returns how many found a port.
func (t *track) churn(l *lab.Socket, n int) (made int, err error) {
	for range n {
		client, server, ok, err := t.connect(l)
		if err != nil {
			return made, err
		}
		if !ok {
			continue
		}
		made++
		if err := closeClientFirst(client, server); err != nil {
			return made, fmt.Errorf("close: %w", err)
		}
	}
	return made, nil
}

// reuseDelay is how long to wait until the last port may be used again.
func (t *track) reuseDelay() (time.Duration, error) {
	var value string
	err := t.client.Do(func() (err error) {
		value, err = Read(twReuseDelay)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		// Kernels without it count in whole seconds, and more than one has to pass.
		return 2100 * time.Millisecond, nil
	}
	ms, err := strconv.Atoi(value)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", twReuseDelay, err)
	}
	const longest = 5000
	if ms > longest {
		return 0, fmt.Errorf("%s is %d ms: this experiment waits %d ms at most", twReuseDelay, ms, longest)
	}
	return time.Duration(ms+200) * time.Millisecond, nil
}

const closed = 50

// timeWaitLength: connections that are closed, and those half closed that nobody
// holds, for more than the new value.
func timeWaitLength() *Experiment {
	return &Experiment{
		Knob: "net.ipv4.tcp_fin_timeout",
		Load: fmt.Sprintf("%d connections closed by the client, and as many whose server does not close; looked at 1.6 s later", closed),
		Metrics: []Metric{
			{Name: "in TIME_WAIT", Kind: Benefit, Least: 5},
			resets,
			{Name: "orphans in FIN_WAIT2", Kind: Shown, Least: 1},
		},
		values: turn("60", "1"),
		load:   (*track).timeWaitLength,
	}
}

func (t *track) timeWaitLength() (Figures, error) {
	l, err := t.listen(16)
	if err != nil {
		return nil, err
	}
	for i := range 2 * closed {
		client, server, ok, err := t.connect(l)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("no local port for %d connections", 2*closed)
		}
		if i%2 == 0 {
			err = closeClientFirst(client, server)
		} else {
			t.keep(server)
			err = client.Close()
		}
		if err != nil {
			return nil, fmt.Errorf("close: %w", err)
		}
	}
	if err := t.pause(1600 * time.Millisecond); err != nil {
		return nil, err
	}
	waiting, err := t.count(diag.TimeWait)
	if err != nil {
		return nil, err
	}
	orphans, err := t.count(diag.FinWait2)
	return Figures{"in TIME_WAIT": float64(waiting), "orphans in FIN_WAIT2": float64(orphans)}, err
}

// count is how many of the client's sockets are in a state.
func (t *track) count(state diag.State) (int, error) {
	all, err := t.client.Sockets(diag.Filter{States: []diag.State{state}})
	return len(all), err
}

// fewBuckets is less than there are ports.
const fewBuckets = 50

// timeWaitBuckets: three times as many connections as there are ports.
func timeWaitBuckets() *Experiment {
	return &Experiment{
		Knob:  maxTWBuckets,
		Load:  fmt.Sprintf("%d connections over %d ports, each closed by the client", 3*churned, churned),
		Setup: []Setting{{reservedPorts, ""}, {portRange, churnedPorts}, {twReuse, "0"}},
		Metrics: []Metric{
			{Name: "connections made", Kind: Benefit, More: true, Least: 5},
			{Name: "closes without TIME_WAIT", Kind: Harm, Least: 5, Counter: "TCPTimeWaitOverflow"},
			{Name: "in TIME_WAIT", Kind: Shown, Least: 1},
		},
		values: turn("131072", strconv.Itoa(fewBuckets)),
		load: func(t *track) (Figures, error) {
			l, err := t.listen(16)
			if err != nil {
				return nil, err
			}
			made, err := t.churn(l, 3*churned)
			if err != nil {
				return nil, err
			}
			waiting, err := t.count(diag.TimeWait)
			return Figures{"connections made": float64(made), "in TIME_WAIT": float64(waiting)}, err
		},
	}
}
