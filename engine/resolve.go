package engine

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Resolver finds the addresses of a host; *net.Resolver is one. network is
// "ip". It is called from its own goroutine, with a deadline.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

var defaultResolver Resolver = &net.Resolver{Dial: dialResolver}

// Bounds of the resolver.
const (
	maxLookups     = 512 // at once; fewer where descriptors are few: see lookupsAtOnce
	minLookups     = 16
	maxNames       = 4096        // in the cache
	dnsFailureTTL  = time.Second // how long a failure is an answer
	maxAddressesOf = 16          // of one name are tried
)

// A nameCache answers from what it knows and looks up, off the loops and each
// name once at a time, what it does not. All loops share it.
type nameCache struct {
	resolver Resolver
	ttl      time.Duration
	timeout  time.Duration
	slots    chan struct{}
	ctx      context.Context

	mu    sync.Mutex
	names map[string]*name
	wg    sync.WaitGroup
}

// name is one host's entry.
type name struct {
	addrs   []netip.Addr
	err     error
	expires time.Time // zero while the lookup runs
	waiters []func([]netip.Addr, error)
}

func newNameCache(ctx context.Context, c *Config) *nameCache {
	return &nameCache{
		resolver: c.Resolver, ttl: c.DNSTTL, timeout: min(c.ConnectTimeout, c.Timeout),
		slots: make(chan struct{}, lookupsAtOnce(c.Connections)), ctx: ctx, names: make(map[string]*name),
	}
}

// lookupsAtOnce leaves the descriptors that connections and files need: a lookup
// has two, for the two families.
func lookupsAtOnce(connections int) int {
	const files = 64
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return minLookups
	}
	room := (int64(min(limit.Cur, 1<<30)) - int64(connections) - files) / 2
	return int(min(max(room, minLookups), maxLookups))
}

// lookup returns the answer for host if it is known. If not, answer is called
// with it later, from another goroutine.
func (r *nameCache) lookup(host string, answer func([]netip.Addr, error)) (addrs []netip.Addr, err error, known bool) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}, nil, true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.names[host]
	switch {
	case n == nil:
		r.evict()
		n = &name{}
		r.names[strings.Clone(host)] = n
	case n.expires.IsZero():
		n.waiters = append(n.waiters, answer)
		return nil, nil, false
	case time.Now().Before(n.expires):
		return n.addrs, n.err, true
	}
	n.expires = time.Time{}
	n.waiters = append(n.waiters, answer)
	r.wg.Add(1)
	go r.resolve(host, n)
	return nil, nil, false
}

// evict makes room for one more name: what has expired goes first, else any
// that is not being looked up.
func (r *nameCache) evict() {
	if len(r.names) < maxNames {
		return
	}
	now := time.Now()
	for host, n := range r.names {
		if !n.expires.IsZero() && now.After(n.expires) {
			delete(r.names, host)
		}
	}
	for host, n := range r.names {
		if len(r.names) < maxNames-maxNames/8 { // not for each new name again
			return
		}
		if !n.expires.IsZero() {
			delete(r.names, host)
		}
	}
}

func (r *nameCache) resolve(host string, n *name) {
	defer r.wg.Done()
	addrs, err := r.ask(host)
	r.mu.Lock()
	n.addrs, n.err = addrs, err
	ttl := r.ttl
	if err != nil {
		ttl = min(ttl, dnsFailureTTL)
	}
	n.expires = time.Now().Add(ttl)
	waiters := n.waiters
	n.waiters = nil
	r.mu.Unlock()
	for _, answer := range waiters {
		answer(addrs, err)
	}
}

func (r *nameCache) ask(host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(r.ctx, r.timeout)
	defer cancel()
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return nil, errors.New("too many lookups at once: no turn within the time limit")
	}
	addrs, err := r.resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	if len(addrs) == 0 {
		return nil, errors.New("the resolver knows no address of it")
	}
	return alternate(addrs), nil
}

// alternate orders addresses so that the families take turns, beginning with
// the family of the resolver's first answer (RFC 8305 section 4).
func alternate(addrs []netip.Addr) []netip.Addr {
	var first, second []netip.Addr
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() == addrs[0].Unmap().Is4() {
			first = append(first, a)
		} else {
			second = append(second, a)
		}
	}
	var out []netip.Addr
	for i := 0; i < max(len(first), len(second)) && len(out) < maxAddressesOf; i++ {
		if i < len(first) {
			out = append(out, first[i])
		}
		if i < len(second) {
			out = append(out, second[i])
		}
	}
	return out
}
