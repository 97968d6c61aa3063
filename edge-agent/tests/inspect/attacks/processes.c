/* On other processes, and on what this one may. $VICTIM is a process of root with a buffer at
 * $ADDRESS and a segment of shared memory $SEGMENT that anybody may write. */
#include "breakout.h"

#include <dirent.h>
#include <sched.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/fsuid.h>
#include <sys/uio.h>
#include <sys/wait.h>

static pid_t victim(void) { return (pid_t)given("VICTIM"); }

static int kill_other(void) { return failed(kill(victim(), SIGKILL)); }
static int stop_other(void) { return failed(kill(victim(), SIGSTOP)); }
static int signal_keeper(void) { return failed(kill(getppid(), SIGCONT)); }
static int kill_by_descriptor(void) {
    int fd = (int)syscall(434 /* pidfd_open */, victim(), 0);
    return fd < 0 ? errno : failed(syscall(424 /* pidfd_send_signal */, fd, SIGKILL, NULL, 0));
}
static int trace(void) {
    if (ptrace(PTRACE_ATTACH, victim(), NULL, NULL) < 0)
        return errno;
    waitpid(victim(), NULL, 0);
    return failed(ptrace(PTRACE_DETACH, victim(), NULL, NULL));
}
static int write_memory(void) {
    char text[] = "overwritten";
    struct iovec here = {text, sizeof text};
    struct iovec there = {(void *)(uintptr_t)given("ADDRESS"), sizeof text};
    return failed(process_vm_writev(victim(), &here, 1, &there, 1, 0));
}
static int read_memory(void) {
    char text[9];
    struct iovec here = {text, sizeof text};
    struct iovec there = {(void *)(uintptr_t)given("ADDRESS"), sizeof text};
    return failed(process_vm_readv(victim(), &here, 1, &there, 1, 0));
}
static int open_of(pid_t pid, const char *name, int flags) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    return open(path, flags);
}
static int write_memory_file(void) {
    int fd = open_of(victim(), "mem", O_RDWR);
    return fd < 0 ? errno : failed(pwrite(fd, "overwritten", 11, (off_t)given("ADDRESS")));
}
static int read_environment(void) {
    char byte;
    int fd = open_of(victim(), "environ", O_RDONLY);
    return fd < 0 ? errno : failed(read(fd, &byte, 1));
}
static int offer_to_oom(void) {
    int fd = open_of(victim(), "oom_score_adj", O_WRONLY);
    return fd < 0 ? errno : failed(write(fd, "500", 3));
}
static int hide_from_oom(void) { return write_to("/proc/self/oom_score_adj", "1", 0); }
static int take_descriptor(void) {
    int fd = (int)syscall(434 /* pidfd_open */, victim(), 0);
    return fd < 0 ? errno : failed(syscall(438 /* pidfd_getfd */, fd, 0, 0));
}
/* The keeper's: its lock and the files of its spool. */
static int write_keepers_files(void) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd", getppid());
    DIR *folder = opendir(path);
    int error = EACCES;
    struct stat about;
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        char name[400];
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (stat(name, &about) == 0 && S_ISREG(about.st_mode) && open(name, O_WRONLY) >= 0)
            error = 0;
    }
    return error;
}
static int write_shared_memory(void) {
    char *memory = shmat((int)given("SEGMENT"), NULL, 0);
    if (memory == (void *)-1)
        return errno;
    memory[0] = 'x';
    return 0;
}
static int remove_shared_memory(void) { return failed(shmctl((int)given("SEGMENT"), IPC_RMID, NULL)); }
static int become_root(void) { return failed(setuid(0)); }
static int become_root_of_files(void) { return setfsuid(0), setfsuid(-1) == 0 ? 0 : EPERM; }
static int join_group_of_root(void) { return failed(setgid(0)); }
static int take_capabilities(void) {
    uint32_t header[2] = {0x20080522, 0};
    uint32_t words[6] = {1 << 21 | 4, 1 << 21 | 4, 0, 0, 0, 0};
    return failed(syscall(SYS_capset, header, words));
}
static int unlock_flags(void) { return failed(prctl(PR_SET_SECUREBITS, 0, 0, 0, 0)); }
static int gain_by_program(void) {
    /* A copy of this program that belongs to root and runs as its owner. */
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        if (given("DROP") && (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534)))
            _exit(2);
        execl(in_scene("setuid-root"), "breakout", "am_i_root", NULL);
        _exit(2);
    }
    waitpid(pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : EPERM;
}
static int am_i_root(void) { return geteuid() == 0 ? 0 : EPERM; }
static int go_first(void) { return failed(setpriority(PRIO_PROCESS, 0, -5)); }
static int run_in_real_time(void) {
    struct sched_param parameter = {.sched_priority = 1};
    return failed(sched_setscheduler(0, SCHED_FIFO, &parameter));
}
static int dump_core(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_CORE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_CORE, &limit);
    getrlimit(RLIMIT_CORE, &limit);
    return limit.rlim_cur > 0 ? 0 : EPERM;
}
static int leave_group(void) { return write_to(getenv("ROOT_GROUP"), "0", 0); }
static int make_group(void) {
    char path[4096];
    strcpy(path, getenv("ROOT_GROUP"));
    strcpy(strrchr(path, '/'), "/reeve-attack");
    int error = failed(mkdir(path, 0755));
    rmdir(path);
    return error;
}
static int fork_without_end(void) {
    /* 400 children at the same time: within what root may, beyond what the sandbox allows. */
    int count = 0, gate[2];
    if (pipe(gate) < 0)
        return errno;
    for (; count < 400; count++) {
        pid_t pid = fork();
        if (pid < 0)
            break;
        if (pid == 0) {
            char byte;
            close(gate[1]);
            _exit((int)read(gate[0], &byte, 1));
        }
    }
    close(gate[1]);
    while (wait(NULL) > 0) {
    }
    return count == 400 ? 0 : EAGAIN;
}

const struct attack on_processes[] = {
    {"kill_other", kill_other},
    {"stop_other", stop_other},
    {"signal_keeper", signal_keeper},
    {"kill_by_descriptor", kill_by_descriptor},
    {"trace", trace},
    {"write_memory", write_memory},
    {"read_memory", read_memory},
    {"write_memory_file", write_memory_file},
    {"read_environment", read_environment},
    {"offer_to_oom", offer_to_oom},
    {"hide_from_oom", hide_from_oom},
    {"take_descriptor", take_descriptor},
    {"write_keepers_files", write_keepers_files},
    {"write_shared_memory", write_shared_memory},
    {"remove_shared_memory", remove_shared_memory},
    {"become_root", become_root},
    {"become_root_of_files", become_root_of_files},
    {"join_group_of_root", join_group_of_root},
    {"take_capabilities", take_capabilities},
    {"unlock_flags", unlock_flags},
    {"gain_by_program", gain_by_program},
    {"am_i_root", am_i_root},
    {"go_first", go_first},
    {"run_in_real_time", run_in_real_time},
    {"dump_core", dump_core},
    {"leave_group", leave_group},
    {"make_group", make_group},
    {"fork_without_end", fork_without_end},
    {NULL, NULL},
};
