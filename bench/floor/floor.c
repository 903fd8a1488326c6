// floor is the least a pipelining HTTP client can do: what any other costs
// beyond it is the price of being a client.
//
//     floor [-c CONNECTIONS] [-p DEPTH] [-n REQUESTS | -d SECONDS] [-u USER-AGENT] [-C] HOST:PORT
//
// With -C each connection carries one request, on a socket that is connected
// again and again. One epoll_wait, then for each ready connection one read and
// one write. The responses are not parsed: they must all have the size of the
// first one, and bytes are counted. Prints one JSON object, the one bench/sample reads.
#define _GNU_SOURCE
#include "common.h"
#include <sys/resource.h>
#include <time.h>

enum { MAX_DEPTH = 1024, MAX_REQUEST = 512 };

struct conn {
	int fd;
	size_t partial; // bytes of an incomplete response
	size_t owed;    // bytes of requests not yet written
};

static struct {
	struct sockaddr_storage peer;
	socklen_t peer_size;
	char request[MAX_REQUEST * MAX_DEPTH]; // the same request, MAX_DEPTH times
	size_t request_size, response_size;
	long connections, depth;
	int closing, timestamps;
	long unsent; // requests still to be sent
	long sent, answered;
} run = {.connections = 64, .depth = 1};

static char input[READ_BUFFER];

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

// set_peer takes "127.0.0.1:PORT" or "[::1]:PORT" and nothing that is not loopback.
static void set_peer(const char *address)
{
	char host[64];
	const char *colon = strrchr(address, ':');
	if (!colon || (size_t)(colon - address) >= sizeof host)
		die("%s: want HOST:PORT", address);
	int port = number("port", colon + 1, 1, 65535);
	memcpy(host, address, colon - address);
	host[colon - address] = 0;

	struct sockaddr_in *v4 = (void *)&run.peer;
	struct sockaddr_in6 *v6 = (void *)&run.peer;
	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		if (ntohl(v4->sin_addr.s_addr) >> 24 != IN_LOOPBACKNET)
			die("%s is not a loopback address", host);
		v4->sin_family = AF_INET, v4->sin_port = htons(port), run.peer_size = sizeof *v4;
	} else if (!strcmp(host, "[::1]")) {
		v6->sin6_addr = in6addr_loopback;
		v6->sin6_family = AF_INET6, v6->sin6_port = htons(port), run.peer_size = sizeof *v6;
	} else {
		die("%s is not a loopback address", host);
	}
}

// build_requests writes what hotlap sends for GET /, byte for byte (a test
// compares the two).
static void build_requests(const char *address, const char *agent)
{
	int n = snprintf(run.request, MAX_REQUEST,
		"GET / HTTP/1.1\r\nHost: %s\r\nAccept: */*\r\nUser-Agent: %s\r\n%s\r\n", address, agent,
		run.closing ? "Connection: close\r\n" : "");
	if (n >= MAX_REQUEST)
		die("the request is too long");
	run.request_size = n;
	for (int i = 1; i < MAX_DEPTH; i++)
		memcpy(run.request + i * n, run.request, n);
}

static int dial(void)
{
	int fd = socket(run.peer.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&run.peer, run.peer_size) < 0)
		die("connect: %s", strerror(errno));
	set_nodelay(fd);
	return fd;
}

// measure_response asks once, on a connection of its own, and learns how long
// every response will be.
static void measure_response(void)
{
	int fd = dial();
	if (write(fd, run.request, run.request_size) != (ssize_t)run.request_size)
		die("write: %s", strerror(errno));
	size_t have = 0;
	for (char *end = NULL; !end || have < run.response_size;) {
		ssize_t n = read(fd, input + have, sizeof input - 1 - have);
		if (n <= 0)
			die("the first response is not whole");
		have += n;
		input[have] = 0;
		if ((end = strstr(input, "\r\n\r\n"))) {
			char *length = strcasestr(input, "\r\nContent-Length:");
			if (!length || length > end)
				die("the first response has no Content-Length");
			run.response_size = end + 4 - input + strtoul(length + 17, NULL, 10);
		}
	}
	struct tcp_info info = {0};
	socklen_t size = sizeof info;
	run.timestamps = getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && info.tcpi_options & TCPI_OPT_TIMESTAMPS;
	close(fd);
}

// send_more writes what is owed, and up to more further requests, in one write.
static void send_more(struct conn *c, long more)
{
	if (more > run.unsent)
		more = run.unsent;
	run.unsent -= more, run.sent += more;
	c->owed += more * run.request_size;
	if (!c->owed)
		return;
	size_t skip = (run.request_size - c->owed % run.request_size) % run.request_size;
	ssize_t n = write(c->fd, run.request + skip, c->owed);
	if (n < 0 && errno != EAGAIN)
		die("write: %s", strerror(errno));
	c->owed -= n > 0 ? n : 0;
}

// open_conn makes c a new connection, and sends what it may have in flight.
static void open_conn(int poller, struct conn *c)
{
	int on = 1;
	*c = (struct conn){.fd = dial()};
	if (ioctl(c->fd, FIONBIO, &on) < 0)
		die("ioctl: %s", strerror(errno));
	watch(poller, c->fd, c);
	send_more(c, run.depth);
}

// again gives c a new connection with its old socket, if that is closed at both
// ends: it is, mostly, within a machine. Why only with timestamps: see spares in
// engine/spare.go.
static int again(struct conn *c)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC}, *peer = (struct sockaddr *)&run.peer;
	struct sockaddr_storage name;
	socklen_t size = sizeof name;
	if (shutdown(c->fd, SHUT_WR) < 0 || getpeername(c->fd, (struct sockaddr *)&name, &size) == 0 ||
	    connect(c->fd, &none, sizeof none) < 0 || (connect(c->fd, peer, run.peer_size) < 0 && errno != EINPROGRESS) ||
	    getpeername(c->fd, (struct sockaddr *)&name, &size) < 0)
		return 0;
	c->owed = c->partial = 0;
	send_more(c, run.depth);
	return 1;
}

// turn is all that is done for a ready connection.
static void turn(int poller, struct conn *c)
{
	ssize_t n = read(c->fd, input, sizeof input);
	if (n == 0 || (n < 0 && errno != EAGAIN))
		die("read: %s", n ? strerror(errno) : "the server closed a connection");
	if (n == sizeof input)
		die("internal error: the read buffer must hold more than a pipeline");
	long responses = 0;
	if (n > 0) {
		c->partial += n;
		responses = c->partial / run.response_size;
		c->partial %= run.response_size;
		run.answered += responses;
	}
	if (!run.closing) {
		send_more(c, responses);
	} else if (responses) { // the server's FIN comes with it: TIME_WAIT is the server's
		if (run.unsent && run.timestamps && again(c))
			return;
		close(c->fd);
		c->fd = -1;
		if (run.unsent)
			open_conn(poller, c);
	}
}

// drive sends until nothing is left to send, or until the time is over, and
// reads all answers.
static void drive(int poller, double until)
{
	struct epoll_event events[MAX_EVENTS];
	while (run.unsent || run.answered < run.sent) {
		int n = epoll_wait(poller, events, MAX_EVENTS, -1); // alarm(2) bounds it
		for (int i = 0; i < n; i++)
			turn(poller, events[i].data.ptr);
		if (until && now() >= until)
			run.unsent = 0;
	}
}

static double seconds(struct timeval t) { return t.tv_sec + t.tv_usec / 1e6; }

int main(int argc, char **argv)
{
	const char *agent = "floor";
	long duration = 0;
	int option;
	run.unsent = 1000000;
	while ((option = getopt(argc, argv, "c:p:n:d:u:C")) != -1) {
		switch (option) {
		case 'c': run.connections = number("-c", optarg, 1, MAX_CONNECTIONS); break;
		case 'p': run.depth = number("-p", optarg, 1, MAX_DEPTH); break;
		case 'n': run.unsent = number("-n", optarg, 1, 1000000000); break;
		case 'd': duration = number("-d", optarg, 1, MAX_SECONDS - 10); run.unsent = 1000000000000; break;
		case 'u': agent = optarg; break;
		case 'C': run.closing = 1; break;
		default: die("usage: floor [-c N] [-p DEPTH] [-n REQUESTS | -d SECONDS] [-u AGENT] [-C] HOST:PORT");
		}
	}
	if (optind != argc - 1)
		die("want one HOST:PORT");
	bounded_life(MAX_SECONDS);
	signal(SIGPIPE, SIG_IGN);
	set_peer(argv[optind]);
	build_requests(argv[optind], agent);
	measure_response();
	if (run.response_size * run.depth >= READ_BUFFER)
		die("responses of %zu bytes are too long for depth %ld", run.response_size, run.depth);
	if (run.closing && run.depth > 1)
		die("-C leaves nothing to pipeline: want -p 1");

	struct rusage before, after;
	getrusage(RUSAGE_SELF, &before);
	double start = now();
	int poller = epoll_create1(EPOLL_CLOEXEC);
	struct conn *conns = calloc(run.connections, sizeof *conns);
	for (long i = 0; i < run.connections; i++)
		open_conn(poller, &conns[i]);
	drive(poller, duration ? start + duration : 0);
	double elapsed = now() - start;
	getrusage(RUSAGE_SELF, &after);

	printf("{\"client\":\"floor\",\"connections\":%ld,\"depth\":%ld,\"requests\":%ld,\"errors\":0,\"seconds\":%.6f,"
	       "\"user_seconds\":%.6f,\"sys_seconds\":%.6f}\n",
		run.connections, run.depth, run.answered, elapsed,
		seconds(after.ru_utime) - seconds(before.ru_utime), seconds(after.ru_stime) - seconds(before.ru_stime));
	return 0;
}
