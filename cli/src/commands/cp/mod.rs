//! `reeve cp`.

mod bar;
mod place;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::{Args, ValueEnum};
use futures_util::StreamExt;
use reeve_protocol::ops::{
    Existing, FileEntry, FileKind, FileRead, FileStat, FileWrite, LinkRule, RemotePath, WriteDeed,
};
use reeve_sdk::Client;
use reeve_sdk::api::{JobRequest, MachineState};
use reeve_sdk::transfer::{
    Across, Download, LocalSource, LocalTarget, Placing, TransferError, Transferred, Upload,
    has_begun,
};
use serde::Serialize;

use super::confirm;
use crate::args::{Format, Global};
use crate::connection::connect;
use crate::exit;
use crate::failure::Failure;
use crate::output::print_one;
use crate::target::{Remote, Target};
use crate::terminal::{Screen, note};
use crate::watch::Interrupts;
use bar::{Bar, Bars};
use place::{folder_of, name_of};

const EXAMPLES: &str = "\
Examples:
  reeve cp big.iso web-1:/srv/                into the folder /srv
  reeve cp -r web-1:/var/log/ ./logs          what is in it; without the slash: itself
  reeve cp app.conf 'role=web:/etc/app/'      to many
  tar c . | reeve cp - web-1:/srv/all.tar     '-' is stdin or stdout";

/// More than so many machines need a yes.
const CONFIRM_ABOVE: usize = 10;

/// Machines that are sent to at the same time.
const AT_ONCE: usize = 8;

/// Copy files to and from machines
///
/// A copy that was cut goes on where it stopped, whatever was cut: the connection, an agent, the
/// coordinator, or this command, which then has to be given again as it was. What came is kept for
/// a day. Every file is compared by its BLAKE3 hash, synced, and only then takes its place in one
/// step; what was there before is kept as a version on the machine ('reeve files history').
///
/// A target that is a folder is copied into, under the source's name. A slash behind a target says
/// that it is a folder and has to be there. A slash behind a source folder means what is in it
/// rather than itself. From several machines, each gets a folder of its name.
///
/// Symbolic links in a folder are copied as links and never followed. Of what comes from a machine,
/// links that lead out of the folder are left out unless --outward-links is given. A link at the
/// very place that is written to is refused unless --links says what is to become of it.
#[derive(Args)]
#[command(after_help = EXAMPLES, override_usage = "reeve cp [OPTIONS] SOURCE... TARGET")]
pub struct Cp {
    /// PATH, MACHINE:/PATH, SELECTOR:/PATH or -
    #[arg(required = true, num_args = 2.., value_name = "PLACE")]
    #[arg(value_parser = Target::parser())]
    words: Vec<Target>,
    /// Folders with everything in them
    #[arg(short, long)]
    recursive: bool,
    /// Mode and times as at the source; on machines the owner, too
    #[arg(short, long)]
    preserve: bool,
    /// Pack on the way
    #[arg(short = 'z', long)]
    compress: bool,
    /// Leave alone what is there
    #[arg(short, long)]
    no_clobber: bool,
    /// Only if what is there has this BLAKE3 hash
    #[arg(long, value_name = "HASH")]
    if_match: Option<String>,
    /// Make folders above the target
    #[arg(long, hide_short_help = true)]
    parents: bool,
    /// This mode, such as 640
    #[arg(long, value_parser = parse_mode)]
    mode: Option<u32>,
    /// This owner, USER[:GROUP]
    #[arg(long, hide_short_help = true)]
    owner: Option<String>,
    /// A link at the target: refuse, replace or follow it
    #[arg(long, value_name = "WHAT", default_value = "refuse", hide_short_help = true)]
    links: Links,
    /// Take links that lead out of the folder, too
    #[arg(long, hide_short_help = true)]
    outward_links: bool,
    /// It may change while it is copied
    #[arg(long, hide_short_help = true)]
    live: bool,
    /// Keep no version of what is overwritten
    #[arg(long, hide_short_help = true)]
    no_version: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do not ask, however many machines
    #[arg(short, long)]
    yes: bool,
    /// No progress, no summary
    #[arg(short, long, hide_short_help = true)]
    quiet: bool,
}

/// What becomes of a link at the target.
#[derive(Clone, Copy, ValueEnum)]
enum Links {
    /// It is an error
    Refuse,
    /// The file takes its place
    Replace,
    /// What it leads to is written
    Follow,
}

fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err("write it in octal, such as 640".to_owned()),
    }
}

/// One thing from one place to another.
#[derive(Clone)]
enum Leg {
    Up(Upload),
    Down(Download),
    Across(Across),
}

/// One thing that was copied, as JSON shows it.
#[derive(Serialize)]
struct Copied {
    machine: String,
    path: RemotePath,
    #[serde(skip_serializing_if = "Option::is_none")]
    deed: Option<WriteDeed>,
    entries: u64,
    bytes: u64,
    sent: u64,
    skipped: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct Summary {
    copied: Vec<Copied>,
    bytes: u64,
    seconds: f64,
}

impl Cp {
    pub async fn perform(mut self, global: &Global) -> Result<u8, Failure> {
        let target = self.words.pop().unwrap_or(Target::Standard);
        let sources = std::mem::take(&mut self.words);
        let client = connect(global)?;
        let legs = match &target {
            Target::Remote(Remote { selector, path }) => {
                self.plan_up(&client, &sources, selector, path).await?
            }
            Target::Local(path) => self.plan_down(&client, &sources, Some(path)).await?,
            Target::Standard => self.plan_down(&client, &sources, None).await?,
        };
        self.run(&client, global, legs).await
    }

    fn existing(&self) -> Existing {
        if self.no_clobber { Existing::Keep } else { Existing::Replace }
    }

    fn link_rule(&self) -> LinkRule {
        match self.links {
            Links::Refuse => LinkRule::Refuse,
            Links::Replace => LinkRule::Replace,
            Links::Follow => LinkRule::Follow,
        }
    }

    async fn machines(&self, client: &Client, selector: &str) -> Result<Vec<String>, Failure> {
        let request = JobRequest::new(selector, FileRead::new("/"));
        let targets = client.preview_job(&request).await?.targets;
        let off: Vec<&str> = targets
            .iter()
            .filter(|target| target.state != MachineState::Online)
            .map(|target| target.machine.as_str())
            .collect();
        if !off.is_empty() && off.len() == targets.len() {
            return Err(Failure::new(format!(
                "'{}' is not online; see 'reeve machines list'",
                off.join("', '")
            )));
        }
        Ok(targets.into_iter().map(|target| target.machine).collect())
    }

    async fn plan_up(
        &self,
        client: &Client,
        sources: &[Target],
        selector: &str,
        path: &RemotePath,
    ) -> Result<Vec<Leg>, Failure> {
        let machines = self.machines(client, selector).await?;
        if machines.len() > CONFIRM_ABOVE && !self.dry_run {
            confirm(self.yes, &format!("Copying to {} machines", machines.len()))?;
        }
        let mut legs = Vec::new();
        for source in sources {
            let (source, name, recursive) = match source {
                Target::Remote(remote) => {
                    legs.extend(self.plan_across(client, remote, &machines, path).await?);
                    continue;
                }
                Target::Standard if sources.len() > 1 || machines.len() > 1 => {
                    return Err(Failure::usage("stdin goes to one place on one machine"));
                }
                Target::Standard => (LocalSource::Stdin, None, false),
                Target::Local(local) => {
                    let about = fs::metadata(local)
                        .map_err(|error| Failure::new(format!("{}: {error}", local.display())))?;
                    if about.is_dir() && !self.recursive {
                        return Err(Failure::usage(format!(
                            "{} is a directory; -r copies it with what is in it",
                            local.display()
                        )));
                    }
                    let (name, contents) = name_of(local.as_os_str().as_bytes());
                    let name = name.filter(|_| !(contents && about.is_dir()));
                    (LocalSource::Path(local.clone()), name, about.is_dir())
                }
            };
            let mut path = path.clone();
            // Several things can only go into a folder.
            if sources.len() > 1 && path.as_bytes().last() != Some(&b'/') {
                path = RemotePath::new([path.as_bytes(), b"/"].concat());
            }
            for machine in &machines {
                let write = FileWrite {
                    // They are this user's own.
                    outward_links: true,
                    ..self.write(&path, name.clone(), recursive)
                };
                legs.push(Leg::Up(Upload {
                    machine: machine.clone(),
                    source: source.clone(),
                    write,
                    compress: self.compress || recursive,
                    live: self.live,
                }));
            }
        }
        Ok(legs)
    }

    fn write(&self, path: &RemotePath, name: Option<Vec<u8>>, recursive: bool) -> FileWrite {
        FileWrite {
            name: name.map(RemotePath::new),
            existing: self.existing(),
            if_match: self.if_match.clone(),
            link: self.link_rule(),
            parents: self.parents,
            preserve: self.preserve,
            mode: self.mode,
            owner: self.owner.clone(),
            recursive,
            outward_links: self.outward_links,
            no_version: self.no_version,
            dry_run: self.dry_run,
            ..FileWrite::new(path.clone())
        }
    }

    async fn plan_across(
        &self,
        client: &Client,
        source: &Remote,
        machines: &[String],
        path: &RemotePath,
    ) -> Result<Vec<Leg>, Failure> {
        let sources = self.machines(client, &source.selector).await?;
        let ([from], [to]) = (sources.as_slice(), machines) else {
            return Err(Failure::usage("from machine to machine it goes from one to one"));
        };
        let (name, contents) = name_of(source.path.as_bytes());
        let recursive = self.recursive && is_folder(client, from, &source.path).await?;
        let name = name.filter(|_| !(contents && recursive));
        Ok(vec![Leg::Across(Across {
            from: from.clone(),
            read: FileRead {
                recursive,
                compress: self.compress || recursive,
                live: self.live,
                listing: self.dry_run,
                ..FileRead::new(source.path.clone())
            },
            to: to.clone(),
            write: self.write(path, name, recursive),
        })])
    }

    async fn plan_down(
        &self,
        client: &Client,
        sources: &[Target],
        target: Option<&Path>,
    ) -> Result<Vec<Leg>, Failure> {
        if self.owner.is_some() {
            return Err(Failure::usage(
                "--owner is for what goes to machines; what comes here is yours",
            ));
        }
        let mut legs = Vec::new();
        for source in sources {
            let Target::Remote(Remote { selector, path }) = source else {
                return Err(Failure::usage(
                    "neither side is a machine; write MACHINE:/PATH for what is on one",
                ));
            };
            let machines = self.machines(client, selector).await?;
            let many = machines.len() > 1;
            if target.is_none() && (many || sources.len() > 1) {
                return Err(Failure::usage("to stdout goes one file of one machine"));
            }
            let (name, contents) = name_of(path.as_bytes());
            for machine in &machines {
                let place = match target {
                    None => LocalTarget::Stdout,
                    Some(target) => {
                        let mut place = target.to_owned();
                        if many {
                            place.push(folder_of(machine));
                            fs::create_dir_all(&place).map_err(|error| {
                                Failure::new(format!("{}: {error}", place.display()))
                            })?;
                        }
                        let must_be_itself = self.recursive && has_begun(machine, path, &place);
                        let must = sources.len() > 1 || many || ends_with_slash(target);
                        let name = name.as_deref().filter(|_| !must_be_itself);
                        self.place_of(place, name, contents, must).map(LocalTarget::Path)?
                    }
                };
                let recursive = self.recursive && is_folder(client, machine, path).await?;
                legs.push(Leg::Down(Download {
                    machine: machine.clone(),
                    read: FileRead {
                        recursive,
                        compress: self.compress || recursive,
                        live: self.live,
                        listing: self.dry_run,
                        if_match: self.if_match.clone().filter(|_| !recursive),
                        ..FileRead::new(path.clone())
                    },
                    target: place,
                    placing: Placing {
                        existing: self.existing(),
                        link: self.link_rule(),
                        preserve: self.preserve,
                        mode: self.mode,
                        outward_links: self.outward_links,
                    },
                }));
            }
        }
        Ok(legs)
    }

    /// Where something goes that is fetched. The name is the one that was typed here.
    fn place_of(
        &self,
        target: PathBuf,
        name: Option<&[u8]>,
        contents: bool,
        has_to_be_a_folder: bool,
    ) -> Result<PathBuf, Failure> {
        if target.is_dir() {
            return Ok(match name {
                Some(name) if !(contents && self.recursive) => {
                    target.join(std::ffi::OsStr::from_bytes(name))
                }
                _ => target,
            });
        }
        // A new folder may well be made for a folder's content.
        if has_to_be_a_folder && !(self.recursive && contents) {
            return Err(Failure::new(format!(
                "{} is no folder; make it first, or leave the slash away",
                target.display()
            )));
        }
        if let Some(above) = target.parent().filter(|above| !above.as_os_str().is_empty())
            && !above.is_dir()
        {
            if !self.parents {
                return Err(Failure::new(format!(
                    "{} is no folder; --parents makes it",
                    above.display()
                )));
            }
            fs::create_dir_all(above)
                .map_err(|error| Failure::new(format!("{}: {error}", above.display())))?;
        }
        Ok(target)
    }

    async fn run(&self, client: &Client, global: &Global, legs: Vec<Leg>) -> Result<u8, Failure> {
        let screen = Screen::stderr(global.color);
        let bars = Bars::new(screen.terminal && !self.quiet);
        let started = Instant::now();
        let several = legs.len() > 1;
        let tasks: Vec<(Leg, Arc<Bar>)> = legs
            .into_iter()
            .map(|leg| {
                let bar = Arc::new(bars.add(&leg.title()));
                (leg, bar)
            })
            .collect();
        let watched: Vec<Arc<Bar>> = tasks.iter().map(|(_, bar)| bar.clone()).collect();
        let mut running =
            futures_util::stream::iter(tasks.into_iter().map(|(leg, bar)| async move {
                let outcome = match &leg {
                    Leg::Up(upload) => client.copy_up(upload, bar.clone()).await,
                    Leg::Down(download) => client.copy_down(download, bar.clone()).await,
                    Leg::Across(across) => client.copy_across(across, bar.clone()).await,
                };
                bar.finish();
                (leg, outcome)
            }))
            .buffered(AT_ONCE);
        let mut interrupts = Interrupts::catch()?;
        let mut ended: Vec<(Leg, Result<Transferred, TransferError>)> = Vec::new();
        loop {
            tokio::select! {
                next = running.next() => match next {
                    Some(leg) => ended.push(leg),
                    None => break,
                },
                () = interrupts.next() => {
                    for bar in &watched {
                        bar.finish();
                        if let Some(id) = bar.last_operation() {
                            // What came is kept by the machine whether or not it hears of this.
                            let _ = client.cancel_operation(id, "reeve cp was interrupted").await;
                        }
                    }
                    note("stopped; what came is kept for a day: give the same command again to go on");
                    return Ok(exit::INTERRUPTED);
                }
            }
        }
        self.sum_up(global, &ended, started.elapsed().as_secs_f64(), several)
    }

    fn sum_up(
        &self,
        global: &Global,
        ended: &[(Leg, Result<Transferred, TransferError>)],
        seconds: f64,
        several: bool,
    ) -> Result<u8, Failure> {
        let mut code = exit::OK;
        let mut failed = 0;
        let (mut bytes, mut skipped) = (0, 0);
        for (leg, outcome) in ended {
            match outcome {
                Ok(done) => {
                    bytes += done.bytes;
                    skipped += done.skipped;
                    for (path, deed, size) in &done.would {
                        note(&format!("{}: {} ({size} bytes)", path.display(), deed_word(*deed)));
                    }
                    if done.deed == Some(WriteDeed::Kept) {
                        note(&format!("{}: is there and stays as it is", done.path.display()));
                    }
                }
                Err(error) => {
                    failed += 1;
                    let own = code_of(error);
                    code = if several { exit::SOME_FAILED } else { own };
                    note(&format!("reeve: {}: {error}", leg.title()));
                }
            }
        }
        if skipped > 0 && code == exit::OK {
            code = exit::SOME_FAILED;
        }
        if global.output != Format::Table && global.output != Format::Wide {
            let copied = ended.iter().map(|(leg, outcome)| leg.copied(outcome)).collect();
            let summary = Summary { copied, bytes, seconds };
            print_one(global.output, &summary, "", &[])?;
        } else if !self.quiet && failed < ended.len() && !self.dry_run {
            let rate = if seconds > 0.0 { bytes as f64 / seconds } else { 0.0 };
            let mut text = format!(
                "{} in {seconds:.1} s, {}/s",
                indicatif::BinaryBytes(bytes),
                indicatif::BinaryBytes(rate as u64)
            );
            if several {
                text = format!("{} of {} copied: {text}", ended.len() - failed, ended.len());
            }
            if skipped > 0 {
                text.push_str(&format!(", {skipped} left out"));
            }
            note(&text);
        }
        Ok(code)
    }
}

/// Whether -r means anything for what is at a path. What cannot be looked at is told of by the copy.
async fn is_folder(client: &Client, machine: &str, path: &RemotePath) -> Result<bool, Failure> {
    let look = FileStat { path: path.clone(), follow: true, hash: false };
    let answers = client.perform(&JobRequest::new(machine, look)).await?;
    let entry = answers.first().and_then(|answer| serde_json::from_slice(&answer.stdout).ok());
    Ok(entry.is_none_or(|entry: FileEntry| entry.kind == FileKind::Directory))
}

fn ends_with_slash(path: &Path) -> bool {
    path.as_os_str().as_bytes().last() == Some(&b'/')
}

fn deed_word(deed: WriteDeed) -> &'static str {
    match deed {
        WriteDeed::New => "would be new",
        WriteDeed::Overwritten => "would be overwritten",
        WriteDeed::Same => "is the same already",
        WriteDeed::Kept => "would stay as it is",
        WriteDeed::Unknown => "unknown",
    }
}

/// The machine's no is its command's no; everything else is Reeve's own.
fn code_of(error: &TransferError) -> u8 {
    match error {
        TransferError::Machine(..) => exit::SOME_FAILED,
        TransferError::Ended(operation) => exit::of_operation(operation),
        _ => exit::OWN_FAILURE,
    }
}

impl Leg {
    fn title(&self) -> String {
        match self {
            Self::Up(upload) => format!("{}:{}", upload.machine, upload.write.path.display()),
            Self::Down(download) => {
                format!("{}:{}", download.machine, download.read.path.display())
            }
            Self::Across(across) => format!("{}:{}", across.to, across.write.path.display()),
        }
    }

    fn copied(&self, outcome: &Result<Transferred, TransferError>) -> Copied {
        let (machine, path) = match self {
            Self::Up(upload) => (&upload.machine, &upload.write.path),
            Self::Down(download) => (&download.machine, &download.read.path),
            Self::Across(across) => (&across.to, &across.write.path),
        };
        let done = outcome.as_ref().ok().cloned().unwrap_or_default();
        Copied {
            machine: machine.clone(),
            path: if done.path.as_bytes().is_empty() { path.clone() } else { done.path },
            deed: done.deed,
            entries: done.entries,
            bytes: done.bytes,
            sent: done.sent,
            skipped: done.skipped,
            hash: done.hash,
            error: outcome.as_ref().err().map(ToString::to_string),
        }
    }
}
