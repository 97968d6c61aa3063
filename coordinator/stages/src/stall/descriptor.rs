//! What waiting for a descriptor means.

use reeve_protocol::ops::Findings;
use reeve_protocol::ops::explain_operation::{
    DescriptorFinding, DescriptorKind, ProcessFinding, SocketFinding,
};
use reeve_sdk::api::StallAdvice;

use super::prompt::{Prompt, find_prompt};
use super::words::{self, name, shorten};
use super::{Cause, Verdict};

/// Whether bytes are to come or to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Read,
    Write,
}

/// Programs that ask for a secret on the terminal itself, where nobody else sees it.
const ASK_FOR_SECRETS: &[&str] = &[
    "sudo",
    "su",
    "doas",
    "passwd",
    "ssh",
    "scp",
    "sftp",
    "ssh-add",
    "ssh-keygen",
    "gpg",
    "gpg2",
    "cryptsetup",
    "systemd-ask-pas",
    "pkexec",
    "kinit",
    "ldapsearch",
];

/// Waiting on one descriptor.
pub fn judge_descriptor(
    findings: &Findings,
    process: &ProcessFinding,
    each: &DescriptorFinding,
    direction: Direction,
) -> Option<Verdict> {
    match (each.kind, direction) {
        (DescriptorKind::Tty, Direction::Read) => {
            Some(judge_input(findings, process, &format!("the terminal {}", each.target)))
        }
        (DescriptorKind::Tty, Direction::Write) => Some(Verdict::sure(
            Cause::OutputBlocked,
            StallAdvice::Answer,
            format!(
                "{} writes to the terminal {}, which was stopped (Ctrl-S) or is full",
                name(process),
                each.target
            ),
        )),
        (DescriptorKind::Pipe | DescriptorKind::Fifo, Direction::Read) => {
            judge_pipe_read(findings, process, each)
        }
        (DescriptorKind::Pipe | DescriptorKind::Fifo, Direction::Write) => {
            Some(judge_pipe_write(findings, process, each))
        }
        (DescriptorKind::Socket, _) => {
            each.socket.as_ref().and_then(|socket| judge_socket(process, socket, direction))
        }
        (DescriptorKind::Other, _) if each.target.contains("inotify") => Some(Verdict::sure(
            Cause::WaitsForEvent,
            StallAdvice::Kill,
            format!(
                "{} waits for files to change, as tail -f does; that never ends by itself",
                name(process)
            ),
        )),
        _ => None,
    }
}

/// It reads what a person would type.
fn judge_input(findings: &Findings, process: &ProcessFinding, from: &str) -> Verdict {
    let prompt = findings.last_output.as_ref().and_then(find_prompt);
    let asked = findings
        .last_output
        .as_ref()
        .filter(|_| prompt.is_some())
        .map(|last| format!("; it asked: \"{}\"", shorten(last.text.trim_end(), 120)))
        .unwrap_or_default();
    let on_terminal = from.starts_with("the terminal");
    let asks_secretly =
        on_terminal && prompt.is_none() && ASK_FOR_SECRETS.contains(&process.name.as_str());
    if prompt == Some(Prompt::Password) || asks_secretly {
        return Verdict::sure(
            Cause::WaitsForPassword,
            StallAdvice::Answer,
            format!(
                "{} waits for a password on {from}{asked}; only a person may give one",
                name(process)
            ),
        );
    }
    Verdict::sure(
        Cause::WaitsForInput,
        StallAdvice::Answer,
        format!("{} waits for input on {from}{asked}", name(process)),
    )
}

fn judge_pipe_read(
    findings: &Findings,
    process: &ProcessFinding,
    each: &DescriptorFinding,
) -> Option<Verdict> {
    if each.other_end.iter().any(|peer| peer.is_keeper) {
        let from = if each.fd == 0 { "its stdin" } else { "the command's stdin" };
        return Some(judge_input(findings, process, from));
    }
    let what = match each.kind {
        DescriptorKind::Fifo => format!("the named pipe {}", shorten(&each.target, 100)),
        _ => "a pipe".to_owned(),
    };
    let strangers: Vec<_> = each.other_end.iter().filter(|peer| !peer.is_own).cloned().collect();
    if !strangers.is_empty() {
        return Some(Verdict::sure(
            Cause::WaitsForPeer,
            StallAdvice::Wait,
            format!(
                "{} waits for data on {what}, which {} is to write and does not",
                name(process),
                words::peers(&strangers)
            ),
        ));
    }
    // What another of its own processes is to write: that one says more.
    let own: Vec<_> =
        each.other_end.iter().filter(|peer| peer.pid != process.pid).cloned().collect();
    if own.is_empty() && !each.other_end.is_empty() {
        return Some(Verdict::sure(
            Cause::WaitsForPeer,
            StallAdvice::Kill,
            format!(
                "{} waits for data on {what} of which it alone has both ends: nothing will ever come",
                name(process)
            ),
        ));
    }
    (!own.is_empty()).then(|| {
        Verdict::unsure(
            Cause::WaitsForPeer,
            StallAdvice::Wait,
            format!("{} waits for data that {} is to write", name(process), words::peers(&own)),
        )
    })
}

fn judge_pipe_write(
    findings: &Findings,
    process: &ProcessFinding,
    each: &DescriptorFinding,
) -> Verdict {
    if each.other_end.iter().any(|peer| peer.is_keeper) {
        let why = if findings.spool_is_full {
            "the machine's spool is full, because the coordinator is away or slow"
        } else {
            "its output is not taken as fast as it writes"
        };
        return Verdict::sure(
            Cause::OutputBlocked,
            StallAdvice::Wait,
            format!("{} waits to write its output: {why}", name(process)),
        );
    }
    let others: Vec<_> =
        each.other_end.iter().filter(|peer| peer.pid != process.pid).cloned().collect();
    if others.is_empty() {
        return Verdict::sure(
            Cause::OutputBlocked,
            StallAdvice::Kill,
            format!("{} writes to a full pipe that nobody else reads", name(process)),
        );
    }
    let is_own = others.iter().all(|peer| peer.is_own);
    let (cause, advice) = if is_own {
        (Cause::WaitsForPeer, StallAdvice::Wait)
    } else {
        (Cause::OutputBlocked, StallAdvice::Wait)
    };
    Verdict {
        cause,
        advice,
        confident: !is_own,
        explanation: format!(
            "{} writes to a full pipe that {} does not read",
            name(process),
            words::peers(&others)
        ),
    }
}

fn judge_socket(
    process: &ProcessFinding,
    socket: &SocketFinding,
    direction: Direction,
) -> Option<Verdict> {
    let name = name(process);
    let remote = &socket.remote;
    let verdict = match (socket.family.as_str(), socket.state.as_str()) {
        ("tcp", "SYN_SENT") => Verdict::sure(
            Cause::Connecting,
            StallAdvice::Wait,
            format!(
                "{name} tries to connect to {remote}, which does not answer: a firewall drops it, the machine is away, or its queue of new connections is full; the kernel gives up after about two minutes"
            ),
        ),
        ("tcp", "LISTEN") => Verdict::sure(
            Cause::Listening,
            StallAdvice::Kill,
            format!(
                "{name} is a server: it waits for connections on {} and does not end by itself",
                socket.local
            ),
        ),
        ("tcp", _)
            if direction == Direction::Write || (socket.send_queue > 0 && !remote.is_empty()) =>
        {
            Verdict::sure(
                Cause::WaitsForReply,
                StallAdvice::Wait,
                format!(
                    "{name} has sent {} bytes to {remote} that it does not take",
                    socket.send_queue
                ),
            )
        }
        ("tcp", "ESTABLISHED") => Verdict::sure(
            Cause::WaitsForReply,
            StallAdvice::Wait,
            format!("{name} is connected to {remote} and waits for its answer"),
        ),
        ("udp", _) if !remote.is_empty() => Verdict::sure(
            Cause::WaitsForReply,
            StallAdvice::Wait,
            format!(
                "{name} has asked {remote} (UDP) and waits for an answer{}",
                if remote.ends_with(":53") { "; port 53 is name resolution" } else { "" }
            ),
        ),
        ("unix", "CONNECTING") => Verdict::sure(
            Cause::Connecting,
            StallAdvice::Wait,
            format!("{name} tries to connect to a Unix socket that does not accept"),
        ),
        ("unix", "CONNECTED") => Verdict::unsure(
            Cause::WaitsForReply,
            StallAdvice::Wait,
            format!("{name} waits for an answer on a Unix socket{}", on_path(&socket.local)),
        ),
        _ => return None,
    };
    Some(verdict)
}

fn on_path(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(" ({})", shorten(path, 100)) }
}
