package ebpf

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// The kernel's bounds of the time until a SYN is sent again (include/net/tcp.h:
// TCP_TIMEOUT_INIT, TCP_RTO_MAX).
const (
	synTimeout    = time.Second
	synTimeoutMax = 120 * time.Second // before 6.15, which has tcp_rto_max_ms
)

// synTimeouts are the times after a connect at which its SYN is sent again, and
// at last, at which it fails with ETIMEDOUT. The first linear timeouts (of
// tcp_syn_linear_timeouts, since 6.5) last a second each, every other twice as long as that
// before, but no longer than most; retries is tcp_syn_retries.
func synTimeouts(retries, linear int, most time.Duration) []time.Duration {
	var times []time.Duration
	at, timeout := time.Duration(0), synTimeout
	for i := range retries + 1 + linear {
		at += timeout
		times = append(times, at)
		if i >= linear {
			timeout = min(2*timeout, most)
		}
	}
	return times
}

// readSYNTimeouts reads the settings of the thread's network namespace.
func readSYNTimeouts() []time.Duration {
	retries, known := setting("tcp_syn_retries")
	if !known {
		return nil
	}
	linear, _ := setting("tcp_syn_linear_timeouts") // none before 6.5
	most := synTimeoutMax
	if ms, known := setting("tcp_rto_max_ms"); known {
		most = time.Duration(ms) * time.Millisecond
	}
	return synTimeouts(retries, linear, most)
}

func setting(name string) (n int, known bool) {
	b, err := os.ReadFile("/proc/sys/net/ipv4/" + name)
	if err != nil {
		return 0, false
	}
	n, err = strconv.Atoi(strings.TrimSpace(string(b)))
	return n, err == nil && n >= 0
}
