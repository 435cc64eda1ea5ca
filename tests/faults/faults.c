/* Calls to the system that fail on purpose, and a record of what a program made sure of.

   Loaded before the program (LD_PRELOAD), it stands between it and the C library. `arm` lets one call
   of a kind fail, counted from the moment of arming; `record` notes every change of names and every sync
   below a folder, with what a file held when it was synced. Nothing happens before either is called.

       cc -shared -fPIC -O2 -o faults.so faults.c -ldl -lpthread
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- which call fails --------------------------------------------------------------------------- */

static char kind_armed[32], folder_armed[PATH_MAX];
static int nth, error_number, is_lasting;
static size_t least_bytes;
static atomic_int n_calls, n_failed;
static atomic_bool is_armed;

#define N_KINDS 32
static const char *kinds_seen[N_KINDS];
static atomic_int calls_seen[N_KINDS];

/* The n-th call of a kind below a folder fails, or all from the n-th on; `number` 0 cuts a transfer short.
   Of the kind "*" none fails, and the calls of every kind are counted. */
void arm(const char *kind, const char *folder, int n, int number, int lasting, size_t bytes) {
    atomic_store(&is_armed, 0);
    snprintf(kind_armed, sizeof kind_armed, "%s", kind);
    snprintf(folder_armed, sizeof folder_armed, "%s", folder);
    nth = n;
    error_number = number;
    is_lasting = lasting;
    least_bytes = bytes;
    atomic_store(&n_calls, 0);
    atomic_store(&n_failed, 0);
    atomic_store(&is_armed, n > 0);
}

int failures(void) { return atomic_load(&n_failed); }

int calls_of(const char *kind) {
    for (int i = 0; i < N_KINDS && kinds_seen[i]; i++)
        if (strcmp(kinds_seen[i], kind) == 0) return atomic_load(&calls_seen[i]);
    return 0;
}

static int is_kind(const char *kind) {
    return atomic_load(&is_armed) && (kind_armed[0] == '*' || strcmp(kind, kind_armed) == 0);
}

static int is_below(const char *path, const char *folder) { return folder[0] && path && strstr(path, folder) != NULL; }

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return 1;
}

/* The absolute path of a name that is relative to an open folder. */
static const char *joined(int dir, const char *name, char *whole) {
    char base[PATH_MAX];
    if (name == NULL || name[0] == '/') return name;
    if (dir == AT_FDCWD) {
        if (syscall(SYS_getcwd, base, sizeof base) < 0) return name;
    } else if (!path_of(dir, base)) {
        return name;
    }
    snprintf(whole, PATH_MAX, "%.2000s/%.2000s", base, name);
    return whole;
}

static pthread_mutex_t seen_lock = PTHREAD_MUTEX_INITIALIZER;

static int seen(const char *kind) {
    pthread_mutex_lock(&seen_lock);
    int i = 0;
    while (i < N_KINDS - 1 && kinds_seen[i] && strcmp(kinds_seen[i], kind) != 0) i++;
    kinds_seen[i] = kind;
    atomic_fetch_add(&calls_seen[i], 1);
    pthread_mutex_unlock(&seen_lock);
    return 0;
}

static int counted(const char *kind) {
    if (kind_armed[0] == '*') return seen(kind);
    int n = atomic_fetch_add(&n_calls, 1) + 1;
    if (n != nth && !(is_lasting && n > nth)) return 0;
    atomic_fetch_add(&n_failed, 1);
    errno = error_number;
    return 1;
}

static int fails_at(const char *kind, int dir, const char *name) {
    char whole[PATH_MAX];
    return is_kind(kind) && is_below(joined(dir, name, whole), folder_armed) && counted(kind);
}

static int fails_fd(const char *kind, int fd) {
    char path[PATH_MAX];
    return is_kind(kind) && path_of(fd, path) && is_below(path, folder_armed) && counted(kind);
}

/* --- what was made sure of ---------------------------------------------------------------------- */

static int record_fd = -1;
static char record_folder[PATH_MAX], copies_folder[PATH_MAX];
static int n_copies;
static pthread_mutex_t record_lock = PTHREAD_MUTEX_INITIALIZER;

/* Note what happens below a folder in an open file; copies of synced files are put into another. */
void record(int fd, const char *folder, const char *copies) {
    snprintf(record_folder, sizeof record_folder, "%s", folder);
    snprintf(copies_folder, sizeof copies_folder, "%s", copies);
    record_fd = fd;
}

static int is_recorded(const char *path) { return record_fd >= 0 && is_below(path, record_folder); }

static void note(const char *what, const char *first, const char *second) {
    char line[3 * PATH_MAX];
    int length = snprintf(line, sizeof line, "%s\t%s\t%s\n", what, first, second);
    if (syscall(SYS_write, record_fd, line, length) != length) abort();
}

static void note_sync(int fd, const char *path) {
    struct stat status;
    char name[64], target[PATH_MAX], block[1 << 16];
    if (syscall(SYS_fstat, fd, &status) != 0) return;
    pthread_mutex_lock(&record_lock);
    if (S_ISDIR(status.st_mode)) {
        note("syncdir", path, "");
    } else {
        snprintf(name, sizeof name, "%d", n_copies++);
        snprintf(target, sizeof target, "%.3000s/%s", copies_folder, name);
        char self[64];
        snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
        int from = syscall(SYS_openat, AT_FDCWD, self, O_RDONLY);
        int to = syscall(SYS_openat, AT_FDCWD, target, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (from < 0 || to < 0) abort();
        for (ssize_t n; (n = syscall(SYS_read, from, block, sizeof block)) > 0;)
            if (syscall(SYS_write, to, block, n) != n) abort();
        syscall(SYS_close, from);
        syscall(SYS_close, to);
        note("sync", path, name);
    }
    pthread_mutex_unlock(&record_lock);
}

static void note_change(const char *what, const char *first, const char *second) {
    pthread_mutex_lock(&record_lock);
    note(what, first, second);
    pthread_mutex_unlock(&record_lock);
}

/* --- the calls ---------------------------------------------------------------------------------- */

#define REAL(type, name, ...)                                \
    static type (*real)(__VA_ARGS__);                        \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

int fsync(int fd) {
    REAL(int, "fsync", int);
    if (fails_fd("fsync", fd)) return -1;
    int done = real(fd);
    char path[PATH_MAX];
    if (done == 0 && record_fd >= 0 && path_of(fd, path) && is_recorded(path)) note_sync(fd, path);
    return done;
}

static int renamed(int done, int from_dir, const char *from, int to_dir, const char *to) {
    char first[PATH_MAX], second[PATH_MAX];
    const char *a = joined(from_dir, from, first), *b = joined(to_dir, to, second);
    if (done == 0 && (is_recorded(a) || is_recorded(b))) note_change("rename", a, b);
    return done;
}
int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    if (fails_at("rename", AT_FDCWD, to)) return -1;
    return renamed(real(from, to), AT_FDCWD, from, AT_FDCWD, to);
}
int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    REAL(int, "renameat", int, const char *, int, const char *);
    if (fails_at("rename", to_dir, to)) return -1;
    return renamed(real(from_dir, from, to_dir, to), from_dir, from, to_dir, to);
}

static int open_fails(int dir, const char *path, int flags) {
    int reads = (flags & O_ACCMODE) == O_RDONLY;
    return fails_at(reads ? "open" : "open to write", dir, path);
}
static int opened(int fd, int dir, const char *path, int flags, int is_new) {
    char whole[PATH_MAX];
    if (fd < 0 || record_fd < 0 || !is_recorded(joined(dir, path, whole))) return fd;
    if (is_new) note_change("create", joined(dir, path, whole), "");
    else if (flags & O_TRUNC) note_change("truncate", joined(dir, path, whole), "");
    return fd;
}
static int is_absent(int dir, const char *path, int flags) {
    return record_fd >= 0 && (flags & O_CREAT) && syscall(SYS_faccessat, dir, path, F_OK) != 0;
}
#define OPEN(name)                                                                       \
    int name(const char *path, int flags, ...) {                                         \
        REAL(int, #name, const char *, int, ...);                                        \
        va_list rest;                                                                    \
        va_start(rest, flags);                                                           \
        int mode = va_arg(rest, int);                                                    \
        va_end(rest);                                                                    \
        if (open_fails(AT_FDCWD, path, flags)) return -1;                                \
        int is_new = is_absent(AT_FDCWD, path, flags);                                   \
        return opened(real(path, flags, mode), AT_FDCWD, path, flags, is_new);           \
    }
#define OPENAT(name)                                                                     \
    int name(int dir, const char *path, int flags, ...) {                                \
        REAL(int, #name, int, const char *, int, ...);                                   \
        va_list rest;                                                                    \
        va_start(rest, flags);                                                           \
        int mode = va_arg(rest, int);                                                    \
        va_end(rest);                                                                    \
        if (fails_at("openat", dir, path) || open_fails(dir, path, flags)) return -1;    \
        int is_new = is_absent(dir, path, flags);                                        \
        return opened(real(dir, path, flags, mode), dir, path, flags, is_new);           \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

ssize_t read(int fd, void *data, size_t size) {
    REAL(ssize_t, "read", int, void *, size_t);
    if (fails_fd("read", fd)) {
        if (error_number) return -1;
        size = size > 1 ? size / 2 : size;
    }
    return real(fd, data, size);
}
#define PREAD(name)                                                        \
    ssize_t name(int fd, void *data, size_t size, off_t at) {              \
        REAL(ssize_t, #name, int, void *, size_t, off_t);                  \
        if (fails_fd("pread", fd)) {                                       \
            if (error_number) return -1;                                   \
            size = size > 1 ? size / 2 : size;                             \
        }                                                                  \
        return real(fd, data, size, at);                                   \
    }
PREAD(pread)
PREAD(pread64)

/* A write that fails has written half of it. */
ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (fails_fd("write", fd)) {
        ssize_t half = real(fd, data, size > 1 ? size / 2 : size);
        if (!error_number) return half;
        errno = error_number;
        return -1;
    }
    return real(fd, data, size);
}
#define PWRITE(name)                                                       \
    ssize_t name(int fd, const void *data, size_t size, off_t at) {        \
        REAL(ssize_t, #name, int, const void *, size_t, off_t);            \
        if (fails_fd("pwrite", fd)) {                                      \
            ssize_t half = real(fd, data, size > 1 ? size / 2 : size, at); \
            if (!error_number) return half;                                \
            errno = error_number;                                          \
            return -1;                                                     \
        }                                                                  \
        return real(fd, data, size, at);                                   \
    }
PWRITE(pwrite)
PWRITE(pwrite64)
#define SENDFILE(name)                                                     \
    ssize_t name(int to, int from, off_t *at, size_t size) {               \
        REAL(ssize_t, #name, int, int, off_t *, size_t);                   \
        if (fails_fd("sendfile", to)) {                                    \
            if (error_number) return -1;                                   \
            size = size > 1 ? size / 2 : size;                             \
        }                                                                  \
        return real(to, from, at, size);                                   \
    }
SENDFILE(sendfile)
SENDFILE(sendfile64)
ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t size, unsigned flags) {
    REAL(ssize_t, "copy_file_range", int, off64_t *, int, off64_t *, size_t, unsigned);
    if (fails_fd("copy_file_range", to)) return -1;
    return real(from, from_at, to, to_at, size, flags);
}

static int symlinked(int done, const char *target, int dir, const char *path) {
    char whole[PATH_MAX];
    if (done == 0 && is_recorded(joined(dir, path, whole))) note_change("symlink", joined(dir, path, whole), target);
    return done;
}
int symlink(const char *target, const char *path) {
    REAL(int, "symlink", const char *, const char *);
    if (fails_at("symlink", AT_FDCWD, path)) return -1;
    return symlinked(real(target, path), target, AT_FDCWD, path);
}
int symlinkat(const char *target, int dir, const char *path) {
    REAL(int, "symlinkat", const char *, int, const char *);
    if (fails_at("symlink", dir, path)) return -1;
    return symlinked(real(target, dir, path), target, dir, path);
}

static int hardlinked(int done, int from_dir, const char *from, int to_dir, const char *to) {
    char first[PATH_MAX], second[PATH_MAX];
    if (done == 0 && is_recorded(joined(to_dir, to, second)))
        note_change("link", joined(from_dir, from, first), joined(to_dir, to, second));
    return done;
}
int link(const char *from, const char *to) {
    REAL(int, "link", const char *, const char *);
    if (fails_at("link", AT_FDCWD, to)) return -1;
    return hardlinked(real(from, to), AT_FDCWD, from, AT_FDCWD, to);
}
int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    REAL(int, "linkat", int, const char *, int, const char *, int);
    if (fails_at("link", to_dir, to)) return -1;
    return hardlinked(real(from_dir, from, to_dir, to, flags), from_dir, from, to_dir, to);
}

static int made(int done, int dir, const char *path) {
    char whole[PATH_MAX];
    if (done == 0 && is_recorded(joined(dir, path, whole))) note_change("mkdir", joined(dir, path, whole), "");
    return done;
}
int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    if (fails_at("mkdir", AT_FDCWD, path)) return -1;
    return made(real(path, mode), AT_FDCWD, path);
}
int mkdirat(int dir, const char *path, mode_t mode) {
    REAL(int, "mkdirat", int, const char *, mode_t);
    if (fails_at("mkdir", dir, path)) return -1;
    return made(real(dir, path, mode), dir, path);
}

static int removed(int done, int dir, const char *path) {
    char whole[PATH_MAX];
    if (done == 0 && is_recorded(joined(dir, path, whole))) note_change("remove", joined(dir, path, whole), "");
    return done;
}
int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    if (fails_at("unlink", AT_FDCWD, path)) return -1;
    return removed(real(path), AT_FDCWD, path);
}
int unlinkat(int dir, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    if (fails_at("unlinkat", dir, path)) return -1;
    return removed(real(dir, path, flags), dir, path);
}
int rmdir(const char *path) {
    REAL(int, "rmdir", const char *);
    if (fails_at("rmdir", AT_FDCWD, path)) return -1;
    return removed(real(path), AT_FDCWD, path);
}

int flock(int fd, int operation) {
    REAL(int, "flock", int, int);
    if (!(operation & LOCK_UN) && fails_fd("flock", fd)) return -1;
    return real(fd, operation);
}
ssize_t readlink(const char *path, char *target, size_t size) {
    REAL(ssize_t, "readlink", const char *, char *, size_t);
    return fails_at("readlink", AT_FDCWD, path) ? -1 : real(path, target, size);
}
ssize_t readlinkat(int dir, const char *path, char *target, size_t size) {
    REAL(ssize_t, "readlinkat", int, const char *, char *, size_t);
    return fails_at("readlink", dir, path) ? -1 : real(dir, path, target, size);
}
DIR *opendir(const char *path) {
    REAL(DIR *, "opendir", const char *);
    return fails_at("opendir", AT_FDCWD, path) ? NULL : real(path);
}
DIR *fdopendir(int fd) {
    REAL(DIR *, "fdopendir", int);
    return fails_fd("fdopendir", fd) ? NULL : real(fd);
}

#define STAT(name, type)                                                   \
    int name(const char *path, struct type *status) {                      \
        REAL(int, #name, const char *, struct type *);                     \
        return fails_at("stat", AT_FDCWD, path) ? -1 : real(path, status); \
    }
STAT(stat, stat)
STAT(stat64, stat64)
#define LSTAT(name, type)                                                   \
    int name(const char *path, struct type *status) {                       \
        REAL(int, #name, const char *, struct type *);                      \
        return fails_at("lstat", AT_FDCWD, path) ? -1 : real(path, status); \
    }
LSTAT(lstat, stat)
LSTAT(lstat64, stat64)
#define FSTAT(name, type)                                  \
    int name(int fd, struct type *status) {                \
        REAL(int, #name, int, struct type *);              \
        return fails_fd("fstat", fd) ? -1 : real(fd, status); \
    }
FSTAT(fstat, stat)
FSTAT(fstat64, stat64)
#define FSTATAT(name, type)                                                                     \
    int name(int dir, const char *path, struct type *status, int flags) {                       \
        REAL(int, #name, int, const char *, struct type *, int);                                \
        const char *kind = flags & AT_SYMLINK_NOFOLLOW ? "lstat" : "stat";                      \
        return fails_at(kind, dir, path) ? -1 : real(dir, path, status, flags);                 \
    }
FSTATAT(fstatat, stat)
FSTATAT(fstatat64, stat64)

/* --- memory: requests of at least so many bytes ------------------------------------------------- */

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);

static int lacks(size_t size) { return size >= least_bytes && is_kind("malloc") && counted("malloc"); }

void *malloc(size_t size) { return lacks(size) ? NULL : __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return lacks(count * size) ? NULL : __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { return lacks(size) ? NULL : __libc_realloc(old, size); }
void *aligned_alloc(size_t alignment, size_t size) { return lacks(size) ? NULL : __libc_memalign(alignment, size); }
void *memalign(size_t alignment, size_t size) { return lacks(size) ? NULL : __libc_memalign(alignment, size); }
int posix_memalign(void **place, size_t alignment, size_t size) {
    if (lacks(size)) return ENOMEM;
    *place = __libc_memalign(alignment, size);
    return *place == NULL ? ENOMEM : 0;
}
