/* Counts every fsync of the processes it is preloaded into, and makes each
 * take as long as on a disk that is reached over a network.
 *
 * FSYNC_COUNT: a file of eight bytes, the counter, shared by all processes.
 * FSYNC_MICROSECONDS: how long each takes, unless the disk takes longer.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static uint64_t *counter;
static long pause_ns;

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("FSYNC_COUNT");
    const char *pause = getenv("FSYNC_MICROSECONDS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;

    pause_ns = pause ? atol(pause) * 1000L : 0;
    if (fd < 0)
        return;
    void *found = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE,
                       MAP_SHARED, fd, 0);
    close(fd);
    if (found != MAP_FAILED)
        counter = found;
}

static int sync_slowly(const char *name, int fd)
{
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    struct timespec end;

    if (counter)
        __atomic_add_fetch(counter, 1, __ATOMIC_RELAXED);
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += pause_ns;
    end.tv_sec += end.tv_nsec / 1000000000L;
    end.tv_nsec %= 1000000000L;
    int result = real(fd);
    while (pause_ns && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end,
                                       NULL) == EINTR)
        ;
    return result;
}

int fsync(int fd)
{
    return sync_slowly("fsync", fd);
}

int fdatasync(int fd)
{
    return sync_slowly("fdatasync", fd);
}
