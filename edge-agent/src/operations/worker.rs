//! Workers: children of keepers that run our own program instead of one of the machine's, for
//! everything that is done with files, logs, services and the like. Whatever holds for a command
//! holds for them: they outlive the agent, are contained, cancelled and timed out alike, and their
//! output and stdin travel the same way.
//!
//! A worker has one thread unless what it does needs more, reads stdin and writes stdout, blocking,
//! and has one more file in its operation's folder that says what to do: the [`Order`].

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use reeve_protocol::ops::{self, Effect, Failure, Operation as _, Work};
use reeve_protocol::{OperationId, Refusal};
use serde::{Deserialize, Serialize};

use crate::host::paths::Rules;
use crate::host::{self, stdio};
use crate::keeper::files::{self, Filed};
use crate::policy::{FilesRule, Policy, TunnelRule, VersionRules};

/// The word behind the program's name that makes it a worker.
pub const WORD: &str = "work";

/// What a worker may take before it is ended, unless the operation says otherwise.
pub const USUAL_LIMIT: Duration = Duration::from_secs(300);

/// Warnings of one worker: whoever reads a million of them learns no more.
const MAX_WARNINGS: u32 = 1000;

/// How an operation that workers do is done on this machine.
pub trait Perform: Work {
    /// What the machine's policy has to allow for it.
    const NEEDS: Needs;

    /// It is ended after this long; `None` for what goes on for as long as it takes.
    const LIMIT: Option<Duration> = Some(USUAL_LIMIT);

    /// Does it. What it wrote to stdout before an error is sent all the same.
    ///
    /// # Errors
    /// Why it could not be done.
    fn perform(self, worker: &mut Worker) -> Result<(), Failure>;
}

/// What the machine's policy has to allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: it looks at the machine and not into its files.
    Nothing,
    /// `files`: `"read"` for what only reads, else `"write"`.
    Files,
    /// `logs`.
    Logs,
    /// `exec = true`: it does what commands could.
    Exec,
    /// An entry of `tunnels`, which the operation looks up itself.
    Tunnels,
}

impl Needs {
    /// # Errors
    /// Why the policy does not allow it.
    fn check(self, policy: &Policy, effect: Effect) -> Result<(), Refusal> {
        let allow = &policy.allow;
        let (allowed, code, key) = match self {
            Self::Nothing => (true, "", ""),
            Self::Files if effect == Effect::Read => {
                (allow.files != FilesRule::Nothing, "policy_files", "files = false")
            }
            Self::Files => {
                (allow.files == FilesRule::Write, "policy_files", "files is not \"write\"")
            }
            Self::Logs => (allow.logs, "policy_logs", "logs = false"),
            Self::Exec => {
                (allow.exec == crate::policy::ExecRule::All, "policy_exec", "exec is not true")
            }
            Self::Tunnels => (true, "", ""),
        };
        if allowed {
            return match self {
                Self::Exec => check_own_user(policy),
                _ => Ok(()),
            };
        }
        Err(super::refusal(
            code,
            &format!(
                "this machine's policy does not allow it ([allow] {key}); only its owner can \
                 change that"
            ),
        ))
    }
}

/// What a worker does it does as the agent's own user, so that has to be one whom the policy lets
/// commands run as.
fn check_own_user(policy: &Policy) -> Result<(), Refusal> {
    let Some(users) = &policy.users else { return Ok(()) };
    let own = host::users::load_own_account().name;
    if users.contains(&own) {
        return Ok(());
    }
    Err(super::refusal(
        "policy_user",
        &format!(
            "this would be done as the agent's user '{own}', and this machine's policy lets only \
             {users:?} do such things ([exec] users); only its owner can change that"
        ),
    ))
}

/// What one worker is to do. Written by the agent, read by the worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Which operation.
    pub id: OperationId,
    /// Its name.
    pub name: String,
    /// Its body as it came.
    #[serde(with = "serde_bytes")]
    pub body: Vec<u8>,
    /// `[paths] allowed` of the policy.
    pub allowed: Vec<String>,
    /// `[paths] blocked` of the policy.
    pub blocked: Vec<String>,
    /// The agent's state folder.
    pub state: PathBuf,
    /// The policy's own file.
    #[serde(default)]
    pub policy: PathBuf,
    /// `[versions]` of the policy.
    #[serde(default)]
    pub versions: VersionRules,
    /// `[allow] tunnels` of the policy.
    #[serde(default)]
    pub tunnels: Vec<TunnelRule>,
}

impl Filed for Order {
    const MAGIC: [u8; 8] = *b"RVWORK.\x01";
    const NAME: &'static str = "work";
}

/// What an operation finds around it.
pub struct Worker {
    /// What it was told.
    pub order: Order,
    /// Where files may be touched.
    pub rules: Rules,
    /// What is sent to it.
    pub stdin: File,
    /// Its answer. Flushed when it has ended.
    pub stdout: BufWriter<File>,
    /// How often it was warned.
    warnings: u32,
}

impl Worker {
    /// One whose answer goes to a file.
    #[cfg(test)]
    pub(crate) fn with_answer(order: Order, rules: Rules, answer: File) -> Self {
        let stdin = File::open("/dev/null").expect("/dev/null");
        Self { order, rules, stdin, stdout: BufWriter::new(answer), warnings: 0 }
    }

    /// One that reads and writes files.
    #[cfg(fuzzing)]
    pub fn between(order: Order, rules: Rules, stdin: File, answer: File) -> Self {
        Self { order, rules, stdin, stdout: BufWriter::new(answer), warnings: 0 }
    }

    /// Writes one JSON document as the answer.
    ///
    /// # Errors
    /// When nobody takes it.
    pub fn answer<T: Serialize>(&mut self, document: &T) -> Result<(), Failure> {
        let written = serde_json::to_writer(&mut self.stdout, document).map_err(io::Error::other);
        written.and_then(|()| self.stdout.write_all(b"\n")).map_err(|error| lost_answer(&error))
    }

    /// Tells of something that was left out, and goes on. After [`MAX_WARNINGS`] no more is told.
    pub fn warn(&mut self, warning: &Failure) {
        self.warnings += 1;
        match self.warnings.cmp(&MAX_WARNINGS) {
            std::cmp::Ordering::Less => tell(warning),
            std::cmp::Ordering::Equal => {
                tell(warning);
                tell(&Failure::new("more_warnings", "there were more, which are not told"));
            }
            std::cmp::Ordering::Greater => {}
        }
    }
}

/// For an answer that could not be written: whoever reads it is gone.
#[must_use]
pub fn lost_answer(error: &io::Error) -> Failure {
    Failure::new("io", format!("the answer could not be written: {error}"))
}

/// Writes a warning, or why it failed, as one line on stderr.
pub fn tell(failure: &Failure) {
    if let Ok(mut line) = serde_json::to_vec(failure) {
        line.push(b'\n');
        let _ = io::stderr().write_all(&line);
    }
}

/// What is in the table of one operation.
pub struct Entry {
    /// Checks a body against itself and the policy; whether it takes stdin, and its time limit.
    pub check: fn(&[u8], &Policy) -> Result<Terms, Refusal>,
    perform: fn(&mut Worker) -> Result<(), Failure>,
}

/// What a keeper has to know of a worker.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Whether stdin is sent.
    pub has_stdin: bool,
    /// When it is ended.
    pub limit: Option<Duration>,
}

fn check<P: Perform>(body: &[u8], policy: &Policy) -> Result<Terms, Refusal> {
    let work: P = reeve_protocol::decode(body).map_err(|error| {
        super::refusal(
            "invalid",
            &format!("what was asked could not be understood: {error}; a newer agent may"),
        )
    })?;
    work.validate().map_err(|error| super::refusal("invalid", &error.to_string()))?;
    P::NEEDS.check(policy, work.effect())?;
    Ok(Terms { has_stdin: work.has_stdin(), limit: P::LIMIT })
}

fn perform<P: Perform>(worker: &mut Worker) -> Result<(), Failure> {
    let work: P = reeve_protocol::decode(&worker.order.body)
        .map_err(|error| Failure::new("invalid", error.to_string()))?;
    work.perform(worker)
}

macro_rules! table {
    ($($name:ident: $about:literal,)*) => {
        /// How an operation is done here, if workers do it.
        #[must_use]
        pub fn find(name: &str) -> Option<Entry> {
            match name {
                $(ops::$name::NAME => Some(Entry {
                    check: check::<ops::$name>,
                    perform: perform::<ops::$name>,
                }),)*
                _ => None,
            }
        }
    };
}
reeve_protocol::for_each_work!(table);

/// The worker's `main`: does what the folder says.
#[must_use]
pub fn run(folder: &OsStr) -> ExitCode {
    match try_run(Path::new(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&failure);
            ExitCode::FAILURE
        }
    }
}

fn try_run(folder: &Path) -> Result<(), Failure> {
    let unreadable = |error: String| Failure::new("state_unreadable", error);
    let opened = host::unix::open_folder(folder).map_err(|error| unreadable(error.to_string()))?;
    let order: Order = files::load(opened).map_err(|error| unreadable(error.to_string()))?;
    let entry = find(&order.name)
        .ok_or_else(|| Failure::new("unsupported", format!("'{}' is unknown", order.name)))?;
    let rules = Rules::new(&order.allowed, &order.blocked, &order.state)?.keeping(&order.policy);
    let (stdin, stdout) = stdio::take().map_err(|error| unreadable(error.to_string()))?;
    let mut worker = Worker {
        order,
        rules,
        stdin,
        stdout: BufWriter::with_capacity(64 * 1024, stdout),
        warnings: 0,
    };
    let done = (entry.perform)(&mut worker);
    let flushed = worker.stdout.flush().map_err(|error| lost_answer(&error));
    done.and(flushed)
}
