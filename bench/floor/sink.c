// sink answers every request with the same 160 bytes, at almost no cost, so
// that what a benchmark measures is the client.
//
//     sink [-p PORT] [-t SECONDS] [-v]     prints the port it listens on (127.0.0.1)
//
// With -v the Date differs from each response to the next, at the same cost, so
// that a client cannot profit from having seen the same head before. At SIGTERM
// it prints what it saw, as one JSON object, and ends.
//
// Requests are not parsed: size and persistence are learnt from the first one on
// each connection. Later ones must have that size, or arrive one by one. k
// requests that arrive together are answered by one write of k responses.
#define _GNU_SOURCE
#include "common.h"

#define RESPONSE_SIZE 160
#define RESPONSE_START "HTTP/1.1 200 OK\r\nServer: sink\r\nDate: Thu, 01 Jan 1970 00:00:"
#define SECOND_OFFSET (sizeof RESPONSE_START - 1)

enum {
	BATCH = 2048,  // responses in one write, at most
	VARIANTS = 60, // of a head, with -v
};

// What a response says of its connection, by what the request asked for (RFC
// 9112 section 9.3): HTTP/1.0 clients must be told that theirs persists.
enum persistence { PERSISTS, KEEP_ALIVE, CLOSE, PERSISTENCES };

// All responses have the same size: the body fills what the head leaves.
static const struct {
	const char *field;
	int body_size;
} kinds[PERSISTENCES] = {
	[PERSISTS] = {"", 44},
	[KEEP_ALIVE] = {"Connection: keep-alive\r\n", 20},
	[CLOSE] = {"Connection: close\r\n", 25},
};

struct conn {
	int fd;
	enum persistence persistence;
	size_t request_size; // 0 until the first request is whole
	size_t partial;      // bytes of an incomplete request, counted and forgotten
	size_t owed;         // bytes of responses not yet written
};

static char responses[PERSISTENCES][(VARIANTS + BATCH) * RESPONSE_SIZE];
static int varying, turn; // with -v each write starts at another variant
static char input[READ_BUFFER];

static struct {
	long requests, connections;
	long deepest; // requests that came together, at most
} seen;

static volatile sig_atomic_t ended;

static void end(int signal) { ended = signal; }

static void build_responses(enum persistence p)
{
	char head[RESPONSE_SIZE];
	int size = snprintf(head, sizeof head,
		RESPONSE_START "00 GMT\r\n%sContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n",
		kinds[p].field, kinds[p].body_size);
	if (size + kinds[p].body_size != RESPONSE_SIZE)
		die("internal error: a response of %d bytes", size + kinds[p].body_size);
	for (int i = 0; i < VARIANTS + BATCH; i++) {
		char *r = responses[p] + i * RESPONSE_SIZE;
		memset(r, '.', RESPONSE_SIZE);
		memcpy(r, head, size);
		if (varying) {
			r[SECOND_OFFSET] = '0' + i % VARIANTS / 10;
			r[SECOND_OFFSET + 1] = '0' + i % 10;
		}
	}
}

static int listen_on(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 4096) < 0)
		die("listen on 127.0.0.1:%d: %s", port, strerror(errno));
	socklen_t size = sizeof a;
	getsockname(fd, (struct sockaddr *)&a, &size);
	printf("%d\n", ntohs(a.sin_port));
	fflush(stdout);
	return fd;
}

static void accept_all(int poller, int listener)
{
	int fd;
	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct conn *c = calloc(1, sizeof *c);
		if (!c)
			die("out of memory");
		c->fd = fd;
		seen.connections++;
		set_nodelay(fd);
		watch(poller, fd, c);
	}
}

// learn takes the request's size, and what it says of the connection, from the
// first bytes of a connection.
static void learn(struct conn *c, size_t n)
{
	char *end = memmem(input, n, "\r\n\r\n", 4);
	if (!end)
		die("the first %zu bytes of a connection hold no whole request head", n);
	c->request_size = end + 4 - input;
	end[2] = 0;
	int old = strstr(input, " HTTP/1.0\r\n") != NULL;
	if (strcasestr(input, "\r\nConnection: close"))
		c->persistence = CLOSE;
	else if (old)
		c->persistence = strcasestr(input, "\r\nConnection: keep-alive") ? KEEP_ALIVE : CLOSE;
	end[2] = '\r';
}

// ends counts the request heads that n bytes end.
static size_t ends(size_t n)
{
	size_t count = 0;
	for (char *p = input; (p = memmem(p, input + n - p, "\r\n\r\n", 4)); p += 4)
		count++;
	return count;
}

// complete says how many requests n new bytes complete. Where they end on a
// boundary the boundary is checked: pipelined requests of another size end the
// sink rather than let it answer wrong. Whole requests of another size (some
// clients number theirs) are looked for.
static size_t complete(struct conn *c, size_t n)
{
	size_t total = c->partial + n;
	int at_end = n >= 4 && !memcmp(input + n - 4, "\r\n\r\n", 4);
	if (!c->partial && at_end && n % c->request_size)
		return ends(n);
	c->partial = total % c->request_size;
	if (!c->partial && n >= 4 && !at_end)
		die("a request is not %zu bytes long like the first of its connection", c->request_size);
	return total / c->request_size;
}

static size_t count(struct conn *c, size_t n)
{
	if (!c->request_size)
		learn(c, n);
	long requests = complete(c, n);
	seen.requests += requests;
	if (requests > seen.deepest)
		seen.deepest = requests;
	return requests;
}

// answer writes what is owed, as far as the socket takes it; the edge of
// EPOLLOUT brings us back for the rest. The last response of a connection leaves
// with the FIN that our close(2) adds to it.
static int answer(struct conn *c)
{
	while (c->owed) {
		size_t skip = (RESPONSE_SIZE - c->owed % RESPONSE_SIZE) % RESPONSE_SIZE;
		size_t most = BATCH * RESPONSE_SIZE - skip;
		char *from = responses[c->persistence] + turn * RESPONSE_SIZE + skip;
		ssize_t n = send(c->fd, from, c->owed < most ? c->owed : most, c->persistence == CLOSE ? MSG_MORE : 0);
		if (n < 0)
			return errno == EAGAIN ? 0 : -1;
		c->owed -= n;
		if (varying)
			turn = (turn + n / RESPONSE_SIZE) % VARIANTS;
	}
	return 0;
}

static int serve(struct conn *c)
{
	for (;;) {
		ssize_t n = read(c->fd, input, sizeof input);
		if (n == 0 || (n < 0 && errno != EAGAIN))
			return -1;
		if (n > 0)
			c->owed += count(c, n) * RESPONSE_SIZE;
		if (answer(c) < 0 || (c->persistence == CLOSE && !c->owed))
			return -1;
		if (n < (ssize_t)sizeof input)
			return 0;
	}
}

int main(int argc, char **argv)
{
	int port = 0, seconds = MAX_SECONDS, option;
	while ((option = getopt(argc, argv, "p:t:v")) != -1) {
		switch (option) {
		case 'p': port = number("-p", optarg, 0, 65535); break;
		case 't': seconds = number("-t", optarg, 1, MAX_SECONDS); break;
		case 'v': varying = 1; break;
		default: die("usage: sink [-p PORT] [-t SECONDS] [-v]");
		}
	}
	bounded_life(seconds);
	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGTERM, &(struct sigaction){.sa_handler = end}, NULL);
	for (enum persistence p = 0; p < PERSISTENCES; p++)
		build_responses(p);
	int poller = epoll_create1(EPOLL_CLOEXEC), listener = listen_on(port);
	watch(poller, listener, NULL);

	struct epoll_event events[MAX_EVENTS];
	while (!ended) { // or alarm(2), or the parent's death
		int n = epoll_wait(poller, events, MAX_EVENTS, -1);
		if (n < 0 && errno != EINTR)
			die("epoll_wait: %s", strerror(errno));
		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;
			if (!c) {
				accept_all(poller, listener);
			} else if (serve(c) < 0 || (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))) {
				close(c->fd);
				free(c);
			}
		}
	}
	printf("{\"requests\":%ld,\"connections\":%ld,\"deepest\":%ld}\n", seen.requests, seen.connections, seen.deepest);
	return 0;
}
