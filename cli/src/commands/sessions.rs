//! `reeve sessions`: terminals, open and over.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use reeve_protocol::OperationId;
use reeve_sdk::api::TerminalSession;
use reeve_sdk::{Client, RecordingStream};

use super::collect;
use crate::args::Global;
use crate::connection::connect;
use crate::durations::{self, age, length, size};
use crate::exit;
use crate::failure::Failure;
use crate::output::{Column, Row, column, print_list, print_one, wide};
use crate::shell::Filter;
use crate::terminal::note;

const EXAMPLES: &str = "\
Examples:
  reeve sessions                        open ones and the newest that are over
  reeve sessions replay ID --speed 4 --idle-limit 2s
  reeve sessions export ID day.cast     for asciinema and its like
  reeve sessions close ID               ends it with all that runs in it";

/// Terminals: who has or had one open, and what it showed.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Sessions {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// List terminals, newest first
    List(List),
    /// Show one
    Show {
        /// Its id
        id: OperationId,
    },
    /// Show again what it showed, as it did
    Replay(Replay),
    /// Write its recording to a file (asciicast version 2)
    Export {
        /// Its id
        id: OperationId,
        /// Where to; '-' is stdout
        file: PathBuf,
    },
    /// End it with everything that runs in it
    Close {
        /// Its id
        id: OperationId,
    },
}

#[derive(Args)]
struct List {
    /// Only open ones
    #[arg(long)]
    open: bool,
    /// Only on this machine
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    /// How many
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    limit: u32,
}

#[derive(Args)]
struct Replay {
    /// Its id
    id: OperationId,
    /// So many times as fast; 0 without any pause
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    speed: f64,
    /// No pause longer than this
    #[arg(long, value_name = "DURATION", value_parser = durations::parse)]
    idle_limit: Option<Duration>,
}

impl Row for TerminalSession {
    const COLUMNS: &'static [Column] = &[
        column("ID"),
        column("MACHINE"),
        column("STATE"),
        column("BY"),
        column("OPENED"),
        column("SIZE"),
        column("VIEWERS"),
        wide("RUNS"),
        wide("AS"),
        wide("SHOWN"),
    ];

    fn name(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self) -> Vec<String> {
        let viewers = self.viewers.iter().map(|viewer| viewer.principal.as_str());
        vec![
            self.id.to_string(),
            self.machine.clone(),
            if self.state.is_terminal() { self.state.as_str() } else { "open" }.to_owned(),
            self.opened_by.clone(),
            age(self.opened),
            format!("{}x{}", self.columns, self.rows),
            viewers.collect::<Vec<_>>().join(","),
            self.command.as_ref().map_or_else(|| "shell".to_owned(), |argv| argv.join(" ")),
            self.user.clone().unwrap_or_default(),
            size(self.shown),
        ]
    }
}

impl Sessions {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let client = connect(global)?;
        let usual = List { open: false, machine: None, limit: 20 };
        match self.action.unwrap_or(Action::List(usual)) {
            Action::List(list) => {
                let open = list.open.then_some(true);
                let sessions = collect(Some(list.limit), |paging| {
                    let (client, machine) = (client.clone(), list.machine.clone());
                    async move { client.sessions(open, machine.as_deref(), &paging).await }
                })
                .await?;
                if sessions.is_empty() {
                    note("no terminals");
                }
                print_list(global.output, &sessions)?;
            }
            Action::Show { id } => show(global, &client.session(id).await?)?,
            Action::Replay(replay) => return replay.perform(&client).await,
            Action::Export { id, file } => export(&client, id, &file).await?,
            Action::Close { id } => {
                client.session(id).await?;
                client.cancel_operation(id, "closed by 'reeve sessions close'").await?;
                note(&format!("closing terminal {id}"));
            }
        }
        Ok(exit::OK)
    }
}

fn show(global: &Global, session: &TerminalSession) -> Result<(), Failure> {
    let took = session.finished.map(|end| {
        let micros = end.as_micros().saturating_sub(session.opened.as_micros());
        length(micros.unsigned_abs() / 1000)
    });
    let viewers = session.viewers.iter().map(|viewer| {
        let how = if viewer.types { "" } else { " (looks)" };
        format!("{}{how}, since {}", viewer.principal, age(viewer.since))
    });
    let details = [
        ("id", session.id.to_string()),
        ("machine", session.machine.clone()),
        ("state", if took.is_none() { "open" } else { session.state.as_str() }.to_owned()),
        ("by", session.opened_by.clone()),
        ("as", session.user.clone().unwrap_or_default()),
        ("runs", session.command.as_ref().map(|argv| argv.join(" ")).unwrap_or_default()),
        ("opened", format!("{} ({})", session.opened, age(session.opened))),
        ("was open", took.unwrap_or_default()),
        ("size", format!("{}x{}", session.columns, session.rows)),
        ("shown", size(session.shown)),
        ("recorded", if session.recorded { "yes" } else { "no" }.to_owned()),
        ("viewers", viewers.collect::<Vec<_>>().join("; ")),
    ];
    print_one(global.output, session, &session.id.to_string(), &details)
}

async fn export(client: &Client, id: OperationId, file: &std::path::Path) -> Result<(), Failure> {
    let mut recording = client.recording(id).await?;
    if file.as_os_str() == "-" {
        let mut out = std::io::stdout().lock();
        while let Some(bytes) = recording.next().await? {
            out.write_all(&bytes)?;
        }
        return Ok(());
    }
    let failed = |error: std::io::Error| {
        Failure::new(format!("'{}' cannot be written: {error}", file.display())).because(error)
    };
    // A pipe or device is written to, and nothing takes its place.
    if std::fs::metadata(file).is_ok_and(|about| !about.is_file()) {
        let mut out = std::fs::OpenOptions::new().write(true).open(file).map_err(failed)?;
        while let Some(bytes) = recording.next().await? {
            out.write_all(&bytes).map_err(failed)?;
        }
        return Ok(());
    }
    // Under its name only when it is whole.
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    let copied = async {
        let mut out = std::fs::File::create(&part).map_err(failed)?;
        while let Some(bytes) = recording.next().await? {
            out.write_all(&bytes).map_err(failed)?;
        }
        out.sync_all().map_err(failed)?;
        std::fs::rename(&part, file).map_err(failed)
    };
    let copied: Result<(), Failure> = copied.await;
    if copied.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    copied
}

impl Replay {
    async fn perform(&self, client: &Client) -> Result<u8, Failure> {
        if !self.speed.is_finite() || self.speed < 0.0 {
            return Err(Failure::usage(
                "--speed is a number that is not negative, such as 4 or 0.5",
            ));
        }
        let recording = client.recording(self.id).await?;
        let shown = self.show(recording).await;
        if !matches!(shown, Ok(exit::OK)) {
            // It may have been in the middle of colours.
            let _ = std::io::stdout().write_all(b"\x1b[m\x1b[?25h");
        }
        shown
    }

    async fn show(&self, mut recording: RecordingStream) -> Result<u8, Failure> {
        let mut interrupts = crate::watch::Interrupts::catch()?;
        let mut pending: Vec<u8> = Vec::new();
        let mut last = 0.0;
        // Recorded questions to a terminal are none to ours.
        let mut filter = Filter::default();
        while let Some(bytes) = recording.next().await? {
            pending.extend_from_slice(&bytes);
            let end = pending.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let lines: Vec<u8> = pending.drain(..end).collect();
            for line in lines.lines() {
                // The first line is the header, which is an object.
                let Ok((at, kind, data)) = serde_json::from_str::<(f64, String, String)>(&line?)
                else {
                    continue;
                };
                let pause = self.pause(at - last);
                last = at;
                if kind != "o" {
                    continue;
                }
                tokio::select! {
                    () = interrupts.next() => return Ok(exit::INTERRUPTED),
                    () = tokio::time::sleep(pause) => {}
                }
                let mut out = std::io::stdout().lock();
                let shown = filter.pass(data.as_bytes());
                out.write_all(&shown).and_then(|()| out.flush())?;
            }
        }
        Ok(exit::OK)
    }

    fn pause(&self, seconds: f64) -> Duration {
        if self.speed == 0.0 {
            return Duration::ZERO;
        }
        let pause = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
        let pause = self.idle_limit.map_or(pause, |limit| pause.min(limit));
        Duration::try_from_secs_f64(pause.as_secs_f64() / self.speed).unwrap_or_default()
    }
}
