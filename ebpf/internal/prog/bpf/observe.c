/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 *
 * What the kernel does to TCP sockets, counted where it happens.
 *
 *   event -> whose is it (subject) -> in scope? -> count it
 *
 * What happens on healthy connections (two state changes and one close each)
 * goes to a per-CPU map; faults are rare and go to one shared map, keyed by
 * subject, kind and code. Every fault is added to a total as well, which no full
 * map can lose. All programs are BTF raw tracepoints, but port_search.
 */
#include "subject.h"
#include "count.h"

char LICENSE[] SEC("license") = "Dual MPL/GPL"; /* some helpers are for GPL programs only */

/* ---- connect and listen ---- */

/* Adds the times that a socket has had data to send, or takes them away. */
static __always_inline void add_times(struct sock *sk, struct traffic *t, __u64 sign)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	__u32 running, type;

	if (!tp)
		return;
	type = BPF_CORE_READ_BITFIELD(tp, chrono_type);
	running = (__u32)bpf_jiffies64() - tp->chrono_start;
	add(&t->busy_jiffies, sign * (tp->chrono_stat[0] + (type == 1 ? running : 0)));
	add(&t->rwnd_limited_jiffies, sign * (tp->chrono_stat[1] + (type == 2 ? running : 0)));
	add(&t->sndbuf_limited_jiffies, sign * (tp->chrono_stat[2] + (type == 3 ? running : 0)));
}

static __always_inline void connect_starts(struct sock *sk)
{
	struct conn *c, new = {};
	__u32 netns = sk->__sk_common.skc_net.net->ns.inum, tgid = caller();
	struct traffic *t;

	if ((scope_netns && netns != scope_netns) || (scope_tgid && tgid != scope_tgid) ||
	    !port_in_scope(sk->__sk_common.skc_num, bpf_ntohs(sk->__sk_common.skc_dport))) {
		bpf_sk_storage_delete(&conns, sk); /* an earlier connection of the socket may have been */
		return;
	}
	c = bpf_sk_storage_get(&conns, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!c) {
		add(&lost_conns, 1);
		return;
	}
	new.who.role = ROLE_CLIENT;
	new.who.netns = netns;
	set_remote(&new.who, sk);
	new.tgid = tgid;
	new.start_ns = bpf_ktime_get_ns();
	*c = new;
	t = traffic_of(&new.who);
	if (!t)
		return;
	add(&t->connects, 1);
	/* A socket that is connected again still has the times of its earlier
	 * connections, now and in TCP_INFO and when this one ends. */
	add_times(sk, t, -1);
}

static __always_inline void connect_ends(struct sock *sk, struct conn *c)
{
	struct traffic *t = traffic_of(&c->who);
	if (!t)
		return;
	__u32 i = bucket_of((bpf_ktime_get_ns() - c->start_ns) / 1000);
	add(&t->established, 1);
	if (i < BUCKETS)
		add(&t->latency_us[i], 1);
}

/* A search for a local port that found none fails before any segment went out:
 * no counter of the kernel tells, and sk_err is not set. */
static __always_inline void connect_fails(struct sock *sk, struct conn *c)
{
	struct fault f = { .who = c->who, .kind = KIND_CONNECT_FAILED };
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	if (tp && tp->segs_out == 0)
		f.kind = BPF_CORE_READ_BITFIELD(sk, sk_userlocks) & SOCK_BINDPORT_LOCK ? KIND_PORT_TAKEN : KIND_PORTS_EXHAUSTED;
	else
		f.code = sk->sk_err;
	count_on(&f, sk, c, 1);
	if (f.kind == KIND_CONNECT_FAILED && (f.code == 0 || f.code == ETIMEDOUT) && !c->unanswered) {
		c->unanswered = 1;
		f.kind = KIND_UNANSWERED;
		f.code = 0;
		count_on(&f, sk, c, 1);
	}
}

/* What is left when a client's connection ends. The socket may outlive it, and be
 * connected again. */
static __always_inline void connection_ends(struct sock *sk, struct conn *c)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct traffic *t = traffic_of(&c->who);
	__u32 rtt;

	if (!tp || !t)
		return;
	add(&t->closed, 1);
	add_times(sk, t, 1); /* one that is aborted is still what it was */
	add(&t->dsack_dups, tp->dsack_dups);
	rtt = tp->rtt_min.s[0].v;
	if (rtt && rtt != ~0U && (!t->min_rtt_us || rtt < t->min_rtt_us))
		t->min_rtt_us = rtt;
}

static __always_inline void listen_starts(struct sock *sk)
{
	__u32 netns = sk->__sk_common.skc_net.net->ns.inum;
	if (scope_netns && netns != scope_netns)
		return;
	if (scope_tgid && caller() != scope_tgid)
		return;
	if (port_in_scope(sk->__sk_common.skc_num, 0))
		add_served(netns, sk->__sk_common.skc_num);
}

SEC("tp_btf/inet_sock_set_state")
int set_state(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	int from = ctx[1], to = ctx[2];
	struct conn *c;

	if (to != TCP_SYN_SENT && to != TCP_LISTEN && to != TCP_CLOSE && from != TCP_SYN_SENT)
		return 0; /* most events */
	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (to == TCP_LISTEN) {
		listen_starts(sk);
		return 0;
	}
	if (to == TCP_SYN_SENT) {
		connect_starts(sk);
		return 0;
	}
	c = bpf_sk_storage_get(&conns, sk, 0, 0);
	if (!c)
		return 0;
	if (from == TCP_SYN_SENT)
		c->local_port = local_port(sk); /* in TCP_CLOSE it is given up */
	if (to == TCP_ESTABLISHED)
		connect_ends(sk, c);
	if (to == TCP_CLOSE && from == TCP_SYN_SENT)
		connect_fails(sk, c);
	if (to == TCP_CLOSE && from != TCP_CLOSE)
		connection_ends(sk, c);
	return 0;
}

/* The SYN is about to be sent: a port was found. */
SEC("sockops")
int port_search(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct conn *c;
	struct traffic *t;
	__u64 ns;

	if (ctx->op != BPF_SOCK_OPS_TCP_CONNECT_CB || !sk)
		return 1;
	c = bpf_sk_storage_get(&conns, sk, 0, 0);
	if (!c)
		return 1;
	ns = bpf_ktime_get_ns() - c->start_ns;
	t = traffic_of(&c->who);
	if (!t)
		return 1;
	add(&t->searches, 1);
	add(&t->search_ns, ns);
	if (ns > t->search_max_ns)
		t->search_max_ns = ns;
	return 1;
}

/* ---- retransmits ---- */

static __always_inline void count_retransmitted(const struct sock *sk, __u64 segments)
{
	if (sk->__sk_common.skc_net.net->ns.inum == scope_netns)
		add(&retransmitted, segments);
}

SEC("tp_btf/tcp_retransmit_skb")
int retransmit_skb(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	struct sk_buff *skb = (struct sk_buff *)ctx[1];
	struct conn *c = bpf_sk_storage_get(&conns, sk, 0, 0);
	struct fault f = {};
	__u16 segments = 0;

	/* RetransSegs counts what the hardware will cut it into. */
	bpf_probe_read_kernel(&segments, sizeof(segments),
			      (void *)skb->cb + bpf_core_field_offset(struct tcp_skb_cb, tcp_gso_segs));
	if (!segments)
		segments = 1;
	count_retransmitted(sk, segments);
	if (!subject_of(&f.who, sk, c))
		return 0;
	int syn = sk->__sk_common.skc_state == TCP_SYN_SENT;
	f.kind = syn ? KIND_RETRANS_SYN : KIND_RETRANS_DATA;
	count_on(&f, sk, c, segments);
	if (!c)
		return 0;
	__u8 *lost = syn ? &c->unanswered : &c->data_lost;
	if (*lost)
		return 0;
	*lost = 1;
	f.kind = syn ? KIND_UNANSWERED : KIND_RETRANS_DATA_SOCKETS;
	count_on(&f, sk, c, 1);
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	if (syn || c->unanswered || !tp || tp->bytes_acked > 1)
		return 0;
	f.kind = KIND_FIRST_UNANSWERED;
	count_on(&f, sk, c, 1);
	return 0;
}

SEC("tp_btf/tcp_retransmit_synack")
int retransmit_synack(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	struct request_sock *req = (struct request_sock *)ctx[1];
	struct fault f = { .kind = KIND_RETRANS_SYNACK };

	count_retransmitted(sk, 1);
	if (!subject_of_listener(&f.who, sk))
		return 0;
	__u16 peer = bpf_ntohs(req->__req_common.skc_dport);
	count(&f, 1, 0, peer);
	if (req->num_retrans)
		return 0;
	f.kind = KIND_RETRANS_SYNACK_SOCKETS;
	count(&f, 1, 0, peer);
	return 0;
}

/* ---- resets ---- */

SEC("tp_btf/tcp_send_reset")
int send_reset(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0]; /* NULL where there is none, and shown since 6.10 or so */
	struct sk_buff *skb = (struct sk_buff *)ctx[1];
	struct fault f = { .kind = KIND_RST_OUT };
	__u16 peer = 0;

	if (send_reset_args >= 3)
		f.code = ctx[2];
	if (sk) {
		struct conn *c = bpf_sk_storage_get(&conns, sk, 0, 0);
		if (subject_of(&f.who, sk, c))
			count_on(&f, sk, c, 1);
	} else if (skb && subject_of_segment(&f.who, skb, &peer)) {
		count(&f, 1, 0, peer);
	}
	return 0;
}

SEC("tp_btf/tcp_receive_reset")
int receive_reset(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	struct conn *c = bpf_sk_storage_get(&conns, sk, 0, 0);
	struct fault f = { .kind = KIND_RST_IN, .code = sk->__sk_common.skc_state };

	if (subject_of(&f.who, sk, c))
		count_on(&f, sk, c, 1);
	return 0;
}

/* ---- drops ---- */

/* Request and TIME_WAIT sockets have no sk_protocol: they are TCP's alone. */
static __always_inline int is_tcp(const struct sock *sk)
{
	__u16 family = sk->__sk_common.skc_family;
	__u8 state = sk->__sk_common.skc_state;

	if (family != AF_INET && family != AF_INET6)
		return 0;
	return state == TCP_TIME_WAIT || state == TCP_NEW_SYN_RECV || sk->sk_protocol == IPPROTO_TCP;
}

/* Whose socket a segment was dropped at, 0 if it is out of scope. */
static __always_inline int subject_of_drop(struct subject *who, struct sock *sk)
{
	if (sk->__sk_common.skc_state == TCP_LISTEN)
		return subject_of_listener(who, sk);
	return subject_of(who, sk, bpf_sk_storage_get(&conns, sk, 0, 0));
}

SEC("tp_btf/kfree_skb")
int kfree_skb(__u64 *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx[0];
	struct sock *sk = 0;
	struct fault f = { .kind = KIND_DROP };
	__u16 peer = 0;

	if (kfree_skb_args >= 3)
		f.code = ctx[2];
	if (kfree_skb_args >= 4)
		sk = (struct sock *)ctx[3];
	if (sk) {
		if (!is_tcp(sk))
			return 0;
		/* The end of a segment that a TIME_WAIT socket has answered. */
		if (sk->__sk_common.skc_state == TCP_TIME_WAIT && kfree_skb_args >= 3 &&
		    f.code == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_NOT_SPECIFIED))
			return 0;
		if (subject_of_drop(&f.who, sk))
			count_on(&f, sk, 0, 1);
		return 0;
	}
	if (subject_of_segment(&f.who, skb, &peer))
		count(&f, 1, 0, peer);
	return 0;
}

/* ---- the accept queue; deep mode ---- */

SEC("tp_btf/sk_data_ready")
int data_ready(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	struct subject who = {};
	__u32 queued, *peak;

	if (sk->__sk_common.skc_state != TCP_LISTEN || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (!subject_of_listener(&who, sk))
		return 0;
	queued = sk->sk_ack_backlog;
	peak = bpf_map_lookup_elem(&accept_peak, &who.cookie);
	if (!peak) {
		if (bpf_map_update_elem(&accept_peak, &who.cookie, &queued, BPF_ANY))
			add(&lost_peaks, 1);
	} else if (queued > *peak) {
		*peak = queued;
	}
	return 0;
}
