/* Serves one client: says who has accepted it. */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    char line[16];
    int length = snprintf(line, sizeof line, "%d\n", (int)getppid());
    return write(1, line, length) != length;
}
