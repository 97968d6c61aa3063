//! Findings in words.

use reeve_protocol::ops::Findings;
use reeve_protocol::ops::explain_operation::{
    DescriptorFinding, DescriptorKind, LockFinding, Peer, ProcessFinding,
};

/// `apt-get (pid 4711)`
pub fn name(process: &ProcessFinding) -> String {
    format!("{} (pid {})", clean(&process.name), process.pid)
}

/// One or several processes.
pub fn peers(peers: &[Peer]) -> String {
    let each = peers.iter().map(|peer| {
        let command = shorten(&peer.command, 80);
        if command.is_empty() || command == peer.name {
            format!("{} (pid {})", clean(&peer.name), peer.pid)
        } else {
            format!("{} (pid {}: {command})", clean(&peer.name), peer.pid)
        }
    });
    each.collect::<Vec<_>>().join(", ")
}

/// A lock with whoever has it.
pub fn lock(lock: &LockFinding) -> String {
    let path = if lock.path.is_empty() { "a file" } else { lock.path.as_str() };
    let holders = if lock.holders.is_empty() {
        "a process that cannot be seen from here".to_owned()
    } else {
        peers(&lock.holders)
    };
    format!("{} lock on {}, held by {holders}", lock.kind, clean(path))
}

/// A span of time, roughly.
pub fn span(ms: u64) -> String {
    match ms / 1000 {
        0 => format!("{ms} ms"),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// Text of a stranger on one line.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Its beginning.
pub fn shorten(text: &str, most: usize) -> String {
    let text = clean(text);
    if text.chars().count() <= most {
        return text;
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// A sentence begins with a capital letter, unless it begins with a program's name.
pub fn begin_upper(text: &str) -> String {
    let begins_with_name = text.split(' ').nth(1).is_some_and(|word| word == "(pid");
    let mut chars = text.chars();
    match chars.next() {
        Some(first) if !begins_with_name => first.to_uppercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

/// The facts: of the process that decided it first, then of the others.
pub fn list_facts(
    findings: &Findings,
    decisive: Option<&ProcessFinding>,
    most: usize,
) -> Vec<String> {
    let mut facts = Vec::new();
    if let Some(last) = findings.last_output.as_ref().filter(|last| !last.text.trim().is_empty()) {
        let end = if last.is_whole_line { "" } else { " (no newline behind it)" };
        facts.push(format!("last output: \"{}\"{end}", shorten(last.text.trim_end(), 120)));
    }
    facts.push(format!(
        "running for {}, no output for {}, {} bytes written",
        span(findings.running_ms),
        span(findings.silent_ms),
        findings.output_bytes
    ));
    let decisive_first = decisive
        .into_iter()
        .chain(findings.processes.iter().filter(|each| decisive.is_none_or(|d| d.pid != each.pid)));
    for process in decisive_first {
        describe_process(process, findings.sampled_ms, &mut facts);
    }
    for held in &findings.package_locks {
        facts.push(format!("package manager's {}", lock(held)));
    }
    let left = facts.len().saturating_sub(most);
    if left > 0 {
        facts.truncate(most.saturating_sub(1));
        facts.push(format!("and {} more", left + 1));
    }
    facts
}

fn describe_process(process: &ProcessFinding, sampled_ms: u64, facts: &mut Vec<String>) {
    let mut line = format!("pid {} {}: state {}", process.pid, clean(&process.name), process.state);
    if let Some(call) = &process.syscall {
        let number = call.number.to_string();
        line += &format!(", in {}", call.name.as_deref().unwrap_or(&number));
        if let Some(fd) = process.waits_for.first() {
            line += &format!(" on descriptor {fd}");
        }
    }
    if let Some(wchan) = &process.wchan {
        line += &format!(", wchan {}", clean(wchan));
    }
    if process.cpu_ms > 0 {
        line += &format!(", {} ms of processor time in {sampled_ms} ms", process.cpu_ms);
    }
    facts.push(line + &format!(" [{}]", shorten(&process.command, 100)));
    for each in &process.descriptors {
        if each.fd == 0 || process.waits_for.contains(&each.fd) {
            facts.push(format!("pid {} descriptor {}: {}", process.pid, each.fd, descriptor(each)));
        }
    }
    for wanted in &process.waits_for_locks {
        facts.push(format!("pid {} waits for the {}", process.pid, lock(wanted)));
    }
    if let Some(mount) = process.mount.as_ref().filter(|_| process.state == "D") {
        facts.push(format!(
            "pid {} waits for {} on {} ({} from {})",
            process.pid,
            clean(&mount.path),
            clean(&mount.point),
            clean(&mount.kind),
            clean(&mount.source)
        ));
    }
}

/// What a descriptor is.
pub fn descriptor(each: &DescriptorFinding) -> String {
    let target = shorten(&each.target, 100);
    match each.kind {
        DescriptorKind::Null => "/dev/null".to_owned(),
        DescriptorKind::Tty => format!("terminal {target}"),
        DescriptorKind::Pipe | DescriptorKind::Fifo => {
            let end = if each.other_end.iter().any(|peer| peer.is_keeper) {
                "fed and read over the link".to_owned()
            } else if !each.other_end.is_empty() {
                format!("other end: {}", peers(&each.other_end))
            } else if each.other_end_known {
                "nobody has the other end".to_owned()
            } else {
                "other end not known".to_owned()
            };
            let kind = if each.kind == DescriptorKind::Fifo { "named pipe" } else { "pipe" };
            if each.kind == DescriptorKind::Fifo {
                format!("{kind} {target}, {end}")
            } else {
                format!("{kind}, {end}")
            }
        }
        DescriptorKind::Socket => match &each.socket {
            Some(socket) => format!(
                "{} socket {} → {} {}, {} bytes not taken by the other end, {} not read here",
                socket.family,
                clean(&socket.local),
                if socket.remote.is_empty() { "nobody" } else { &socket.remote },
                socket.state,
                socket.send_queue,
                socket.receive_queue
            ),
            None => "socket".to_owned(),
        },
        DescriptorKind::File | DescriptorKind::Other => target,
    }
}
