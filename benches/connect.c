/* Lets any client speak through an HTTP proxy: after connecting to port 3128 it says CONNECT and waits for the answer.
 *
 * Loaded with LD_PRELOAD, so that iperf3 itself holds the tunnel and no program stands in between that would have to
 * copy every byte once more. CONNECT_TO is the host and port to ask for. Errors look like a refused connection.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PROXY_PORT = 3128 };

static int ask(int fd, const char *target)
{
    char request[1024], answer[256];
    int length = snprintf(request, sizeof request, "CONNECT %s HTTP/1.0\r\nHost: %s\r\n\r\n", target, target);
    if (length >= (int)sizeof request || write(fd, request, (size_t)length) != length)
        return -1;
    /* One byte at a time: what follows the empty line is the other end's. */
    for (size_t got = 0; got + 1 < sizeof answer; got++) {
        if (read(fd, answer + got, 1) != 1)
            return -1;
        answer[got + 1] = '\0';
        if (strstr(answer, "\r\n\r\n"))
            return strstr(answer, " 200 ") ? 0 : -1;
    }
    return -1;
}

int connect(int fd, const struct sockaddr *address, socklen_t length)
{
    int (*next)(int, const struct sockaddr *, socklen_t) =
        (int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "connect");
    int outcome = next(fd, address, length);
    const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)address;
    const char *target = getenv("CONNECT_TO");
    if (outcome != 0 || !target || address->sa_family != AF_INET || ntohs(ipv4->sin_port) != PROXY_PORT)
        return outcome;
    if (ask(fd, target) == 0)
        return 0;
    errno = ECONNREFUSED;
    return -1;
}
