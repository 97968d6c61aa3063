//! `reeve files tree`.

use clap::Args;
use reeve_protocol::ops::{
    FileEntry, FileKind, FileList, FileListLine, MAX_LIST_DEPTH, MAX_LIST_ENTRIES,
};

use super::asking::{Asker, combine, read_lines};
use super::shown::{On, is_document, name_of, painted, print_documents, shown};
use crate::args::{Format, Global};
use crate::failure::Failure;
use crate::output::print;
use crate::target::Remote;
use crate::terminal::Screen;

const EXAMPLES: &str = "\
Examples:
  reeve files tree web-1:/srv/app
  reeve files tree -L 2 -a web-1:/etc
  reeve files tree -d 'role=web:/var/lib'      folders alone";

/// Show folders as trees
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Tree {
    /// MACHINE:/PATH or SELECTOR:/PATH
    #[arg(required = true, value_name = "TARGET", value_parser = Remote::parser())]
    targets: Vec<Remote>,
    /// So many folders deep
    #[arg(short = 'L', long, value_name = "DEPTH", default_value_t = MAX_LIST_DEPTH)]
    #[arg(hide_default_value = true)]
    level: u32,
    /// Names that begin with a dot, too
    #[arg(short, long)]
    all: bool,
    /// Folders alone
    #[arg(short, long)]
    dirs: bool,
    /// Stay on one file system
    #[arg(short = 'x', long)]
    one_file_system: bool,
}

impl Tree {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let asker = Asker::new(global, &self.targets.iter().collect::<Vec<_>>())?;
        let screen = Screen::stdout(global.color);
        let mut codes = Vec::new();
        let mut all: Vec<(String, FileEntry)> = Vec::new();
        for target in &self.targets {
            let list = FileList {
                depth: self.level,
                limit: MAX_LIST_ENTRIES,
                skip_hidden: !self.all,
                one_file_system: self.one_file_system,
                ..FileList::new(target.path.clone())
            };
            let answers = asker.ask(&target.selector, list).await?;
            for answer in answers.iter().filter(|it| it.failure.is_none()) {
                let machine = &answer.operation.machine;
                let mut entries = Vec::new();
                let mut more = None;
                for line in read_lines(answer)? {
                    match line {
                        FileListLine::Entry(entry) => entries.push(*entry),
                        FileListLine::More(it) => more = Some(it.more_than),
                    }
                }
                if self.dirs {
                    entries.retain(|entry| entry.kind == FileKind::Directory);
                }
                if is_document(global.output) {
                    all.extend(entries.into_iter().map(|entry| (machine.clone(), entry)));
                    continue;
                }
                let top = format!("{}{}", asker.prefix_of(machine), shown(&target.path));
                if global.output == Format::Name {
                    let prefix = asker.prefix_of(machine);
                    let lines = entries.iter().map(|it| format!("{prefix}{}\n", shown(&it.path)));
                    print(&lines.collect::<String>())?;
                } else {
                    print(&format!("{top}\n{}", draw(screen, &entries)))?;
                    print(&summary(&entries, more))?;
                }
            }
            codes.push(asker.conclude(&answers));
        }
        if is_document(global.output) {
            let items: Vec<_> = all.iter().map(|(machine, item)| On { machine, item }).collect();
            print_documents(global.output, &items)?;
        }
        Ok(combine(&codes))
    }
}

fn summary(entries: &[FileEntry], more: Option<u64>) -> String {
    let folders = entries.iter().filter(|entry| entry.kind == FileKind::Directory).count();
    let more = more.map(|count| format!("; there is more than these {count}"));
    format!("\n{folders} folders, {} files{}\n", entries.len() - folders, more.unwrap_or_default())
}

fn depth_of(entry: &FileEntry) -> usize {
    entry.path.as_bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty()).count()
}

/// Entries come folders first, so what is the last of its folder shows from those behind it.
fn draw(screen: Screen, entries: &[FileEntry]) -> String {
    let base = entries.first().map(depth_of).unwrap_or_default();
    // From the end: whether something of the same folder still follows, for each depth.
    let mut follows: Vec<bool> = Vec::new();
    let mut lines = Vec::with_capacity(entries.len());
    for entry in entries.iter().rev() {
        let depth = depth_of(entry).saturating_sub(base);
        follows.resize(follows.len().max(depth + 1), false);
        let mut line = String::new();
        for above in follows.iter().take(depth) {
            line.push_str(if *above { "│   " } else { "    " });
        }
        let has_next = follows.get(depth).copied().unwrap_or_default();
        line.push_str(if has_next { "├── " } else { "└── " });
        let name = shown(&name_of(&entry.path));
        line.push_str(&painted(screen, entry, &name));
        if let Some(target) = &entry.target {
            line.push_str(&format!(" -> {}", shown(target)));
        }
        line.push('\n');
        lines.push(line);
        follows.truncate(depth + 1);
        if let Some(at) = follows.get_mut(depth) {
            *at = true;
        }
    }
    lines.reverse();
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_end_where_their_folder_does() {
        let entry = |path: &str| -> FileEntry {
            let json = format!(
                r#"{{"path":"{path}","kind":"file","size":1,"mode":420,"uid":0,"gid":0,"modified_ns":0}}"#
            );
            serde_json::from_str(&json).expect("an entry")
        };
        let entries: Vec<_> =
            ["/s/a", "/s/a/b", "/s/a/b/c", "/s/a/d", "/s/e", "/s/f", "/s/f/g"].map(entry).into();
        let drawn = draw(Screen::default(), &entries);
        assert_eq!(drawn, "├── a\n│   ├── b\n│   │   └── c\n│   └── d\n├── e\n└── f\n    └── g\n");
    }
}
