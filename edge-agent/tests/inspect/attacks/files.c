/* On files. The scene belongs to the attacker and anybody may write there: only the sandbox is in
 * the way. */
#include "breakout.h"

#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/xattr.h>

static int write_file(void) { return write_to(in_scene("file"), "changed", 0); }
static int append_file(void) { return write_to(in_scene("file"), "more", O_APPEND); }
static int create_file(void) { return write_to(in_scene("new"), "new", O_CREAT | O_EXCL); }
static int create_unnamed(void) { return write_to(in_scene(""), "new", O_TMPFILE); }
static int delete_file(void) { return failed(unlink(in_scene("file"))); }
static int delete_folder(void) { return failed(rmdir(in_scene("folder"))); }
static int make_folder(void) { return failed(mkdir(in_scene("new"), 0755)); }
static int rename_file(void) {
    char from[4096];
    strcpy(from, in_scene("file"));
    return failed(rename(from, in_scene("other")));
}
static int exchange_files(void) {
    char from[4096];
    strcpy(from, in_scene("file"));
    return failed(renameat2(AT_FDCWD, from, AT_FDCWD, in_scene("folder"), 2));
}
static int hard_link(void) {
    char from[4096];
    strcpy(from, in_scene("file"));
    return failed(link(from, in_scene("link")));
}
static int symbolic_link(void) { return failed(symlink("/etc", in_scene("link"))); }
static int change_mode(void) { return failed(chmod(in_scene("file"), 04755)); }
static int change_mode_open(void) {
    int fd = open(in_scene("file"), O_RDONLY);
    return fd < 0 ? errno : failed(fchmod(fd, 04755));
}
static int change_owner(void) { return failed(chown(in_scene("file"), 1, 1)); }
static int change_times(void) { return failed(utimes(in_scene("file"), NULL)); }
static int change_size(void) { return failed(truncate(in_scene("file"), 1)); }
static int empty_by_open(void) {
    return failed(open(in_scene("file"), O_RDONLY | O_TRUNC));
}
static int set_attribute(void) {
    return failed(setxattr(in_scene("file"), "user.intruder", "x", 1, 0));
}
static int set_flags(void) {
    int fd = open(in_scene("file"), O_RDONLY), flags = 0;
    if (fd < 0)
        return errno;
    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
        return errno;
    flags |= FS_NODUMP_FL;
    return failed(ioctl(fd, FS_IOC_SETFLAGS, &flags));
}
static int make_device(void) {
    return failed(mknod(in_scene("device"), S_IFCHR | 0666, makedev(1, 3)));
}
static int make_pipe(void) { return failed(mkfifo(in_scene("new"), 0666)); }
static int write_pipe(void) {
    return write_to(in_scene("pipe"), "x", O_NONBLOCK);
}
static int lock_file(void) {
    int fd = open(in_scene("file"), O_RDONLY);
    return fd < 0 ? errno : failed(flock(fd, LOCK_EX | LOCK_NB));
}
/* In the only folder that can be written. */
static int make_device_in_scratch(void) {
    char path[64];
    snprintf(path, sizeof path, "/dev/shm/reeve-attack-%d", getpid());
    int error = failed(mknod(path, S_IFCHR | 0600, makedev(1, 3)));
    unlink(path);
    return error;
}
static int write_in(const char *folder) {
    char path[4096];
    snprintf(path, sizeof path, "%s/reeve-attack-%d", folder, getpid());
    int error = write_to(path, "x", O_CREAT | O_EXCL);
    unlink(path);
    return error;
}
static int write_in_tmp(void) { return write_in("/tmp"); }
static int write_in_var_tmp(void) { return write_in("/var/tmp"); }
static int write_in_lock(void) { return write_in("/run/lock"); }
static int write_in_etc(void) { return write_in("/etc"); }
static int write_in_dev(void) { return write_in("/dev"); }

/* What is blocked: by another road to the same file. */
static int check_secret(int error, const char *text) {
    return error ? error : strcmp(text, "secret") == 0 ? 0 : ENODATA;
}
static int read_blocked(void) {
    char text[16];
    return check_secret(read_from(in_scene("blocked/secret"), text, sizeof text), text);
}
static int read_blocked_file(void) {
    char text[16];
    return check_secret(read_from(in_scene("blocked-file"), text, sizeof text), text);
}
static int read_by_root_of_another(void) {
    char path[4200], text[16];
    snprintf(path, sizeof path, "/proc/%llu/root%s", given("VICTIM"), in_scene("blocked/secret"));
    return check_secret(read_from(path, text, sizeof text), text);
}
static int read_by_handle(void) {
    const char *digits = getenv("HANDLE");
    struct file_handle *handle = calloc(1, sizeof *handle + MAX_HANDLE_SZ);
    int used = 0;
    if (sscanf(digits, "%d:%n", &handle->handle_type, &used) < 1)
        return EINVAL;
    unsigned byte;
    for (digits += used; sscanf(digits, "%2x", &byte) == 1; digits += 2)
        handle->f_handle[handle->handle_bytes++] = (unsigned char)byte;
    int folder = open(in_scene(""), O_RDONLY | O_DIRECTORY);
    int fd = open_by_handle_at(folder, handle, O_RDONLY);
    if (fd < 0)
        return errno;
    char text[16] = {0};
    return check_secret(failed(read(fd, text, 15)), text);
}
static int find_handle(void) {
    char buffer[sizeof(struct file_handle) + MAX_HANDLE_SZ] = {0};
    struct file_handle *handle = (struct file_handle *)buffer;
    int mount = 0;
    handle->handle_bytes = MAX_HANDLE_SZ;
    return failed(name_to_handle_at(AT_FDCWD, in_scene("file"), handle, &mount, 0));
}

const struct attack on_files[] = {
    {"write_file", write_file},
    {"append_file", append_file},
    {"create_file", create_file},
    {"create_unnamed", create_unnamed},
    {"delete_file", delete_file},
    {"delete_folder", delete_folder},
    {"make_folder", make_folder},
    {"rename_file", rename_file},
    {"exchange_files", exchange_files},
    {"hard_link", hard_link},
    {"symbolic_link", symbolic_link},
    {"change_mode", change_mode},
    {"change_mode_open", change_mode_open},
    {"change_owner", change_owner},
    {"change_times", change_times},
    {"change_size", change_size},
    {"empty_by_open", empty_by_open},
    {"set_attribute", set_attribute},
    {"set_flags", set_flags},
    {"make_device", make_device},
    {"make_pipe", make_pipe},
    {"write_pipe", write_pipe},
    {"lock_file", lock_file},
    {"make_device_in_scratch", make_device_in_scratch},
    {"write_in_tmp", write_in_tmp},
    {"write_in_var_tmp", write_in_var_tmp},
    {"write_in_lock", write_in_lock},
    {"write_in_etc", write_in_etc},
    {"write_in_dev", write_in_dev},
    {"read_blocked", read_blocked},
    {"read_blocked_file", read_blocked_file},
    {"read_by_root_of_another", read_by_root_of_another},
    {"read_by_handle", read_by_handle},
    {"find_handle", find_handle},
    {NULL, NULL},
};
