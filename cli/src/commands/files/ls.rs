//! `reeve files ls`.

use clap::{Args, ValueEnum};
use reeve_protocol::ops::{
    FileEntry, FileKind, FileList, FileListLine, FileStat, MAX_LIST_ENTRIES,
};
use reeve_sdk::Answered;

use super::asking::{Asker, combine, read_line, read_lines};
use super::shown::{
    On, columns, is_document, mode_text, name_of, painted, print_documents, shown, size_text,
    time_text,
};
use crate::args::{Format, Global};
use crate::failure::Failure;
use crate::output::print;
use crate::target::Remote;
use crate::terminal::{Screen, note};

const EXAMPLES: &str = "\
Examples:
  reeve files ls web-1:/etc
  reeve files ls -la --sort time web-1:/var/log    newest first
  reeve files ls 'role=web:/srv/app'               on every one of them
  reeve files ls -o json web-1:/srv                for programs";

/// List what is in folders
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Ls {
    /// MACHINE:/PATH or SELECTOR:/PATH
    #[arg(required = true, value_name = "TARGET", value_parser = Remote::parser())]
    targets: Vec<Remote>,
    /// With mode, owner, size and time
    #[arg(short, long)]
    long: bool,
    /// Names that begin with a dot, too
    #[arg(short, long)]
    all: bool,
    /// Sizes in bytes
    #[arg(long)]
    bytes: bool,
    /// By name, size (largest first) or time (newest first)
    #[arg(long, value_name = "KEY", default_value = "name")]
    #[arg(hide_possible_values = true, hide_default_value = true)]
    sort: Sort,
    /// The other way round
    #[arg(short, long)]
    reverse: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sort {
    Name,
    Size,
    Time,
}

/// What one machine has at one path.
struct Listing {
    machine: String,
    target: String,
    /// Whether it is what is in a folder, rather than a file that was named.
    is_folder: bool,
    entries: Vec<FileEntry>,
}

impl Ls {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let asker = Asker::new(global, &self.targets.iter().collect::<Vec<_>>())?;
        let mut listings = Vec::new();
        let mut codes = Vec::new();
        for target in &self.targets {
            codes.push(self.list(&asker, target, &mut listings).await?);
        }
        if is_document(global.output) {
            let entries = listings.iter().flat_map(|listing| {
                listing.entries.iter().map(|item| On { machine: &listing.machine, item })
            });
            print_documents(global.output, &entries.collect::<Vec<_>>())?;
            return Ok(combine(&codes));
        }
        let many = listings.len() > 1;
        for (index, listing) in listings.iter().enumerate() {
            if global.output == Format::Name {
                let prefix = asker.prefix_of(&listing.machine);
                for entry in &listing.entries {
                    print(&format!("{prefix}{}\n", shown(&entry.path)))?;
                }
                continue;
            }
            if many && listing.is_folder {
                let gap = if index > 0 { "\n" } else { "" };
                print(&format!("{gap}{}:\n", listing.target))?;
            }
            self.print(listing, global, &asker)?;
        }
        Ok(combine(&codes))
    }

    async fn list(
        &self,
        asker: &Asker,
        target: &Remote,
        listings: &mut Vec<Listing>,
    ) -> Result<u8, Failure> {
        let list = FileList {
            skip_hidden: !self.all,
            limit: MAX_LIST_ENTRIES,
            ..FileList::new(target.path.clone())
        };
        let mut answers = asker.ask(&target.selector, list).await?;
        for answer in &mut answers {
            let machine = answer.operation.machine.clone();
            let is_file =
                answer.failure.as_ref().is_some_and(|failure| failure.code == "not_a_directory");
            let (is_folder, mut entries) = if is_file {
                let stat = FileStat { path: target.path.clone(), follow: false, hash: false };
                let Some(alone) = asker.ask(&machine, stat).await?.pop() else { continue };
                *answer = alone;
                (false, read_entry(answer)?)
            } else {
                (true, read_list(answer)?)
            };
            if answer.failure.is_some() && entries.is_empty() {
                continue;
            }
            self.sort(&mut entries);
            let target = format!("{}{}", asker.prefix_of(&machine), shown(&target.path));
            listings.push(Listing { machine, target, is_folder, entries });
        }
        Ok(asker.conclude(&answers))
    }

    fn sort(&self, entries: &mut [FileEntry]) {
        match self.sort {
            Sort::Name => entries.sort_by(|a, b| a.path.cmp(&b.path)),
            Sort::Size => entries.sort_by_key(|entry| std::cmp::Reverse(entry.size)),
            Sort::Time => entries.sort_by_key(|entry| std::cmp::Reverse(entry.modified_ns)),
        }
        if self.reverse {
            entries.reverse();
        }
    }

    fn print(&self, listing: &Listing, global: &Global, asker: &Asker) -> Result<(), Failure> {
        let screen = Screen::stdout(global.color);
        let name = |entry: &FileEntry| {
            let name = if listing.is_folder {
                shown(&name_of(&entry.path))
            } else {
                format!("{}{}", asker.prefix_of(&listing.machine), shown(&entry.path))
            };
            painted(screen, entry, &name)
        };
        if !self.long && global.output != Format::Wide {
            let text: String = listing.entries.iter().map(|entry| name(entry) + "\n").collect();
            return print(&text);
        }
        let rows: Vec<Vec<String>> = listing
            .entries
            .iter()
            .map(|entry| {
                let mut name = name(entry);
                if let Some(target) = &entry.target {
                    name.push_str(&format!(" -> {}", shown(target)));
                }
                let id = |name: &Option<String>, id: u32| {
                    name.as_ref()
                        .map_or_else(|| id.to_string(), |name| crate::terminal::escape(name))
                };
                vec![
                    mode_text(entry.kind, entry.mode),
                    entry.links.to_string(),
                    id(&entry.user, entry.uid),
                    id(&entry.group, entry.gid),
                    if entry.kind == FileKind::Directory {
                        "-".to_owned()
                    } else {
                        size_text(entry.size, self.bytes)
                    },
                    time_text(entry.modified_ns),
                    name,
                ]
            })
            .collect();
        print(&columns(&rows, &[1, 4]))
    }
}

fn read_list(answer: &Answered) -> Result<Vec<FileEntry>, Failure> {
    let mut entries = Vec::new();
    for line in read_lines(answer)? {
        match line {
            FileListLine::Entry(entry) => entries.push(*entry),
            FileListLine::More(more) => note(&format!(
                "reeve: {}: there are more than {}; 'reeve files find' tells them all",
                answer.operation.machine, more.more_than
            )),
        }
    }
    Ok(entries)
}

fn read_entry(answer: &Answered) -> Result<Vec<FileEntry>, Failure> {
    if answer.failure.is_some() {
        return Ok(Vec::new());
    }
    Ok(vec![read_line(&answer.operation.machine, &answer.stdout)?])
}
