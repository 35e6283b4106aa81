/* A disk that fails as it is told, put before libc's calls in one process (LD_PRELOAD). What it is told, and what it has
 * seen, is a page that both sides have mapped or read as a file: see `mod.rs`, which has the same order. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE = 2, SYNC = 4, NAME = 8 };
enum { KILLS = 10000 };

struct told {
    /* Which calls fail: bits of above, those of the first folder in the lowest byte. */
    uint64_t calls;
    /* How: an errno, or KILLS. */
    uint64_t how;
    /* So many of them work first, and then so many fail. */
    uint64_t skip, count;
    /* Those seen since it was told, and those that failed. */
    uint64_t seen, failed;
};

static struct told *told;
static char folders[2][4096];

__attribute__((constructor)) static void begin(void) {
    const char *page = getenv("FAULTY_PAGE"), *all = getenv("FAULTY_FOLDERS");
    if (!page || !all) return;
    int fd = open(page, O_RDWR);
    if (fd < 0) abort();
    void *mapped = mmap(NULL, sizeof(struct told), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED || sscanf(all, "%4095[^:]:%4095[^:]", folders[0], folders[1]) != 2) abort();
    close(fd);
    told = mapped;
}

/* Whether this call is to fail, with errno set. */
static int fails(const char *path, unsigned call) {
    uint64_t calls = told ? __atomic_load_n(&told->calls, __ATOMIC_ACQUIRE) : 0;
    if (!calls || !path) return 0;
    uint64_t wanted = 0;
    for (int at = 0; at < 2; at++)
        if (!strncmp(path, folders[at], strlen(folders[at]))) wanted |= (uint64_t)call << (8 * at);
    if (!(calls & wanted)) return 0;
    uint64_t seen = __atomic_fetch_add(&told->seen, 1, __ATOMIC_SEQ_CST);
    if (seen < told->skip || seen - told->skip >= told->count) return 0;
    __atomic_fetch_add(&told->failed, 1, __ATOMIC_SEQ_CST);
    if (told->how == KILLS) kill(getpid(), SIGKILL);
    errno = (int)told->how;
    return 1;
}

static int fails_of(int fd, unsigned call) {
    char name[32], path[4096];
    if (!told || !__atomic_load_n(&told->calls, __ATOMIC_ACQUIRE)) return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(name, path, sizeof path - 1);
    if (len < 0) return 0;
    path[len] = 0;
    return fails(path, call);
}

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

#define OPENS(name)                                                      \
    int name(const char *path, int flags, ...) {                         \
        va_list rest;                                                    \
        va_start(rest, flags);                                           \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;        \
        va_end(rest);                                                    \
        if (flags & O_CREAT && fails(path, CREATE)) return -1;           \
        return REAL(name)(path, flags, mode);                            \
    }
OPENS(open)
OPENS(open64)

/* What fits is written before it is said that the rest does not: half of it, where there is more than a byte. */
static size_t short_of(int fd, size_t len, int *failed) {
    *failed = fails_of(fd, WRITE);
    return *failed && errno == ENOSPC ? len / 2 : *failed ? 0 : len;
}

ssize_t write(int fd, const void *from, size_t len) {
    int failed, how;
    size_t some = short_of(fd, len, &failed);
    how = errno;
    if (failed && !some) return -1;
    ssize_t done = REAL(write)(fd, from, some);
    if (done >= 0 && failed) errno = how;
    return done;
}

#define PWRITES(name, offset)                                            \
    ssize_t name(int fd, const void *from, size_t len, offset at) {      \
        if (fails_of(fd, WRITE)) return -1;                              \
        return REAL(name)(fd, from, len, at);                            \
    }
PWRITES(pwrite, off_t)
PWRITES(pwrite64, off64_t)

ssize_t writev(int fd, const struct iovec *from, int count) {
    return fails_of(fd, WRITE) ? -1 : REAL(writev)(fd, from, count);
}
int ftruncate64(int fd, off64_t len) { return fails_of(fd, WRITE) ? -1 : REAL(ftruncate64)(fd, len); }

int fsync(int fd) { return fails_of(fd, SYNC) ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return fails_of(fd, SYNC) ? -1 : REAL(fdatasync)(fd); }

int rename(const char *from, const char *to) { return fails(to, NAME) ? -1 : REAL(rename)(from, to); }
int link(const char *from, const char *to) { return fails(to, NAME) ? -1 : REAL(link)(from, to); }
int linkat(int at, const char *from, int into, const char *to, int flags) {
    return fails(to, NAME) ? -1 : REAL(linkat)(at, from, into, to, flags);
}
int mkdir(const char *path, mode_t mode) { return fails(path, CREATE) ? -1 : REAL(mkdir)(path, mode); }
