//! Trying inspect mode out, once, when the agent starts: a process like a keeper makes a real
//! sandbox and runs this program in it, which looks at its walls and runs against them.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use reeve_protocol::InspectFact;
use reeve_protocol::ops::Network;

use super::{SCRATCH, Walls, landlock, prepare};
use crate::host::child::{self, Launch, Reaped, Stage};

/// Longer than a sandbox takes on a machine that is very busy.
const LIMIT: Duration = Duration::from_secs(20);

/// The first argument that makes this program the one that sets up the sandbox.
pub const OUTER: &str = "probe-inspect";
/// The first argument that makes it the one inside.
pub const INNER: &str = "probe-inside";

/// Whether inspect mode can be enforced here, by trying it with this user id. Starts a process;
/// the agent's own is not touched.
pub async fn probe(program: &Path, uid: u32, hidden: &Path) -> InspectFact {
    let unavailable = |reason: String| InspectFact { available: false, reason, walls: Vec::new() };
    if !crate::host::users::is_root() {
        return unavailable(
            "the agent does not run as root, and only root can build the sandbox".to_owned(),
        );
    }
    #[allow(clippy::disallowed_methods, reason = "this folder is where processes are made")]
    let mut command = std::process::Command::new(program);
    command.arg(OUTER).arg(uid.to_string()).arg(hidden);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).env_clear();
    let output = tokio::process::Command::from(command).kill_on_drop(true).output();
    let output = match tokio::time::timeout(LIMIT, output).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return unavailable(format!("the probe could not be started: {error}")),
        Err(_) => return unavailable(format!("the probe did not end within {LIMIT:?}")),
    };
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || said != FINE {
        let reason: String = said.chars().take(400).collect();
        return unavailable(if reason.is_empty() {
            format!("the probe ended with {} and said nothing", output.status)
        } else {
            reason
        });
    }
    let mut walls = vec!["namespaces", "capabilities", "seccomp"];
    if landlock::is_there() {
        walls.push("landlock");
    }
    let walls = walls.into_iter().map(str::to_owned).collect();
    InspectFact { available: true, reason: String::new(), walls }
}

/// What the probe says when every wall stands.
const FINE: &str = "fine";

/// The outer process: makes the sandbox and runs the inner one in it.
#[must_use]
pub fn run_probe(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let uid = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(0);
    let hidden = arguments.next().unwrap_or_default();
    match try_probe(uid, hidden) {
        Ok(code) => code,
        Err(reason) => {
            say(&reason);
            ExitCode::FAILURE
        }
    }
}

fn try_probe(uid: u32, hidden: String) -> Result<ExitCode, String> {
    if uid == 0 {
        return Err("the user id for inspections is 0 ([inspect] uid)".to_owned());
    }
    let program = fs::read_link("/proc/self/exe").map_err(|error| error.to_string())?;
    let walls = Walls {
        uid,
        blocked: vec![hidden.clone()],
        allowed: vec!["/".to_owned()],
        bus: Vec::new(),
    };
    let text = |text: &str| CString::new(text).map_err(|error| error.to_string());
    let path = text(&program.to_string_lossy())?;
    let arguments =
        ["reeve-agent", INNER, &uid.to_string(), &hidden, &std::process::id().to_string()]
            .into_iter()
            .map(text)
            .collect::<Result<Vec<_>, _>>()?;
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let prepared = prepare(&walls, Network::None).map_err(|error| error.to_string())?;
    let launched = child::launch(&Launch {
        candidates: vec![path],
        arguments,
        environment: Vec::new(),
        directory: text("/")?,
        directory_may_fail: false,
        become_user: None,
        sandbox: Some(&prepared.sandbox),
        stdio: [stdin.as_fd(), stdout.as_fd(), stdout.as_fd()],
        is_on_terminal: false,
        group: None,
        oom_score: None,
    });
    prepared.leave().map_err(|error| error.to_string())?;
    let pid = launched.map_err(|error| match error.stage {
        Stage::Exec => format!(
            "{} cannot be executed by others than its owner ({}); chmod 755 it",
            program.display(),
            error.error
        ),
        _ => error.describe_wall(),
    })?;
    loop {
        match child::wait_any() {
            Reaped::Child(ended, how) if ended == pid => {
                let fine = how == child::Ended::Exited(0);
                return Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            }
            Reaped::NoChildren => return Err("the probe was lost".to_owned()),
            _ => {}
        }
    }
}

/// The inner process: runs against each wall.
#[must_use]
pub fn probe_inside(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let uid = arguments.next().unwrap_or_default();
    let hidden = arguments.next().unwrap_or_default();
    let parent = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(0);
    match find_gap(&uid, &hidden, parent) {
        None => {
            say(FINE);
            ExitCode::SUCCESS
        }
        Some(gap) => {
            say(&format!("the sandbox has a gap: {gap}"));
            ExitCode::FAILURE
        }
    }
}

fn find_gap(uid: &str, hidden: &str, parent: u32) -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let one = "0000000000000004";
    for (name, wanted) in [
        ("Uid", [uid; 4].join("\t")),
        ("Gid", [uid; 4].join("\t")),
        ("Groups", String::new()),
        ("CapPrm", one.to_owned()),
        ("CapEff", one.to_owned()),
        ("CapBnd", one.to_owned()),
        ("CapAmb", one.to_owned()),
        ("NoNewPrivs", "1".to_owned()),
        ("Seccomp", "2".to_owned()),
    ] {
        let found = status
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find_map(|(key, value)| (key == name).then(|| value.trim()));
        if found != Some(wanted.as_str()) {
            return Some(format!("{name} is {found:?} and not {wanted:?}"));
        }
    }
    for folder in ["/", "/tmp", "/var/tmp", "/run", "/dev", "/etc"] {
        let path = format!("{folder}/reeve-probe-{}", std::process::id());
        if fs::write(&path, "").is_ok() {
            return Some(format!("{folder} can be written"));
        }
    }
    if let Err(error) = fs::write(format!("{SCRATCH}/probe"), "x") {
        return Some(format!("{SCRATCH} cannot be written ({error})"));
    }
    if let Err(error) = fs::write("/dev/null", "x") {
        return Some(format!("/dev/null cannot be written ({error})"));
    }
    let is_bare = |name: std::ffi::OsString| name == super::NOTICE;
    if let Ok(entries) = fs::read_dir(hidden)
        && entries.flatten().any(|entry| !is_bare(entry.file_name()))
    {
        return Some(format!("{hidden} can be listed"));
    }
    if std::os::unix::net::UnixDatagram::unbound().is_ok() {
        return Some("unix sockets can be made".to_owned());
    }
    if std::net::UdpSocket::bind("127.0.0.1:0").is_ok() {
        return Some("internet sockets can be made".to_owned());
    }
    if crate::host::process::may_signal(parent) {
        return Some("other processes can be signalled".to_owned());
    }
    if nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).is_ok() {
        return Some("namespaces can be made".to_owned());
    }
    None
}

#[allow(clippy::print_stdout, reason = "how the probe answers")]
fn say(text: &str) {
    println!("{text}");
}
