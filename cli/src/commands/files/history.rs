//! `reeve files history` and `restore`.

use clap::Args;
use reeve_protocol::ops::{
    FileDeed, FileEntry, FileHistory, FileKind, FileRestore, FileStat, FileVersion, RemotePath,
};
use serde::Serialize;

use super::super::confirm;
use super::asking::{Asker, combine, read_line, read_lines};
use super::shown::{mode_text, shown, time_text};
use crate::args::Global;
use crate::durations::size;
use crate::exit;
use crate::failure::Failure;
use crate::output::{Column, Row, column, print_list, wide};
use crate::target::Remote;
use crate::terminal::note;

const HISTORY_EXAMPLES: &str = "\
Examples:
  reeve files history web-1:/etc/app.conf
  reeve files history --beneath web-1:/etc     also of what was removed there
  reeve files diff web-1:/etc/app.conf --version 12
Versions are kept before anything is overwritten or removed through Reeve.";

/// List versions that were kept
#[derive(Args)]
#[command(after_help = HISTORY_EXAMPLES)]
pub struct History {
    /// MACHINE:/PATH or SELECTOR:/PATH
    #[arg(required = true, value_name = "TARGET", value_parser = Remote::parser())]
    targets: Vec<Remote>,
    /// Of all that is or was beneath it
    #[arg(long)]
    beneath: bool,
}

const RESTORE_EXAMPLES: &str = "\
Examples:
  reeve files restore web-1:/etc/app.conf                the newest version
  reeve files restore web-1:/etc/app.conf --version 12
  reeve files restore --yes 'role=web:/etc/app.conf'     each its own newest
What is there now is kept as a version itself.";

/// Put versions back
#[derive(Args)]
#[command(after_help = RESTORE_EXAMPLES)]
pub struct Restore {
    /// MACHINE:/PATH or SELECTOR:/PATH
    #[arg(value_name = "TARGET", value_parser = Remote::parser())]
    target: Remote,
    /// Which version, as history tells (the newest)
    #[arg(long, value_name = "ID")]
    version: Option<u64>,
    /// Make folders above it that are gone
    #[arg(short, long)]
    parents: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// A version with its machine.
#[derive(Serialize)]
struct Kept {
    machine: String,
    #[serde(flatten)]
    version: FileVersion,
}

impl Row for Kept {
    const COLUMNS: &'static [Column] = &[
        column("MACHINE"),
        column("VERSION"),
        column("KEPT"),
        column("BEFORE IT WAS"),
        column("SIZE"),
        column("MODE"),
        column("PATH"),
        wide("OPERATION"),
        wide("BLAKE3"),
    ];

    fn name(&self) -> String {
        self.version.id.to_string()
    }

    fn cells(&self) -> Vec<String> {
        let it = &self.version;
        vec![
            self.machine.clone(),
            it.id.to_string(),
            time_text(it.kept_us.saturating_mul(1000)),
            deed_word(it.deed).to_owned(),
            size(it.size),
            mode_text(it.kind, it.mode),
            shown(&it.path),
            it.operation.to_string(),
            it.hash.clone().unwrap_or_default(),
        ]
    }
}

fn deed_word(deed: FileDeed) -> &'static str {
    match deed {
        FileDeed::Overwritten => "overwritten",
        FileDeed::Removed => "removed",
        FileDeed::MovedOver => "moved over",
        FileDeed::Restored => "restored over",
        FileDeed::Unknown => "changed",
    }
}

impl History {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let asker = Asker::new(global, &self.targets.iter().collect::<Vec<_>>())?;
        let (mut codes, mut all) = (Vec::new(), Vec::new());
        for target in &self.targets {
            let ask = FileHistory { path: target.path.clone(), beneath: self.beneath };
            let answers = asker.ask(&target.selector, ask).await?;
            for answer in answers.iter().filter(|answer| answer.failure.is_none()) {
                let machine = &answer.operation.machine;
                let versions: Vec<FileVersion> = read_lines(answer)?;
                let kept =
                    versions.into_iter().map(|version| Kept { machine: machine.clone(), version });
                all.extend(kept);
            }
            codes.push(asker.conclude(&answers));
        }
        let code = combine(&codes);
        if all.is_empty() && code == exit::OK {
            note("no versions were kept");
        }
        print_list(global.output, &all)?;
        Ok(code)
    }
}

/// One file to put back.
struct Plan {
    machine: String,
    version: FileVersion,
    /// What is there now.
    now: Option<FileEntry>,
}

impl Restore {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let asker = Asker::new(global, &[&self.target])?;
        let path = &self.target.path;
        let answers = asker.ask(&self.target.selector, FileHistory::new(path.clone())).await?;
        let mut codes = vec![asker.conclude(&answers)];
        let mut plans = Vec::new();
        for answer in answers.iter().filter(|answer| answer.failure.is_none()) {
            let machine = answer.operation.machine.clone();
            let version = self.choose(&machine, read_lines(answer)?)?;
            let now = look(&asker, &machine, path).await?;
            plans.push(Plan { machine, version, now });
        }
        for plan in &plans {
            note(&plan.describe(path));
        }
        if plans.is_empty() {
            return Ok(combine(&codes));
        }
        confirm(self.yes, "Restoring this")?;
        for plan in plans {
            let ask = FileRestore {
                // What was shown is what is replaced, or nothing is.
                if_match: plan.now.and_then(|entry| entry.hash),
                parents: self.parents,
                ..FileRestore::new(path.clone(), plan.version.id)
            };
            codes.push(asker.conclude(&asker.ask(&plan.machine, ask).await?));
        }
        Ok(combine(codes.get(1..).filter(|codes| codes.len() == 1).unwrap_or(&codes)))
    }

    fn choose(&self, machine: &str, versions: Vec<FileVersion>) -> Result<FileVersion, Failure> {
        let found = match self.version {
            Some(id) => versions.into_iter().find(|version| version.id == id),
            None => versions.into_iter().max_by_key(|version| version.id),
        };
        found.ok_or_else(|| {
            let which = self.version.map(|id| format!(" {id}")).unwrap_or_default();
            Failure::new(format!(
                "'{machine}' keeps no version{which} of {}; see 'reeve files history'",
                shown(&self.target.path)
            ))
        })
    }
}

impl Plan {
    fn describe(&self, path: &RemotePath) -> String {
        let (machine, version) = (&self.machine, &self.version);
        let now = match &self.now {
            None => "nothing is there now".to_owned(),
            Some(entry) if entry.hash.is_some() && entry.hash == version.hash => {
                "the same content is there now".to_owned()
            }
            Some(entry) => format!(
                "instead of what is there now, {} of {}",
                size(entry.size),
                time_text(entry.modified_ns)
            ),
        };
        format!(
            "{machine}:{}: version {} of {}, {}; {now}",
            shown(path),
            version.id,
            time_text(version.kept_us.saturating_mul(1000)),
            size(version.size),
        )
    }
}

/// What is at a path, with its hash; `None` when nothing is.
pub async fn look(
    asker: &Asker,
    machine: &str,
    path: &RemotePath,
) -> Result<Option<FileEntry>, Failure> {
    let ask = FileStat { path: path.clone(), follow: false, hash: true };
    let mut answers = asker.ask(machine, ask).await?;
    let Some(answer) = answers.pop() else { return Ok(None) };
    match &answer.failure {
        None => {
            let entry: FileEntry = read_line(machine, &answer.stdout)?;
            Ok(Some(entry).filter(|entry| entry.kind != FileKind::Unknown))
        }
        Some(failure) if failure.code == "not_found" => Ok(None),
        Some(failure) => Err(Failure::new(format!("{machine}: {}", failure.message))),
    }
}
