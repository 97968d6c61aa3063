//! Asking machines: what each says, while it says it or whole, and what it comes to.

use std::collections::BTreeMap;

use reeve_protocol::{OperationId, Stream};
use reeve_sdk::api::{JobRequest, Operation, OperationRequest};
use reeve_sdk::{Answered, Client, Event, Follow, InputSummary};

use super::super::approved;
use crate::args::Global;
use crate::connection::connect;
use crate::exit;
use crate::failure::Failure;
use crate::target::Remote;
use crate::terminal::note;
use crate::watch::{Boxed, Interrupts, when};

/// The most that is kept of one answer while its line, or all of it, is not complete.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// Warnings are short; of what is longer the rest is not shown.
const MAX_WARNINGS_BYTES: usize = 256 * 1024;

/// Whoever asks.
pub struct Asker {
    pub client: Client,
    /// Names of machines go before what they say.
    pub prefix: bool,
}

/// What is done with a line (its end included) that a machine says.
type OnLine<'a> = &'a mut dyn FnMut(&str, &[u8]) -> Result<(), Failure>;

impl Asker {
    /// Somebody who will ask about these.
    pub fn new(global: &Global, targets: &[&Remote]) -> Result<Self, Failure> {
        let first = targets.first().map(|target| &target.selector);
        let prefix = targets.iter().any(|it| it.may_be_many() || Some(&it.selector) != first);
        Ok(Self { client: connect(global)?, prefix })
    }

    /// Has it done and waits for all of it.
    pub async fn ask(
        &self,
        selector: &str,
        operation: impl Into<OperationRequest>,
    ) -> Result<Vec<Answered>, Failure> {
        self.perform(&JobRequest::new(selector, operation), None, None).await
    }

    /// Has it done with this on its stdin.
    pub async fn ask_with_input(
        &self,
        machine: &str,
        operation: impl Into<OperationRequest>,
        input: Vec<u8>,
    ) -> Result<Vec<Answered>, Failure> {
        self.perform(&JobRequest::new(machine, operation), None, Some(input)).await
    }

    /// Has it done; every line is handed on when it comes, and is not kept.
    pub async fn stream(
        &self,
        selector: &str,
        operation: impl Into<OperationRequest>,
        on_line: OnLine<'_>,
    ) -> Result<Vec<Answered>, Failure> {
        self.perform(&JobRequest::new(selector, operation), Some(on_line), None).await
    }

    async fn perform(
        &self,
        request: &JobRequest,
        mut on_line: Option<OnLine<'_>>,
        mut input: Option<Vec<u8>>,
    ) -> Result<Vec<Answered>, Failure> {
        let mut interrupts = Interrupts::catch()?;
        let mut follow = self.client.run(request)?;
        let mut gathered = Gathered::default();
        let line = &mut on_line;
        match self.follow(&mut follow, &mut gathered, line, &mut input, &mut interrupts).await {
            Ok(()) => {}
            Err(failure) if failure.approval().is_some() => {
                let job = approved::wait_for_job(&self.client, failure, None).await?;
                let mut follow = self.client.follow(job);
                let line = &mut on_line;
                self.follow(&mut follow, &mut gathered, line, &mut input, &mut interrupts).await?;
            }
            Err(failure) => return Err(failure),
        }
        Ok(gathered.finish())
    }

    async fn follow(
        &self,
        follow: &mut Follow,
        gathered: &mut Gathered,
        on_line: &mut Option<OnLine<'_>>,
        input: &mut Option<Vec<u8>>,
        interrupts: &mut Interrupts,
    ) -> Result<(), Failure> {
        let mut cancelled = false;
        let mut sending: Option<Boxed<Result<InputSummary, reeve_sdk::Error>>> = None;
        loop {
            let event = tokio::select! {
                biased;
                () = interrupts.next() => {
                    if cancelled {
                        return Err(Failure::silent(exit::INTERRUPTED));
                    }
                    cancelled = true;
                    self.cancel(follow).await;
                    continue;
                }
                sent = when(&mut sending) => {
                    sent?;
                    continue;
                }
                event = follow.next() => event?,
            };
            let Some(event) = event else { break };
            if let Event::Operation(operation) = &event
                && let Some(bytes) = input.take()
            {
                let (client, id) = (self.client.clone(), operation.id);
                sending =
                    Some(Box::pin(async move { client.send_input(id, bytes.as_slice()).await }));
            }
            if let Err(failure) = gathered.take(event, on_line) {
                // Nobody reads it any more: the machine need not go on.
                self.cancel(follow).await;
                return Err(failure);
            }
        }
        if cancelled { Err(Failure::silent(exit::INTERRUPTED)) } else { Ok(()) }
    }

    /// Ends a job that nobody waits for any more.
    pub async fn cancel(&self, follow: &Follow) {
        if let Some(job) = follow.job_id()
            && let Err(error) = self.client.cancel_job(job, "interrupted").await
        {
            note(&format!("reeve: cannot cancel: {error}"));
        }
    }

    /// Tells what was left out and what failed; the exit code. `failed` is that of an operation
    /// that failed on its machine.
    pub fn conclude(&self, answers: &[Answered]) -> u8 {
        for answer in answers {
            for warning in &answer.warnings {
                note(&format!("reeve: {}: {}", answer.operation.machine, warning.message));
            }
            if let Some(failure) = &answer.failure {
                note(&format!("reeve: {}: {}", answer.operation.machine, failure.message));
            }
        }
        exit::of_job(answers.iter().map(|answer| &answer.operation))
    }

    /// `MACHINE:` where that has to be said, else nothing.
    pub fn prefix_of(&self, machine: &str) -> String {
        if self.prefix { format!("{machine}:") } else { String::new() }
    }
}

/// Exit codes of several questions: that of one, else whether all went well.
pub fn combine(codes: &[u8]) -> u8 {
    match codes {
        [one] => *one,
        _ if codes.iter().all(|code| *code == exit::OK) => exit::OK,
        _ => exit::SOME_FAILED,
    }
}

/// What has come so far.
#[derive(Default)]
struct Gathered {
    order: Vec<OperationId>,
    parts: BTreeMap<OperationId, Part>,
}

#[derive(Default)]
struct Part {
    /// Output may come before it.
    operation: Option<Operation>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Gathered {
    fn part(&mut self, id: OperationId) -> &mut Part {
        if !self.order.contains(&id) {
            self.order.push(id);
        }
        self.parts.entry(id).or_default()
    }

    fn take(&mut self, event: Event, on_line: &mut Option<OnLine<'_>>) -> Result<(), Failure> {
        match event {
            Event::Operation(operation) => {
                let part = self.part(operation.id);
                part.operation = Some(*operation);
                part.hand_on(on_line)
            }
            Event::Output(output) => {
                let part = self.part(output.operation);
                if output.stream == Stream::Stderr {
                    let room = MAX_WARNINGS_BYTES.saturating_sub(part.stderr.len());
                    part.stderr.extend(output.bytes.iter().take(room));
                    return Ok(());
                }
                if part.stdout.len() + output.bytes.len() > MAX_ANSWER_BYTES {
                    return Err(Failure::new(format!(
                        "{} answers with more than {} MiB; ask for less",
                        part.machine(),
                        MAX_ANSWER_BYTES / (1024 * 1024)
                    )));
                }
                part.stdout.extend_from_slice(&output.bytes);
                part.hand_on(on_line)
            }
            Event::Gap { operation, gap } => Err(Failure::new(format!(
                "{} bytes of what {} answered are not kept any more; ask for less",
                gap.to - gap.from,
                self.part(operation).machine()
            ))),
            Event::Interrupted { why } => {
                note(&format!("reeve: {why}; trying again"));
                Ok(())
            }
            Event::Job(_) | Event::Resumed => Ok(()),
        }
    }

    fn finish(mut self) -> Vec<Answered> {
        let parts = self.order.iter().filter_map(|id| self.parts.remove(id));
        parts
            .filter_map(|part| Some(Answered::new(part.operation?, part.stdout, &part.stderr)))
            .collect()
    }
}

impl Part {
    fn machine(&self) -> String {
        self.operation.as_ref().map_or_else(|| "it".to_owned(), |it| format!("'{}'", it.machine))
    }

    /// Whole lines go on as soon as it is known whose they are.
    fn hand_on(&mut self, on_line: &mut Option<OnLine<'_>>) -> Result<(), Failure> {
        let (Some(on_line), Some(operation)) = (on_line, &self.operation) else { return Ok(()) };
        let Some(last) = self.stdout.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(());
        };
        let rest = self.stdout.split_off(last + 1);
        let whole = std::mem::replace(&mut self.stdout, rest);
        for line in whole.split_inclusive(|byte| *byte == b'\n') {
            on_line(&operation.machine, line)?;
        }
        Ok(())
    }
}

/// A line of an answer, read.
pub fn read_line<T: serde::de::DeserializeOwned>(machine: &str, line: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(line).map_err(|error| {
        Failure::new(format!("the answer of '{machine}' is not understood ({error}); is its agent older or newer than this program?"))
    })
}

/// All lines of a whole answer, read.
pub fn read_lines<T: serde::de::DeserializeOwned>(answer: &Answered) -> Result<Vec<T>, Failure> {
    let lines = answer.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| read_line(&answer.operation.machine, line)).collect()
}
