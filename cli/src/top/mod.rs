//! `reeve top`: how busy machines are, live.

mod draw;
mod keys;
mod machines;
mod stage;

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCandidates;
use reeve_protocol::ops::{ProcessSort, SystemWatch, WatchSample};
use reeve_protocol::{OperationId, Stream};
use reeve_sdk::api::JobRequest;
use reeve_sdk::{Client, Event, Follow};

use crate::args::{Format, Global};
use crate::commands::completion::machine_names;
use crate::connection::connect;
use crate::durations::to_millis;
use crate::exit;
use crate::failure::Failure;
use crate::output::{json_line, print, print_list};
use crate::terminal::{Screen, note};
use crate::watch::{Interrupts, summary};
pub use draw::line_of;
use keys::{Key, Keys, Wish};
use machines::{Machines, Snapshot};
use stage::Stage;

const EXAMPLES: &str = "\
Examples:
  reeve top web-1                    one machine, with its processes
  reeve top 'role=web'               many; Enter shows one of them
  reeve top @all --sort memory
  reeve top web-1 --once -o json     one sample of each, for programs

Keys: q quits, arrows and Enter choose, Esc goes back, c m d n l a sort, r turns around.";

/// Processes that are told of with one machine, and of each of many.
const PROCESSES: (u32, u32) = (80, 15);

/// After the connection broke it is tried again this often.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// The end gets this long to get through to the coordinator.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Bytes of a line that has not ended; a sample is a few KiB.
const MAX_LINE: usize = 4 * 1024 * 1024;

/// Watch how busy machines are
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Top {
    /// web-1 | web-1,db-1 | web-* | role=web,env!=prod | @all
    #[arg(add = ArgValueCandidates::new(machine_names))]
    selector: String,
    /// Between samples, at least 500ms (2s)
    #[arg(short, long, value_name = "DURATION", value_parser = crate::durations::parse)]
    interval: Option<Duration>,
    /// Sort by name, cpu, memory, disk, network or load
    #[arg(short, long, value_name = "KEY", default_value = "cpu", hide_possible_values = true)]
    #[arg(hide_default_value = true)]
    sort: Sort,
    /// Show one sample of each and end; so it is without a terminal
    #[arg(long)]
    once: bool,
}

/// An order of machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    Name,
    Cpu,
    #[value(alias = "mem")]
    Memory,
    Disk,
    Network,
    Load,
}

impl Top {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let client = connect(global)?;
        let is_table = matches!(global.output, Format::Table | Format::Wide);
        let screen = Screen::stdout(global.color);
        if self.once || !screen.terminal || (!is_table && global.output != Format::Jsonl) {
            return self.show_once(&client, global).await;
        }
        if global.output == Format::Jsonl {
            return self.print_lines(&client).await;
        }
        self.run(&client, screen).await
    }

    fn request(&self, count: Option<u32>, many: bool) -> JobRequest {
        let interval = self.interval.map(to_millis).and_then(|it| u32::try_from(it).ok());
        let operation = SystemWatch {
            interval_ms: interval,
            count,
            processes: Some(if many { PROCESSES.1 } else { PROCESSES.0 }),
            sort: match self.sort {
                Sort::Memory => ProcessSort::Memory,
                _ => ProcessSort::Cpu,
            },
        };
        // Nobody asks later how busy a machine was at this very second: the history tells.
        JobRequest { relay: true, ..JobRequest::new(&self.selector, operation) }
    }

    async fn show_once(&self, client: &Client, global: &Global) -> Result<u8, Failure> {
        let mut request = self.request(Some(1), true);
        request.relay = false;
        let answered = client.perform(&request).await?;
        let code = exit::of_job(answered.iter().map(|answer| &answer.operation));
        let mut machines = Machines::new(self.sort);
        for answer in &answered {
            let machine = &answer.operation.machine;
            match &answer.failure {
                Some(failure) => note(&format!("{machine}: {failure}")),
                None => {
                    if let Ok(sample) = serde_json::from_slice::<WatchSample>(&answer.stdout) {
                        machines.take(machine, sample);
                    }
                }
            }
        }
        print_list(global.output, &machines.snapshots())?;
        Ok(code)
    }

    /// Every sample as a line, until somebody has enough.
    async fn print_lines(&self, client: &Client) -> Result<u8, Failure> {
        let mut feed = Feed::open(client, &self.request(None, false))?;
        let mut interrupts = Interrupts::catch()?;
        loop {
            let told = tokio::select! {
                told = feed.next() => told,
                () = interrupts.next() => break,
            };
            match told? {
                Some(Told::Sample(machine, sample)) => {
                    let line = Snapshot { machine, sample: *sample };
                    if let Err(failure) = json_line(&line).and_then(|line| print(&line)) {
                        feed.end(client).await;
                        return Err(failure);
                    }
                }
                Some(Told::Ended(text)) => note(&text),
                Some(Told::Known(_)) => {}
                None => return Ok(exit::SOME_FAILED),
            }
        }
        feed.end(client).await;
        Ok(exit::OK)
    }

    async fn run(&self, client: &Client, screen: Screen) -> Result<u8, Failure> {
        let targets = client.preview_job(&self.request(None, true)).await?.targets;
        let many = targets.len() > 1;
        let mut machines = Machines::new(self.sort);
        for target in &targets {
            machines.expect(&target.machine);
        }
        if !many {
            machines.open();
        }
        let mut interrupts = Interrupts::catch()?;
        let mut stage = Stage::open()?;
        let mut keys = Keys::listen();
        let request = self.request(None, many);
        let mut feed = Some(Feed::open(client, &request)?);
        let code = loop {
            stage.draw(&mut machines, screen)?;
            tokio::select! {
                biased;
                () = interrupts.next() => break exit::INTERRUPTED,
                key = keys.next() => match key {
                    Some(Key::Wish(Wish::Quit)) | None => break exit::OK,
                    Some(Key::Wish(wish)) => machines.wish(wish),
                    Some(Key::Resized) => {}
                },
                told = next_of(&mut feed) => match told {
                    Ok(Some(Told::Sample(machine, sample))) => machines.take(&machine, *sample),
                    Ok(Some(Told::Known(machine))) => machines.expect(&machine),
                    Ok(Some(Told::Ended(text))) => machines.say(text),
                    // All of them have ended, or the connection did.
                    Ok(None) => feed = None,
                    Err(failure) => {
                        machines.say(failure.to_string());
                        feed = None;
                    }
                },
                () = tokio::time::sleep(AGAIN_AFTER), if feed.is_none() => {
                    feed = Feed::open(client, &request).ok();
                }
            }
        };
        drop(stage);
        if let Some(feed) = feed {
            feed.end(client).await;
        }
        Ok(code)
    }
}

async fn next_of(feed: &mut Option<Feed>) -> Result<Option<Told>, Failure> {
    match feed {
        Some(feed) => feed.next().await,
        None => std::future::pending().await,
    }
}

/// What comes from the machines.
enum Told {
    /// There is such a machine.
    Known(String),
    /// How busy one is.
    Sample(String, Box<WatchSample>),
    /// One tells nothing any more, and why.
    Ended(String),
}

/// Samples of a job, line by line.
struct Feed {
    follow: Follow,
    names: BTreeMap<OperationId, String>,
    lines: BTreeMap<OperationId, Vec<u8>>,
    ready: std::collections::VecDeque<Told>,
}

impl Feed {
    fn open(client: &Client, request: &JobRequest) -> Result<Self, Failure> {
        Ok(Self {
            follow: client.run(request)?,
            names: BTreeMap::new(),
            lines: BTreeMap::new(),
            ready: std::collections::VecDeque::new(),
        })
    }

    /// The next one; may be dropped and asked for again.
    async fn next(&mut self) -> Result<Option<Told>, Failure> {
        loop {
            if let Some(told) = self.ready.pop_front() {
                return Ok(Some(told));
            }
            match self.follow.next().await? {
                None => return Ok(None),
                Some(Event::Operation(operation)) => {
                    let machine = operation.machine.clone();
                    if self.names.insert(operation.id, machine.clone()).is_none() {
                        self.ready.push_back(Told::Known(machine));
                    }
                    if operation.state.is_terminal()
                        && let Some(text) = summary::sentence(&operation)
                    {
                        self.ready.push_back(Told::Ended(text));
                    }
                }
                Some(Event::Output(output)) if output.stream == Stream::Stdout => {
                    self.take(output.operation, &output.bytes);
                }
                Some(_) => {}
            }
        }
    }

    fn take(&mut self, operation: OperationId, bytes: &[u8]) {
        let held = self.lines.entry(operation).or_default();
        held.extend_from_slice(bytes);
        while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = held.drain(..=end).collect();
            let name = self.names.get(&operation).cloned().unwrap_or_default();
            if let Ok(sample) = serde_json::from_slice(&line) {
                self.ready.push_back(Told::Sample(name, Box::new(sample)));
            }
        }
        if held.len() > MAX_LINE {
            held.clear();
        }
    }

    /// Has it end everywhere.
    async fn end(self, client: &Client) {
        if let Some(id) = self.follow.job_id() {
            let cancel = client.cancel_job(id, "nobody watches any more");
            // The program ends either way.
            let _ = tokio::time::timeout(LAST_WORD, cancel).await;
        }
    }
}
