//! The system call filter (seccomp(2)). Most of what it refuses the missing capabilities refuse
//! too; it is what stands when the kernel has a hole there. For some things it is the only wall:
//! sockets, file handles (which go round blocked paths), and system calls newer than this list.

use std::collections::BTreeMap;

use nix::libc;
use reeve_protocol::ops::Network;
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

use super::SandboxError;

/// The newest system call that was looked at. What comes after it does not exist for the command
/// (`ENOSYS`), and neither does the x32 ABI, whose numbers have bit 30.
const NEWEST_KNOWN: u32 = 466;

/// Refused with `EPERM` whatever their arguments are.
const REFUSED: &[libc::c_long] = &[
    // Mounts, namespaces, the root folder.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    // Files by handle: round everything that is mounted over a path.
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // The kernel itself.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    LSM_SET_SELF_ATTR,
    // The machine's settings.
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    QUOTACTL_FD,
    libc::SYS_acct,
    libc::SYS_vhangup,
    // Nobody connects to a command that looks.
    libc::SYS_listen,
];

const QUOTACTL_FD: libc::c_long = 443;
const LSM_SET_SELF_ATTR: libc::c_long = 460;

#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[libc::c_long] = &[
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
    libc::SYS_kexec_file_load,
    // create_module, get_kernel_syms, query_module: gone since Linux 2.6, still numbered.
    174,
    177,
    178,
];
/// kexec_file_load(2) in the common table of newer processors.
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[libc::c_long] = &[294];

/// `CLONE_NEW*` of clone(2).
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Of a terminal: typing for its user, and console tricks.
const TERMINAL_REQUESTS: [u64; 2] = [0x5412, 0x541C];

/// Of netlink(7): routes and interfaces, sockets, and generic (wireless, ethtool).
const NETLINK_PROTOCOLS: [u64; 3] = [0, 4, 16];

/// Of the internet: default, ICMP, TCP, UDP, ICMPv6.
const INTERNET_PROTOCOLS: [u64; 5] = [0, 1, 6, 17, 58];

/// syslog(2): read everything without taking it away, and ask for the size.
const LOG_ACTIONS: [u64; 2] = [3, 10];

/// The program to be loaded by the child. With a bus, connect(2) asks the keeper.
///
/// # Errors
/// When there is none for this processor.
pub fn build(network: Network, has_bus: bool) -> Result<Vec<sock_filter>, SandboxError> {
    let processor = std::env::consts::ARCH;
    let target = TargetArch::try_from(processor).map_err(|_| SandboxError::Processor(processor))?;
    let refusal = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let rules = list_rules(network, has_bus).map_err(describe)?;
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, refusal, target).map_err(describe)?;
    let program: Vec<sock_filter> = Vec::try_from(filter).map_err(describe)?;
    Ok(head(has_bus).into_iter().chain(program).collect())
}

fn describe(error: seccompiler::BackendError) -> SandboxError {
    SandboxError::Step {
        what: "making the system call filter".to_owned(),
        source: std::io::Error::other(error),
    }
}

/// `ENOSYS` for what is newer than the list, and for clone3(2), whose flags are behind a pointer
/// that no filter can follow: libraries then use clone(2). The check of the processor follows.
fn head(has_bus: bool) -> Vec<sock_filter> {
    let instruction =
        |code: u32, jt, jf, k| sock_filter { code: u16::try_from(code).unwrap_or(0), jt, jf, k };
    let number = |call| u32::try_from(call).unwrap_or(0);
    let absent = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    let is = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let mut head = vec![
        // The number is the first word of struct seccomp_data.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 1, 0, NEWEST_KNOWN),
        instruction(is, 0, 1, number(libc::SYS_clone3)),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, absent),
    ];
    if has_bus {
        // The keeper looks at the processor itself.
        head.push(instruction(is, 0, 1, number(libc::SYS_connect)));
        head.push(instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_USER_NOTIF));
    }
    head
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;
type Built<T> = Result<T, seccompiler::BackendError>;

fn list_rules(network: Network, has_bus: bool) -> Built<Rules> {
    let mut rules: Rules = BTreeMap::new();
    for number in REFUSED.iter().chain(REFUSED_HERE) {
        rules.insert(*number, Vec::new());
    }
    let clone = NAMESPACES
        .iter()
        .map(|flag| when(&[bits(0, u64::from(flag.unsigned_abs()))]))
        .collect::<Built<Vec<_>>>()?;
    rules.insert(libc::SYS_clone, clone);
    let ioctl = TERMINAL_REQUESTS.iter().map(|request| when(&[is(1, *request)]));
    rules.insert(libc::SYS_ioctl, ioctl.collect::<Built<Vec<_>>>()?);
    rules.insert(libc::SYS_syslog, vec![when(&none_of(0, &LOG_ACTIONS))?]);
    // Whoever is asked first could let a call through: nobody but the keeper is ever asked.
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    rules.insert(libc::SYS_seccomp, vec![when(&[bits(1, listener)])?]);
    // Exclusive locks on what others use would make them wait.
    let exclusive = u64::from(libc::LOCK_EX.unsigned_abs());
    rules.insert(libc::SYS_flock, vec![when(&[bits(1, exclusive)])?]);
    rules.insert(libc::SYS_socket, list_sockets(network, has_bus)?);
    if has_bus {
        // Only as netlink(7) binds: a unix socket would take an abstract name that others share.
        let length = size_of::<libc::sockaddr_nl>() as u64;
        rules.insert(libc::SYS_bind, vec![when(&none_of(2, &[length]))?]);
    }
    rules.insert(libc::SYS_socketpair, list_pairs()?);
    Ok(rules)
}

/// Which sockets are refused. AF_UNIX, unless connects ask the keeper: no filter sees whom a socket
/// is connected to, and whoever may pass every folder reaches sockets that rely on their folder's
/// mode. Even then streams only, since a datagram needs no connect.
fn list_sockets(network: Network, has_bus: bool) -> Built<Vec<SeccompRule>> {
    let netlink = u64::from(libc::AF_NETLINK.unsigned_abs());
    let mut families = vec![netlink];
    let mut rules = Vec::new();
    if has_bus {
        let family = u64::from(libc::AF_UNIX.unsigned_abs());
        families.push(family);
        for kind in (0..16).filter(|kind| *kind != 1) {
            rules.push(when(&[is(0, family), masked(1, 0xF, kind)])?);
        }
    }
    if network == Network::Use {
        for family in [libc::AF_INET, libc::AF_INET6] {
            let family = u64::from(family.unsigned_abs());
            families.push(family);
            // Streams and datagrams: no raw sockets, and no protocol whose module would be loaded.
            for kind in (0..16).filter(|kind| !matches!(kind, 1 | 2)) {
                rules.push(when(&[is(0, family), masked(1, 0xF, kind)])?);
            }
            let mut conditions = none_of(2, &INTERNET_PROTOCOLS);
            conditions.push(is(0, family));
            rules.push(when(&conditions)?);
        }
    }
    let mut conditions = none_of(2, &NETLINK_PROTOCOLS);
    conditions.push(is(0, netlink));
    rules.push(when(&conditions)?);
    rules.push(when(&none_of(0, &families))?);
    Ok(rules)
}

/// Pairs of streams only: a datagram socket of a pair can still be sent anywhere from.
fn list_pairs() -> Built<Vec<SeccompRule>> {
    let family = u64::from(libc::AF_UNIX.unsigned_abs());
    let mut rules = vec![when(&none_of(0, &[family]))?];
    for kind in (0..16).filter(|kind| !matches!(kind, 1 | 5)) {
        rules.push(when(&[masked(1, 0xF, kind)])?);
    }
    Ok(rules)
}

/// Argument, comparison, value. The upper half of a register is not looked at by the kernel where
/// it takes an int, so neither is it here.
type Condition = (u8, SeccompCmpOp, u64);

fn when(conditions: &[Condition]) -> Built<SeccompRule> {
    let conditions = conditions
        .iter()
        .map(|(argument, operator, value)| {
            SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator.clone(), *value)
        })
        .collect::<Built<Vec<_>>>()?;
    SeccompRule::new(conditions)
}

fn is(argument: u8, value: u64) -> Condition {
    (argument, SeccompCmpOp::Eq, value)
}

fn masked(argument: u8, mask: u64, value: u64) -> Condition {
    (argument, SeccompCmpOp::MaskedEq(mask), value)
}

fn bits(argument: u8, bit: u64) -> Condition {
    masked(argument, bit, bit)
}

fn none_of(argument: u8, values: &[u64]) -> Vec<Condition> {
    values.iter().map(|value| (argument, SeccompCmpOp::Ne, *value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_fits_the_kernel_whatever_the_network() {
        for (network, bus) in [
            (Network::None, true),
            (Network::None, false),
            (Network::View, true),
            (Network::Use, false),
        ] {
            let program = build(network, bus).expect("this processor has one");
            // BPF_MAXINSNS of bpf_common.h.
            assert!(program.len() > 100 && program.len() < 4096, "{}", program.len());
        }
    }
}
