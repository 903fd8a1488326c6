// cost runs a program and writes what it used, as one JSON object, to a file.
//
//     cost FILE PROGRAM [ARGUMENT...]
//
// It is there for the peak of memory. A process keeps the peak it had before
// exec(2), which for a child of the harness is the harness's own; a child of this
// small program starts from next to nothing. Exits as the program did.
#define _GNU_SOURCE
#include "common.h"
#include <sys/resource.h>
#include <sys/wait.h>

static double seconds(struct timeval t) { return t.tv_sec + t.tv_usec / 1e6; }

int main(int argc, char **argv)
{
	if (argc < 3)
		die("usage: cost FILE PROGRAM [ARGUMENT...]");
	bounded_life(MAX_SECONDS);
	pid_t child = fork();
	if (child < 0)
		die("fork: %s", strerror(errno));
	if (child == 0) {
		bounded_life(MAX_SECONDS);
		execvp(argv[2], argv + 2);
		die("%s: %s", argv[2], strerror(errno));
	}
	int status;
	struct rusage used;
	if (wait4(child, &status, 0, &used) < 0)
		die("wait4: %s", strerror(errno));
	FILE *out = fopen(argv[1], "w");
	if (!out)
		die("%s: %s", argv[1], strerror(errno));
	fprintf(out, "{\"user_seconds\":%.6f,\"sys_seconds\":%.6f,\"peak_bytes\":%ld}\n",
		seconds(used.ru_utime), seconds(used.ru_stime), used.ru_maxrss * 1024);
	if (fclose(out))
		die("%s: %s", argv[1], strerror(errno));
	if (WIFSIGNALED(status))
		die("%s ended by signal %d", argv[2], WTERMSIG(status));
	return WEXITSTATUS(status);
}
