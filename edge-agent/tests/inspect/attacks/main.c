/* Attacks on the sandbox: `breakout NAME` exits with 0 when the attack got through, with 1 and a
 * word on stderr when something stopped it. `breakout victim` is somebody to be attacked. */
#include "breakout.h"

#include <sched.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/shm.h>

const char *in_scene(const char *name) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("SCENE"), name);
    return path;
}

unsigned long long given(const char *name) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 0) : 0;
}

int failed(long result) {
    return result < 0 ? errno : 0;
}

int write_to(const char *path, const char *text, int flags) {
    int fd = open(path, O_WRONLY | O_CLOEXEC | flags, 0644);
    if (fd < 0)
        return errno;
    int error = failed(write(fd, text, strlen(text)));
    close(fd);
    return error;
}

int read_from(const char *path, char *text, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    ssize_t count = read(fd, text, size - 1);
    int error = failed(count);
    text[count > 0 ? count : 0] = 0;
    close(fd);
    return error;
}

int write_back(const char *path) {
    char text[256];
    int error = read_from(path, text, sizeof text);
    return error ? error : write_to(path, text, 0);
}

void step_aside(int flags) {
    if (unshare(flags) == 0 && (flags & CLONE_NEWNS))
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

static int be_a_victim(void) {
    static char memory[64] = "untouched";
    int segment = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0666);
    /* Gone with this process, however it dies; until then others can attach it all the same. */
    shmat(segment, NULL, 0);
    shmctl(segment, IPC_RMID, NULL);
    printf("%d %p %d\n", getpid(), (void *)memory, segment);
    fflush(stdout);
    char byte;
    /* Until the test closes the pipe. */
    while (read(0, &byte, 1) > 0) {
    }
    return 0;
}

/* A file's handle, as hexadecimal digits, for name_to_handle_at(2) in the sandbox. */
static int print_handle(const char *path) {
    struct file_handle *handle = calloc(1, sizeof *handle + MAX_HANDLE_SZ);
    int mount = 0;
    handle->handle_bytes = MAX_HANDLE_SZ;
    if (name_to_handle_at(AT_FDCWD, path, handle, &mount, 0) < 0)
        return 1;
    printf("%d:", handle->handle_type);
    for (unsigned n = 0; n < handle->handle_bytes; n++)
        printf("%02x", handle->f_handle[n]);
    printf("\n");
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "victim") == 0)
        return be_a_victim();
    if (argc == 3 && strcmp(argv[1], "handle") == 0)
        return print_handle(argv[2]);
    const struct attack *lists[] = {on_files, on_mounts, on_processes, on_kernel, on_network};
    for (unsigned n = 0; argc == 2 && n < sizeof lists / sizeof *lists; n++) {
        for (const struct attack *attack = lists[n]; attack->name; attack++) {
            if (strcmp(attack->name, argv[1]) != 0)
                continue;
            int error = attack->run();
            if (error == 0)
                return 0;
            fprintf(stderr, "stopped: %s\n", strerror(error));
            return 1;
        }
    }
    fprintf(stderr, "no such attack\n");
    return 3;
}
