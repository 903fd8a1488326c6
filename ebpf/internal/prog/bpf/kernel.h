/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 *
 * What the programs need of the kernel's types: these fields only. Where they
 * are is found when the programs are loaded (preserve_access_index, CO-RE), so
 * neither order nor size matters here.
 */
#pragma once

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;

/* include/uapi/linux/bpf.h */
enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_PERCPU_HASH = 5,
	BPF_MAP_TYPE_SK_STORAGE = 24,
	BPF_MAP_TYPE_RINGBUF = 27,
};
enum { BPF_ANY = 0, BPF_NOEXIST = 1 };
enum { BPF_F_NO_PREALLOC = 1 };
enum { BPF_SK_STORAGE_GET_F_CREATE = 1 };
enum { BPF_SOCK_OPS_TCP_CONNECT_CB = 3 };
struct bpf_pidns_info {
	__u32 pid, tgid;
};
struct bpf_sock;
struct bpf_sock_ops {
	__u32 op;
	__u32 unused[45]; /* up to sk */
	struct bpf_sock *sk;
};

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

/* include/net/tcp_states.h, include/net/sock.h, include/uapi/linux/{in,if_ether}.h */
enum { TCP_ESTABLISHED = 1, TCP_SYN_SENT = 2, TCP_TIME_WAIT = 6, TCP_CLOSE = 7, TCP_LISTEN = 10, TCP_NEW_SYN_RECV = 12 };
enum { SOCK_BINDPORT_LOCK = 8 };
enum { AF_INET = 2, AF_INET6 = 10 };
enum { IPPROTO_TCP = 6 };
enum { ETIMEDOUT = 110 };

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct in6_addr {
	union {
		__u8 u6_addr8[16];
	} in6_u;
};
struct ns_common {
	unsigned int inum;
};
struct net {
	struct ns_common ns;
};
typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};
struct sock {
	struct sock_common __sk_common;
	__u8 sk_userlocks;
	__u16 sk_protocol;
	int sk_err;
	__u32 sk_ack_backlog;
};
struct inet_sock {
	__be16 inet_sport;
};
struct request_sock {
	struct sock_common __req_common;
	__u8 num_retrans;
};

struct minmax_sample {
	__u32 v;
};
struct minmax {
	struct minmax_sample s[3];
};
struct tcp_sock {
	__u32 segs_out;
	__u64 bytes_acked; /* the SYN is one */
	__u32 chrono_stat[3]; /* jiffies: busy, held by the receive window, by the send buffer */
	__u32 chrono_start;   /* of what it is now: */
	__u8 chrono_type : 2; /* 0: none of these, else 1 more than the index */
	__u32 dsack_dups;
	struct minmax rtt_min;
};

struct net_device {
	possible_net_t nd_net;
};
struct sk_buff {
	struct net_device *dev;
	struct sock *sk;
	__u8 cb[48];
	__be16 protocol;
	__u16 transport_header;
	__u16 network_header;
	unsigned char *head;
};
struct tcp_skb_cb {
	__u16 tcp_gso_segs;
};
enum skb_drop_reason {
	SKB_DROP_REASON_NOT_SPECIFIED = 2,
};

#pragma clang attribute pop

/* Headers on the wire. */
struct iphdr {
	__u8 ver_ihl, tos;
	__be16 tot_len, id, frag_off;
	__u8 ttl, protocol;
	__u16 check;
	__u8 saddr[4], daddr[4];
};
struct ipv6hdr {
	__u8 ver_flow[4];
	__be16 payload_len;
	__u8 nexthdr, hop_limit;
	__u8 saddr[16], daddr[16];
};
struct tcphdr {
	__be16 source, dest;
	__be32 seq, ack_seq;
	__u8 doff, flags;
};
enum { TCPHDR_SYN = 0x02, TCPHDR_ACK = 0x10 };
