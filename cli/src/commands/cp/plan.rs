//! From the words of `reeve cp` to what is copied from where to where.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use reeve_protocol::ops::{
    Existing, FileEntry, FileKind, FileRead, FileStat, FileWrite, LinkRule, RemotePath,
};
use reeve_sdk::Client;
use reeve_sdk::api::{JobRequest, MachineState};
use reeve_sdk::transfer::{
    Across, Download, FanOut, LocalSource, LocalTarget, Placing, Upload, has_begun,
};

use super::place::{folder_of, name_of};
use super::{Cp, Links};
use crate::commands::confirm;
use crate::failure::Failure;
use crate::target::{Remote, Target};

/// More than so many machines need a yes.
const CONFIRM_ABOVE: usize = 10;

/// One thing from one place to another, or to several.
pub enum Leg {
    Up(Upload),
    Many(FanOut),
    Down(Download),
    Across(Across),
}

impl Cp {
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
            let verb = if off.len() == 1 { "is" } else { "are" };
            return Err(Failure::new(format!(
                "'{}' {verb} not online; see 'reeve machines list'",
                off.join("', '")
            )));
        }
        Ok(targets.into_iter().map(|target| target.machine).collect())
    }

    pub(super) async fn plan_up(
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
            let write = FileWrite {
                // They are this user's own.
                outward_links: true,
                ..self.write(&path, name, recursive)
            };
            let compress = self.compress || recursive;
            legs.extend(match source {
                // What changes while it is copied cannot be the same for all.
                LocalSource::Path(source) if machines.len() > 1 && !self.live => {
                    let machines = machines.clone();
                    vec![Leg::Many(FanOut { machines, source, write, compress })]
                }
                source => to_each(&machines, &source, &write, compress, self.live),
            });
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

    pub(super) async fn plan_down(
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
}

/// One thing to several machines, sent to each of them.
pub fn to_each(
    machines: &[String],
    source: &LocalSource,
    write: &FileWrite,
    compress: bool,
    live: bool,
) -> Vec<Leg> {
    let upload = |machine: &String| Upload {
        machine: machine.clone(),
        source: source.clone(),
        write: write.clone(),
        compress,
        live,
    };
    machines.iter().map(|machine| Leg::Up(upload(machine))).collect()
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

impl Leg {
    /// The machines it is about, and the path on them.
    pub fn place(&self) -> (Vec<String>, &RemotePath) {
        match self {
            Self::Up(upload) => (vec![upload.machine.clone()], &upload.write.path),
            Self::Many(many) => (many.machines.clone(), &many.write.path),
            Self::Down(download) => (vec![download.machine.clone()], &download.read.path),
            Self::Across(across) => (vec![across.to.clone()], &across.write.path),
        }
    }

    /// Its name in front of its bar.
    pub fn title(&self) -> String {
        match self.place() {
            (machines, path) if machines.len() > 1 => {
                format!("{} machines:{}", machines.len(), path.display())
            }
            (machines, path) => format!("{}:{}", machines.concat(), path.display()),
        }
    }
}
