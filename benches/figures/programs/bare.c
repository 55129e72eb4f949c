/*
 * The floor: `bare N PROGRAM [ARG]...` forks and executes PROGRAM N times and waits to be killed.
 * With N = 0 it executes PROGRAM itself.
 */
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int count;

	if (argc < 3)
		return 2;
	count = atoi(argv[1]);
	if (count == 0) {
		execv(argv[2], argv + 2);
		return 127;
	}
	while (count-- > 0) {
		if (fork() == 0) {
			execv(argv[2], argv + 2);
			_exit(127);
		}
	}
	for (;;)
		pause();
}
