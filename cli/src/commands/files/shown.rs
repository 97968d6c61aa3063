//! Files as people see them: names, modes, times, and lists of entries in every format.

use std::io::{self, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use reeve_protocol::ops::{FileEntry, FileKind, RemotePath};
use serde::Serialize;

use crate::args::Format;
use crate::durations;
use crate::failure::Failure;
use crate::output::{self, json_line};
use crate::terminal::{Screen, escape};

/// Something with the machine it is on, for documents.
#[derive(Serialize)]
pub struct On<'a, T> {
    pub machine: &'a str,
    #[serde(flatten)]
    pub item: T,
}

/// A path without anything a terminal obeys, on one line.
pub fn shown(path: &RemotePath) -> String {
    escape(&path.display())
}

/// The last part of a path.
pub fn name_of(path: &RemotePath) -> RemotePath {
    let bytes = path.as_bytes();
    let trimmed = bytes.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let bytes = bytes.get(..trimmed).unwrap_or_default();
    let start = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    match bytes.get(start..) {
        Some(name) if !name.is_empty() => RemotePath::new(name),
        _ => RemotePath::from("/"),
    }
}

/// As ls(1) writes it: `-rwxr-sr-x`.
pub fn mode_text(kind: FileKind, mode: u32) -> String {
    let mut text = String::with_capacity(10);
    text.push(match kind {
        FileKind::File => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::Fifo => 'p',
        FileKind::Socket => 's',
        FileKind::CharacterDevice => 'c',
        FileKind::BlockDevice => 'b',
        FileKind::Unknown => '?',
    });
    for (shift, special, set, unset) in
        [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')]
    {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => set,
            (false, true) => unset,
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// The word for a kind.
pub fn kind_word(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symbolic link",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
        FileKind::CharacterDevice => "character device",
        FileKind::BlockDevice => "block device",
        FileKind::Unknown => "unknown",
    }
}

/// Here and now: `2026-03-01 12:30`.
pub fn time_text(nanoseconds: i64) -> String {
    match Timestamp::from_nanosecond(i128::from(nanoseconds)) {
        Ok(at) => at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string(),
        Err(_) => nanoseconds.to_string(),
    }
}

/// A name, in the colour of its kind as ls(1) has it.
pub fn painted(screen: Screen, entry: &FileEntry, name: &str) -> String {
    match entry.kind {
        FileKind::Directory => screen.paint("1;34", name),
        FileKind::Symlink => screen.paint("1;36", name),
        FileKind::Fifo => screen.paint("33", name),
        FileKind::Socket => screen.paint("1;35", name),
        FileKind::CharacterDevice | FileKind::BlockDevice => screen.paint("1;33", name),
        FileKind::File if entry.mode & 0o111 != 0 => screen.paint("1;32", name),
        FileKind::File | FileKind::Unknown => name.to_owned(),
    }
}

/// A size as people read it, or exact.
pub fn size_text(bytes: u64, exact: bool) -> String {
    if exact { bytes.to_string() } else { durations::size(bytes) }
}

/// Prints documents that a list is made of: all in one, or one a line.
pub fn print_documents<T: Serialize>(format: Format, items: &[T]) -> Result<(), Failure> {
    match format {
        Format::Jsonl => {
            let mut text = String::new();
            for item in items {
                text.push_str(&json_line(item)?);
            }
            output::print(&text)
        }
        Format::Yaml => output::print(&output::yaml(&items)?),
        _ => output::print(&output::json(&items)?),
    }
}

/// Whether a format is for programs.
pub fn is_document(format: Format) -> bool {
    matches!(format, Format::Json | Format::Jsonl | Format::Yaml)
}

/// Writes bytes to stdout as they are.
pub fn write(bytes: &[u8]) -> Result<(), Failure> {
    io::stdout().lock().write_all(bytes)?;
    Ok(())
}

/// Columns whose cells are aligned; the last one is not padded.
pub fn columns(rows: &[Vec<String>], right: &[usize]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if column + 1 == row.len() {
                text.push_str(cell);
            } else if right.contains(&column) {
                text.push_str(&format!("{cell:>width$} "));
            } else {
                text.push_str(&format!("{cell:width$} "));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_written_as_ls_does() {
        assert_eq!(mode_text(FileKind::File, 0o644), "-rw-r--r--");
        assert_eq!(mode_text(FileKind::Directory, 0o1777), "drwxrwxrwt");
        assert_eq!(mode_text(FileKind::File, 0o6750), "-rwsr-s---");
        assert_eq!(mode_text(FileKind::File, 0o5640), "-rwSr----T");
        assert_eq!(mode_text(FileKind::Symlink, 0o777), "lrwxrwxrwx");
    }

    #[test]
    fn names_are_the_last_part_and_tame() {
        assert_eq!(name_of(&RemotePath::from("/srv/a")), RemotePath::from("a"));
        assert_eq!(name_of(&RemotePath::from("/srv/a//")), RemotePath::from("a"));
        assert_eq!(name_of(&RemotePath::from("/")), RemotePath::from("/"));
        assert_eq!(shown(&RemotePath::new(&b"/a\n\x1b[2J\xff"[..])), "/a\\n\\u{1b}[2J\u{fffd}");
        assert!(!shown(&RemotePath::from("/a\u{202e}b")).contains('\u{202e}'));
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [
            vec!["a".to_owned(), "1".to_owned(), "x".to_owned()],
            vec!["bb".to_owned(), "22".to_owned(), "y".to_owned()],
        ];
        assert_eq!(columns(&rows, &[1]), "a   1 x\nbb 22 y\n");
    }
}
