/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#pragma once
#include "subject.h"

/* Also of a per-CPU value: a softirq may come between a program's load and store. */
static __always_inline void add(__u64 *to, __u64 n)
{
	__sync_fetch_and_add(to, n);
}

static __always_inline void count(struct fault *f, __u64 n, __u32 tgid, __u16 peer_port)
{
	__u64 zero = 0, *v;
	struct example *e;

	if (f->kind < KINDS)
		add(&totals[f->kind], n);
	v = bpf_map_lookup_elem(&faults, f);
	if (!v) {
		bpf_map_update_elem(&faults, f, &zero, BPF_NOEXIST); /* another CPU may have been first */
		v = bpf_map_lookup_elem(&faults, f);
	}
	if (v)
		add(v, n);
	else
		add(&lost_faults, n);

	e = bpf_ringbuf_reserve(&examples, sizeof(*e), 0);
	if (!e) {
		add(&lost_examples, 1);
		return;
	}
	e->at_ns = bpf_ktime_get_ns();
	e->fault = *f;
	e->tgid = tgid;
	e->peer_port = peer_port;
	e->pad = 0;
	bpf_ringbuf_submit(e, 0);
}

static __always_inline void count_on(struct fault *f, const struct sock *sk, const struct conn *conn, __u64 n)
{
	__u16 peer = f->who.role == ROLE_CLIENT ? local_port(sk) : bpf_ntohs(sk->__sk_common.skc_dport);
	count(f, n, conn ? conn->tgid : 0, conn ? conn->local_port : peer);
}

static __always_inline struct traffic *traffic_of(struct subject *who)
{
	struct traffic *t = bpf_map_lookup_elem(&traffic, who);
	if (t)
		return t;
	static const struct traffic empty; /* too large for the stack */
	bpf_map_update_elem(&traffic, who, &empty, BPF_NOEXIST);
	t = bpf_map_lookup_elem(&traffic, who);
	if (t)
		return t;
	add(&lost_traffic, 1);
	struct subject none = {}; /* a row of its own, made before the programs start */
	return bpf_map_lookup_elem(&traffic, &none);
}

/* Four buckets per power of two, as in a float's exponent and two bits of its
 * fraction: 0 1 2 3 | 4 5 6 7 | 8 10 12 14 | 16 20 ... */
static __always_inline __u32 bucket_of(__u64 us)
{
	__u32 v = us > 0x7ffffff ? 0x7ffffff : us, e = 0, x;
	if (v < 4)
		return v;
	x = v;
	if (x >> 16) { e += 16; x >>= 16; }
	if (x >> 8) { e += 8; x >>= 8; }
	if (x >> 4) { e += 4; x >>= 4; }
	if (x >> 2) { e += 2; x >>= 2; }
	e += x >> 1;
	return (e - 1) * 4 + ((v >> (e - 2)) & 3);
}
