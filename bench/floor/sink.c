// sink answers every request with the same 160 bytes, at almost no cost, so
// that what a benchmark measures is the client.
//
//     sink [-p PORT] [-t SECONDS] [-v]     prints the port it listens on (127.0.0.1)
//
// With -v the Date differs from each response to the next, at the same cost, so
// that a client cannot profit from having seen the same head before.
//
// Requests are not parsed: their size is learnt from the first one on each
// connection, and all later ones must have it. k requests that arrive together
// are answered by one write of k responses.
#define _GNU_SOURCE
#include "common.h"

#define RESPONSE_SIZE 160
#define RESPONSE_HEAD                                                                                \
	"HTTP/1.1 200 OK\r\nServer: sink\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"                     \
	"Content-Type: text/plain\r\nContent-Length: 44\r\n\r\n"
#define SECOND_OFFSET (sizeof "HTTP/1.1 200 OK\r\nServer: sink\r\nDate: Thu, 01 Jan 1970 00:00:" - 1)
_Static_assert(sizeof RESPONSE_HEAD - 1 + 44 == RESPONSE_SIZE, "Content-Length must fill the response");

enum {
	BATCH = 2048,  // responses in one write, at most
	VARIANTS = 60, // of a head, with -v
};

struct conn {
	int fd;
	size_t request_size; // 0 until the first request is whole
	size_t partial;      // bytes of an incomplete request, counted and forgotten
	size_t owed;         // bytes of responses not yet written
};

static char responses[(VARIANTS + BATCH) * RESPONSE_SIZE];
static int varying, turn; // with -v each write starts at another variant
static char input[READ_BUFFER];

static void build_responses(void)
{
	for (int i = 0; i < VARIANTS + BATCH; i++) {
		char *r = responses + i * RESPONSE_SIZE;
		memset(r, '.', RESPONSE_SIZE);
		memcpy(r, RESPONSE_HEAD, sizeof RESPONSE_HEAD - 1);
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
		set_nodelay(fd);
		watch(poller, fd, c);
	}
}

// learn takes the request size from the first bytes of a connection.
static void learn(struct conn *c, size_t n)
{
	char *end = memmem(input, n, "\r\n\r\n", 4);
	if (!end)
		die("the first %zu bytes of a connection hold no whole request head", n);
	c->request_size = end + 4 - input;
}

// count says how many requests n new bytes complete. Where they end on a
// boundary the boundary is checked: a request of another size ends the sink
// rather than let it answer wrong.
static size_t count(struct conn *c, size_t n)
{
	if (!c->request_size)
		learn(c, n);
	size_t total = c->partial + n;
	size_t requests = total / c->request_size;
	c->partial = total % c->request_size;
	if (!c->partial && n >= 4 && memcmp(input + n - 4, "\r\n\r\n", 4))
		die("a request is not %zu bytes long like the first of its connection", c->request_size);
	return requests;
}

// answer writes what is owed, as far as the socket takes it; the edge of
// EPOLLOUT brings us back for the rest.
static int answer(struct conn *c)
{
	while (c->owed) {
		size_t skip = (RESPONSE_SIZE - c->owed % RESPONSE_SIZE) % RESPONSE_SIZE;
		size_t most = BATCH * RESPONSE_SIZE - skip;
		char *from = responses + turn * RESPONSE_SIZE + skip;
		ssize_t n = write(c->fd, from, c->owed < most ? c->owed : most);
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
		if (answer(c) < 0)
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
	build_responses();
	int poller = epoll_create1(EPOLL_CLOEXEC), listener = listen_on(port);
	watch(poller, listener, NULL);

	struct epoll_event events[MAX_EVENTS];
	for (;;) { // alarm(2) and the parent's death are its ends
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
}
