/*
 * The worker of the figures: the smallest possible worker, so that its manager is measured.
 *
 * It sends READY=1 if it has a NOTIFY_SOCKET, writes a record (pid, monotonic time) to the fifo
 * BENCH_FIFO right before its first accept, and answers one request a connection. A path that
 * begins with /w takes 20 ms. TERM, QUIT and INT let it finish the current request: the handler
 * replaces the listener by /dev/null, so that an accept that has not begun fails, and one that has
 * taken a connection is served. With "stamp" as argument it writes the record and exits.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int listener, nothing;

static void stop(int sig)
{
	int saved = errno;

	(void)sig;
	dup2(nothing, listener);
	errno = saved;
}

static int number(const char *text)
{
	const char *last = text ? strrchr(text, '=') : NULL;

	return text ? atoi(last ? last + 1 : text) : -1;
}

static void record(void)
{
	struct { int32_t pid; uint32_t none; uint64_t at; } record = { getpid(), 0, 0 };
	const char *path = getenv("BENCH_FIFO");
	int fd = path ? open(path, O_WRONLY | O_CLOEXEC) : -1;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	record.at = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	if (fd < 0 || write(fd, &record, sizeof record) != sizeof record)
		_exit(3);
	close(fd);
}

static void say_ready(void)
{
	const char *name = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	socklen_t length;
	int fd;

	if (!name || strlen(name) >= sizeof to.sun_path)
		return;
	length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
	memcpy(to.sun_path, name, strlen(name));
	if (name[0] == '@')
		to.sun_path[0] = 0;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	sendto(fd, "READY=1", 7, 0, (struct sockaddr *)&to, length);
	close(fd);
}

static void beat_once(void)
{
	uint64_t one = 1;
	int fd = number(getenv("PF_HEARTBEAT_FD"));

	if (fd >= 0 && pwrite(fd, &one, sizeof one, 8) != sizeof one)
		_exit(4);
}

static void serve(int fd)
{
	static const char answer[] = "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
	char request[512];
	size_t have = 0;
	ssize_t got;

	for (;;) {
		got = read(fd, request + have, sizeof request - 1 - have);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		have += (size_t)got;
		request[have] = 0;
		if (strstr(request, "\r\n\r\n") || have == sizeof request - 1) {
			if (!strncmp(request, "GET /w", 6)) {
				struct timespec left = { 0, 20000000 };
				while (nanosleep(&left, &left) < 0 && errno == EINTR)
					;
			}
			if (write(fd, answer, sizeof answer - 1) < 0)
				break;
			break;
		}
	}
	close(fd);
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = stop };

	if (argc > 1 && !strcmp(argv[1], "stamp")) {
		record();
		return 0;
	}
	if (getenv("LISTEN_FDS"))
		listener = 3;
	else if (getenv("SERVER_STARTER_PORT"))
		listener = number(getenv("SERVER_STARTER_PORT"));
	else
		listener = number(getenv("BENCH_FD"));
	nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGQUIT, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (getenv("BENCH_BEAT"))
		beat_once();
	say_ready();
	record();
	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd >= 0)
			serve(fd);
		else if (errno != EINTR && errno != ECONNABORTED)
			return 0;
	}
}
