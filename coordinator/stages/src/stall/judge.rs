//! What one process waits for.

use std::collections::HashMap;

use reeve_protocol::ops::Findings;
use reeve_protocol::ops::explain_operation::{DescriptorFinding, DescriptorKind, ProcessFinding};
use reeve_sdk::api::StallAdvice;

use super::descriptor::{Direction, judge_descriptor};
use super::kernel::{judge_lock, judge_uninterruptible};
use super::words::{name, shorten, span};
use super::{Cause, Verdict};

/// A process that computes for so much of the time does nothing else.
const BUSY_PERCENT: u64 = 80;

/// Computing without any output for so long, milliseconds, looks like an endless loop.
const ENDLESS_MS: u64 = 10 * 60 * 1000;

/// A sleep of more than this, milliseconds, is not meant to end.
const FOR_EVER_MS: u64 = 7 * 24 * 3600 * 1000;

const READS: &[&str] = &["read", "readv", "pread64", "recvfrom", "recvmsg", "recvmmsg", "splice"];
const WRITES: &[&str] =
    &["write", "writev", "pwrite64", "sendto", "sendmsg", "sendmmsg", "sendfile"];
const POLLS: &[&str] =
    &["poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_pwait", "epoll_pwait2"];
/// What holds for the operation as a whole.
pub fn judge_operation(findings: &Findings) -> Option<Verdict> {
    findings.is_frozen.then(|| {
        Verdict::sure(
            Cause::Stopped,
            StallAdvice::Answer,
            "its control group is frozen (cgroup.freeze); somebody has to thaw it".to_owned(),
        )
    })
}

/// What holds for a process; `None` when it says nothing, or others say more.
pub fn judge_process(
    findings: &Findings,
    process: &ProcessFinding,
    all: &HashMap<u32, &ProcessFinding>,
) -> Option<Verdict> {
    let call = process.syscall.as_ref().and_then(|call| call.name.as_deref()).unwrap_or_default();
    let wchan = process.wchan.as_deref().unwrap_or_default();
    match process.state.as_str() {
        "Z" => return None,
        "T" => {
            return Some(Verdict::sure(
                Cause::Stopped,
                StallAdvice::Answer,
                format!(
                    "{} was stopped by a signal (SIGSTOP or SIGTSTP) and goes on when it gets SIGCONT",
                    name(process)
                ),
            ));
        }
        "t" => {
            return Some(Verdict::sure(
                Cause::Stopped,
                StallAdvice::Answer,
                format!("{} is stopped by a debugger", name(process)),
            ));
        }
        _ => {}
    }
    if waits_for_child(call, wchan, &process.state) {
        return judge_parent(process, all);
    }
    if let Some(verdict) = judge_lock(findings, process, call, wchan) {
        return Some(verdict);
    }
    if process.state == "D" {
        return Some(judge_uninterruptible(process));
    }
    judge_work(findings, process)
        .or_else(|| judge_call(findings, process, call, wchan))
        .or_else(|| judge_sleep(process, call, wchan))
}

/// The parent of a vfork(2) waits uninterruptibly for its child to go on.
fn waits_for_child(call: &str, wchan: &str, state: &str) -> bool {
    matches!(call, "wait4" | "waitid" | "vfork")
        || wchan == "do_wait"
        || (state == "D" && (call == "clone" || wchan.contains("vfork") || wchan == "kernel_clone"))
}

fn judge_parent(process: &ProcessFinding, all: &HashMap<u32, &ProcessFinding>) -> Option<Verdict> {
    let children: Vec<&&ProcessFinding> =
        process.children.iter().filter_map(|child| all.get(child)).collect();
    if children.is_empty() {
        return Some(Verdict::unsure(
            Cause::WaitsForChild,
            StallAdvice::Wait,
            format!("{} waits for a child that is not among the processes found", name(process)),
        ));
    }
    if children.iter().all(|child| child.state == "Z") {
        return Some(Verdict::unsure(
            Cause::Zombies,
            StallAdvice::Kill,
            format!("all children of {} have ended and it has not collected them", name(process)),
        ));
    }
    // The children say more than it does; this counts when none of them says anything.
    let names: Vec<String> = children.iter().take(4).map(|child| name(child)).collect();
    Some(Verdict::unsure(
        Cause::WaitsForChild,
        StallAdvice::Wait,
        format!("{} waits for {}", name(process), names.join(", ")),
    ))
}

/// What it did between the two looks.
fn judge_work(findings: &Findings, process: &ProcessFinding) -> Option<Verdict> {
    let moved = process.read_bytes.unwrap_or(0).saturating_add(process.written_bytes.unwrap_or(0));
    let sampled = findings.sampled_ms.max(1);
    let percent = process.cpu_ms.saturating_mul(100) / sampled;
    if percent >= BUSY_PERCENT && moved == 0 {
        let endless = findings.silent_ms >= ENDLESS_MS;
        let advice = if endless { StallAdvice::Kill } else { StallAdvice::Wait };
        let judgement = if endless {
            format!(
                "for {} without a word; that looks like an endless loop",
                span(findings.silent_ms)
            )
        } else {
            "it computes, or it is in an endless loop".to_owned()
        };
        return Some(Verdict::sure(
            Cause::Busy,
            advice,
            format!(
                "{} uses {percent} % of a processor and neither reads nor writes: {judgement}",
                name(process)
            ),
        ));
    }
    (moved >= 64 * 1024 || percent >= BUSY_PERCENT).then(|| {
        Verdict::sure(
            Cause::Working,
            StallAdvice::Wait,
            format!(
                "{} is at work: {percent} % of a processor, {moved} bytes read and written in {sampled} ms",
                name(process)
            ),
        )
    })
}

fn judge_call(
    findings: &Findings,
    process: &ProcessFinding,
    call: &str,
    wchan: &str,
) -> Option<Verdict> {
    let waited = process.waits_for.iter().filter_map(|fd| find(process, *fd));
    if call == "connect" || wchan == "inet_wait_for_connect" || wchan == "unix_wait_for_peer" {
        return Some(judge_connect(process, waited.clone().next()));
    }
    if matches!(call, "accept" | "accept4") {
        return waited
            .clone()
            .find_map(|each| judge_descriptor(findings, process, each, Direction::Read));
    }
    if READS.contains(&call) || POLLS.contains(&call) {
        return waited
            .clone()
            .filter_map(|each| judge_descriptor(findings, process, each, Direction::Read))
            .min_by_key(|verdict| verdict.cause.rank());
    }
    if WRITES.contains(&call) {
        return waited
            .clone()
            .find_map(|each| judge_descriptor(findings, process, each, Direction::Write));
    }
    if matches!(call, "openat" | "open") && (wchan.contains("partner") || wchan == "fifo_open") {
        return Some(judge_fifo(process, call));
    }
    // Without the right to look into the process: where it sleeps in the kernel says enough.
    if call.is_empty()
        && matches!(wchan, "pipe_read" | "anon_pipe_read" | "n_tty_read" | "wait_woken")
    {
        return find(process, 0)
            .and_then(|each| judge_descriptor(findings, process, each, Direction::Read));
    }
    if call.is_empty() && matches!(wchan, "pipe_write" | "anon_pipe_write") {
        return find(process, 1)
            .and_then(|each| judge_descriptor(findings, process, each, Direction::Write));
    }
    None
}

fn find(process: &ProcessFinding, fd: u32) -> Option<&DescriptorFinding> {
    process.descriptors.iter().find(|each| each.fd == fd)
}

fn judge_connect(process: &ProcessFinding, each: Option<&DescriptorFinding>) -> Verdict {
    let to = each
        .and_then(|each| each.socket.as_ref())
        .map(|socket| (socket.family.as_str(), socket.remote.as_str()));
    let explanation = match to {
        Some(("tcp", remote)) if !remote.is_empty() => format!(
            "{} tries to connect to {remote}, which does not answer: a firewall drops it, the machine is away, or its queue of new connections is full; the kernel gives up after about two minutes",
            name(process)
        ),
        Some(("unix", _)) => format!(
            "{} tries to connect to a Unix socket whose server does not accept: its queue is full",
            name(process)
        ),
        _ => format!("{} tries to connect and gets no answer", name(process)),
    };
    Verdict::sure(Cause::Connecting, StallAdvice::Wait, explanation)
}

fn judge_fifo(process: &ProcessFinding, call: &str) -> Verdict {
    let path = process.mount.as_ref().map_or_else(
        || "a named pipe".to_owned(),
        |mount| format!("the named pipe {}", shorten(&mount.path, 100)),
    );
    let flags = process
        .syscall
        .as_ref()
        .and_then(|found| found.arguments.get(if call == "open" { 1 } else { 2 }))
        .and_then(|text| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok());
    let missing = match flags.map(|flags| flags & 3) {
        Some(0) => "nobody has opened it to write",
        Some(1) => "nobody has opened it to read",
        _ => "nobody has opened its other end",
    };
    Verdict::sure(
        Cause::WaitsForPeer,
        StallAdvice::Kill,
        format!("{} opens {path} and {missing}", name(process)),
    )
}

fn judge_sleep(process: &ProcessFinding, call: &str, wchan: &str) -> Option<Verdict> {
    if matches!(call, "nanosleep" | "clock_nanosleep") || wchan.contains("nanosleep") {
        return Some(judge_nap(process));
    }
    if matches!(call, "pause" | "rt_sigsuspend" | "rt_sigtimedwait") {
        return Some(Verdict::unsure(
            Cause::WaitsForEvent,
            StallAdvice::Wait,
            format!("{} waits for a signal", name(process)),
        ));
    }
    if POLLS.contains(&call) {
        // Nothing of what it polls says more: a timer, or its own business.
        let other = process.waits_for.iter().filter_map(|fd| find(process, *fd));
        let is_nothing = other.clone().all(|each| each.kind == DescriptorKind::Other);
        return is_nothing.then(|| {
            Verdict::unsure(
                Cause::Sleeping,
                StallAdvice::Wait,
                format!("{} waits for a timer or an event of its own", name(process)),
            )
        });
    }
    if call == "futex" || wchan.starts_with("futex") {
        let alone = process.threads.is_empty();
        let explanation = if alone {
            format!(
                "{} waits for a lock in memory and has no other thread that could give it",
                name(process)
            )
        } else {
            let threads: u32 = process.threads.iter().map(|kind| kind.count).sum();
            format!("{} waits for one of its {threads} other threads", name(process))
        };
        let cause = if alone { Cause::WaitsForLock } else { Cause::Unknown };
        return Some(Verdict::unsure(cause, StallAdvice::Wait, explanation));
    }
    None
}

fn judge_nap(process: &ProcessFinding) -> Verdict {
    let Some(asked) = process.sleep_ms else {
        return Verdict::sure(
            Cause::Sleeping,
            StallAdvice::Wait,
            format!("{} sleeps for a time it set itself", name(process)),
        );
    };
    if asked >= FOR_EVER_MS {
        return Verdict::sure(
            Cause::Sleeping,
            StallAdvice::Kill,
            format!("{} sleeps for {}: it is not meant to end", name(process), span(asked)),
        );
    }
    let left = if process.name == "sleep" && asked > process.running_ms {
        format!(", about {} of it are left", span(asked - process.running_ms))
    } else if process.voluntary_switches > 0 {
        ", again and again: it looks whether something has happened".to_owned()
    } else {
        String::new()
    };
    Verdict::sure(
        Cause::Sleeping,
        StallAdvice::Wait,
        format!("{} sleeps for {}{left}", name(process), span(asked)),
    )
}
