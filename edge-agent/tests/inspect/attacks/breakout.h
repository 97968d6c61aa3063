/* One attack each: 0 when it got through, else errno of what stopped it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

struct attack {
    const char *name;
    int (*run)(void);
};

extern const struct attack on_files[], on_mounts[], on_processes[], on_kernel[], on_network[];

/* A path in the scene that the test made: $SCENE/name. */
const char *in_scene(const char *name);
/* A number that the test gave. */
unsigned long long given(const char *name);
/* errno of a call that failed, 0 of one that did not. */
int failed(long result);
/* Opens, writes, closes. */
int write_to(const char *path, const char *text, int flags);
/* Reads the first bytes of a file into text. */
int read_from(const char *path, char *text, size_t size);
/* Writes what is already there, so that nothing changes. */
int write_back(const char *path);
/* Away from the machine, where that is possible, so that the attack does no harm there. */
void step_aside(int flags);
