/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#pragma once
#include "kernel.h"

/* Set before loading, constant from then on: what they rule out is not even
 * looked at by the verifier, so an argument that this kernel's tracepoint does
 * not have is never read. */
const volatile __u32 scope_netns;       /* inode of the network namespace, 0: every */
const volatile __u32 scope_tgid;        /* process, 0: every */
const volatile __u32 scope_ports;       /* 0: every port, else: */
const volatile __u64 scope_port[1024];  /* a bit for each */
const volatile __u64 pidns_dev, pidns;  /* whose numbers of processes are meant; 0: the machine's */
const volatile __u32 kfree_skb_args;
const volatile __u32 send_reset_args;

enum role {
	ROLE_NONE,     /* not attributed */
	ROLE_LISTENER, /* a listening socket: cookie, local address and port */
	ROLE_SERVER,   /* connections of a listening port: local address and port */
	ROLE_CLIENT,   /* connections to a destination: remote address and port */
};

/* Whom an event is about. Ephemeral ports are not in it. */
struct subject {
	__u8 addr[16]; /* IPv4 as ::ffff:a.b.c.d */
	__u64 cookie;  /* of a listener, else 0 */
	__u32 netns;
	__u16 port; /* host byte order */
	__u16 role;
};

enum kind {
	KIND_DROP,                 /* code: skb_drop_reason */
	KIND_CONNECT_FAILED,       /* code: errno, 0: given up by the application */
	KIND_PORTS_EXHAUSTED,      /* connect found no free local port */
	KIND_PORT_TAKEN,           /* connect from a bound port, the tuple is in use */
	KIND_RETRANS_DATA,         /* segments */
	KIND_RETRANS_DATA_SOCKETS, /* client sockets with at least one */
	KIND_FIRST_UNANSWERED, /* of these: SYN answered at once, nothing acknowledged yet */
	KIND_RETRANS_SYN,
	KIND_UNANSWERED, /* connects whose first SYN got no answer: sent again, or given up */
	KIND_RETRANS_SYNACK,
	KIND_RETRANS_SYNACK_SOCKETS,
	KIND_RST_OUT, /* code: sk_rst_reason */
	KIND_RST_IN,  /* code: state of the socket that got it */
	KINDS,
};

struct fault {
	struct subject who;
	__u32 kind;
	__u32 code;
};

/* An example of a fault, for the ring buffer. */
struct example {
	__u64 at_ns; /* CLOCK_MONOTONIC */
	struct fault fault;
	__u32 tgid;      /* that called connect, 0: unknown */
	__u16 peer_port; /* the other end's, or the ephemeral one */
	__u16 pad;
};

#define BUCKETS 108 /* four per power of two, from 1 us to 134 s */

/* The connections of a client to one destination. */
struct traffic {
	__u64 connects;
	__u64 established;
	__u64 latency_us[BUCKETS]; /* of connect */
	__u64 searches;            /* for a local port; deep mode */
	__u64 search_ns;
	__u64 search_max_ns;
	__u64 closed; /* final totals of closed sockets */
	__u64 busy_jiffies; /* without that of the next two */
	__u64 rwnd_limited_jiffies;
	__u64 sndbuf_limited_jiffies;
	__u64 min_rtt_us; /* 0: none yet */
	__u64 dsack_dups; /* segments that the other end got twice, and said so */
};

/* A connection, from its connect on. */
struct conn {
	struct subject who;
	__u64 start_ns;
	__u32 tgid;
	__u16 local_port;
	__u8 unanswered, data_lost;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct conn);
} conns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 256);
	__type(key, struct subject);
	__type(value, struct traffic);
} traffic SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct fault);
	__type(value, __u64);
} faults SEC(".maps");

/* Ports that somebody in scope listens on. */
struct served {
	__u32 netns;
	__u32 port;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct served);
	__type(value, __u32);
} served SEC(".maps");

/* The longest accept queue of a listener, by socket cookie; deep mode. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u32);
} accept_peak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} examples SEC(".maps");

__u64 totals[KINDS];

/* Segments of the network namespace in scope, whatever their ports: what the
 * kernel counts in RetransSegs, if it runs the programs for all of them. */
__u64 retransmitted;

/* What was not recorded, and why. */
__u64 lost_faults, lost_traffic, lost_conns, lost_served, lost_peaks, lost_examples;

/* Types that no map shows, for bpf2go. */
const struct example *example_type __attribute__((unused));
const enum role role_type __attribute__((unused));
const enum kind kind_type __attribute__((unused));
