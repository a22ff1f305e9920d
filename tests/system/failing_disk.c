/* A disk that fails: each call on a file below $FAILS_BELOW ends with EIO while the file $FAILS_WHILE is there. For
   LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static int fails(const char *path)
{
    const char *below = getenv("FAILS_BELOW"), *while_there = getenv("FAILS_WHILE");
    return below && while_there && path && !strncmp(path, below, strlen(below)) &&
           syscall(SYS_faccessat, AT_FDCWD, while_there, F_OK) == 0;
}

static int fails_on(int fd)
{
    char link[40], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0)
        return 0;
    path[size] = 0;
    return fails(path);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define EIO_IF(condition) if (condition) { errno = EIO; return -1; }

int open64(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    int mode = va_arg(rest, int);
    va_end(rest);
    EIO_IF(fails(path))
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    int mode = va_arg(rest, int);
    va_end(rest);
    EIO_IF(fails(path))
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

ssize_t read(int fd, void *to, size_t size) { EIO_IF(fails_on(fd)) return syscall(SYS_read, fd, to, size); }
ssize_t write(int fd, const void *from, size_t size) { EIO_IF(fails_on(fd)) return syscall(SYS_write, fd, from, size); }
ssize_t pread64(int fd, void *to, size_t size, off64_t at) { EIO_IF(fails_on(fd)) return syscall(SYS_pread64, fd, to, size, at); }
ssize_t pwrite64(int fd, const void *from, size_t size, off64_t at) { EIO_IF(fails_on(fd)) return syscall(SYS_pwrite64, fd, from, size, at); }
int fsync(int fd) { EIO_IF(fails_on(fd)) return syscall(SYS_fsync, fd); }
int fdatasync(int fd) { EIO_IF(fails_on(fd)) return syscall(SYS_fdatasync, fd); }
int ftruncate64(int fd, off64_t size) { EIO_IF(fails_on(fd)) return syscall(SYS_ftruncate, fd, size); }
int rename(const char *from, const char *to) { EIO_IF(fails(from)) return NEXT(rename)(from, to); }
int unlink(const char *path) { EIO_IF(fails(path)) return NEXT(unlink)(path); }
int mkdir(const char *path, mode_t mode) { EIO_IF(fails(path)) return NEXT(mkdir)(path, mode); }
