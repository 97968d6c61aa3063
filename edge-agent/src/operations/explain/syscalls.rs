//! `/proc/<pid>/syscall`: in which system call a process sleeps, and what its arguments say.

use std::fs;

use reeve_protocol::ops::explain_operation::SyscallFinding;

use super::memory::Memory;

/// Descriptors of one poll(2) that are looked at.
const MAX_POLLED: u64 = 64;

/// A call that has not returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub number: i64,
    pub name: Option<&'static str>,
    pub arguments: [u64; 6],
}

impl Call {
    /// Reads it; `None` for a process that runs, or that we may not look into.
    pub fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let number = words.next()?.parse::<i64>().ok().filter(|number| *number >= 0)?;
        let mut arguments = [0; 6];
        for argument in &mut arguments {
            *argument = u64::from_str_radix(words.next()?.trim_start_matches("0x"), 16).ok()?;
        }
        let name = NAMES.iter().find(|(_, each)| *each == number).map(|(name, _)| *name);
        Some(Self { number, name, arguments })
    }

    /// As it is told.
    pub fn to_finding(&self) -> SyscallFinding {
        SyscallFinding {
            number: self.number,
            name: self.name.map(str::to_owned),
            arguments: self.arguments.iter().map(|argument| format!("{argument:#x}")).collect(),
        }
    }

    /// The descriptors it waits for, as far as they can be told.
    pub fn find_descriptors(&self, pid: u32, memory: Option<&Memory>) -> Vec<u32> {
        let [first, second, third, ..] = self.arguments;
        match self.name.unwrap_or_default() {
            "poll" | "ppoll" => memory
                .and_then(|memory| {
                    let count = second.min(MAX_POLLED);
                    memory.read(first, usize::try_from(count * 8).ok()?)
                })
                .map(|bytes| parse_polled(&bytes))
                .unwrap_or_default(),
            "select" | "pselect6" => memory
                .map(|memory| {
                    let sets = [second, third].into_iter().filter(|address| *address != 0);
                    let bytes = usize::try_from(first.div_ceil(64).min(16) * 8).unwrap_or(0);
                    let mut found: Vec<u32> = sets
                        .filter_map(|address| memory.read(address, bytes))
                        .flat_map(|set| parse_set(&set, first))
                        .collect();
                    found.sort_unstable();
                    found.dedup();
                    found
                })
                .unwrap_or_default(),
            "epoll_wait" | "epoll_pwait" | "epoll_pwait2" => to_descriptor(first)
                .and_then(|fd| fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok())
                .map(|text| parse_epoll(&text))
                .unwrap_or_default(),
            "sendfile" => [first, second].into_iter().filter_map(to_descriptor).collect(),
            name if FD_FIRST.contains(&name) => to_descriptor(first).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// The path it was given, where it was given one.
    pub fn find_path(&self, memory: &Memory) -> Option<String> {
        let [first, second, ..] = self.arguments;
        match self.name? {
            "open" | "stat" | "lstat" | "access" | "mkdir" | "rmdir" | "unlink" | "readlink"
            | "chdir" | "statfs" | "truncate" | "umount2" | "creat" | "execve" => {
                memory.read_path(first)
            }
            "openat" | "openat2" | "newfstatat" | "statx" | "faccessat" | "faccessat2"
            | "mkdirat" | "unlinkat" | "readlinkat" => memory.read_path(second),
            _ => None,
        }
    }

    /// How long it asked to sleep, milliseconds.
    pub fn find_sleep_ms(&self, memory: &Memory) -> Option<u64> {
        let [first, second, third, ..] = self.arguments;
        match self.name? {
            "nanosleep" => memory.read_timespec_ms(first),
            // Not until a time of day (TIMER_ABSTIME).
            "clock_nanosleep" if second & 1 == 0 => memory.read_timespec_ms(third),
            _ => None,
        }
    }
}

fn to_descriptor(argument: u64) -> Option<u32> {
    u32::try_from(argument).ok().filter(|fd| i32::try_from(*fd).is_ok())
}

/// `struct pollfd`: descriptor (4 bytes), events, returned events (2 each).
fn parse_polled(bytes: &[u8]) -> Vec<u32> {
    bytes
        .as_chunks::<8>()
        .0
        .iter()
        .filter_map(|[a, b, c, d, ..]| u32::try_from(i32::from_ne_bytes([*a, *b, *c, *d])).ok())
        .collect()
}

fn parse_set(bytes: &[u8], highest: u64) -> Vec<u32> {
    let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word));
    words
        .zip(0_u32..)
        .flat_map(|(word, at)| {
            (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| at * 64 + bit)
        })
        .filter(|fd| u64::from(*fd) < highest)
        .collect()
}

/// Lines such as `tfd:        5 events:       19 data: …`.
fn parse_epoll(text: &str) -> Vec<u32> {
    text.lines()
        .filter_map(|line| line.strip_prefix("tfd:")?.split_ascii_whitespace().next()?.parse().ok())
        .take(64)
        .collect()
}

/// Calls whose first argument is the descriptor they wait for.
const FD_FIRST: &[&str] = &[
    "read",
    "write",
    "readv",
    "writev",
    "pread64",
    "pwrite64",
    "preadv",
    "pwritev",
    "connect",
    "accept",
    "accept4",
    "recvfrom",
    "recvmsg",
    "recvmmsg",
    "sendto",
    "sendmsg",
    "sendmmsg",
    "flock",
    "fcntl",
    "fsync",
    "fdatasync",
    "ftruncate",
    "fallocate",
    "getdents",
    "getdents64",
    "ioctl",
    "splice",
    "fstat",
    "copy_file_range",
    "syncfs",
    "close",
];

/// Numbers of the calls in which processes sleep (syscalls(2)).
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const NAMES: &[(&str, i64)] = &[
    ("read", 0), ("write", 1), ("open", 2), ("close", 3), ("stat", 4), ("fstat", 5), ("lstat", 6),
    ("poll", 7), ("ioctl", 16), ("pread64", 17), ("pwrite64", 18), ("readv", 19), ("writev", 20),
    ("access", 21), ("select", 23), ("pause", 34), ("nanosleep", 35), ("sendfile", 40),
    ("connect", 42), ("accept", 43), ("sendto", 44), ("recvfrom", 45), ("sendmsg", 46),
    ("recvmsg", 47), ("clone", 56), ("fork", 57), ("vfork", 58), ("execve", 59), ("wait4", 61),
    ("semop", 65), ("msgsnd", 69), ("msgrcv", 70), ("fcntl", 72), ("flock", 73), ("fsync", 74),
    ("fdatasync", 75), ("truncate", 76), ("ftruncate", 77), ("getdents", 78), ("chdir", 80),
    ("rename", 82), ("mkdir", 83), ("rmdir", 84), ("creat", 85), ("unlink", 87), ("readlink", 89),
    ("rt_sigtimedwait", 128), ("rt_sigsuspend", 130), ("statfs", 137), ("sync", 162),
    ("mount", 165), ("umount2", 166), ("futex", 202), ("io_getevents", 208), ("getdents64", 217),
    ("restart_syscall", 219), ("semtimedop", 220), ("clock_nanosleep", 230), ("epoll_wait", 232),
    ("mq_timedreceive", 243), ("waitid", 247), ("openat", 257), ("mkdirat", 258),
    ("newfstatat", 262), ("unlinkat", 263), ("renameat", 264), ("readlinkat", 267),
    ("faccessat", 269), ("pselect6", 270), ("ppoll", 271), ("splice", 275), ("epoll_pwait", 281),
    ("fallocate", 285), ("accept4", 288), ("preadv", 295), ("pwritev", 296), ("recvmmsg", 299),
    ("syncfs", 306), ("sendmmsg", 307), ("renameat2", 316), ("copy_file_range", 326),
    ("statx", 332), ("io_uring_enter", 426), ("openat2", 437), ("faccessat2", 439),
    ("epoll_pwait2", 441), ("futex_waitv", 449),
];

/// Numbers of the calls in which processes sleep (include/uapi/asm-generic/unistd.h).
#[cfg(not(target_arch = "x86_64"))]
#[rustfmt::skip]
const NAMES: &[(&str, i64)] = &[
    ("io_getevents", 4), ("epoll_pwait", 22), ("fcntl", 25), ("ioctl", 29), ("flock", 32),
    ("mkdirat", 34), ("unlinkat", 35), ("renameat", 38), ("umount2", 39), ("mount", 40),
    ("statfs", 43), ("truncate", 45), ("ftruncate", 46), ("fallocate", 47), ("faccessat", 48),
    ("chdir", 49), ("openat", 56), ("close", 57), ("getdents64", 61), ("read", 63), ("write", 64),
    ("readv", 65), ("writev", 66), ("pread64", 67), ("pwrite64", 68), ("preadv", 69),
    ("pwritev", 70), ("sendfile", 71), ("pselect6", 72), ("ppoll", 73), ("splice", 76),
    ("readlinkat", 78), ("newfstatat", 79), ("fstat", 80), ("sync", 81), ("fsync", 82),
    ("fdatasync", 83), ("waitid", 95), ("futex", 98), ("nanosleep", 101), ("clock_nanosleep", 115),
    ("restart_syscall", 128), ("rt_sigsuspend", 133), ("rt_sigtimedwait", 137),
    ("mq_timedreceive", 183), ("msgrcv", 188), ("msgsnd", 189), ("semtimedop", 192),
    ("semop", 193), ("accept", 202), ("connect", 203), ("sendto", 206), ("recvfrom", 207),
    ("sendmsg", 211), ("recvmsg", 212), ("clone", 220), ("execve", 221), ("accept4", 242),
    ("recvmmsg", 243), ("wait4", 260), ("syncfs", 267), ("sendmmsg", 269), ("renameat2", 276),
    ("copy_file_range", 285), ("statx", 291), ("io_uring_enter", 426), ("openat2", 437),
    ("faccessat2", 439), ("epoll_pwait2", 441), ("futex_waitv", 449),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn call_is_named_and_its_descriptor_found() {
        let call = Call::parse("0 0x0 0x7ffd 0x1000 0x0 0x0 0x0 0x7ffe 0x7f11\n").expect("a call");
        assert_eq!((call.name, call.find_descriptors(1, None)), (Some("read"), vec![0]));
        assert_eq!(Call::parse("running\n"), None);
        assert_eq!(Call::parse("-1 0x7ffe 0x7f11\n"), None);
        assert_eq!(Call::parse("9999 0x1 0x2\n"), None);
    }

    #[test]
    fn descriptors_of_poll_select_and_epoll_are_read() {
        let mut polled = Vec::new();
        for fd in [0_i32, -1, 7] {
            polled.extend_from_slice(&fd.to_ne_bytes());
            polled.extend_from_slice(&[1, 0, 0, 0]);
        }
        assert_eq!(parse_polled(&polled), [0, 7]);
        let set = [0b1001_u64.to_ne_bytes(), 1_u64.to_ne_bytes()].concat();
        assert_eq!(parse_set(&set, 65), [0, 3, 64]);
        assert_eq!(parse_set(&set, 3), [0]);
        let text = "pos:\t0\nflags:\t02\ntfd:        5 events:       19 data: 5  pos:0 ino:9\n";
        assert_eq!(parse_epoll(text), [5]);
    }
}
