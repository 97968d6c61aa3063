//! One process, as far as it lets itself be looked at.

use std::collections::HashMap;
use std::fs;
use std::io::Read;

use reeve_protocol::ops::explain_operation::{DescriptorFinding, ProcessFinding, ThreadFinding};

use super::descriptors;
use super::memory::Memory;
use super::mounts::Mounts;
use super::stat::{self, Counters};
use super::syscalls::Call;
use crate::keeper::redact;

/// A command line is cut here, bytes.
const MAX_COMMAND: usize = 512;

/// Functions of the kernel's stack that are told of.
const MAX_STACK: usize = 12;

/// Threads that are looked at.
const MAX_THREADS: usize = 256;

/// Kinds of waiting that are told of threads.
const MAX_THREAD_KINDS: usize = 8;

/// Milliseconds of one tick of the kernel's accounting. User space always sees 100 a second.
const TICK_MS: u64 = 10;

/// The command line, cut, without secrets; the short name where there is none.
pub fn read_command(pid: u32) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = fs::File::open(format!("/proc/{pid}/cmdline")) {
        // More than is kept, so that a secret at the edge is seen whole.
        let _ = file.take(4 * MAX_COMMAND as u64).read_to_end(&mut bytes);
    }
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    for byte in &mut bytes {
        if *byte == 0 {
            *byte = b' ';
        }
    }
    let text = redact::plain(&bytes);
    cut(&String::from_utf8_lossy(&text), MAX_COMMAND)
}

/// The beginning of a text.
pub fn cut(text: &str, most: usize) -> String {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default().to_owned()
}

fn read_word(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let word = text.trim();
    (!word.is_empty() && word != "0").then(|| cut(word, 64))
}

/// Looks at a process. `before` is what its counters said a moment ago.
pub fn look(pid: u32, before: Option<Counters>, uptime_ms: u64) -> Option<ProcessFinding> {
    let stat = stat::read(pid)?;
    let now = stat::count(pid).unwrap_or_default();
    let before = before.unwrap_or(now);
    let difference = |now: Option<u64>, before: Option<u64>| {
        now.zip(before).map(|(now, before)| now.saturating_sub(before))
    };
    // What moves least first: the call and where it sleeps belong together.
    let wchan = read_word(&format!("/proc/{pid}/wchan"));
    let call = Call::read(pid);
    let stack = read_stack(pid);
    let memory = Memory::open(pid);
    let cwd = fs::read_link(format!("/proc/{pid}/cwd"))
        .ok()
        .map(|path| cut(&path.to_string_lossy(), MAX_COMMAND));
    let mounts = Mounts::read(pid);
    let mut waits_for =
        call.as_ref().map(|call| call.find_descriptors(pid, memory.as_ref())).unwrap_or_default();
    // A lock is taken on the descriptor that the call names.
    waits_for.truncate(16);
    let (descriptors, descriptors_left_out) = descriptors::read(pid, &waits_for, &mounts);
    let path = call
        .as_ref()
        .zip(memory.as_ref())
        .and_then(|(call, memory)| call.find_path(memory))
        .map(|path| match &cwd {
            Some(cwd) if !path.starts_with('/') => format!("{cwd}/{path}"),
            _ => path,
        })
        .or_else(|| find_waited_file(&waits_for, &descriptors))
        .or_else(|| cwd.clone().filter(|_| stat.state == 'D'));
    Some(ProcessFinding {
        pid,
        ppid: stat.parent,
        command: read_command(pid),
        uid: stat::find_uid(pid),
        state: stat.state.to_string(),
        running_ms: uptime_ms.saturating_sub(stat.start_time.saturating_mul(TICK_MS)),
        wchan,
        syscall: call.as_ref().map(Call::to_finding),
        stack,
        waits_for,
        sleep_ms: call
            .as_ref()
            .zip(memory.as_ref())
            .and_then(|(call, memory)| call.find_sleep_ms(memory)),
        cwd,
        mount: path.and_then(|path| mounts.find(&cut(&path, MAX_COMMAND))),
        children: Vec::new(),
        descriptors,
        descriptors_left_out,
        waits_for_locks: Vec::new(),
        threads: read_threads(pid),
        cpu_ms: now.ticks.saturating_sub(before.ticks).saturating_mul(TICK_MS),
        cpu_total_ms: now.ticks.saturating_mul(TICK_MS),
        read_bytes: difference(now.read_bytes, before.read_bytes),
        written_bytes: difference(now.written_bytes, before.written_bytes),
        voluntary_switches: now.voluntary_switches.saturating_sub(before.voluntary_switches),
        memory_bytes: stat::find_memory(pid),
        name: stat.name,
    })
}

/// The file among the descriptors that it waits for.
pub fn find_waited_file(waits_for: &[u32], descriptors: &[DescriptorFinding]) -> Option<String> {
    descriptors
        .iter()
        .find(|each| waits_for.contains(&each.fd) && each.target.starts_with('/'))
        .map(|each| each.target.clone())
}

/// Lines such as `[<0>] hrtimer_nanosleep+0x74/0xf0`; only root may read them.
fn read_stack(pid: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stack")).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let name = line.split("] ").nth(1)?.split('+').next()?;
            Some(cut(name, 64))
        })
        .take(MAX_STACK)
        .collect()
}

/// What the threads other than the first do, together.
fn read_threads(pid: u32) -> Vec<ThreadFinding> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut kinds: HashMap<(String, String), u32> = HashMap::new();
    let threads = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    for thread in threads.filter(|thread| *thread != pid).take(MAX_THREADS) {
        let folder = format!("/proc/{pid}/task/{thread}");
        let Ok(text) = fs::read_to_string(format!("{folder}/stat")) else { continue };
        let state = text.rsplit(')').next().unwrap_or_default().trim_start();
        let wchan = read_word(&format!("{folder}/wchan")).unwrap_or_default();
        *kinds.entry((cut(state, 1), wchan)).or_default() += 1;
    }
    let mut found: Vec<ThreadFinding> = kinds
        .into_iter()
        .map(|((state, wchan), count)| ThreadFinding { state, wchan, count })
        .collect();
    found.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.wchan.cmp(&b.wchan)));
    found.truncate(MAX_THREAD_KINDS);
    found
}
