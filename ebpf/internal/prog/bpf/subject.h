/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#pragma once
#include "maps.h"
#include <bpf/bpf_endian.h>

static __always_inline void set_ipv4(struct subject *who, const void *addr)
{
	who->addr[10] = who->addr[11] = 0xff;
	__builtin_memcpy(who->addr + 12, addr, 4);
}

static __always_inline int port_is_set(__u16 port)
{
	return scope_port[port >> 6] >> (port & 63) & 1;
}

static __always_inline int port_in_scope(__u16 local, __u16 remote)
{
	return !scope_ports || port_is_set(local) || port_is_set(remote);
}

/* The calling process, by the number that the observer knows it by: a container
 * counts its own. 0: it has none. */
static __always_inline __u32 caller(void)
{
	struct bpf_pidns_info ids = {};

	if (!pidns)
		return bpf_get_current_pid_tgid() >> 32;
	if (bpf_get_ns_current_pid_tgid(pidns_dev, pidns, &ids, sizeof(ids)))
		return 0;
	return ids.tgid;
}

static __always_inline int is_served(__u32 netns, __u16 port)
{
	struct served key = { netns, port };
	return bpf_map_lookup_elem(&served, &key) != 0;
}

static __always_inline void add_served(__u32 netns, __u16 port)
{
	struct served key = { netns, port };
	__u32 yes = 1;
	if (bpf_map_update_elem(&served, &key, &yes, BPF_ANY))
		__sync_fetch_and_add(&lost_served, 1);
}

/* skc_num is taken away when a socket is closed by force, before its RST goes
 * out from inet_sport. */
static __always_inline __u16 local_port(const struct sock *sk)
{
	__u16 num = sk->__sk_common.skc_num;
	__be16 sport = 0;

	if (num)
		return num;
	bpf_probe_read_kernel(&sport, sizeof(sport), (void *)sk + bpf_core_field_offset(struct inet_sock, inet_sport));
	return bpf_ntohs(sport);
}

static __always_inline void set_local(struct subject *who, const struct sock *sk)
{
	who->port = local_port(sk);
	if (sk->__sk_common.skc_family == AF_INET) {
		__be32 addr = sk->__sk_common.skc_rcv_saddr;
		set_ipv4(who, &addr);
	} else {
		bpf_probe_read_kernel(who->addr, 16, &sk->__sk_common.skc_v6_rcv_saddr);
	}
}

static __always_inline void set_remote(struct subject *who, const struct sock *sk)
{
	who->port = bpf_ntohs(sk->__sk_common.skc_dport);
	if (sk->__sk_common.skc_family == AF_INET) {
		__be32 addr = sk->__sk_common.skc_daddr;
		set_ipv4(who, &addr);
	} else {
		bpf_probe_read_kernel(who->addr, 16, &sk->__sk_common.skc_v6_daddr);
	}
}

/* Which end serves: the one whose port is listened on, as far as is known, or
 * else the one with the lower port. */
static __always_inline int first_serves(__u32 netns, __u16 first, __u16 second)
{
	if (is_served(netns, first))
		return 1;
	return !is_served(netns, second) && first < second;
}

/* Fills in whom a socket belongs to; who is zeroed. Returns 0 if it is out of
 * scope. Reads only what request and TIME_WAIT sockets have too. conn is what
 * connect left on the socket, or NULL. */
static __always_inline int subject_of(struct subject *who, const struct sock *sk, const struct conn *conn)
{
	__u16 local = local_port(sk);
	__u16 remote = bpf_ntohs(sk->__sk_common.skc_dport);
	__u32 netns = sk->__sk_common.skc_net.net->ns.inum;

	if (conn) { /* was in scope when it was made */
		*who = conn->who;
		return 1;
	}
	if ((scope_netns && netns != scope_netns) || !port_in_scope(local, remote))
		return 0;
	if (scope_tgid && !is_served(netns, local))
		return 0;
	who->netns = netns;
	if (first_serves(netns, local, remote)) {
		who->role = ROLE_SERVER;
		set_local(who, sk);
	} else {
		who->role = ROLE_CLIENT; /* connected before the observer was there */
		set_remote(who, sk);
	}
	return 1;
}

/* The same for a listening socket. */
static __always_inline int subject_of_listener(struct subject *who, struct sock *sk)
{
	if (!subject_of(who, sk, 0))
		return 0;
	who->role = ROLE_LISTENER;
	set_local(who, sk);
	who->cookie = bpf_get_socket_cookie(sk);
	return 1;
}

/* The same for a segment that belongs to no socket, on its way in. Returns the
 * other end's port through peer, and 0 if it is not TCP or out of scope. */
static __always_inline int subject_of_segment(struct subject *who, struct sk_buff *skb, __u16 *peer)
{
	struct net_device *dev = skb->dev;
	unsigned char *head = skb->head;
	__u16 network = skb->network_header, transport;
	__be16 protocol = skb->protocol;
	struct tcphdr tcp;
	struct iphdr v4;
	struct ipv6hdr v6;

	if (!dev)
		return 0;
	who->netns = dev->nd_net.net->ns.inum;
	if (scope_netns && who->netns != scope_netns)
		return 0;
	if (protocol == bpf_htons(0x0800)) {
		if (bpf_probe_read_kernel(&v4, sizeof(v4), head + network) || v4.protocol != IPPROTO_TCP)
			return 0;
		transport = network + (v4.ver_ihl & 15) * 4;
	} else if (protocol == bpf_htons(0x86dd)) {
		if (bpf_probe_read_kernel(&v6, sizeof(v6), head + network) || v6.nexthdr != IPPROTO_TCP)
			return 0;
		transport = network + sizeof(v6);
	} else {
		return 0;
	}
	if (bpf_probe_read_kernel(&tcp, sizeof(tcp), head + transport))
		return 0;
	__u16 source = bpf_ntohs(tcp.source), dest = bpf_ntohs(tcp.dest);
	if (!port_in_scope(source, dest) || (scope_tgid && !is_served(who->netns, dest)))
		return 0;
	int to_server = first_serves(who->netns, dest, source);
	if (tcp.flags & TCPHDR_SYN) /* one says who is who */
		to_server = !(tcp.flags & TCPHDR_ACK);
	who->role = to_server ? ROLE_SERVER : ROLE_CLIENT;
	who->port = to_server ? dest : source;
	*peer = to_server ? source : dest;
	if (protocol == bpf_htons(0x0800))
		set_ipv4(who, to_server ? v4.daddr : v4.saddr);
	else
		__builtin_memcpy(who->addr, to_server ? v6.daddr : v6.saddr, 16);
	return 1;
}
