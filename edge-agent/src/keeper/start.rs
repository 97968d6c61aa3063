//! From a spec to a running command: pipes, control group, program search, environment.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use reeve_protocol::ops::{Command, Mode, Stdin as StdinSource};
use reeve_protocol::{Containment, Outcome, Refusal};

use super::files::Spec;
use crate::host::cgroup::Group;
use crate::host::child::{self, Launch, LaunchError, Reason, Stage};
use crate::host::sandbox::{self, Bus};
use crate::host::{self, pipe, terminal};

/// Where programs are looked for, unless the request sets another `PATH`.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command that runs.
#[derive(Debug)]
pub struct Started {
    /// Its process, which leads its session and group.
    pub pid: u32,
    /// Our end of its stdin, if it has one.
    pub stdin: Option<OwnedFd>,
    /// Our end of its stdout.
    pub stdout: OwnedFd,
    /// Our end of its stderr; on a terminal there is but one end.
    pub stderr: Option<OwnedFd>,
    /// The terminal's slave, when it is on one. Held for as long as the command lives: programs may
    /// close theirs and open it again, and without any it would look as if it were over.
    pub slave: Option<OwnedFd>,
    /// In inspect mode: its way to the system bus, when there is one.
    pub bus: Option<Bus>,
}

/// The group of an operation, if it gets one. Falls back to process groups where making one fails.
#[must_use]
pub fn make_group(spec: &Spec) -> (Option<Group>, Containment) {
    match spec.group.as_deref().map(Group::create) {
        Some(Ok(group)) => (Some(group), Containment::CgroupV2),
        _ => (None, Containment::ProcessGroup),
    }
}

/// Starts the command.
///
/// # Errors
/// Why nothing of it ran, as it is to be reported.
pub fn start(
    spec: &Spec,
    group: Option<&Group>,
    oom_score: Option<Vec<u8>>,
) -> Result<Started, Outcome> {
    let environment = build_environment(spec);
    let path = environment
        .iter()
        .find_map(|(name, value)| (name == "PATH").then_some(value.as_str()))
        .unwrap_or(PATH)
        .to_owned();
    let arguments = match &spec.command.command {
        Command::Argv(argv) => argv.clone(),
        Command::Shell(line) => {
            vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()]
        }
    };
    let program = arguments.first().cloned().unwrap_or_default();
    try_start(spec, group, oom_score, &arguments, &environment, &path).map_err(
        |error| match error {
            StartError::Launch(error) => describe(&error, &program, &path, spec),
            StartError::Walls(reason) => Outcome::Refused(refuse_inspection(&reason)),
        },
    )
}

/// Why nothing of a command runs.
enum StartError {
    /// The command itself, or what it needs.
    Launch(LaunchError),
    /// A wall of inspect mode.
    Walls(String),
}

impl From<LaunchError> for StartError {
    fn from(error: LaunchError) -> Self {
        match error.stage {
            Stage::Wall(_) => Self::Walls(error.describe_wall()),
            _ => Self::Launch(error),
        }
    }
}

/// The end of an operation for which no process could be made.
#[must_use]
pub fn refuse(error: &io::Error) -> Outcome {
    Outcome::Refused(Refusal {
        code: "start_failed".to_owned(),
        message: format!("no process could be made for it: {}", host::explain_no_process(error)),
    })
}

/// The refusal of a command in inspect mode that cannot be kept from changing anything.
#[must_use]
pub fn refuse_inspection(reason: &str) -> Refusal {
    Refusal {
        code: "inspect_unavailable".to_owned(),
        message: format!(
            "inspect mode cannot be enforced on this machine, so the command was not started \
             ({reason}); run it as an ordinary command if it may change things"
        ),
    }
}

fn try_start(
    spec: &Spec,
    group: Option<&Group>,
    oom_score: Option<Vec<u8>>,
    arguments: &[String],
    environment: &[(String, String)],
    path: &str,
) -> Result<Started, StartError> {
    let failed = |error: io::Error| LaunchError { stage: Stage::Fork, error };
    let (theirs, ours) = make_ends(spec).map_err(failed)?;
    let group = group
        .map(|group| Ok((group.open_folder()?, group.open_entrance()?)))
        .transpose()
        .map_err(failed)?;
    let prepared = match (&spec.walls, spec.command.mode) {
        (None, Mode::Normal) => None,
        (Some(walls), Mode::Inspect) => Some(
            sandbox::prepare(walls, spec.command.network)
                .map_err(|error| StartError::Walls(error.to_string()))?,
        ),
        _ => return Err(StartError::Walls("the agent gave no walls for it".to_owned())),
    };
    let launch = Launch {
        candidates: match &prepared {
            // In there other things may be where these look.
            Some(_) => list_candidates(arguments, path),
            None => list_candidates(arguments, path).map(child::leave_out_missing),
        }
        .map_err(failed)?,
        arguments: to_c(name_arguments(spec, arguments)).map_err(failed)?,
        environment: to_c(environment.iter().map(|(name, value)| format!("{name}={value}")))
            .map_err(failed)?,
        directory: to_c([spec.command.cwd.as_deref().unwrap_or(&spec.account.home)])
            .map_err(failed)?
            .pop()
            .unwrap_or_default(),
        directory_may_fail: spec.command.cwd.is_none(),
        become_user: spec
            .switch_user
            .then(|| (spec.account.uid, spec.account.gid, spec.account.groups.clone())),
        sandbox: prepared.as_ref().map(|prepared| &prepared.sandbox),
        stdio: [theirs[0].as_fd(), theirs[1].as_fd(), theirs[2].as_fd()],
        is_on_terminal: spec.terminal.is_some(),
        group: group.as_ref().map(|(folder, entrance)| (folder.as_fd(), entrance.as_fd())),
        oom_score,
    };
    let launched = child::launch(&launch);
    let bus = match (&prepared, &spec.walls) {
        (Some(prepared), Some(walls)) => prepared.find_bus(walls),
        _ => None,
    };
    if let Some(prepared) = prepared
        && let Err(error) = prepared.leave()
    {
        // In there nothing can be written, and what runs could not be looked after.
        if let Ok(pid) = launched {
            host::process::kill(pid);
        }
        return Err(StartError::Walls(error.to_string()));
    }
    let pid = launched?;
    let Ends { stdin, stdout, stderr, slave } = ours;
    Ok(Started { pid, stdin, stdout, stderr, slave, bus })
}

/// Our ends of what a command reads and writes.
struct Ends {
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: Option<OwnedFd>,
    slave: Option<OwnedFd>,
}

/// Pipes or a terminal: the command's descriptors 0 to 2, and our ends.
fn make_ends(spec: &Spec) -> io::Result<([OwnedFd; 3], Ends)> {
    if let Some(asked) = &spec.terminal {
        let owner = spec.switch_user.then_some(spec.account.uid);
        let terminal::Terminal { master, slave } =
            terminal::open(asked.columns, asked.rows, owner)?;
        let theirs = [slave.try_clone()?, slave.try_clone()?, slave.try_clone()?];
        let stdin = Some(master.try_clone()?);
        return Ok((theirs, Ends { stdin, stdout: master, stderr: None, slave: Some(slave) }));
    }
    let (stdout, child_stdout) = pipe::make()?;
    let (stderr, child_stderr) = pipe::make()?;
    pipe::set_nonblocking(&stdout)?;
    pipe::set_nonblocking(&stderr)?;
    let (child_stdin, stdin) = match spec.command.stdin {
        StdinSource::Null => (pipe::open_null()?, None),
        StdinSource::Stream => {
            let (reader, writer) = pipe::make()?;
            pipe::set_nonblocking(&writer)?;
            (reader, Some(writer))
        }
    };
    if let Some(walls) = &spec.walls {
        for pipe in [&child_stdout, &child_stderr].into_iter().chain(stdin.as_ref()) {
            pipe::give(pipe, walls.uid)?;
        }
    }
    let theirs = [child_stdin, child_stdout, child_stderr];
    Ok((theirs, Ends { stdin, stdout, stderr: Some(stderr), slave: None }))
}

/// What the program finds as its arguments: a shell that is logged in to by a name with a `-` in
/// front, as login(1) does; a worker by our own name, which says more in a list of processes than
/// the link it is started by.
fn name_arguments(spec: &Spec, arguments: &[String]) -> Vec<String> {
    let mut arguments = arguments.to_vec();
    if spec.terminal.as_ref().is_some_and(|terminal| terminal.login)
        && let Some(name) = arguments.first_mut()
    {
        *name = format!("-{}", name.rsplit('/').next().unwrap_or_default());
    }
    if spec.work.is_some()
        && let Some(name) = arguments.first_mut()
    {
        "reeve-agent".clone_into(name);
    }
    arguments
}

fn to_c<T: Into<Vec<u8>>>(texts: impl IntoIterator<Item = T>) -> io::Result<Vec<CString>> {
    texts.into_iter().map(|text| CString::new(text).map_err(io::Error::other)).collect()
}

/// The paths to try for a program, as execvp(3) would.
fn list_candidates(arguments: &[String], path: &str) -> io::Result<Vec<CString>> {
    let program = arguments.first().map(String::as_str).unwrap_or_default();
    if program.contains('/') {
        return to_c([program]);
    }
    to_c(path.split(':').map(|folder| match folder {
        "" => format!("./{program}"),
        folder => format!("{folder}/{program}"),
    }))
}

/// What commands in inspect mode have in their environment besides.
const INSPECTION: &[(&str, &str)] = &[
    ("HOME", "/"),
    ("PAGER", "cat"),
    ("GIT_PAGER", "cat"),
    ("SYSTEMD_PAGER", ""),
    ("LC_ALL", "C.UTF-8"),
    ("TERM", "dumb"),
    ("TMPDIR", sandbox::SCRATCH),
];

fn build_environment(spec: &Spec) -> Vec<(String, String)> {
    let account = &spec.account;
    let mut environment: std::collections::BTreeMap<String, String> = [
        ("PATH", PATH),
        ("HOME", &account.home),
        ("USER", &account.name),
        ("LOGNAME", &account.name),
        ("SHELL", &account.shell),
        ("LANG", "C.UTF-8"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    if spec.walls.is_some() {
        // No files of others are executed, nothing asks, and nothing pages.
        for (name, value) in INSPECTION {
            environment.insert((*name).to_owned(), (*value).to_owned());
        }
    }
    environment.extend(spec.command.env.clone());
    // Not to be changed: what is left of an operation is found by it.
    environment.insert(MARK.to_owned(), spec.id.to_string());
    environment.into_iter().collect()
}

/// The variable that names the operation in each of its processes.
pub const MARK: &str = "REEVE_OPERATION";

fn describe(error: &LaunchError, program: &str, path: &str, spec: &Spec) -> Outcome {
    let reason = error.reason();
    let why = &error.error;
    let user = &spec.account.name;
    let (exit_code, code, message) = match error.stage {
        Stage::Exec if reason == Reason::NotFound => (
            127,
            "command_not_found",
            if program.contains('/') {
                format!(
                    "'{program}' was not found (or the interpreter named in its first line is \
                     missing); check the path on the machine"
                )
            } else {
                format!(
                    "'{program}' was not found in PATH={path}; install it, give its full path, or \
                     set PATH with --env"
                )
            },
        ),
        Stage::Exec if reason == Reason::Forbidden => (
            126,
            "not_executable",
            format!(
                "'{program}' may not be executed by '{user}'; check its mode with ls -l, or run it through its interpreter"
            ),
        ),
        Stage::Exec if reason == Reason::NoProgram => (
            126,
            "not_executable",
            format!(
                "'{program}' is not a program this machine can run (exec format error); a script needs a first line such as #!/bin/sh"
            ),
        ),
        Stage::Exec => (126, "start_failed", format!("'{program}' could not be started: {why}")),
        Stage::Directory => (
            126,
            "bad_directory",
            format!(
                "the directory '{}' cannot be entered by '{user}': {why}; create it or give another with --cwd",
                spec.command.cwd.as_deref().unwrap_or(&spec.account.home)
            ),
        ),
        Stage::User => (
            126,
            "start_failed",
            format!(
                "the agent could not become '{user}': {why}; only an agent running as root can run commands as other users"
            ),
        ),
        Stage::Group => {
            (126, "start_failed", format!("the command could not enter its control group: {why}"))
        }
        Stage::Wall(_) | Stage::Descriptors | Stage::Fork => {
            let why = host::explain_no_process(&error.error);
            (126, "start_failed", format!("no process could be made for '{program}': {why}"))
        }
    };
    Outcome::NotStarted { exit_code, code: code.to_owned(), message }
}
