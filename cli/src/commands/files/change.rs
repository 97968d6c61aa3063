//! `reeve files mkdir`, `mv` and `rm`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use reeve_protocol::ops::{FileMkdir, FileMove, FileRemove, FileRemoved, RemotePath};
use reeve_sdk::api::{JobRequest, OperationRequest};

use super::super::confirm;
use super::asking::{Asker, combine, read_line};
use super::mode::parse_octal;
use super::shown::{name_of, shown};
use crate::args::Global;
use crate::failure::Failure;
use crate::target::{Remote, Target};
use crate::terminal::note;

const MKDIR_EXAMPLES: &str = "\
Examples:
  reeve files mkdir web-1:/srv/app
  reeve files mkdir -p -m 750 'role=web:/srv/app/releases'";

/// Make folders
#[derive(Args)]
#[command(after_help = MKDIR_EXAMPLES)]
pub struct Mkdir {
    /// MACHINE:/PATH or SELECTOR:/PATH
    #[arg(required = true, value_name = "TARGET", value_parser = Remote::parser())]
    targets: Vec<Remote>,
    /// Folders above it, too; one that is there is fine
    #[arg(short, long)]
    parents: bool,
    /// Its mode, octal (755)
    #[arg(short, long, value_name = "MODE", value_parser = parse_octal)]
    mode: Option<u32>,
}

const MV_EXAMPLES: &str = "\
Examples:
  reeve files mv web-1:/srv/a.conf /srv/b.conf       another name
  reeve files mv web-1:/srv/a.conf /srv/old/         into a folder
  reeve files mv --replace 'role=web:/srv/new' /srv/current
From machine to machine: reeve cp.";

/// Give files and folders other names
#[derive(Args)]
#[command(after_help = MV_EXAMPLES)]
pub struct Mv {
    /// MACHINE:/PATH or SELECTOR:/PATH
    #[arg(value_name = "TARGET", value_parser = Remote::parser())]
    from: Remote,
    /// The new path on the same machine; a '/' behind it means into that folder
    #[arg(value_name = "PATH", value_parser = Target::parser())]
    to: Target,
    /// Take the place of a file that is there; a version of it is kept
    #[arg(long)]
    replace: bool,
    /// Do not ask before many machines
    #[arg(short, long)]
    yes: bool,
}

const RM_EXAMPLES: &str = "\
Examples:
  reeve files rm web-1:/srv/app/old.conf
  reeve files rm -r web-1:/srv/app/releases/41       asks
  reeve files rm --yes 'role=web:/tmp/lock'          on all of them
Versions of removed files are kept: reeve files history, restore.";

/// Remove files and folders
#[derive(Args)]
#[command(after_help = RM_EXAMPLES)]
pub struct Rm {
    /// MACHINE:/PATH or SELECTOR:/PATH
    #[arg(required = true, value_name = "TARGET", value_parser = Remote::parser())]
    targets: Vec<Remote>,
    /// Folders with all in them
    #[arg(short, long)]
    recursive: bool,
    /// Keep no versions
    #[arg(long)]
    no_version: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Mkdir {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let asker = Asker::new(global, &self.targets.iter().collect::<Vec<_>>())?;
        let mut codes = Vec::new();
        for target in &self.targets {
            let make = FileMkdir {
                parents: self.parents,
                mode: self.mode,
                ..FileMkdir::new(target.path.clone())
            };
            codes.push(asker.conclude(&asker.ask(&target.selector, make).await?));
        }
        Ok(combine(&codes))
    }
}

impl Mv {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let to = self.new_path()?;
        let asker = Asker::new(global, &[&self.from])?;
        let ask = FileMove { replace: self.replace, ..FileMove::new(self.from.path.clone(), to) };
        if self.from.may_be_many() {
            let what = format!("Moving {}", shown(&self.from.path));
            confirm_many(&asker, &self.from, ask.clone(), self.yes, &what).await?;
        }
        Ok(asker.conclude(&asker.ask(&self.from.selector, ask).await?))
    }

    fn new_path(&self) -> Result<RemotePath, Failure> {
        let path = match &self.to {
            Target::Local(path) if path.is_absolute() => {
                RemotePath::new(path.as_os_str().as_bytes())
            }
            Target::Remote(to) if to.selector == self.from.selector => to.path.clone(),
            Target::Remote(to) => {
                return Err(Failure::usage(format!(
                    "mv stays on one machine, and '{}' is another than '{}'; copy with 'reeve cp' \
                     and remove",
                    to.selector, self.from.selector
                )));
            }
            Target::Local(_) | Target::Standard => {
                return Err(Failure::usage(
                    "the new path has to begin with '/'; it is on the same machine",
                ));
            }
        };
        path.check().map_err(|error| Failure::usage(error.to_string()))?;
        if path.as_bytes().ends_with(b"/") {
            return Ok(path.join(name_of(&self.from.path).as_bytes()));
        }
        Ok(path)
    }
}

impl Rm {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let asker = Asker::new(global, &self.targets.iter().collect::<Vec<_>>())?;
        // Everything is asked about before anything is done.
        for target in &self.targets {
            let all = if self.recursive { " and everything in it" } else { "" };
            let what = format!("Removing {}{all}", shown(&target.path));
            if target.may_be_many() {
                confirm_many(&asker, target, self.ask(target), self.yes, &what).await?;
            } else if self.recursive {
                confirm(self.yes, &format!("{what} on {}", target.selector))?;
            }
        }
        let mut codes = Vec::new();
        for target in &self.targets {
            let answers = asker.ask(&target.selector, self.ask(target)).await?;
            if self.recursive {
                for answer in answers.iter().filter(|answer| answer.failure.is_none()) {
                    let machine = &answer.operation.machine;
                    let removed: FileRemoved = read_line(machine, &answer.stdout)?;
                    note(&format!(
                        "{machine}: {} files and {} folders removed, {} versions kept",
                        removed.files, removed.folders, removed.versions
                    ));
                }
            }
            codes.push(asker.conclude(&answers));
        }
        Ok(combine(&codes))
    }

    fn ask(&self, target: &Remote) -> FileRemove {
        let trimmed = target.path.as_bytes();
        let length = trimmed.iter().rposition(|byte| *byte != b'/').map_or(1, |last| last + 1);
        let path = OsStr::from_bytes(trimmed.get(..length).unwrap_or(trimmed));
        FileRemove {
            recursive: self.recursive,
            no_version: self.no_version,
            ..FileRemove::new(RemotePath::new(path.as_bytes()))
        }
    }
}

/// Asks before something is done on more than one machine.
pub async fn confirm_many(
    asker: &Asker,
    target: &Remote,
    operation: impl Into<OperationRequest>,
    yes: bool,
    what: &str,
) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let request = JobRequest::new(&target.selector, operation);
    let targets = asker.client.preview_job(&request).await?.targets;
    let [first, second, rest @ ..] = targets.as_slice() else { return Ok(()) };
    let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
    let names = format!("{}, {}{more}", first.machine, second.machine);
    confirm(yes, &format!("{what} on {} machines ({names})", targets.len()))
}
