/* Stands between a program and libc (LD_PRELOAD), and lets its files behave as those of other file systems do.

   PRELOAD_FLOCK     what flock fails with: an error's number; or nfs, where the lock must fit how the file was opened
   PRELOAD_SYNC_MS   how long fsync and fdatasync take at the least
   PRELOAD_ERROR     what calls fail with while the file PRELOAD_WHILE exists: an error's number
   PRELOAD_CALLS     which calls fail so: a list of make, write, sync, open, read, list; in the folder PRELOAD_UNDER alone.
                     make: files and folders; open: files for reading; list: folders */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define NEXT(name) __typeof__(&name) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

int flock(int fd, int operation) {
    const char *how = getenv("PRELOAD_FLOCK");
    NEXT(flock);
    if (how == NULL) return next(fd, operation);
    if (strcmp(how, "nfs") != 0) {
        errno = atoi(how);
        return -1;
    }
    int access_mode = fcntl(fd, F_GETFL) & O_ACCMODE;
    if ((operation & LOCK_EX && access_mode == O_RDONLY) || (operation & LOCK_SH && access_mode == O_WRONLY)) {
        errno = EBADF;
        return -1;
    }
    return next(fd, operation);
}

static int fails(const char *call, const char *path) {
    const char *error = getenv("PRELOAD_ERROR"), *calls = getenv("PRELOAD_CALLS");
    const char *while_there = getenv("PRELOAD_WHILE"), *under = getenv("PRELOAD_UNDER");
    char whole[PATH_MAX];
    if (error == NULL || calls == NULL || under == NULL || strstr(calls, call) == NULL) return 0;
    if (while_there != NULL && access(while_there, F_OK) != 0) return 0;
    if (path[0] != '/') {
        char here[PATH_MAX];
        if (getcwd(here, sizeof here) == NULL) return 0;
        if (snprintf(whole, sizeof whole, "%s/%s", here, path) >= (int)sizeof whole) return 0;
        path = whole;
    }
    if (strncmp(path, under, strlen(under)) != 0) return 0;
    errno = atoi(error);
    return 1;
}

static int fails_on(const char *call, int fd) {
    char link[64], path[PATH_MAX];
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    errno = before;
    if (size < 0) return 0;
    path[size] = 0;
    return fails(call, path);
}

static void rest(void) {
    const char *ms = getenv("PRELOAD_SYNC_MS");
    if (ms == NULL) return;
    struct timespec time = {atoi(ms) / 1000, atoi(ms) % 1000 * 1000000L};
    nanosleep(&time, NULL);
}

int fsync(int fd) {
    NEXT(fsync);
    rest();
    return fails_on("sync", fd) ? -1 : next(fd);
}

int fdatasync(int fd) {
    NEXT(fdatasync);
    rest();
    return fails_on("sync", fd) ? -1 : next(fd);
}

ssize_t write(int fd, const void *data, size_t size) {
    NEXT(write);
    return fails_on("write", fd) ? -1 : next(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    NEXT(pwrite);
    return fails_on("write", fd) ? -1 : next(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    NEXT(pwrite64);
    return fails_on("write", fd) ? -1 : next(fd, data, size, at);
}

int mkdir(const char *path, mode_t mode) {
    NEXT(mkdir);
    return fails("make", path) ? -1 : next(path, mode);
}

ssize_t read(int fd, void *data, size_t size) {
    NEXT(read);
    return fails_on("read", fd) ? -1 : next(fd, data, size);
}

ssize_t pread(int fd, void *data, size_t size, off_t at) {
    NEXT(pread);
    return fails_on("read", fd) ? -1 : next(fd, data, size, at);
}

ssize_t pread64(int fd, void *data, size_t size, off64_t at) {
    NEXT(pread64);
    return fails_on("read", fd) ? -1 : next(fd, data, size, at);
}

DIR *opendir(const char *path) {
    NEXT(opendir);
    return fails("list", path) ? NULL : next(path);
}

#define OPEN(name)                                                \
    int name(const char *path, int flags, ...) {                  \
        va_list rest_of;                                          \
        va_start(rest_of, flags);                                 \
        mode_t mode = flags & O_CREAT ? va_arg(rest_of, int) : 0; \
        va_end(rest_of);                                          \
        NEXT(name);                                               \
        if (fails(flags & O_CREAT ? "make" : "open", path)) return -1; \
        return next(path, flags, mode);                           \
    }

OPEN(open)
OPEN(open64)
