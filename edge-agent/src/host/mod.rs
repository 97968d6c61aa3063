//! Everything that talks to the operating system below the level of files and sockets: processes,
//! control groups, users, facts. The only folder with `nix`, `std::process` and `unsafe`.

pub mod activity;
pub mod cgroup;
pub mod child;
pub mod clock;
pub mod copying;
pub mod facts;
pub mod files;
pub mod inotify;
pub mod journalctl;
pub mod keeper_process;
pub mod kmsg;
pub mod metrics;
pub mod nursery;
pub mod paths;
pub mod pipe;
pub mod process;
pub mod query;
pub mod sandbox;
pub mod setup;
pub mod stdio;
pub mod terminal;
pub mod unix;
pub mod users;

/// Why there is no further process, for people.
#[must_use]
pub fn explain_no_process(error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::WouldBlock {
        format!(
            "the machine gives out no more processes ({error}); see what has so many, or raise the \
             limit (pids.max, TasksMax=, kernel.pid_max)"
        )
    } else {
        error.to_string()
    }
}

/// The kernel's id of this boot (`/proc/sys/kernel/random/boot_id`, random(4)). Empty when `/proc`
/// is not mounted, which makes every operation refuse as if after a reboot.
#[must_use]
pub fn read_boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// The machine's clock, microseconds since 1970.
#[must_use]
pub fn now_us() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_micros()).ok())
        .unwrap_or(0)
}
