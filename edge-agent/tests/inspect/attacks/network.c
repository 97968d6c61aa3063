/* On sockets: of the internet, of the machine, of the kernel. */
#include "breakout.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_in here(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(given("PORT"))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}
static int connect_tcp(void) {
    struct sockaddr_in address = here();
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return fd < 0 ? errno : failed(connect(fd, (struct sockaddr *)&address, sizeof address));
}
static int send_udp(void) {
    struct sockaddr_in address = here();
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    return fd < 0 ? errno : failed(sendto(fd, "x", 1, 0, (struct sockaddr *)&address, sizeof address));
}
static int make_tcp6(void) { return failed(socket(AF_INET6, SOCK_STREAM, 0)); }
static int listen_tcp(void) {
    struct sockaddr_in address = here();
    address.sin_port = 0;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return errno;
    return failed(listen(fd, 1));
}
static int make_raw(void) { return failed(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)); }
static int make_packet(void) { return failed(socket(AF_PACKET, SOCK_RAW, 0)); }
static int make_audit(void) { return failed(socket(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT)); }

static int connect_unix(const char *path, size_t length) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, length);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    return fd < 0 ? errno : failed(connect(fd, (struct sockaddr *)&address, size));
}
static int connect_in_scene(const char *name) {
    const char *path = in_scene(name);
    return connect_unix(path, strlen(path) + 1);
}
/* As the D-Bus system bus: anybody may connect. */
static int connect_bus(void) { return connect_in_scene("bus"); }
/* As a container engine: root only. */
static int connect_containers(void) { return connect_in_scene("docker.sock"); }
/* Behind a folder that only root may pass, which CAP_DAC_READ_SEARCH does, too. */
static int connect_hidden(void) { return connect_in_scene("private/socket"); }
static int connect_abstract(void) {
    char name[100] = {0};
    snprintf(name + 1, sizeof name - 1, "%s", getenv("ABSTRACT"));
    return connect_unix(name, strlen(name + 1) + 1);
}
static int send_as_log(int fd) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, in_scene("log"), sizeof address.sun_path - 1);
    return fd < 0 ? errno : failed(sendto(fd, "x", 1, 0, (struct sockaddr *)&address, sizeof address));
}
static int write_system_log(void) { return send_as_log(socket(AF_UNIX, SOCK_DGRAM, 0)); }
/* The end of a pair is a socket like any other. */
static int send_from_pair(void) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) < 0)
        return errno;
    return send_as_log(pair[0]);
}
static int connect_from_pair(void) {
    int pair[2];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) < 0)
        return errno;
    strncpy(address.sun_path, in_scene("log"), sizeof address.sun_path - 1);
    return failed(connect(pair[0], (struct sockaddr *)&address, sizeof address));
}

/* To answer connects in the place of the keeper. */
static int listen_for_calls(void) {
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {1, &allow};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return failed(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
                          &program));
}
/* A name that others of the same network share. */
static int bind_abstract(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "\0reeve-attack"};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    return fd < 0 ? errno : failed(bind(fd, (struct sockaddr *)&address, sizeof address));
}

const struct attack on_network[] = {
    {"connect_tcp", connect_tcp},
    {"send_udp", send_udp},
    {"make_tcp6", make_tcp6},
    {"listen_tcp", listen_tcp},
    {"make_raw", make_raw},
    {"make_packet", make_packet},
    {"make_audit", make_audit},
    {"connect_bus", connect_bus},
    {"connect_containers", connect_containers},
    {"connect_hidden", connect_hidden},
    {"connect_abstract", connect_abstract},
    {"write_system_log", write_system_log},
    {"send_from_pair", send_from_pair},
    {"connect_from_pair", connect_from_pair},
    {"listen_for_calls", listen_for_calls},
    {"bind_abstract", bind_abstract},
    {NULL, NULL},
};
