//! `reeve files stat`.

use clap::Args;
use reeve_protocol::ops::{FileEntry, FileStat};

use super::asking::{Asker, combine, read_line};
use super::shown::{On, is_document, kind_word, mode_text, print_documents, shown, time_text};
use crate::args::{Format, Global};
use crate::failure::Failure;
use crate::output::{print, print_one};
use crate::target::Remote;

const EXAMPLES: &str = "\
Examples:
  reeve files stat web-1:/etc/passwd
  reeve files stat --hash 'role=web:/etc/app.conf'    the same everywhere?
  reeve files stat -L web-1:/etc/localtime            what the link leads to";

/// Say all about files
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Stat {
    /// MACHINE:/PATH or SELECTOR:/PATH
    #[arg(required = true, value_name = "TARGET", value_parser = Remote::parser())]
    targets: Vec<Remote>,
    /// Of a symbolic link, what it leads to
    #[arg(short = 'L', long)]
    follow: bool,
    /// With the BLAKE3 of the content
    #[arg(long)]
    hash: bool,
}

impl Stat {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let asker = Asker::new(global, &self.targets.iter().collect::<Vec<_>>())?;
        let mut found: Vec<(String, FileEntry)> = Vec::new();
        let mut codes = Vec::new();
        for target in &self.targets {
            let ask = FileStat { path: target.path.clone(), follow: self.follow, hash: self.hash };
            let answers = asker.ask(&target.selector, ask).await?;
            for answer in answers.iter().filter(|answer| answer.failure.is_none()) {
                let machine = &answer.operation.machine;
                found.push((machine.clone(), read_line(machine, &answer.stdout)?));
            }
            codes.push(asker.conclude(&answers));
        }
        if is_document(global.output) {
            let documents: Vec<_> =
                found.iter().map(|(machine, item)| On { machine, item }).collect();
            print_documents(global.output, &documents)?;
            return Ok(combine(&codes));
        }
        for (index, (machine, entry)) in found.iter().enumerate() {
            let name = format!("{}{}", asker.prefix_of(machine), shown(&entry.path));
            if index > 0 && global.output != Format::Name {
                print("\n")?;
            }
            print_one(global.output, entry, &name, &details(entry, name.clone()))?;
        }
        Ok(combine(&codes))
    }
}

fn details(entry: &FileEntry, name: String) -> Vec<(&'static str, String)> {
    let of = |name: &Option<String>, id: u32| match name {
        Some(name) => format!("{name} ({id})"),
        None => id.to_string(),
    };
    let holes = entry.allocated < entry.size;
    let allocated =
        if holes { format!(", {} on the disk", entry.allocated) } else { String::new() };
    vec![
        ("path", name),
        ("kind", kind_word(entry.kind).to_owned()),
        ("leads to", entry.target.as_ref().map(shown).unwrap_or_default()),
        ("size", format!("{} bytes{allocated}", entry.size)),
        ("mode", format!("{:04o} {}", entry.mode, mode_text(entry.kind, entry.mode))),
        ("owner", of(&entry.user, entry.uid)),
        ("group", of(&entry.group, entry.gid)),
        ("modified", time_text(entry.modified_ns)),
        ("changed", time_text(entry.changed_ns)),
        ("links", entry.links.to_string()),
        ("inode", format!("{} on device {:#x}", entry.inode, entry.device)),
        ("blake3", entry.hash.clone().unwrap_or_default()),
    ]
}
