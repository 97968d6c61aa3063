/* On mounts and namespaces. Without walls each first steps into a mount namespace of its own. */
#include "breakout.h"

#include <sched.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/wait.h>

static int mount_over(void) {
    step_aside(CLONE_NEWNS);
    return failed(mount("none", in_scene("folder"), "tmpfs", 0, NULL));
}
static int bind_over(void) {
    step_aside(CLONE_NEWNS);
    return failed(mount("/etc", in_scene("folder"), NULL, MS_BIND, NULL));
}
static int remount_writable(void) {
    step_aside(CLONE_NEWNS);
    if (mount("none", "/", NULL, MS_REMOUNT | MS_BIND, NULL) < 0)
        return errno;
    return write_to(in_scene("file"), "changed", 0);
}
static int thaw_by_attributes(void) {
    uint64_t attributes[4] = {0, 1 /* MOUNT_ATTR_RDONLY */, 0, 0};
    step_aside(CLONE_NEWNS);
    return failed(syscall(442 /* mount_setattr */, AT_FDCWD, "/", 0, attributes, sizeof attributes));
}
static int unmount_cover(void) {
    char text[16];
    step_aside(CLONE_NEWNS);
    if (read_from(in_scene("blocked/secret"), text, sizeof text) == 0)
        mount("none", in_scene("blocked"), "tmpfs", 0, NULL);
    if (umount2(in_scene("blocked"), MNT_DETACH) < 0)
        return errno;
    return read_from(in_scene("blocked/secret"), text, sizeof text);
}
static int clone_tree(void) {
    step_aside(CLONE_NEWNS);
    return failed(syscall(428 /* open_tree */, AT_FDCWD, "/", 1 /* OPEN_TREE_CLONE */));
}
static int new_file_system(void) { return failed(syscall(430 /* fsopen */, "tmpfs", 0)); }
static int change_root(void) { return failed(chroot(in_scene("folder"))); }
static int unshare_mounts(void) { return failed(unshare(CLONE_NEWNS)); }
static int unshare_network(void) { return failed(unshare(CLONE_NEWNET)); }
static int unshare_user_and_mount(void) {
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return errno;
    return failed(mount("none", in_scene("folder"), "tmpfs", 0, NULL));
}
static int wait_for(long pid) {
    int status = 0;
    if (pid < 0)
        return errno;
    if (pid == 0)
        _exit(0);
    return failed(waitpid((pid_t)pid, &status, 0));
}
static int clone_user(void) {
    return wait_for(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL));
}
static int clone3_user(void) {
    uint64_t arguments[11] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
    return wait_for(syscall(435 /* clone3 */, arguments, sizeof arguments));
}
static int enter_namespace(void) {
    int fd = open("/proc/self/ns/uts", O_RDONLY);
    return fd < 0 ? errno : failed(setns(fd, CLONE_NEWUTS));
}
static int enter_namespace_of_another(void) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%llu/ns/mnt", given("VICTIM"));
    int fd = open(path, O_RDONLY);
    return fd < 0 ? errno : failed(setns(fd, CLONE_NEWNS));
}
static int run_unknown_call(void) {
    /* open_tree_attr(2), newer than the filter's list: root gets as far as EBADF or ENOENT. */
    long result = syscall(467, -1, "nothing", 0, NULL, 0);
    if (result < 0 && errno == EPERM)
        return EPERM;
    return result < 0 && errno == ENOSYS ? ENOSYS : 0;
}

const struct attack on_mounts[] = {
    {"mount_over", mount_over},
    {"bind_over", bind_over},
    {"remount_writable", remount_writable},
    {"thaw_by_attributes", thaw_by_attributes},
    {"unmount_cover", unmount_cover},
    {"clone_tree", clone_tree},
    {"new_file_system", new_file_system},
    {"change_root", change_root},
    {"unshare_mounts", unshare_mounts},
    {"unshare_network", unshare_network},
    {"unshare_user_and_mount", unshare_user_and_mount},
    {"clone_user", clone_user},
    {"clone3_user", clone3_user},
    {"enter_namespace", enter_namespace},
    {"enter_namespace_of_another", enter_namespace_of_another},
    {"run_unknown_call", run_unknown_call},
    {NULL, NULL},
};
