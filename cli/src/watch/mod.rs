//! Watching a job from the terminal: its output live, Ctrl-C, stdin, and what is said at the end.

mod interrupts;
mod lines;
#[cfg(test)]
pub mod samples;
mod sink;
pub mod summary;
mod view;

use std::future::{Future, pending};
use std::pin::Pin;
use std::time::Duration;

use reeve_sdk::api::{Job, Operation};
use reeve_sdk::{Client, Error, Event, Follow, InputSummary};

use crate::args::{Color, Format};
use crate::exit;
use crate::failure::Failure;
use crate::terminal::note;
pub use interrupts::Interrupts;
use sink::Sink;
use view::View;

/// When nobody reads our output any more, the cancellation gets this long to get through.
const LAST_WORD: Duration = Duration::from_secs(2);

/// How to watch.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub format: Format,
    pub color: Color,
    /// Machine names before lines of many machines.
    pub prefix: bool,
    /// Of many machines: nothing live, at the end each different output once.
    pub fold: bool,
    /// Send our stdin to the command.
    pub input: bool,
    /// Ctrl-C and a closed stdout end the job; otherwise only the watching.
    pub cancels: bool,
}

/// Work that goes on beside.
pub type Boxed<T> = Pin<Box<dyn Future<Output = T>>>;

/// Waits for a future that may not be there.
pub async fn when<T>(slot: &mut Option<Boxed<T>>) -> T {
    match slot {
        Some(future) => {
            let value = future.await;
            *slot = None;
            value
        }
        None => pending().await,
    }
}

/// Follows a job to its end; the exit code.
pub async fn watch(client: Client, follow: Follow, options: Options) -> Result<u8, Failure> {
    let sink =
        Sink::open().map_err(|error| Failure::new(format!("cannot open the output: {error}")))?;
    let mut watch = Watch {
        view: View::new(options),
        options,
        client,
        follow,
        sink,
        job: None,
        cancel_asked: false,
        cancel_sent: false,
        cancelling: None,
        input: None,
        input_started: false,
    };
    let mut interrupts = Interrupts::catch()?;
    match watch.follow_to_end(&mut interrupts).await? {
        Ending::Complete => {}
        Ending::Detached => return Ok(exit::INTERRUPTED),
        Ending::NobodyReads => {
            watch.cancel_quietly().await;
            return Err(Failure::silent(exit::BROKEN_PIPE));
        }
    }
    watch.conclude(&mut interrupts).await
}

enum Ending {
    Complete,
    /// The second Ctrl-C.
    Detached,
    /// stdout was closed.
    NobodyReads,
}

struct Watch {
    client: Client,
    follow: Follow,
    options: Options,
    view: View,
    sink: Sink,
    job: Option<Box<Job>>,
    /// Ctrl-C was pressed once.
    cancel_asked: bool,
    /// And the coordinator was asked, too, which needs the job's id.
    cancel_sent: bool,
    cancelling: Option<Boxed<Result<Job, Error>>>,
    input: Option<Boxed<Result<InputSummary, Error>>>,
    input_started: bool,
}

impl Watch {
    async fn follow_to_end(&mut self, interrupts: &mut Interrupts) -> Result<Ending, Failure> {
        loop {
            let has_room = self.sink.has_room();
            let idle = self.view.next_idle();
            tokio::select! {
                biased;
                () = interrupts.next() => {
                    if self.interrupted() {
                        return Ok(Ending::Detached);
                    }
                }
                () = self.sink.closed() => return Ok(Ending::NobodyReads),
                cancelled = when(&mut self.cancelling) => if let Err(error) = cancelled {
                    note(&format!("reeve: cannot cancel: {error}"));
                },
                event = self.follow.next(), if has_room => match event? {
                    Some(event) => self.handle(event).await?,
                    None => return Ok(Ending::Complete),
                },
                () = self.sink.wait_for_room(), if !has_room => {}
                sent = when(&mut self.input) => self.input_ended(sent).await?,
                () = async {
                    match idle {
                        Some(at) => tokio::time::sleep_until(at.into()).await,
                        None => pending().await,
                    }
                } => self.view.show_idle(&self.sink).await,
            }
        }
    }

    async fn handle(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Job(job) => {
                if let Some(operation) = &job.single {
                    self.start_input(operation);
                }
                self.view.job(&self.sink, &job).await?;
                self.job = Some(job);
                if self.cancel_asked && !self.cancel_sent {
                    self.start_cancelling();
                }
            }
            Event::Operation(operation) => self.view.operation(&self.sink, *operation).await?,
            Event::Output(output) => self.view.output(&self.sink, output).await?,
            Event::Gap { operation, gap } => self.view.gap(&self.sink, operation, gap).await?,
            Event::Interrupted { why } => {
                self.sink.note(&format!("reeve: connection lost, resuming… ({why})")).await;
            }
            Event::Resumed => self.sink.note("reeve: resumed").await,
        }
        Ok(())
    }

    fn start_input(&mut self, operation: &Operation) {
        if !self.options.input || std::mem::replace(&mut self.input_started, true) {
            return;
        }
        let (client, id) = (self.client.clone(), operation.id);
        self.input = Some(Box::pin(async move { client.send_input(id, tokio::io::stdin()).await }));
    }

    /// An input that was not sent whole must not look like one that was: the command would go on
    /// with half of it. So it is cancelled.
    async fn input_ended(&mut self, sent: Result<InputSummary, Error>) -> Result<(), Failure> {
        let Err(error) = sent else { return Ok(()) };
        self.cancel_quietly().await;
        Err(Failure::new(format!("stdin was not sent whole, so the command is cancelled: {error}"))
            .because(error))
    }

    /// Ctrl-C. Whether it was the second one.
    fn interrupted(&mut self) -> bool {
        let id = self.follow.job_id();
        if !self.options.cancels || self.cancel_asked {
            match id {
                Some(id) => {
                    note(&format!("\nreeve: detached; job {id} goes on: reeve jobs attach {id}"))
                }
                None => note(
                    "\nreeve: gone before the job was known to be recorded; see 'reeve jobs list'",
                ),
            }
            return true;
        }
        self.cancel_asked = true;
        match id {
            Some(id) => note(&format!(
                "\nreeve: cancelling job {id} and waiting for its end; Ctrl-C again leaves it alone"
            )),
            None => note("\nreeve: cancelling as soon as the job is recorded"),
        }
        self.start_cancelling();
        false
    }

    fn start_cancelling(&mut self) {
        if let Some(id) = self.follow.job_id() {
            self.cancel_sent = true;
            let client = self.client.clone();
            self.cancelling = Some(Box::pin(async move {
                client.cancel_job(id, "interrupted in the terminal").await
            }));
        }
    }

    async fn cancel_quietly(&mut self) {
        if let (Some(id), true) = (self.follow.job_id(), self.options.cancels) {
            let cancel = self.client.cancel_job(id, "nobody reads or writes its streams any more");
            // The program ends either way.
            let _ = tokio::time::timeout(LAST_WORD, cancel).await;
        }
    }

    /// Everything has come; what is left is to say how it went.
    async fn conclude(self, interrupts: &mut Interrupts) -> Result<u8, Failure> {
        let Self { client, view, sink, job, .. } = self;
        let job = job.ok_or_else(|| Failure::new("the coordinator did not say which job it is"))?;
        let last = async {
            let code = view.conclude(&client, &sink, &job).await?;
            sink.finish().await?;
            Ok(code)
        };
        tokio::select! {
            code = last => code,
            // A reader who does not read must not keep us from ending.
            () = interrupts.next() => Ok(exit::INTERRUPTED),
        }
    }
}
