// What the floor client and the sink server share: how to end, and how to be
// sure to end. Neither can outlive its parent or its time limit, and neither
// talks to anything but this machine.
#ifndef BENCH_FLOOR_COMMON_H
#define BENCH_FLOOR_COMMON_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	MAX_CONNECTIONS = 16384,
	MAX_EVENTS = 1024,
	MAX_SECONDS = 600,
	READ_BUFFER = 1 << 18, // more than any pipeline here brings, so a short read means drained
};

__attribute__((noreturn, format(printf, 1, 2))) static inline void die(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

// bounded_life ends this process with its parent, and after seconds at the latest.
static inline void bounded_life(unsigned seconds)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(seconds);
}

// number reads a decimal option and refuses what is outside its bounds.
static inline long number(const char *name, const char *text, long low, long high)
{
	char *end;
	errno = 0;
	long n = strtol(text, &end, 10);
	if (errno || *end || end == text || n < low || n > high)
		die("%s is %s, want %ld to %ld", name, text, low, high);
	return n;
}

static inline void set_nodelay(int fd)
{
	int one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

// watch registers fd once, edge-triggered, both ways: it is never changed again.
static inline void watch(int poller, int fd, void *owner)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = owner};
	if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
		die("epoll_ctl: %s", strerror(errno));
}

#endif
