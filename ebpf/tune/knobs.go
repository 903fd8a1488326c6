package tune

// Knobs are all that the tool knows, in the order in which they are shown and
// written. Figures in texts are from ../../README.md and the experiments of tune
// verify.
var Knobs = []Knob{
	{
		Name: reservedPorts, Scope: Namespace, Confidence: Documented,
		Why:  "ports that are no client's: a server that is started again finds its own free",
		Risk: "each is one port less for clients",
		Need: needReserved,
	},
	{
		Name: portRange, Scope: Namespace, Confidence: Measured, First: reservedPorts,
		Why:  "the ports of outgoing connections: how many there can be to one destination",
		Risk: "a client may take the port of a server that is not running at that moment; those that run are reserved",
		Need: needRange,
	},
	{
		Name: timestamps, Scope: Namespace, Confidence: Documented,
		Why:  "without them no port in TIME_WAIT is reused, and old segments are not told from new ones",
		Risk: "12 bytes in each segment",
		Need: needTimestamps,
	},
	{
		Name: twReuse, Scope: Namespace, Confidence: Measured,
		Why:  "1 lets connect take a port in TIME_WAIT after tcp_tw_reuse_delay; 2 does so between loopback addresses alone; neither does anything for a server",
		Risk: "behind a NAT that changes timestamps a connection may fail; safe between hosts that both use timestamps",
		Need: needReuse,
	},
	{
		Name: twReuseDelay, Scope: Namespace, Confidence: Measured, Leave: true,
		Why:  "where tcp_tw_reuse applies, ports / this are the connections per second to one destination; 1 s outlives old segments",
		Risk: "below a second, segments of the old connection may still be on their way",
	},
	{
		Name: "net.ipv4.tcp_fin_timeout", Scope: Namespace, Confidence: Refuted, Leave: true,
		Why:  "it does not shorten TIME_WAIT, whatever is written about it: it bounds FIN_WAIT2 of connections that nobody holds any more. TIME_WAIT is 60 s in the source",
		Risk: "slow peers lose the end of what was sent",
	},
	{
		Name: maxTWBuckets, Scope: Namespace, Confidence: Measured, Leave: true,
		Why:  "lowering it helps churn, by closing connections without TIME_WAIT once it is reached: a trade, not a gift",
		Risk: "a late segment may end in another connection",
	},
	{
		Name: somaxconn, Scope: Namespace, Confidence: Measured,
		Why:  "the longest accept queue: a burst beyond it is refused, and tries again after a second. An application reads it once, when it listens",
		Risk: "a long queue hides an application that accepts too slowly",
		Need: needSomaxconn,
	},
	{
		Name: "net.ipv4.tcp_max_syn_backlog", Scope: Namespace, Confidence: Measured,
		Why:  "handshakes under way at a listener. No effect while tcp_syncookies is 1",
		Risk: "memory under a flood of SYNs",
		Need: needSYNBacklog,
	},
	{
		Name: "net.ipv4.tcp_syncookies", Scope: Namespace, Confidence: Measured, Leave: true,
		Why:  "1 answers SYNs that find no room with a cookie instead of dropping them",
		Risk: "off, a burst of connections waits a second and more for its next SYN",
	},
	{
		Name: "net.ipv4.tcp_abort_on_overflow", Scope: Namespace, Confidence: Measured, Leave: true,
		Why:  "0 lets a client whose last ACK found the queue full try again; 1 resets it",
		Risk: "1 turns bursts into errors",
	},
	{
		Name: "net.ipv4.tcp_slow_start_after_idle", Scope: Namespace, Confidence: Measured,
		Why:  "1 makes a kept-alive connection begin with a small window after each pause. cwnd after idle: reno 54 -> 10, bbr 70 -> 70",
		Risk: "a burst into a path that has got slower meanwhile",
		Need: needNoSlowStart,
	},
	{
		Name: "net.ipv4.tcp_rmem", Scope: Namespace, Confidence: Documented,
		Why:  "least, first and largest receive buffer; the kernel moves within them by itself",
		Risk: "smaller first windows: a large answer takes one round trip more",
		Need: needSmallBuffers("net.ipv4.tcp_rmem", 16384),
	},
	{
		Name: "net.ipv4.tcp_wmem", Scope: Namespace, Confidence: Documented,
		Why:  "least, first and largest send buffer; the kernel moves within them by itself",
		Risk: "smaller first writes",
		Need: needSmallBuffers("net.ipv4.tcp_wmem", 16384),
	},
	{
		Name: "net.ipv4.tcp_congestion_control", Scope: Namespace, Confidence: Measured, Leave: true,
		Why:  "no difference was measured on loopback, where cubic and reno need no pacing; over real paths it depends on the path",
		Risk: "bbr takes its share differently from its neighbours",
	},
	{
		Name: "net.core.default_qdisc", Scope: Host, Confidence: Documented, Leave: true,
		Why:  "for devices that come up later. bbr paces by itself where it is not fq",
		Risk: "devices that are up keep theirs",
	},
	{
		Name: "net.core.netdev_max_backlog", Scope: Host, Confidence: Documented,
		Why:  "packets that wait for a CPU to receive them, loopback's too; drops are column 2 of softnet_stat",
		Risk: "longer queues, later packets",
		Need: needDeviceBacklog,
	},
	{
		Name: conntrackMax, Scope: Host, Confidence: Documented,
		Why:  "connections that the firewall remembers, for 120 s after their end: 20,000/s are 2.4 million. Not tracking them is better (notrack)",
		Risk: "about 400 bytes of kernel memory for each",
		Need: needConntrack,
	},
	{
		Name: "fs.nr_open", Scope: Host, Confidence: Documented,
		Why:  "the highest RLIMIT_NOFILE that can be given to a process",
		Risk: "none until a limit is raised to it",
		Need: needOpenFiles,
	},
}
