// sleeper waits and does nothing else: how late it wakes is how late any paced
// client on this machine must be.
//
//     sleeper -R RATE [-d SECONDS]
//
// One absolute timerfd, RATE due times a second, one read(2) for each that is
// still ahead. Prints one JSON object, the one bench/sample reads: the lag runs
// from when a time was due to when the sleeper was awake.
#define _GNU_SOURCE
#include "common.h"
#include <sys/timerfd.h>
#include <time.h>

enum { MAX_LAGS = 50000000 };
#define SECOND_NS 1000000000LL

static long long now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * SECOND_NS + t.tv_nsec;
}

// sleep_until returns at once if the time has come.
static void sleep_until(int timer, long long due_ns)
{
	if (now_ns() >= due_ns)
		return;
	struct itimerspec at = {.it_value = {due_ns / SECOND_NS, due_ns % SECOND_NS}};
	unsigned long long expirations;
	if (timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL) < 0)
		die("timerfd_settime: %s", strerror(errno));
	if (read(timer, &expirations, sizeof expirations) < 0)
		die("timerfd: %s", strerror(errno));
}

static int ascending(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	long rate = 0, seconds = 10;
	int option;
	while ((option = getopt(argc, argv, "R:d:")) != -1) {
		switch (option) {
		case 'R': rate = number("-R", optarg, 1, 10000000); break;
		case 'd': seconds = number("-d", optarg, 1, MAX_SECONDS - 10); break;
		default: die("usage: sleeper -R RATE [-d SECONDS]");
		}
	}
	if (!rate || optind != argc || rate > MAX_LAGS / seconds)
		die("want -R RATE, and at most %d due times in all", MAX_LAGS);
	bounded_life(MAX_SECONDS);

	long count = rate * seconds;
	unsigned *lag_ns = malloc(count * sizeof *lag_ns);
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	if (!lag_ns || timer < 0)
		die("no memory or no timer: %s", strerror(errno));
	memset(lag_ns, 1, count * sizeof *lag_ns); // no page fault makes it late

	long long start_ns = now_ns();
	for (long i = 0; i < count; i++) {
		long long due_ns = start_ns + i * SECOND_NS / rate;
		sleep_until(timer, due_ns);
		long long late_ns = now_ns() - due_ns;
		lag_ns[i] = late_ns < UINT32_MAX ? late_ns : UINT32_MAX;
	}
	double elapsed = (now_ns() - start_ns) / 1e9;

	qsort(lag_ns, count, sizeof *lag_ns, ascending);
	printf("{\"client\":\"sleeper\",\"requests\":%ld,\"errors\":0,\"seconds\":%.6f,"
	       "\"lag_p50_us\":%.3f,\"lag_p99_us\":%.3f,\"lag_max_us\":%.3f}\n",
		count, elapsed, lag_ns[count / 2] / 1e3, lag_ns[count * 99 / 100] / 1e3, lag_ns[count - 1] / 1e3);
	return 0;
}
