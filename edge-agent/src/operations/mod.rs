//! What this machine is asked to do: the table of operations, what runs, what is remembered.

mod answer;
mod approval;
mod attend;
mod exec;
mod explain;
#[cfg(not(fuzzing))]
mod files;
#[cfg(fuzzing)]
pub mod files;
mod keepers;
#[cfg(not(fuzzing))]
mod logs;
#[cfg(fuzzing)]
pub mod logs;
mod machine;
mod operation;
mod recover;
mod services;
mod spares;
mod terminal;
mod tidy;
mod tunnel;
mod work;
pub mod worker;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reeve_protocol::ops::{self, ExecuteCommand, ExplainOperation, OpenTerminal, Operation as _};
use reeve_protocol::{
    Accepted, Containment, Evidence, InspectFact, JournalId, OperationId, OperationReport,
    OperationResult, Outcome, Refusal, ReportedState, Request, Totals,
};
use tokio::sync::watch;

use crate::host::sandbox::UidRange;
use crate::host::{self, users::Account};
use crate::keeper::spool;
use crate::policy::Policy;
use crate::state::journal::{Event, Journal, Record};
use crate::state::{StateError, StateFolder};
use crate::tasks::Tasks;

use keepers::Keepers;
use spares::Spares;

use operation::Kind;
pub use operation::{CommandError, Operation, View};

/// What does not change while the agent runs.
#[derive(Debug)]
pub struct Settings {
    /// The state folder.
    pub folder: StateFolder,
    /// The machine owner's rules.
    pub policy: Policy,
    /// The program to start keepers from.
    pub program: PathBuf,
    /// Where operations get their control groups, or `None` for process groups.
    pub groups: Option<PathBuf>,
    /// This boot.
    pub boot_id: String,
    /// Bytes of output kept on disk for one operation.
    pub spool_bytes: u64,
    /// Inspect mode here.
    pub inspection: Inspection,
}

/// What the agent found out about inspect mode when it started.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Whether it can be enforced.
    pub fact: InspectFact,
    /// Whose commands in it are.
    pub uids: UidRange,
}

impl Inspection {
    /// Tries it out.
    pub async fn probe(program: &Path, policy: &Policy, folder: &StateFolder) -> Self {
        let uids = host::sandbox::choose_uids(policy.inspect_uids);
        let fact = host::sandbox::probe(program, uids.pick(0), folder.path()).await;
        Self { fact, uids }
    }
}

struct Inner {
    settings: Settings,
    own_account: Account,
    journal: Mutex<Journal>,
    journal_id: JournalId,
    running: Mutex<HashMap<OperationId, Arc<Operation>>>,
    spares: Mutex<Spares>,
    keepers: Keepers,
    /// Operations whose keeper is yet to be started.
    starting: AtomicU32,
    tasks: Tasks,
    /// Counts changes of what runs, for whoever shows it.
    changes: watch::Sender<u64>,
}

/// Everything this machine was asked to do and has not been told to forget. Cheap to clone.
#[derive(Clone)]
pub struct Operations {
    inner: Arc<Inner>,
}

/// What to answer to a request.
pub enum Answer {
    /// It starts now.
    Started(Arc<Operation>),
    /// It had started before; nothing happens.
    Known(Arc<Operation>),
    /// Nothing runs; this is the whole answer.
    Result(Box<OperationResult>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere does not make the map wrong: every change of it is one statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Operations {
    /// Opens the journal and finds what earlier agents left: running keepers are attended again,
    /// dead ones are cleaned up after.
    ///
    /// # Errors
    /// When the state folder cannot be used.
    pub async fn recover(settings: Settings, tasks: Tasks) -> Result<Self, StateError> {
        let path = settings.folder.file("journal");
        let journal = Journal::open(&path, host::now_us())
            .map_err(|source| StateError::Io { path, source })?;
        let operations = Self {
            inner: Arc::new(Inner {
                own_account: host::users::load_own_account(),
                journal_id: journal.id(),
                journal: Mutex::new(journal),
                running: Mutex::new(HashMap::new()),
                keepers: Keepers::new(settings.program.clone(), &settings.folder.operations()),
                starting: AtomicU32::new(0),
                spares: Mutex::new(Spares::new(settings.folder.file("spare"))),
                tasks,
                changes: watch::Sender::new(0),
                settings,
            }),
        };
        recover::recover_all(&operations).await?;
        let settings = operations.settings();
        let tidied = crate::versions::tidy(&settings.folder, &settings.policy.versions);
        if let Err(error) = tidied {
            tracing::warn!(%error, "versions of files could not be tidied up");
        }
        operations.inner.tasks.spawn("tidy", tidy::keep_tidy(operations.clone()));
        Ok(operations)
    }

    /// Names of what can be asked for.
    #[must_use]
    pub fn names() -> Vec<String> {
        ops::NAMES.iter().map(|&name| name.to_owned()).collect()
    }

    /// This life of the journal.
    #[must_use]
    pub fn journal_id(&self) -> JournalId {
        self.inner.journal_id
    }

    /// What does not change.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// How commands are contained here.
    #[must_use]
    pub fn containment(&self) -> Containment {
        match self.inner.settings.groups {
            Some(_) => Containment::CgroupV2,
            None => Containment::ProcessGroup,
        }
    }

    /// Tells of every change of what runs.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    fn note_change(&self) {
        self.inner.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Everything held, in the order of ids.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Operation>> {
        let mut list: Vec<_> = lock(&self.inner.running).values().cloned().collect();
        list.sort_by_key(|operation| operation.id());
        list
    }

    /// One operation, when it is held.
    #[must_use]
    pub fn find(&self, id: OperationId) -> Option<Arc<Operation>> {
        lock(&self.inner.running).get(&id).cloned()
    }

    /// How many commands run.
    #[must_use]
    pub fn count_running(&self) -> u32 {
        self.count_unfinished(Operation::is_command)
    }

    /// How many operations read stdin.
    #[must_use]
    pub fn count_with_stdin(&self) -> u32 {
        self.count_unfinished(Operation::has_stdin)
    }

    fn count_unfinished(&self, wanted: impl Fn(&Operation) -> bool) -> u32 {
        let running = lock(&self.inner.running);
        let count = running.values().filter(|each| wanted(each) && !each.is_finished()).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Takes a request. The same id never starts twice, whatever happens to agent, link or
    /// coordinator.
    pub fn request(&self, id: OperationId, name: &str, request: &Request) -> Answer {
        if let Some(operation) = self.find(id) {
            return Answer::Known(operation);
        }
        match self.try_request(id, name, request) {
            Ok(answer) => answer,
            Err(refusal) => {
                tracing::info!(%id, code = refusal.code, "refused: {}", refusal.message);
                Answer::Result(Box::new(never_started(Outcome::Refused(refusal))))
            }
        }
    }

    fn try_request(
        &self,
        id: OperationId,
        name: &str,
        request: &Request,
    ) -> Result<Answer, Refusal> {
        let settings = &self.inner.settings;
        if request.journal != self.inner.journal_id {
            return Err(refusal(
                "journal_gone",
                "the agent's memory of what it started is not the one this request was made for; \
                 it may have run already, so it is not started; submit it again if it did not",
            ));
        }
        if request.boot_id != settings.boot_id {
            return Err(refusal(
                "rebooted",
                "the machine was rebooted since this request was made; it may have run before, so \
                 it is not started; submit it again if it did not",
            ));
        }
        let known = lock(&self.inner.journal).find(id).map_err(|error| {
            refusal("state_unreadable", &format!("the agent's journal cannot be read: {error}"))
        })?;
        if let Some(record) = known.filter(|record| record.event != Event::TakenBack) {
            return Ok(Answer::Result(Box::new(self.describe_gone(&record))));
        }
        if request.expires_in_ms == Some(0) {
            return Err(refusal("expired", "its time to start was over when it arrived"));
        }
        if let Some(stamp) = &request.approval {
            approval::check(stamp, &request.body)?;
        }
        match name {
            ExecuteCommand::NAME => exec::start(self, id, request).map(Answer::Started),
            ExplainOperation::NAME => explain::start(self, id, request).map(Answer::Started),
            OpenTerminal::NAME => terminal::start(self, id, request).map(Answer::Started),
            other => match worker::find(other) {
                Some(entry) => work::start(self, id, name, &entry, request).map(Answer::Started),
                None => Err(refusal(
                    "unsupported",
                    &format!(
                        "this agent (version {}) does not know the operation '{other}'; update it",
                        env!("CARGO_PKG_VERSION")
                    ),
                )),
            },
        }
    }

    /// For an operation that the journal knows and nobody holds any more.
    fn describe_gone(&self, record: &Record) -> OperationResult {
        let (code, message) = match record.event {
            Event::Started => (
                "keeper_killed",
                "it was started and its folder is gone from the agent's state: what became of it \
                 cannot be known",
            ),
            Event::Finished | Event::Acknowledged | Event::TakenBack => (
                "already_finished",
                "it ran to its end earlier, and its result was handed over and forgotten; it is \
                 not run again",
            ),
        };
        never_started(Outcome::Lost(Evidence {
            code: code.to_owned(),
            message: message.to_owned(),
            boot_id: None,
            last_byte: None,
            last_seen_us: Some(record.time_us),
            killed: 0,
        }))
    }

    /// The coordinator has everything: forgets it.
    pub fn forget(&self, id: OperationId) {
        let Some(operation) = self.find(id) else { return };
        if !operation.is_finished() {
            tracing::warn!(%id, "the coordinator acknowledged the result of what still runs");
            return;
        }
        lock(&self.inner.running).remove(&id);
        self.write_journal(id, Event::Acknowledged);
        if let Err(error) = lock(&self.inner.spares).keep(operation.path()) {
            tracing::warn!(%id, %error, "the operation's folder could not be removed");
        }
        self.note_change();
    }

    /// A plain write that may fail: what it says is only needed for wording.
    fn write_journal(&self, id: OperationId, event: Event) {
        let record = Record { id, time_us: host::now_us(), event };
        if let Err(error) = lock(&self.inner.journal).record(record) {
            tracing::warn!(%id, %error, "the journal could not be written");
        }
    }

    fn hold(&self, operation: &Arc<Operation>) {
        lock(&self.inner.running).insert(operation.id(), operation.clone());
        self.note_change();
    }

    /// What is held, for the first message of a session.
    #[must_use]
    pub fn report(&self) -> Vec<OperationReport> {
        self.list().iter().map(|operation| report(operation)).collect()
    }
}

fn report(operation: &Operation) -> OperationReport {
    let view = operation.view();
    let first = host::unix::open_folder(operation.path())
        .and_then(spool::list_segments)
        .ok()
        .and_then(|segments| segments.first().copied());
    let accepted = view.accepted.clone().unwrap_or(Accepted {
        started_us: operation.created_us(),
        pid: None,
        containment: Containment::None,
    });
    OperationReport {
        id: operation.id(),
        state: match view.finished {
            Some(_) => ReportedState::Finished,
            None => ReportedState::Running,
        },
        spool_from: first.unwrap_or(view.spool_to),
        spool_to: view.spool_to,
        accepted,
        stdin_received: view.stdin.received,
    }
}

fn refusal(code: &str, message: &str) -> Refusal {
    Refusal { code: code.to_owned(), message: message.to_owned() }
}

/// The result of something of which no process was made.
fn never_started(outcome: Outcome) -> OperationResult {
    OperationResult {
        outcome,
        started_us: None,
        finished_us: host::now_us(),
        duration_ms: 0,
        containment: Containment::None,
        totals: Totals::default(),
        leftovers_killed: 0,
        usage: reeve_protocol::Usage::default(),
    }
}

/// Whether an error of the state folder says that the disk is full.
fn describe_state(error: &std::io::Error) -> Refusal {
    if host::files::is_disk_full(error) {
        refusal(
            "disk_full",
            "the machine's disk is full, so nothing new is started; free some space in the \
             agent's state folder's file system",
        )
    } else {
        refusal("state_unwritable", &format!("the agent's state cannot be written: {error}"))
    }
}
