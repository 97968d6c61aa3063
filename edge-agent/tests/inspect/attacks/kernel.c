/* On the kernel and the machine's settings. Each is made so that it changes nothing even for root:
 * arguments the kernel refuses only after it has looked at permissions, or values as they are. */
#include "breakout.h"

#include <linux/bpf.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <stdint.h>
#include <sys/acct.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/quota.h>
#include <sys/swap.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/wait.h>
#if defined(__x86_64__)
#include <sys/io.h>
#endif

/* The kernel looked further than at permissions. */
static int past_permissions(long result) {
    return result < 0 && errno == EPERM ? EPERM : 0;
}

/* Invalid magic numbers: EINVAL for whoever may, and nothing happens. */
static int reboot_machine(void) { return past_permissions(syscall(SYS_reboot, 1, 2, 0, NULL)); }
static int load_module(void) { return past_permissions(syscall(SYS_init_module, "no module", 9, "")); }
static int load_module_file(void) { return past_permissions(syscall(SYS_finit_module, -1, "", 0)); }
static int unload_module(void) {
    return past_permissions(syscall(SYS_delete_module, "no_such_module", O_NONBLOCK));
}
static int load_kernel(void) { return past_permissions(syscall(SYS_kexec_load, 0, 99999, NULL, -1)); }
static int use_swap(void) { return past_permissions(swapon("/no/such/file", 0)); }
static int leave_swap(void) { return past_permissions(swapoff("/no/such/file")); }
static int start_accounting(void) { return past_permissions(acct("/no/such/file")); }
static int sync_quota(void) { return failed(quotactl(QCMD(Q_SYNC, USRQUOTA), NULL, 0, NULL)); }
static int name_machine(void) {
    char name[256];
    /* A name space of its own makes no difference where it cannot be made. */
    step_aside(CLONE_NEWUTS);
    gethostname(name, sizeof name);
    return failed(sethostname(name, strlen(name)));
}
static int name_domain(void) {
    step_aside(CLONE_NEWUTS);
    return failed(setdomainname("attack", 6));
}
static int set_time_zone(void) {
    struct timezone zone = {0, 0};
    return failed(syscall(SYS_settimeofday, NULL, &zone));
}
static int adjust_clock(void) {
    struct timex about = {.modes = 0};
    syscall(SYS_adjtimex, &about);
    about.modes = ADJ_FREQUENCY;
    return failed(syscall(SYS_adjtimex, &about));
}
static int write_kernel_setting(void) { return write_back("/proc/sys/kernel/printk_ratelimit"); }
static int write_network_setting(void) {
    step_aside(CLONE_NEWNET);
    return write_to("/proc/sys/net/ipv4/ip_forward", "1", 0);
}
static int drop_caches(void) {
    /* Opening it is enough to know. */
    return failed(open("/proc/sys/vm/drop_caches", O_WRONLY));
}
static int write_sysfs(void) { return write_back("/sys/class/net/lo/tx_queue_len"); }
static int quiet_the_log(void) {
    char text[64];
    int level = 7;
    read_from("/proc/sys/kernel/printk", text, sizeof text);
    sscanf(text, "%d", &level);
    return failed(klogctl(8 /* SYSLOG_ACTION_CONSOLE_LEVEL */, NULL, level));
}
static int write_log(void) {
    int error = write_to("/dev/kmsg", "<7>reeve: attack of a test\n", 0);
    return error;
}
static int make_ring(void) {
    char parameters[256] = {0};
    return failed(syscall(425 /* io_uring_setup */, 4, parameters));
}
static int load_program(void) {
    union bpf_attr about;
    memset(&about, 0, sizeof about);
    about.map_type = BPF_MAP_TYPE_ARRAY;
    about.key_size = 4;
    about.value_size = 4;
    about.max_entries = 1;
    return failed(syscall(SYS_bpf, BPF_MAP_CREATE, &about, sizeof about));
}
static int count_events(void) {
    struct perf_event_attr about;
    memset(&about, 0, sizeof about);
    about.type = PERF_TYPE_SOFTWARE;
    about.config = PERF_COUNT_SW_CPU_CLOCK;
    about.size = sizeof about;
    return failed(syscall(SYS_perf_event_open, &about, 0, -1, -1, 0));
}
static int catch_faults(void) { return failed(syscall(SYS_userfaultfd, 0)); }
static int watch_everything(void) { return failed(syscall(SYS_fanotify_init, 0, O_RDONLY)); }
static int add_key(void) {
    return failed(syscall(SYS_add_key, "user", "attack", "x", 1L, KEY_SPEC_PROCESS_KEYRING));
}
static int use_keyring(void) {
    return failed(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1));
}
static int type_for_user(void) {
    int fd = posix_openpt(O_RDWR | O_NOCTTY);
    char byte = '\n';
    if (fd >= 0) {
        setsid();
        grantpt(fd);
        unlockpt(fd);
        fd = open(ptsname(fd), O_RDWR);
        ioctl(fd, TIOCSCTTY, 0);
    }
    return failed(ioctl(fd < 0 ? 0 : fd, TIOCSTI, &byte));
}
#if defined(__x86_64__)
static int reach_ports(void) { return past_permissions(iopl(3)); }
static int reach_one_port(void) { return past_permissions(ioperm(0x80, 1, 1)); }
/* The other table of system calls: filters that forget it can be walked around. */
static int use_old_table(void) {
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        long result = 20; /* getpid */
        __asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
        _exit(result > 0 ? 0 : 1);
    }
    waitpid(pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : EPERM;
}
#endif

const struct attack on_kernel[] = {
    {"reboot_machine", reboot_machine},
    {"load_module", load_module},
    {"load_module_file", load_module_file},
    {"unload_module", unload_module},
    {"load_kernel", load_kernel},
    {"use_swap", use_swap},
    {"leave_swap", leave_swap},
    {"start_accounting", start_accounting},
    {"sync_quota", sync_quota},
    {"name_machine", name_machine},
    {"name_domain", name_domain},
    {"set_time_zone", set_time_zone},
    {"adjust_clock", adjust_clock},
    {"write_kernel_setting", write_kernel_setting},
    {"write_network_setting", write_network_setting},
    {"drop_caches", drop_caches},
    {"write_sysfs", write_sysfs},
    {"quiet_the_log", quiet_the_log},
    {"write_log", write_log},
    {"make_ring", make_ring},
    {"load_program", load_program},
    {"count_events", count_events},
    {"catch_faults", catch_faults},
    {"watch_everything", watch_everything},
    {"add_key", add_key},
    {"use_keyring", use_keyring},
    {"type_for_user", type_for_user},
#if defined(__x86_64__)
    {"reach_ports", reach_ports},
    {"reach_one_port", reach_one_port},
    {"use_old_table", use_old_table},
#endif
    {NULL, NULL},
};
