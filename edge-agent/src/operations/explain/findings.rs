//! Everything about an operation put together, within its bound.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use reeve_protocol::Stream;
use reeve_protocol::ops::Findings;
use reeve_protocol::ops::explain_operation::{
    LastOutput, LockFinding, MAX_FINDINGS_BYTES, MAX_PROCESSES, Pressure, ProcessFinding,
    StdinFinding,
};

use super::holders::Holders;
use super::locks::Locks;
use super::process::{cut, find_waited_file};
use super::{Subject, descriptors, process, stat};
use crate::host;
use crate::host::cgroup::Group;
use crate::keeper::redact;
use crate::keeper::spool::{HEADER_BYTES, RECORD_BYTES, read_tail};

/// Between the two looks that rates come from.
const SAMPLE: Duration = Duration::from_millis(300);

/// The last line is cut here, bytes.
const MAX_LAST_LINE: usize = 512;

/// Looks, which takes a little more than [`SAMPLE`].
pub fn look(subject: &Subject) -> Findings {
    let (mut pids, found_by) = list_processes(subject);
    // The oldest first: what was asked for, then what that started.
    pids.sort_by_cached_key(|pid| (stat::read(*pid).map(|stat| stat.start_time), *pid));
    let left_out = pids.len().saturating_sub(MAX_PROCESSES);
    pids.truncate(MAX_PROCESSES);
    let began = Instant::now();
    let before: HashMap<u32, _> =
        pids.iter().filter_map(|pid| Some((*pid, stat::count(*pid)?))).collect();
    host::pipe::pause(SAMPLE.saturating_sub(began.elapsed()));
    let sampled = began.elapsed();
    let uptime_ms = stat::read_uptime_ms();
    let locks = Locks::read();
    let mut processes: Vec<ProcessFinding> = pids
        .iter()
        .filter_map(|pid| process::look(*pid, before.get(pid).copied(), uptime_ms))
        .collect();
    let own: HashSet<u32> = processes.iter().map(|process| process.pid).collect();
    relate(&mut processes, &locks, subject.keeper, &own);
    let mut findings = Findings {
        sampled_ms: to_ms(sampled),
        found_by,
        processes,
        processes_left_out: u32::try_from(left_out).unwrap_or(u32::MAX),
        package_locks: locks.find_package_locks(subject.keeper, &own),
        pressure: read_pressure(),
        is_frozen: subject.spec.group.as_deref().is_some_and(is_frozen),
        ..Findings::default()
    };
    describe_operation(subject, &mut findings);
    findings
}

/// Zombies count: that nobody collects them is a finding.
fn list_processes(subject: &Subject) -> (Vec<u32>, String) {
    let group = subject.spec.group.as_deref().and_then(|path| Group::open(path).ok());
    let listed = group.as_ref().map(Group::list).unwrap_or_default();
    let descendants = subject.keeper.map(stat::list_descendants).unwrap_or_default();
    let found_by = if listed.is_empty() { "descendants" } else { "cgroup_v2" };
    let mut pids: HashSet<u32> = listed.into_iter().collect();
    pids.extend(descendants);
    (pids.into_iter().collect(), found_by.to_owned())
}

/// What the processes have to do with each other and with the rest of the machine.
fn relate(
    processes: &mut [ProcessFinding],
    locks: &Locks,
    keeper: Option<u32>,
    own: &HashSet<u32>,
) {
    let parents: Vec<(u32, u32)> =
        processes.iter().map(|process| (process.ppid, process.pid)).collect();
    let mut wanted: HashSet<String> = HashSet::new();
    for process in processes.iter_mut() {
        process.children = parents
            .iter()
            .filter(|(parent, _)| *parent == process.pid)
            .map(|(_, child)| *child)
            .collect();
        wanted.extend(descriptors::list_wanted(&process.descriptors));
        if !locks.find_blocking(process.pid).is_empty() {
            wanted.extend(find_waited_file(&process.waits_for, &process.descriptors));
        }
    }
    let holders = Holders::find(&wanted);
    for process in processes {
        let pid = process.pid;
        descriptors::add_other_ends(pid, &mut process.descriptors, &holders, keeper, own);
        process.waits_for_locks = find_locks(process, locks, &holders, keeper, own);
    }
}

fn find_locks(
    process: &ProcessFinding,
    locks: &Locks,
    holders: &Holders,
    keeper: Option<u32>,
    own: &HashSet<u32>,
) -> Vec<LockFinding> {
    let path = find_waited_file(&process.waits_for, &process.descriptors).unwrap_or_default();
    locks
        .find_blocking(process.pid)
        .into_iter()
        .map(|(lock, takers)| lock.to_finding(&path, &takers, holders, keeper, own))
        .collect()
}

fn describe_operation(subject: &Subject, findings: &mut Findings) {
    let operation = &subject.operation;
    let view = operation.view();
    let now_us = host::now_us();
    let started_us =
        view.accepted.as_ref().map_or(operation.created_us(), |accepted| accepted.started_us);
    let since = |us: i64| u64::try_from(now_us.saturating_sub(us)).unwrap_or(0) / 1000;
    findings.operation = operation.id().to_string();
    findings.at_us = now_us;
    findings.running_ms = since(started_us);
    findings.silent_ms = findings.running_ms;
    findings.output_bytes = view.spool_to;
    findings.stdin = operation
        .has_stdin()
        .then_some(StdinFinding { received: view.stdin.received, is_closed: view.stdin.closed });
    let tail = host::unix::open_folder(operation.path())
        .and_then(|folder| read_tail(folder, 4 * MAX_LAST_LINE));
    let Ok(tail) = tail else { return };
    if let Some(written_us) = tail.written_us {
        findings.silent_ms = since(written_us).min(findings.running_ms);
    }
    findings.spool_is_full =
        tail.size.saturating_add(HEADER_BYTES + RECORD_BYTES) >= subject.spec.spool_bytes;
    findings.last_output = tail.last.map(|(stream, bytes)| to_last_output(stream, &bytes));
}

fn to_last_output(stream: Stream, bytes: &[u8]) -> LastOutput {
    let bytes = redact::plain(bytes);
    let is_whole_line = bytes.last() == Some(&b'\n');
    let text = String::from_utf8_lossy(&bytes);
    let line = text.trim_end_matches(['\n', '\r']).rsplit('\n').next().unwrap_or_default();
    // The end of a line says what it asks; what a carriage return left behind is not seen.
    let line = line.rsplit('\r').find(|part| !part.is_empty()).unwrap_or_default();
    let from = line.ceil_char_boundary(line.len().saturating_sub(MAX_LAST_LINE));
    LastOutput {
        stream: match stream {
            Stream::Stdout => "stdout".to_owned(),
            Stream::Stderr => "stderr".to_owned(),
        },
        text: line.get(from..).unwrap_or_default().to_owned(),
        is_whole_line,
    }
}

fn is_frozen(group: &Path) -> bool {
    fs::read_to_string(group.join("cgroup.events"))
        .is_ok_and(|text| text.lines().any(|line| line == "frozen 1"))
}

fn read_pressure() -> Option<Pressure> {
    let read = |what: &str| fs::read_to_string(format!("/proc/pressure/{what}")).ok();
    let (cpu, io, memory) = (read("cpu")?, read("io")?, read("memory")?);
    Some(Pressure {
        cpu_some: parse_pressure(&cpu, "some"),
        io_some: parse_pressure(&io, "some"),
        io_full: parse_pressure(&io, "full"),
        memory_some: parse_pressure(&memory, "some"),
        memory_full: parse_pressure(&memory, "full"),
    })
}

/// `some avg10=0.12 avg60=0.06 avg300=1.42 total=2073596776`
fn parse_pressure(text: &str, which: &str) -> f32 {
    text.lines()
        .find(|line| line.starts_with(which))
        .and_then(|line| line.split_once("avg10=")?.1.split(' ').next()?.parse().ok())
        .unwrap_or(0.0)
}

fn to_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The document. What is of least use goes first where it would be too long.
pub fn to_json(mut findings: Findings) -> Result<Vec<u8>, serde_json::Error> {
    for step in 0.. {
        let bytes = serde_json::to_vec(&findings)?;
        if bytes.len() < MAX_FINDINGS_BYTES || findings.processes.is_empty() {
            return Ok(bytes);
        }
        findings.is_shortened = true;
        match step {
            0 => findings.processes.iter_mut().for_each(|process| process.stack.clear()),
            1 => findings.processes.iter_mut().for_each(|process| {
                let waits_for = process.waits_for.clone();
                process.descriptors.retain(|each| each.fd == 0 || waits_for.contains(&each.fd));
            }),
            2 => findings.processes.iter_mut().for_each(|process| {
                process.command = cut(&process.command, 80);
                process.threads.clear();
            }),
            _ => {
                findings.processes.pop();
                findings.processes_left_out = findings.processes_left_out.saturating_add(1);
            }
        }
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_line_is_what_a_person_would_see_last() {
        let last = |bytes: &[u8]| {
            let last = to_last_output(Stream::Stdout, bytes);
            (last.text, last.is_whole_line)
        };
        assert_eq!(last(b"one\ntwo\n"), ("two".to_owned(), true));
        assert_eq!(last(b"one\nContinue? [y/N] "), ("Continue? [y/N] ".to_owned(), false));
        assert_eq!(last(b"10%\r20%\r"), ("20%".to_owned(), false));
        assert_eq!(last(b"\n\n"), (String::new(), true));
        assert_eq!(last("ü".repeat(600).as_bytes()).0.len(), 512);
    }

    #[test]
    fn document_stays_within_its_bound_whatever_is_in_it() {
        let process = ProcessFinding {
            command: "x".repeat(512),
            stack: vec!["function".repeat(8); 12],
            cwd: Some("/".repeat(4000)),
            ..ProcessFinding::default()
        };
        let findings = Findings { processes: vec![process; 64], ..Findings::default() };
        let bytes = to_json(findings).expect("a document");
        assert!(bytes.len() < MAX_FINDINGS_BYTES, "{}", bytes.len());
        let back: Findings = serde_json::from_slice(&bytes).expect("read back");
        assert!(back.is_shortened);
        assert_eq!(back.processes.len() + back.processes_left_out as usize, 64);
    }

    #[test]
    fn pressure_is_read() {
        let text =
            "some avg10=1.50 avg60=0.06 avg300=1.42 total=2\nfull avg10=0.25 avg60=0 total=0\n";
        assert_eq!((parse_pressure(text, "some"), parse_pressure(text, "full")), (1.5, 0.25));
        assert_eq!(parse_pressure("", "some"), 0.0);
    }
}
