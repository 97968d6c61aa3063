//! Following a task to its end.

use std::pin::Pin;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use reeve_protocol::TaskId;
use reeve_sdk::api::{Approval, ApprovalState, Task, TaskEvent, TaskEventKind, TaskState};
use reeve_sdk::{Client, Error, TaskEvents};

use super::decide::{self, Answer};
use super::live::Live;
use super::text;
use crate::args::{Color, Format};
use crate::exit;
use crate::failure::Failure;
use crate::output::{json_line, print, print_one};
use crate::terminal::{Screen, ask, can_ask, note};
use crate::watch::Interrupts;

/// How to follow.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub format: Format,
    pub color: Color,
    /// Every line of output, however many.
    pub all_output: bool,
    /// Wait for others to say yes where nobody can be asked here.
    pub wait: bool,
    /// Ctrl-C ends the task; otherwise only the watching.
    pub cancels: bool,
}

/// Follows a task from an event on; the exit code.
pub async fn follow(client: Client, id: TaskId, options: Options) -> Result<u8, Failure> {
    let mut following = Following {
        events: client.task_events(id, 0),
        screen: Screen::stdout(options.color),
        live: FuturesUnordered::new(),
        later: Vec::new(),
        writing: false,
        cancelled: false,
        client,
        id,
        options,
    };
    following.run(&mut Interrupts::catch()?).await
}

type LiveOutput = Pin<Box<dyn Future<Output = ()>>>;

struct Following {
    client: Client,
    id: TaskId,
    options: Options,
    screen: Screen,
    events: TaskEvents,
    live: FuturesUnordered<LiveOutput>,
    /// Questions that came while output was shown.
    later: Vec<Approval>,
    /// A plan is being written, and its line has not ended.
    writing: bool,
    cancelled: bool,
}

impl Following {
    fn is_for_people(&self) -> bool {
        matches!(self.options.format, Format::Table | Format::Wide)
    }

    async fn run(&mut self, interrupts: &mut Interrupts) -> Result<u8, Failure> {
        loop {
            // Questions wait until the output of what runs has been shown.
            if self.live.is_empty() && !self.later.is_empty() {
                if let Some(code) = self.ask_questions().await? {
                    return Ok(code);
                }
                continue;
            }
            tokio::select! {
                biased;
                () = interrupts.next() => {
                    if let Some(code) = self.interrupt().await? {
                        return Ok(code);
                    }
                }
                Some(()) = self.live.next(), if !self.live.is_empty() => {}
                event = self.events.next() => match event? {
                    Some(event) => self.show(event)?,
                    None => {
                        while self.live.next().await.is_some() {}
                        if let Some(code) = self.conclude().await? {
                            return Ok(code);
                        }
                    }
                },
            }
        }
    }

    async fn interrupt(&mut self) -> Result<Option<u8>, Failure> {
        if self.cancelled || !self.options.cancels {
            note(&format!("reeve: it goes on; come back with: reeve tasks follow {}", self.id));
            return Ok(Some(exit::INTERRUPTED));
        }
        self.cancelled = true;
        note("reeve: cancelling; once more to leave it running");
        match self.client.cancel_task(self.id, "interrupted").await {
            // It has ended by itself.
            Err(Error::Problem(problem, _)) if problem.status == 409 => Ok(None),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(None),
        }
    }

    fn show(&mut self, event: TaskEvent) -> Result<(), Failure> {
        if self.options.format == Format::Jsonl {
            return print(&json_line(&event)?);
        }
        if !self.is_for_people() {
            if let TaskEventKind::Approval(approval) = event.what {
                self.queue(*approval);
            }
            return Ok(());
        }
        if self.writing && !matches!(event.what, TaskEventKind::PlanDelta { .. }) {
            self.writing = false;
            note("");
        }
        match event.what {
            TaskEventKind::State { state, .. } => {
                if state == TaskState::Planning {
                    note("planning …");
                }
            }
            TaskEventKind::PlanDelta { text } => {
                self.writing = !text.ends_with('\n');
                let screen = Screen::stderr(self.options.color);
                eprint_piece(&screen.paint("2", &crate::terminal::escape(&text)));
            }
            TaskEventKind::Plan { summary, planner, subtasks } => {
                let title = format!("Plan by {planner}: {summary}");
                let mut text = self.screen.paint("1", &crate::terminal::escape(&title)) + "\n";
                for step in &subtasks {
                    text.push_str("  ");
                    text.push_str(&text::subtask(self.screen, step));
                }
                print(&text)?;
            }
            TaskEventKind::Subtask(step) => {
                if step.state.is_terminal() {
                    print(&text::verdict(self.screen, &step))?;
                } else if let Some(attempt) = step.attempts.last()
                    && attempt.number > 1
                    && attempt.started.is_none()
                {
                    let why = crate::terminal::escape(&attempt.why);
                    print(&format!("   {}. another way: {why}\n", step.number))?;
                }
            }
            TaskEventKind::Job { job, subtask, .. } => {
                note(&format!("step {subtask} runs: job {job}"));
                let follow = self.client.follow(job);
                let live = Live::new(follow, self.screen, self.options.all_output);
                self.live.push(Box::pin(live.run()));
            }
            TaskEventKind::Approval(approval) => self.queue(*approval),
            TaskEventKind::Stall(stall) => print(&text::stall(self.screen, &stall))?,
            TaskEventKind::Summary(summary) => {
                print(&format!("\n{}", text::summary(self.screen, &summary)))?;
            }
            TaskEventKind::Note { message, .. } => note(&format!("reeve: {message}")),
        }
        Ok(())
    }

    /// Keeps the newest of each approval that is still open.
    fn queue(&mut self, approval: Approval) {
        self.later.retain(|other| other.id != approval.id);
        if approval.state == ApprovalState::Pending {
            self.later.push(approval);
        }
    }

    async fn ask_questions(&mut self) -> Result<Option<u8>, Failure> {
        let task = self.client.task(self.id).await?;
        if task.state.is_terminal() {
            self.later.clear();
            return Ok(None);
        }
        let approval = self.later.remove(0);
        if !can_ask() || !self.is_for_people() {
            if self.is_for_people() {
                print(&text::approval(self.screen, &approval))?;
            }
            if self.options.wait {
                note(&format!("reeve: waiting for: reeve tasks approve {}", self.id));
                return Ok(None);
            }
            note(&format!(
                "reeve: it waits for a yes, and there is no terminal to ask; say it with: reeve tasks approve {id}, come back with: reeve tasks follow {id}, or ask with --yes=change or --yes=all",
                id = self.id
            ));
            return Ok(Some(exit::SOME_FAILED));
        }
        match decide::ask_about(self.screen, &approval)? {
            Answer::Yes => decide::decide(&self.client, &task, &approval, true).await?,
            Answer::No => decide::decide(&self.client, &task, &approval, false).await?,
            Answer::Later => {
                note(&format!("reeve: it waits; say yes with: reeve tasks approve {}", self.id));
            }
        }
        Ok(None)
    }

    /// When nothing more comes: the exit code, or nothing when it goes on with an answer.
    async fn conclude(&mut self) -> Result<Option<u8>, Failure> {
        let task = self.client.task(self.id).await?;
        if task.state == TaskState::NeedsAnswer && self.is_for_people() {
            let reason = task.reason.as_ref().map(|reason| reason.message.as_str());
            let mut lines: Vec<&str> = reason.into_iter().chain(task.question.as_deref()).collect();
            lines.dedup();
            print(&format!("{}\n", crate::terminal::escape(&lines.join("\n"))))?;
            if task.question.is_some() && can_ask() {
                let answer = ask("> ")?;
                if !answer.is_empty() {
                    self.client.answer_task(self.id, &answer).await?;
                    self.events = self.client.task_events(self.id, self.events.last());
                    return Ok(None);
                }
            }
            note(&format!("reeve: answer with: reeve tasks answer {} 'WORDS'", self.id));
        } else if self.is_for_people() && task.state != TaskState::Completed {
            note(&format!("reeve: {}", text::state(&task)));
        } else if !self.is_for_people() && self.options.format != Format::Jsonl {
            print_one(self.options.format, &task, &task.id.to_string(), &[])?;
        }
        Ok(Some(code_of(&task)))
    }
}

/// The exit code of a task.
pub fn code_of(task: &Task) -> u8 {
    match task.state {
        TaskState::Completed => exit::OK,
        // Nothing was tried: Reeve itself could not do it.
        TaskState::Failed if task.subtasks.iter().all(|step| step.attempts.is_empty()) => {
            exit::OWN_FAILURE
        }
        TaskState::Failed => exit::SOME_FAILED,
        TaskState::Cancelled => exit::INTERRUPTED,
        TaskState::Pending
        | TaskState::Planning
        | TaskState::AwaitingApproval
        | TaskState::Running
        | TaskState::NeedsAnswer => exit::OWN_FAILURE,
    }
}

/// A piece of a line on stderr. That nobody reads it is no reason to fail.
fn eprint_piece(text: &str) {
    use std::io::Write as _;
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes());
    let _ = stderr.flush();
}
